//! Trial renderings of a prompt with samples of its arguments, to find faults that would make every call fail.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use minijinja::value::Rest;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value as Jinja};
use regex::Regex;
use serde_json::{Map, Value, json};

use super::lookups::Lookups;
use super::names::{self, Kind};
use super::samples::samples;
use super::{FUEL, Fault, PromptTemplate};
use crate::config::tool::Argument;
use crate::engine::template::{self, is_missing};
use crate::tools::typed::sample::{self, SampleSize};

/// Fuel of one trial with a sample. The 200 trials of a tool together use at most the fuel of ten renderings.
const TRIAL_FUEL: u64 = 50_000;

/// A template that is rendered to find its faults. Missing filters and tests let every value pass. Missing methods are recorded and return
/// an empty text, so one rendering finds all of them.
pub(super) struct Trials<'a> {
    template: PromptTemplate,
    source: &'a str,
    arguments: &'a [Argument],
    lookups: Lookups<'a>,
    /// Messages of minijinja about missing methods in the last rendering.
    missed: Missed,
    /// Name and line of each method call.
    lines: Vec<(&'a str, usize)>,
}

/// Messages about missing methods.
type Missed = Arc<Mutex<Vec<String>>>;

impl<'a> Trials<'a> {
    /// Prepares trials of `template`, which was made of `source` and may use `arguments`.
    pub(super) fn new(
        template: &PromptTemplate,
        source: &'a str,
        arguments: &'a [Argument],
    ) -> Self {
        let mut environment = template.environment.clone();
        let missed = record_missed(&mut environment);
        add_stand_ins(&mut environment, template, source, arguments);
        let methods = names::uses(source).into_iter();
        let methods = methods.filter(|used| used.kind == Kind::Method);
        Self {
            template: PromptTemplate {
                environment,
                stack: template.stack,
                own: template.own.clone(),
            },
            source,
            arguments,
            lookups: Lookups::new(source, arguments),
            missed,
            lines: methods.map(|used| (used.name, used.line)).collect(),
        }
    }

    /// Renders the template with `sample`. Returns the faults of the template, those that may come from the types of the values, and the
    /// error that ended the rendering.
    fn render(
        &self,
        sample: &Map<String, Value>,
        fuel: u64,
    ) -> (Vec<Fault>, Vec<Fault>, Option<Error>) {
        let rendered = self.template.render_here(sample, fuel);
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        let faults = missed.drain(..).map(|what| {
            let name = what.rsplit(' ').next().unwrap_or_default();
            let mut lines = self.lines.iter();
            let line = lines
                .find(|(known, _)| *known == name)
                .map(|(_, line)| *line);
            Fault::new(what, line, None)
        });
        let (mut sure, mut of_types): (Vec<Fault>, Vec<Fault>) =
            faults.partition(|fault| fault.what.starts_with("string has no method"));
        let error = rendered.err();
        match &error {
            Some(error) if is_of_none(error) => {}
            Some(error) if is_missing(error.kind()) => sure.push(Fault::from_error(error)),
            Some(error) if self.is_of_types(error) => of_types.push(Fault::from_error(error)),
            _ => {}
        }
        (sure, of_types, error)
    }

