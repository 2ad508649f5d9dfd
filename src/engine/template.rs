//! Messages → prompt text, by the chat template of the GGUF, rendered as real Jinja.
//!
//! The crate's own `apply_chat_template` only guesses among built-in formats, so the template is rendered by minijinja,
//! set up as Hugging Face's `transformers` sets up jinja2 (trim and lstrip blocks, loop controls, `raise_exception`,
//! `strftime_now`, `tojson`, Python's string methods, `{% generation %}`).
//!
//! A template is untrusted input. Its work is bounded by fuel and its length by [`MAX_TEMPLATE_BYTES`]; long flat
//! chains can overflow the stack, so it is compiled on a thread of [`stack_size`]. Values can be nested as deep as fuel allows, so it
//! is rendered on a thread with stack for all of these levels.

mod budget;
mod filters;
mod methods;
mod omission;
mod padding;
mod python;
mod repair;
mod stack;
mod tojson;
mod turn;

use std::cell::Cell;
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Captured, Environment, Error, ErrorKind, State, Value, context};
use regex::Regex;
use serde::{Deserialize, Serialize};

use self::repair::{Complete, Fault, LeftOut, render_all};
pub(crate) use self::stack::limit_renderings;
use self::stack::on_deep_stack;
use self::turn::{Turn, turns_of};
use super::{EngineError, EngineErrorKind, Message, Role};
use crate::threads::{NotDone, on_stack};

/// Variables of a template by their names.
pub type Variables = serde_json::Map<String, serde_json::Value>;

/// The largest template that is accepted; the largest real one known has 18 KiB.
pub(crate) const MAX_TEMPLATE_BYTES: usize = 64 * 1024;

/// The work, in minijinja's measure, that one rendering may take, whatever the conversation is.
const FUEL: u64 = 2_000_000;

/// The work that each message adds: Gemma 4 looks back through the conversation for every one, 14,000 for each of 4,000.
const FUEL_PER_MESSAGE: u64 = 20_000;

/// The work that each byte adds, enough to look at every character.
const FUEL_PER_BYTE: u64 = 16;

/// Renderings of full cost that one call may use to find and repair omissions.
const RENDERINGS: u64 = 8;

/// The work of a rendering that fails is unknown. It is charged as this fraction of the most that one rendering may take.
const FAILURES: u64 = 8;

/// The stack that compiling and rendering `template` may need: 512 bytes for each of its bytes, and a common stack.
pub fn stack_size(template: &str) -> usize {
    2 * 1024 * 1024 + 512 * template.len()
}

/// Checks that `source` compiles and calls only known functions, filters and methods, for a user's question at least; on a thread of its own, see [`stack_size`].
///
/// # Errors
/// As [`ChatTemplate::new`].
pub(crate) fn check(source: &str) -> Result<(), EngineError> {
    let compile = || {
        let template = ChatTemplate::new(source, String::new(), String::new())?;
        let question = [Message::new(Role::User, "?")];
        let render = || {
            let fuel = Fuel::of(&question);
            Ok(template.render_once(&turns_of(&question), &Variables::new(), &fuel))
        };
        match on_deep_stack(FUEL, render)? {
            Err(error) if is_missing(error.kind()) => Err(template_error(
                "the model's chat template is not valid",
                &error,
            )),
            // What else it refuses depends on the messages.
            _ => Ok(()),
        }
    };
    try_on_stack(source, compile).map(|_| ())
}

/// How a chat template handles a system prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SystemPrompt {
    /// The template prints it.
    Printed,
    /// The template refuses it or leaves it out, so its text is merged into the first user message.
    Merged,
}

/// Renders `messages` with the chat template `source`, to which `variables` are given. Runs on a thread of its own, see [`stack_size`].
///
/// # Errors
/// As [`ChatTemplate::new`] and [`ChatTemplate::render`].
pub fn check_messages(
    source: &str,
    messages: &[Message],
    variables: &Variables,
) -> Result<SystemPrompt, EngineError> {
    let render = || {
        let template = ChatTemplate::new(source, String::new(), String::new())?;
        template.complete(messages, variables)
    };
    Ok(match try_on_stack(source, render)? {
        Some(complete) if complete.has_moved => SystemPrompt::Merged,
        _ => SystemPrompt::Printed,
    })
}

