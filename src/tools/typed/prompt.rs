//! Templates of prompts: Jinja with the arguments of a call as variables. Arguments are data and are never parsed as a template.

mod lookups;
pub(crate) mod names;
mod samples;
mod trials;

use std::collections::HashSet;
use std::fmt;
use std::sync::LazyLock;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use regex::Regex;
use serde_json::{Map, Value};

use crate::config::tool::{Argument, PreparedPrompt};
use crate::engine::template::{self, MAX_TEMPLATE_BYTES, UNDEFINED_CALL, stack_size};
use crate::threads::{self, NotDone, SystemLimit};
use trials::Trials;

/// Fuel of one rendering, in steps of minijinja, independent of the arguments.
const FUEL: u64 = 1_000_000;

/// Additional fuel for each byte of the arguments, enough to loop over long lists.
const FUEL_PER_BYTE: u64 = 16;

/// A compiled template.
#[derive(Debug)]
pub(crate) struct PromptTemplate {
    environment: Environment<'static>,
    /// Stack for the rendering, in bytes.
    stack: usize,
    /// Variables from the tool's own configuration.
    own: Map<String, Value>,
}

const NAME: &str = "prompt";

/// A fault of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Text that says what is wrong.
    what: String,
    /// The line of the template, from 1.
    line: Option<usize>,
    /// Text that says how to correct it.
    pub hint: Option<String>,
}

impl Fault {
    fn new(what: impl Into<String>, line: Option<usize>, hint: Option<String>) -> Self {
        Self {
            what: what.into(),
            line,
            hint,
        }
    }

    fn from_error(error: &Error) -> Self {
        let expression = expression(error);
        let what = match (error.kind(), undefined(error), error.detail()) {
            (ErrorKind::OutOfFuel, ..) => "it takes too many steps".to_owned(),
            (ErrorKind::UndefinedError, Some(undefined), _) => {
                format!("`{undefined}` is undefined")
            }
            (_, _, Some(detail)) => detail.to_owned(),
            (kind, _, None) if expression.is_empty() => kind.to_string(),
            (kind, _, None) => format!("{kind}: `{expression}`"),
        };
        Self::new(what, error.line(), None)
    }

    /// Returns whether `other` is the same fault, perhaps on another line.
    fn is_like(&self, other: &Self) -> bool {
        self.what == other.what
    }
}

/// Returns the first line of the expression that `error` is about; empty if it is unknown.
fn expression(error: &Error) -> &str {
    range(error).lines().next().unwrap_or_default().trim_end()
}

/// Returns the expression that `error` is about; empty if it is unknown.
fn range(error: &Error) -> &str {
    let source = error.template_source().unwrap_or_default();
    let expression = error.range().and_then(|range| source.get(range));
    let expression = expression.unwrap_or_default();
    expression.trim_start_matches(['{', '%', ' ']).trim_end()
}

/// Returns the part of the template before the expression that `error` is about; empty if it is unknown.
fn before(error: &Error) -> &str {
    let source = error.template_source().unwrap_or_default();
    let before = error.range().and_then(|range| source.get(..range.start));
    before.unwrap_or_default()
}

/// Returns the expression that is undefined, such as `text.length`, if `error` comes from one that is known.
fn undefined(error: &Error) -> Option<String> {
    static NAMED: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"`([^`]+)` is undefined").expect("the pattern is a constant and valid")
    });
    static LOOKUP: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"[\w.\[\]'"]+$"#).expect("the pattern is a constant and valid")
    });
    match error.detail() {
        None if error.kind() == ErrorKind::UndefinedError => {
            Some(expression(error).to_owned()).filter(|expression| !expression.is_empty())
        }
        None => None,
        // The range of a method call starts after the value.
        Some(detail) if detail.ends_with(UNDEFINED_CALL) => {
            let before = error.template_source()?.get(..error.range()?.start)?;
            let lookup = LOOKUP.find(before)?.as_str();
            let is_part = lookup.starts_with(['.', '[']);
            Some(if is_part {
                format!("(...){lookup}")
            } else {
                lookup.to_owned()
            })
        }
        Some(detail) => Some(NAMED.captures(detail)?[1].to_owned()),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match self.line {
            Some(line) => write!(f, " (line {line} of the template)"),
            None => Ok(()),
        }
    }
}