    /// Returns the faults that the samples show, as described for [`PromptTemplate::faults`].
    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut doubtful = Vec::new();
        let mut works = false;
        for size in [SampleSize::Small, SampleSize::Large] {
            let (sure, of_types, _) = self.render(&sample::values(self.arguments, size), FUEL);
            works |= sure.is_empty() && of_types.is_empty();
            faults.extend(sure);
            if doubtful.is_empty() {
                doubtful = of_types;
            }
        }
        if works || doubtful.is_empty() {
            return faults;
        }
        let fails = |sample: Map<String, Value>| {
            // An item of an empty array is undefined, whatever its type.
            let has_empty = sample
                .values()
                .any(|value| *value == "" || *value == json!([]));
            let (sure, of_types, error) = self.render(&sample, TRIAL_FUEL);
            // A slow prompt may have a fault after the part that was rendered. Only a call can show it.
            let is_cut = error
                .as_ref()
                .is_some_and(|error| error.kind() == ErrorKind::OutOfFuel);
            let has_fault = !sure.is_empty() || !of_types.is_empty();
            !is_cut && (has_fault || has_empty && error.is_some())
        };
        if samples(self.source, self.arguments).all(fails) {
            faults.extend(doubtful);
        }
        faults
    }

    /// Returns whether `error` comes from the template and the types of values, such as a text plus a number. An error that may come from
    /// the values themselves, such as a list that is too short, does not.
    fn is_of_types(&self, error: &Error) -> bool {
        if super::expression(error).starts_with("raise_exception") {
            return error.kind() == ErrorKind::MissingArgument;
        }
        if let Some(lookup) = super::undefined(error) {
            // Without a detail, the lookup is the first line of the expression.
            let is_whole = error.detail().is_some() || !super::range(error).contains('\n');
            return is_whole && self.lookups.is_hopeless(&lookup);
        }
        match error.kind() {
            // The number of the items decides how many arguments `f(*list)` gives.
            ErrorKind::MissingArgument | ErrorKind::TooManyArguments => !self.lookups.spreads(),
            ErrorKind::UnknownBlock => true,
            ErrorKind::CannotUnpack => {
                error.detail() == Some("value is not iterable") && self.unpacks_argument(error)
            }
            ErrorKind::InvalidOperation => self.is_wrong_type(error),
            _ => false,
        }
    }

    /// Returns whether the operation that failed with `error` does so for all values of these types.
    fn is_wrong_type(&self, error: &Error) -> bool {
        let detail = error.detail().unwrap_or_default();
        let expression = super::range(error);
        if detail.is_empty() {
            return self
                .lookups
                .kind(expression.trim_start_matches('-'))
                .is_some();
        }
        if detail.starts_with("unable to calculate") {
            return BY_ZERO.is_match(expression);
        }
        if OF_VALUES.is_match(detail) || !OF_TYPES.is_match(detail) {
            return false;
        }
        !WITHOUT_TYPE.is_match(detail) || self.is_of_arguments(error)
    }

    /// Returns whether the values of the operation that failed with `error` are arguments or literals.
    fn is_of_arguments(&self, error: &Error) -> bool {
        static FILTERED: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r#"(?:^|[^\w.|\s]|\b(?:in|if|elif|else|and|or|not)\s)\s*([\w.\[\]]+|'[^']*'|"[^"]*")\s*\|\s*$"#)
                .expect("the pattern is a constant and valid")
        });
        let expression = super::range(error);
        let before = super::before(error);
        if self.lookups.spreads() {
            return false;
        }
        if !before.trim_end().ends_with('|') {
            return self.lookups.is_of_arguments(expression);
        }
        let Some(filtered) = FILTERED.captures(before) else {
            return false;
        };
        let filtered = &filtered[1];
        let is_known = filtered.starts_with(['\'', '"']) || self.lookups.kind(filtered).is_some();
        // The name of a filter without arguments is no argument.
        let has_arguments = expression.contains('(');
        is_known && (!has_arguments || self.lookups.is_of_arguments(expression))
    }

    /// Returns whether the value that could not be unpacked is an argument.
    fn unpacks_argument(&self, error: &Error) -> bool {
        static UNPACKED: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"^[^|(%]*(?:=|\sin)\s*([\w.\[\]]+)\s*[-+]?%\}")
                .expect("the pattern is a constant and valid")
        });
        let start = super::before(error).len();
        let source = error.template_source().unwrap_or_default();
        // The range may begin with the tag or in it.
        let end = source[start..]
            .find("%}")
            .map_or(source.len(), |at| start + at);
        let tag = source[..end].rfind("{%").unwrap_or_default();
        let unpacked = UNPACKED.captures(source.get(tag + 2..end + 2).unwrap_or_default());
        unpacked.is_some_and(|unpacked| self.lookups.kind(&unpacked[1]).is_some())
    }
}