/// Does `work` with the chat template `source` on a thread of its own. Returns `None` if the system has no thread to spare: such a system
/// has other problems, which are reported elsewhere. A panic is an error of the template.
fn try_on_stack<T: Send>(
    source: &str,
    work: impl FnOnce() -> Result<T, EngineError> + Send,
) -> Result<Option<T>, EngineError> {
    match on_stack(stack_size(source), work) {
        Ok(done) => done.map(Some),
        Err(NotDone::NoThread(_)) => Ok(None),
        Err(NotDone::Panicked) => Err(EngineError::new(
            EngineErrorKind::Template,
            "the model's chat template made its renderer panic".to_owned(),
        )),
    }
}

/// Returns whether the error is a call of an unknown function, filter, method or test.
pub(crate) fn is_missing(kind: ErrorKind) -> bool {
    use ErrorKind::{UnknownFilter, UnknownFunction, UnknownMethod, UnknownTest};
    matches!(
        kind,
        UnknownFilter | UnknownFunction | UnknownMethod | UnknownTest
    )
}

/// Adds the parts of Python's Jinja2 that templates expect to `environment`: methods such as `text.strip()`, filters such as
/// `truncate`, and functions such as `strftime_now`.
pub(crate) fn add_python(environment: &mut Environment<'_>) {
    python::add_to(environment);
}

/// End of the message of an error about a method that was called on an undefined value.
pub(crate) const UNDEFINED_CALL: &str = " was called on an undefined value";

/// Calls the Python method `method` of `value`, as templates do with [`add_python`].
///
/// # Errors
/// `UnknownMethod` if there is no such method, or the error of the method.
pub(crate) fn call_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    python::method(state, value, method, args)
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

const NAME: &str = "chat";

