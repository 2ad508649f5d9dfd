//! Messages → prompt text, by the chat template of the GGUF, rendered as real Jinja.
//!
//! The crate's own `apply_chat_template` only guesses among built-in formats, so the template is rendered by minijinja,
//! set up as Hugging Face's `transformers` sets up jinja2 (trim and lstrip blocks, loop controls, `raise_exception`,
//! `strftime_now`, `tojson`, Python's string methods, `{% generation %}`).
//!
//! A template is untrusted input. Its work is bounded by fuel and its length by [`MAX_TEMPLATE_BYTES`]; long flat
//! chains can overflow the stack, so it is compiled and rendered on a thread of [`stack_size`].

mod tojson;

use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, State, Value, context};
use regex::Regex;

use super::{EngineError, EngineErrorKind, Message, Role};

/// The largest template that is accepted; the largest real one known has 18 KiB.
pub const MAX_TEMPLATE_BYTES: usize = 64 * 1024;

/// minijinja's measure of work and of text that one rendering may take; real templates stay under a hundredth of it even
/// for long conversations.
const FUEL: u64 = 2_000_000;

/// The stack that compiling and rendering `template` may need: 512 bytes for each of its bytes, and a common stack.
pub fn stack_size(template: &str) -> usize {
    2 * 1024 * 1024 + 512 * template.len()
}

/// Whether `source` can be compiled, and calls only what there is, for a user's question at least; on a thread of its own, see [`stack_size`].
///
/// # Errors
/// As [`ChatTemplate::new`].
pub fn check(source: &str) -> Result<(), EngineError> {
    let compile = || {
        let template = ChatTemplate::new(source, String::new(), String::new())?;
        let question = Message {
            role: Role::User,
            content: "?".into(),
        };
        match template.render_once(&[question], true) {
            Err(error) if is_missing(error.kind()) => Err(template_error(
                "the model's chat template is not valid",
                &error,
            )),
            // What else it refuses depends on the messages.
            _ => Ok(()),
        }
    };
    // A system without a thread to spare has other troubles, which are told where they hurt.
    on_stack(stack_size(source), compile).unwrap_or(Ok(()))
}

/// Does `work` on a thread of its own with `bytes` of stack, see [`stack_size`]; none where there is no such thread, or `work`
/// panicked.
pub fn on_stack<T: Send>(bytes: usize, work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(bytes);
        thread.spawn_scoped(scope, work).ok()?.join().ok()
    })
}

/// Whether a template calls what there is not.
pub fn is_missing(kind: ErrorKind) -> bool {
    use ErrorKind::{UnknownFilter, UnknownFunction, UnknownMethod, UnknownTest};
    matches!(
        kind,
        UnknownFilter | UnknownFunction | UnknownMethod | UnknownTest
    )
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
    /// Compiles `source`; `bos` and `eos` are the texts of those tokens, empty where there is none.
    ///
    /// # Errors
    /// `Template` where it is too long or is not valid Jinja.
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
        environment.set_unknown_method_callback(python_method);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", tojson::tojson);
        environment
            .add_template_owned(NAME, without_generation_blocks(source))
            .map_err(|error| template_error("the model's chat template is not valid", &error))?;
        Ok(Self {
            environment,
            bos,
            eos,
        })
    }

    /// The prompt of `messages`, up to where the model's answer begins. Without `thinking` the template is told that none is
    /// wanted.
    ///
    /// Some templates refuse a system message (Gemma 2); it is then put before the first user message.
    ///
    /// # Errors
    /// `Template` with the template's own words where it refuses the messages.
    pub fn render(&self, messages: &[Message], thinking: bool) -> Result<String, EngineError> {
        let refused = match self.render_once(messages, thinking) {
            Ok(prompt) => return Ok(prompt),
            Err(error) => error,
        };
        system_in_first_user(messages)
            .and_then(|merged| self.render_once(&merged, thinking).ok())
            .ok_or_else(|| {
                template_error("the model's chat template refused the messages", &refused)
            })
    }

    fn render_once(&self, messages: &[Message], thinking: bool) -> Result<String, Error> {
        // Templates take what is not defined for their own default.
        let enable_thinking = if thinking {
            Value::UNDEFINED
        } else {
            false.into()
        };
        self.environment.get_template(NAME)?.render(context! {
            messages => Serde(messages),
            add_generation_prompt => true,
            enable_thinking => enable_thinking,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        })
    }
}