/// Messages of minijinja and its filters about values of the wrong type, and about a template that fails for all values.
static OF_TYPES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        "^tried to use |^cannot calculate length|^cannot join|not iterable|must be iterable\
        |^cannot round|^can only |^cannot get |not callable|cannot be sliced|^cannot perform\
        |^cannot reverse|^cannot convert [a-z]+ (to|into) |^value is not a string|^expected \
        |^cannot super|^no parent block|^recursion limit|^cannot recurse\
        |format spec|format field|step of 0|step size of 0|multiplied with|cannot add texts",
    )
    .expect("the pattern is a constant and valid")
});

/// Those of [`OF_TYPES`] that may come from the values: nothing was found, or a number is too large or not whole.
static OF_VALUES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"undefined|\bnone\b|^cannot convert number to [iu]")
        .expect("the pattern is a constant and valid")
});

/// Those of [`OF_TYPES`] that do not name the type. The value may be one that was not found.
static WITHOUT_TYPE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        "^cannot perform|^cannot get |^cannot convert value|^value is not |^expected object$\
        |format spec|format field|step of 0|step size of 0|multiplied with",
    )
    .expect("the pattern is a constant and valid")
});

/// A division by a zero that is written out.
static BY_ZERO: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"[/%]\s*0(?:\.0*)?$").expect("the pattern is a constant and valid")
});

/// Returns whether `error` is about a method of `none`. Whether a variable still has no value depends on the arguments.
fn is_of_none(error: &Error) -> bool {
    let detail = error.detail().unwrap_or_default();
    error.kind() == ErrorKind::UnknownMethod && detail.starts_with("none ")
}

/// Makes `environment` record missing methods instead of failing. Returns the record.
fn record_missed(environment: &mut Environment<'_>) -> Missed {
    let missed = Missed::default();
    let note = Arc::clone(&missed);
    environment.set_unknown_method_callback(move |state, value, method, args| {
        match template::call_method(state, value, method, args) {
            Err(error) if error.kind() == ErrorKind::UnknownMethod && !value.is_none() => {
                let what = format!("{} has no method named {method}", value.kind());
                let mut noted = note.lock().unwrap_or_else(PoisonError::into_inner);
                if !noted.contains(&what) {
                    noted.push(what);
                }
                Ok("".into())
            }
            called => called,
        }
    });
    missed
}

/// Adds stand-ins for filters, tests and functions of `source` that do not exist: there may be further faults after them.
fn add_stand_ins(
    environment: &mut Environment<'static>,
    template: &PromptTemplate,
    source: &str,
    arguments: &[Argument],
) {
    let undeclared = template.undeclared();
    let is_unknown = |name: &str| {
        let mut globals = template.environment.globals();
        undeclared.contains(name)
            && !template.own.contains_key(name)
            && !arguments.iter().any(|argument| argument.name == name)
            && !globals.any(|(known, _)| known == name)
    };
    if undeclared.iter().any(|name| is_unknown(name)) {
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    }
    for used in names::uses(source) {
        match used.kind {
            Kind::Filter if !names::is_known(environment, used.name, "filter") => {
                environment.add_filter(used.name.to_owned(), |args: Rest<Jinja>| {
                    args.first().cloned().unwrap_or_default()
                });
            }
            Kind::Test if !names::is_known(environment, used.name, "test") => {
                environment.add_test(used.name.to_owned(), |_: Rest<Jinja>| true);
            }
            Kind::Function if is_unknown(used.name) => {
                environment.add_function(used.name.to_owned(), |_: Rest<Jinja>| Jinja::UNDEFINED);
            }
            _ => {}
        }
    }
}