impl ChatTemplate {
    /// Compiles `source`. `bos` and `eos` are the texts of those tokens, empty for a model without the token.
    ///
    /// # Errors
    /// `Template` if the source is too long or is invalid Jinja.
    pub fn new(source: &str, bos: String, eos: String) -> Result<Self, EngineError> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(EngineError::new(
                EngineErrorKind::Template,
                format!(
                    "the model's chat template has {} bytes, more than the {MAX_TEMPLATE_BYTES} that are accepted",
                    source.len()
                ),
            ));
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(
            syntax.map_err(|error| template_error("Jinja could not be set up", &error))?,
        );
        environment.set_fuel(Some(FUEL));
        python::add_to(&mut environment);
        environment
            .add_template_owned(NAME, without_generation_blocks(source))
            .map_err(|error| template_error("the model's chat template is not valid", &error))?;
        Ok(Self {
            environment,
            bos,
            eos,
        })
    }

    /// Renders the prompt of `messages`, up to the place where the answer begins. The template gets `variables` in addition to its
    /// usual ones.
    ///
    /// Some templates refuse system messages (Gemma 2) or leave them out (Phi-3); such messages are merged into the next user
    /// message. Other templates print only text that comes as a list of parts (`SmolVLM`), and get it in that form.
    ///
    /// # Errors
    /// `Template`, with the template's own message if it refuses the messages, or with the messages that it leaves out.
    pub fn render(
        &self,
        messages: &[Message],
        variables: &Variables,
    ) -> Result<String, EngineError> {
        Ok(self.complete(messages, variables)?.prompt)
    }

    fn complete(
        &self,
        messages: &[Message],
        variables: &Variables,
    ) -> Result<Complete, EngineError> {
        on_deep_stack(Fuel::of(messages).of_one, || {
            let fuel = Fuel::of(messages);
            let render = |turns: &[Turn<'_>]| self.render_once(turns, variables, &fuel);
            render_all(messages, render).map_err(|fault| match fault {
                Fault::Refused(error) => {
                    template_error("the model's chat template refused the messages", &error)
                }
                Fault::LeftOut(left_out) => left_out_error(messages, &left_out),
            })
        })
    }

    fn render_once(
        &self,
        turns: &[Turn<'_>],
        variables: &Variables,
        fuel: &Fuel,
    ) -> Result<String, Error> {
        let variables = context! {
            messages => Serde(turns),
            add_generation_prompt => true,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            ..Value::from(Serde(variables))
        };
        let mut environment = self.environment.clone();
        let allowed = fuel.next();
        environment.set_fuel(Some(allowed));
        let template = environment.get_template(NAME)?;
        let rendered = template.render_captured(variables);
        fuel.spend(match &rendered {
            Ok(captured) => captured.state().fuel_levels().map_or(0, |levels| levels.0),
            Err(error) if error.kind() == ErrorKind::OutOfFuel => allowed,
            Err(_) => allowed / FAILURES,
        });
        rendered.map(Captured::into_output)
    }
}

/// Fuel for the renderings of one call.
struct Fuel {
    of_one: u64,
    left: Cell<u64>,
}

impl Fuel {
    fn of(messages: &[Message]) -> Self {
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let of_one = FUEL + FUEL_PER_MESSAGE * messages.len() as u64 + FUEL_PER_BYTE * bytes as u64;
        Self {
            of_one,
            left: Cell::new(RENDERINGS * of_one),
        }
    }

    fn next(&self) -> u64 {
        self.left.get().min(self.of_one)
    }

    fn spend(&self, fuel: u64) {
        self.left.set(self.left.get().saturating_sub(fuel));
    }
}

/// Returns the prompt of a base model, which has no template: the contents joined with blank lines.
pub(crate) fn join_contents(messages: &[Message]) -> String {
    let contents: Vec<&str> = messages
        .iter()
        .map(|message| message.content.as_str())
        .collect();
    contents.join("\n\n")
}

/// Makes the error that names the messages in `left_out`.
fn left_out_error(messages: &[Message], left_out: &[LeftOut]) -> EngineError {
    const MOST_NAMED: usize = 3;
    let name = |one: &LeftOut| {
        let part = if one.is_partial { "part of " } else { "" };
        let role = messages[one.message].role.name();
        format!("{part}message {} ({role})", one.message + 1)
    };
    let mut names: Vec<String> = left_out.iter().take(MOST_NAMED).map(name).collect();
    if left_out.len() > MOST_NAMED {
        names.push(format!("{} more", left_out.len() - MOST_NAMED));
    }
    let last = names.pop().unwrap_or_default();
    let names = match &names[..] {
        [] => last,
        names => format!("{} and {last}", names.join(", ")),
    };
    EngineError::new(
        EngineErrorKind::Template,
        format!("the chat template leaves out {names}"),
    )
    .hint("put the text into another message, or give the model a `chat_template` that prints it")
}

fn template_error(what: &str, error: &Error) -> EngineError {
    let cause = match error.kind() {
        ErrorKind::OutOfFuel => "it takes too many steps".to_owned(),
        _ => error
            .detail()
            .map_or_else(|| error.to_string(), str::to_owned),
    };
    EngineError::new(EngineErrorKind::Template, format!("{what}: {cause}"))
}

/// Replaces the `{% generation %}` blocks of transformers with their bodies. They mark the assistant's text for training.
fn without_generation_blocks(source: &str) -> String {
    static OPEN: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"(?-u)\{%([-+]?)\s*generation\s*([-+]?)%\}"));
    static CLOSE: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"(?-u)\{%([-+]?)\s*endgeneration\s*([-+]?)%\}"));
    let opened = OPEN.replace_all(source, "{%$1 if true $2%}");
    CLOSE.replace_all(&opened, "{%$1 endif $2%}").into_owned()
}

fn pattern(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant and valid")
}

#[cfg(test)]
mod tests;