/// The prompt of a model without a template, a base model: the contents joined by blank lines, nothing added.
pub fn join_contents(messages: &[Message]) -> String {
    let contents: Vec<&str> = messages
        .iter()
        .map(|message| message.content.as_str())
        .collect();
    contents.join("\n\n")
}

/// The same conversation with its leading system message put before the first user message; none if there is no such
/// pair.
fn system_in_first_user(messages: &[Message]) -> Option<Vec<Message>> {
    let [first, rest @ ..] = messages else {
        return None;
    };
    let at = rest.iter().position(|message| message.role == Role::User)?;
    if first.role != Role::System {
        return None;
    }
    let mut merged = rest.to_vec();
    merged[at].content = format!("{}\n\n{}", first.content, merged[at].content);
    Some(merged)
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

/// transformers' `{% generation %}` marks the assistant's text for training and prints its body.
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

/// Python's methods of strings, lists and maps. Fuel does not bound what `format` pads to.
fn python_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let longest_number = |text: &str| {
        text.split(|c: char| !c.is_ascii_digit())
            .map(str::len)
            .max()
    };
    if method == "format" && value.as_str().and_then(longest_number) > Some(MAX_WIDTH_DIGITS) {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "format: the width is too large",
        ));
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

/// Widths of four digits are more than any prompt needs.
const MAX_WIDTH_DIGITS: usize = 4;

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: &str) -> Result<String, Error> {
    jiff::fmt::strtime::format(format, &jiff::Zoned::now()).map_err(|error| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("strftime_now(`{format}`): {error}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: Role, content: &str) -> Message {
        Message {
            role,
            content: content.into(),
        }
    }

    fn render(source: &str, messages: &[Message]) -> Result<String, EngineError> {
        ChatTemplate::new(source, "<s>".into(), "</s>".into())?.render(messages, true)
    }

    #[test]
    fn blocks_are_trimmed_and_python_methods_work() {
        let source = "{{ bos_token }}\n{% for m in messages %}\n    {% if m.content.startswith('x') %}\n{{ m['content'].strip() }}|\n    {% endif %}\n{% endfor %}";
        let messages = [message(Role::User, "x y "), message(Role::User, "z")];
        assert_eq!(render(source, &messages).unwrap(), "<s>\nx y|\n");
    }

    #[test]
    fn a_template_says_in_its_own_words_why_it_refuses() {
        let error = render(
            "{{ raise_exception('Roles must alternate') }}",
            &[message(Role::User, "a")],
        )
        .unwrap_err();
        assert_eq!(
            error.text,
            "the model's chat template refused the messages: Roles must alternate"
        );
    }

    #[test]
    fn a_refused_system_message_goes_before_the_first_user_message() {
        let source = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}[{{ m.role }}:{{ m.content }}]{% endfor %}";
        let messages = [
            message(Role::System, "Be brief."),
            message(Role::User, "Hi"),
        ];
        assert_eq!(render(source, &messages).unwrap(), "[user:Be brief.\n\nHi]");
    }

    #[test]
    fn generation_blocks_print_their_body() {
        let source = "a {%- generation -%} b {% endgeneration %}";
        assert_eq!(render(source, &[message(Role::User, "")]).unwrap(), "ab ");
    }

    #[test]
    fn an_endless_template_ends_with_an_error() {
        let source =
            "{% for a in range(10000) %}{% for b in range(10000) %}{{ b }}{% endfor %}{% endfor %}";
        let error = render(source, &[message(Role::User, "")]).unwrap_err();
        assert!(error.text.ends_with("it takes too many steps"), "{error}");
    }

    #[test]
    fn a_template_that_is_no_jinja_is_named() {
        let error = render("{% for %}", &[]).unwrap_err();
        assert!(
            error
                .text
                .starts_with("the model's chat template is not valid"),
            "{error}"
        );
    }
}
