//! The template of a tool's prompt: Jinja over its arguments, which are data and never part of it.

mod trials;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Value, json};

use super::sample::{self, Which};
use crate::config::shape::suggestion;
use crate::config::tool::{Argument, PreparedPrompt};
use crate::engine::template::{self, MAX_TEMPLATE_BYTES, is_missing, stack_size};
use crate::threads::{self, NotDone, SystemLimit};

/// The work, in minijinja's measure, that one rendering may take, whatever the arguments are.
const FUEL: u64 = 1_000_000;

/// The work that each byte of the arguments adds, enough to loop over long lists.
const FUEL_PER_BYTE: u64 = 16;

/// The work that one trial with a sample may take. The trials of one tool together may take 200 times as much, which is the work of ten
/// renderings.
const TRIAL_FUEL: u64 = 50_000;

/// A compiled template.
#[derive(Debug)]
pub struct PromptTemplate {
    environment: Environment<'static>,
    /// Bytes of stack that its rendering may need.
    stack: usize,
}

const NAME: &str = "prompt";

impl PromptTemplate {
    /// Compiles the template of a tool.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of(tool: &PreparedPrompt) -> Result<Self, String> {
        let arguments = tool.arguments.iter();
        let names: Vec<&str> = arguments.map(|argument| argument.name.as_str()).collect();
        Self::new(&tool.prompt, &names)
    }

    /// Compiles the template of a tool and renders it with samples of the values of its arguments. A check for a new configuration: it
    /// may take some 200 renderings.
    ///
    /// # Errors
    /// As [`Self::new`]; a filter, function, method or operator that does not exist for the values of its arguments.
    pub fn check(tool: &PreparedPrompt) -> Result<(), String> {
        Self::of(tool)?.check_samples(&tool.prompt, &tool.arguments)
    }

    /// Compiles `source`, which may use the `arguments`.
    ///
    /// # Errors
    /// What is wrong with it, with its line; a name that is no argument.
    pub fn new(source: &str, arguments: &[&str]) -> Result<Self, String> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(format!("is longer than {MAX_TEMPLATE_BYTES} bytes"));
        }
        let stack = stack_size(source);
        on_stack(stack, || Self::compile(source, arguments, stack))
            .map_err(|error| error.to_string())?
    }

    /// Renders the template with samples of values that `arguments` allow.
    ///
    /// # Errors
    /// A filter, a function or a method of texts that does not exist. A method or an operator that does not exist for the types of the
    /// values, if no sample works. Other faults may come from the values themselves: `text.split(':')[1]` requires a colon.
    fn check_samples(&self, source: &str, arguments: &[Argument]) -> Result<(), String> {
        let check = || self.try_samples(source, arguments);
        on_stack(self.stack, check).map_err(|error| error.to_string())?
    }

    fn try_samples(&self, source: &str, arguments: &[Argument]) -> Result<(), String> {
        let mut fault = None;
        let mut works = false;
        for which in [Which::One, Which::Other] {
            match self.render_here(&sample::values(arguments, which), FUEL) {
                Err(error) if is_of_types(&error) => {
                    fault.get_or_insert(error);
                }
                Err(error) if is_missing(error.kind()) => return Err(told(&error)),
                _ => works = true,
            }
        }
        let Some(error) = fault.filter(|_| !works) else {
            return Ok(());
        };
        let fails = |sample: Map<String, Value>| {
            // An item of an empty array is undefined, whatever its type.
            let has_empty = sample
                .values()
                .any(|value| *value == "" || *value == json!([]));
            let rendered = self.render_here(&sample, TRIAL_FUEL);
            // The fault of a prompt that takes long may lie behind the part that was rendered, or not: a call will tell.
            rendered.is_err_and(|error| {
                let is_fault = has_empty || is_of_types(&error) || is_missing(error.kind());
                is_fault && error.kind() != ErrorKind::OutOfFuel
            })
        };
        if trials::samples(source, arguments).all(fails) {
            return Err(told(&error));
        }
        Ok(())
    }

    fn compile(source: &str, arguments: &[&str], stack: usize) -> Result<Self, String> {
        let mut environment = Environment::new();
        template::add_python(&mut environment);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| told(&error))?;
        let template = environment
            .get_template(NAME)
            .map_err(|error| told(&error))?;
        let mut unknown: Vec<String> = template
            .undeclared_variables(false)
            .into_iter()
            .filter(|name| !arguments.contains(&name.as_str()) && !is_function(&environment, name))
            .collect();
        unknown.sort();
        match unknown.first() {
            None => Ok(Self { environment, stack }),
            Some(name) => Err(format!(
                "uses `{name}`, which is no argument; {}",
                suggestion(name, arguments)
            )),
        }
    }

    /// The prompt.
    ///
    /// # Errors
    /// What the template cannot do with these values.
    pub fn render(&self, arguments: &Map<String, Value>) -> Result<String, PromptError> {
        let render = || self.render_here(arguments, FUEL);
        let rendered = on_stack(self.stack, render)?;
        rendered.map_err(|error| PromptError::Template(told(&error)))
    }

    /// Renders the template on this thread, which needs a stack of [`stack_size`]. `fuel` is the work that is allowed in addition to
    /// that for the `arguments`.
    fn render_here(&self, arguments: &Map<String, Value>, fuel: u64) -> Result<String, Error> {
        let mut environment = self.environment.clone();
        let bytes: usize = arguments
            .values()
            .map(|value| value.to_string().len())
            .sum();
        environment.set_fuel(Some(fuel + FUEL_PER_BYTE * bytes as u64));
        let template = environment.get_template(NAME)?;
        template.render(Serde(arguments))
    }
}

/// Returns whether `error` comes from the types of values: a method of numbers that only texts have, or a text plus a number.
fn is_of_types(error: &Error) -> bool {
    let detail = error.detail().unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownMethod => !detail.starts_with("string has no method"),
        // What is undefined depends on the values.
        ErrorKind::InvalidOperation => {
            detail.starts_with("tried to use ") && !detail.contains("undefined")
        }
        _ => false,
    }
}

/// A prompt that could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// The template cannot do something with the values.
    #[error("{0}")]
    Template(String),
    /// The system starts no more threads.
    #[error(transparent)]
    SystemLimit(#[from] SystemLimit),
}

/// Does `work` on a large stack: long flat chains in a template recurse.
fn on_stack<T: Send>(bytes: usize, work: impl FnOnce() -> T + Send) -> Result<T, PromptError> {
    threads::on_stack(bytes, work).map_err(|reason| match reason {
        NotDone::NoThread(limit) => limit.into(),
        NotDone::Panicked => PromptError::Template("it could not be rendered".into()),
    })
}

fn is_function(environment: &Environment<'_>, name: &str) -> bool {
    environment.globals().any(|(known, _)| known == name)
}

fn told(error: &Error) -> String {
    let cause = match error.kind() {
        ErrorKind::OutOfFuel => "it takes too many steps".to_owned(),
        _ => error
            .detail()
            .map_or_else(|| error.to_string(), str::to_owned),
    };
    match error.line() {
        Some(line) => format!("{cause} (line {line} of the template)"),
        None => cause,
    }
}

#[cfg(test)]
mod tests;