/// The faults of a template that make it unusable. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateFaults(Vec<Fault>);

impl From<Fault> for TemplateFaults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl fmt::Display for TemplateFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{fault}")?;
            if let Some(hint) = &fault.hint {
                write!(f, "; {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for TemplateFaults {}

/// The part of a tool's arguments that is known. The rest of their declarations is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Names and types.
    All,
    /// Names only.
    Names,
    /// Nothing.
    Nothing,
}

impl PromptTemplate {
    /// Compiles the template of `tool`.
    ///
    /// # Errors
    /// The template has a syntax error, or uses a name that does not exist.
    pub(crate) fn compile(tool: &PreparedPrompt) -> Result<Self, TemplateFaults> {
        let names: Vec<&str> = tool.arguments.iter().map(Argument::name).collect();
        Self::compile_source(&tool.prompt, &names, own_variables(tool))
    }

    /// Returns all faults of the template of `tool`.
    ///
    /// These are names that do not exist, and methods and operators that do not exist for the values of the arguments. The latter are found
    /// with samples of such values, in up to 200 renderings, so only new configurations are checked. A syntax error is returned alone, since
    /// the rest of such a template is unknown.
    pub(crate) fn faults(tool: &PreparedPrompt, known: Known) -> Vec<Fault> {
        let names: Vec<&str> = tool.arguments.iter().map(Argument::name).collect();
        let template = match Self::prepare(&tool.prompt, own_variables(tool)) {
            Ok(template) => template,
            Err(fault) => return vec![fault],
        };
        let mut faults = match known {
            Known::Nothing => Vec::new(),
            Known::All | Known::Names => template.unknown_names(&tool.prompt, &names),
        };
        if known == Known::All {
            for fault in template.sample_faults(&tool.prompt, &tool.arguments) {
                if !faults.iter().any(|known| known.is_like(&fault)) {
                    faults.push(fault);
                }
            }
        }
        faults.sort_by_key(|fault| fault.line);
        faults
    }

    /// Compiles `source`, which may use `arguments` and the variables of `own`.
    fn compile_source(
        source: &str,
        arguments: &[&str],
        own: Map<String, Value>,
    ) -> Result<Self, TemplateFaults> {
        let template = Self::prepare(source, own)?;
        let faults = template.unknown_names(source, arguments);
        if faults.is_empty() {
            Ok(template)
        } else {
            Err(TemplateFaults(faults))
        }
    }

    /// Compiles `source` without checking the names in it.
    fn prepare(source: &str, own: Map<String, Value>) -> Result<Self, Fault> {
        if source.len() > MAX_TEMPLATE_BYTES {
            let what = format!("is longer than {MAX_TEMPLATE_BYTES} bytes");
            return Err(Fault::new(what, None, None));
        }
        let stack = stack_size(source);
        let compile = || {
            let mut environment = Environment::new();
            template::add_python(&mut environment);
            environment.set_auto_escape_callback(|_| AutoEscape::None);
            environment.set_undefined_behavior(UndefinedBehavior::Strict);
            // With debug information, errors name the expression that is undefined.
            environment.set_debug(true);
            let added = environment.add_template_owned(NAME, source.to_owned());
            added.map_err(|error| Fault::from_error(&error))?;
            Ok(environment)
        };
        let environment = on_stack(stack, compile).unwrap_or_else(|error| Err(not_done(&error)))?;
        Ok(Self {
            environment,
            stack,
            own,
        })
    }

    fn unknown_names(&self, source: &str, arguments: &[&str]) -> Vec<Fault> {
        let own = self.own.keys().map(String::as_str);
        let variables: Vec<&str> = arguments.iter().copied().chain(own).collect();
        let find = || names::unknown(&self.environment, source, &variables);
        on_stack(self.stack, find).unwrap_or_else(|error| vec![not_done(&error)])
    }

    /// Returns the variables that the template uses.
    pub(crate) fn variables(&self) -> HashSet<String> {
        on_stack(self.stack, || self.undeclared()).unwrap_or_default()
    }

    /// Does what [`Self::variables`] does on this thread, which needs a stack of [`stack_size`].
    fn undeclared(&self) -> HashSet<String> {
        let template = self.environment.get_template(NAME);
        let found = template.map(|template| template.undeclared_variables(false));
        found.unwrap_or_default()
    }

    /// Renders the template with samples of values that `arguments` allow, and returns the faults.
    ///
    /// A filter, a function or a method of strings that does not exist is a fault. A method or an operator that does not exist for the types
    /// of the values is a fault if no sample works. Other errors may come from the values: `text.split(':')[1]` requires a colon.
    fn sample_faults(&self, source: &str, arguments: &[Argument]) -> Vec<Fault> {
        let check = || Trials::new(self, source, arguments).faults();
        on_stack(self.stack, check).unwrap_or_else(|error| vec![not_done(&error)])
    }

    /// Renders the prompt. Blocks for minutes in the worst case: fuel bounds the number of steps, but a step on a long text is slow.
    ///
    /// # Errors
    /// The template cannot be rendered with these values.
    pub(crate) fn render(&self, arguments: &Map<String, Value>) -> Result<String, PromptError> {
        let render = || self.render_here(arguments, FUEL);
        let rendered = on_stack(self.stack, render)?;
        rendered.map_err(|error| TemplateFaults::from(Fault::from_error(&error)).into())
    }

    /// Renders the template on this thread, which needs a stack of [`stack_size`]. `fuel` is added to the fuel for the `arguments`.
    fn render_here(&self, arguments: &Map<String, Value>, fuel: u64) -> Result<String, Error> {
        let mut environment = self.environment.clone();
        let mut variables = self.own.clone();
        variables.extend(arguments.clone());
        let bytes: usize = variables
            .values()
            .map(|value| value.to_string().len())
            .sum();
        environment.set_fuel(Some(fuel + FUEL_PER_BYTE * bytes as u64));
        let template = environment.get_template(NAME)?;
        template.render(Serde(&variables))
    }
}

/// Returns the variable that the prompt of `tool` can use in addition to its arguments: `choices`, a list, or `output_schema`, JSON text.
/// An argument of the same name takes precedence.
fn own_variables(tool: &PreparedPrompt) -> Map<String, Value> {
    let variable = tool.answer.as_ref().map(|answer| match answer.choices() {
        Some(choices) => ("choices".to_owned(), choices.clone()),
        None => (
            "output_schema".to_owned(),
            answer.written.to_string().into(),
        ),
    });
    variable.into_iter().collect()
}

fn not_done(error: &PromptError) -> Fault {
    Fault::new(error.to_string(), None, None)
}

/// Reason why a prompt could not be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PromptError {
    /// The template is invalid, or cannot be rendered with the values.
    #[error(transparent)]
    Template(#[from] TemplateFaults),
    /// The system refused to start a thread.
    #[error(transparent)]
    SystemLimit(#[from] SystemLimit),
}

/// Does `work` on a stack of `bytes`, since long flat chains in a template recurse.
fn on_stack<T: Send>(bytes: usize, work: impl FnOnce() -> T + Send) -> Result<T, PromptError> {
    threads::on_stack(bytes, work).map_err(|reason| match reason {
        NotDone::NoThread(limit) => limit.into(),
        NotDone::Panicked => {
            let fault = Fault::new("it could not be rendered", None, None);
            TemplateFaults::from(fault).into()
        }
    })
}

#[cfg(test)]
mod tests;
