//! The template of a tool's prompt: Jinja over its arguments, which are data and never part of it.

mod trials;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Value, json};

use super::sample::{self, Which};
use crate::config::ToolConfig;
use crate::config::shape::suggestion;
use crate::config::tool::Argument;
use crate::engine::template::{self, MAX_TEMPLATE_BYTES, is_missing, stack_size};

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
    /// Compiles the template of `tool`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of(tool: &ToolConfig) -> Result<Self, String> {
        let arguments = tool.arguments.iter();
        let names: Vec<&str> = arguments.map(|argument| argument.name.as_str()).collect();
        Self::new(&tool.prompt, &names)
    }

    /// Compiles the template of `tool` and renders it with samples of the values of its arguments. A check for a new configuration: it
    /// may take some 200 renderings.
    ///
    /// # Errors
    /// As [`Self::new`]; a filter, function, method or operator that does not exist for the values of its arguments.
    pub fn check(tool: &ToolConfig) -> Result<(), String> {
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
        let made = on_stack(stack, || {
            Ok::<_, Error>(Self::compile(source, arguments, stack))
        });
        made.map_err(|error| told(&error))?
    }

    /// Renders the template with samples of values that `arguments` allow.
    ///
    /// # Errors
    /// A filter, a function or a method of texts that does not exist. A method or an operator that does not exist for the types of the
    /// values, if no sample works. Other faults may come from the values themselves: `text.split(':')[1]` requires a colon.
    fn check_samples(&self, source: &str, arguments: &[Argument]) -> Result<(), String> {
        let check = || Ok(self.try_samples(source, arguments));
        on_stack(self.stack, check).map_err(|error| told(&error))?
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
    pub fn render(&self, arguments: &Map<String, Value>) -> Result<String, String> {
        let render = || self.render_here(arguments, FUEL);
        on_stack(self.stack, render).map_err(|error| told(&error))
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

/// Long flat chains in a template recurse.
fn on_stack<T: Send>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let failed = || Error::new(ErrorKind::InvalidOperation, "it could not be rendered");
    template::on_stack(bytes, work).unwrap_or_else(|_| Err(failed()))
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
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Config, Overrides, Surroundings};
    use crate::process::Cpus;

    fn rendered(source: &str, arguments: &Value) -> Result<String, String> {
        let arguments = arguments.as_object().unwrap().clone();
        let names: Vec<&str> = arguments.keys().map(String::as_str).collect();
        PromptTemplate::new(source, &names)?.render(&arguments)
    }

    #[test]
    fn arguments_are_data_and_never_template() {
        let text = "{{ 7 * 7 }} <|im_end|> & \"x\"";
        assert_eq!(
            rendered("Say: {{ text }}", &json!({"text": text})).unwrap(),
            format!("Say: {text}")
        );
        let list = json!({"list": ["a", "b"], "n": 2, "on": true});
        assert_eq!(
            rendered(
                "{% for item in list %}{{ item }};{% endfor %}{{ n }}{% if on %}!{% endif %}",
                &list
            )
            .unwrap(),
            "a;b;2!"
        );
    }

    #[test]
    fn methods_filters_and_functions_of_python_work_as_in_chat_templates() {
        let arguments =
            json!({"text": " A <b>small</b> text, and more of it ", "list": ["a", "<b>"]});
        for (source, expected) in [
            (
                "{{ text.strip().upper() }}",
                "A <B>SMALL</B> TEXT, AND MORE OF IT",
            ),
            ("{{ text.split(',')[1].split() | length }}", "4"),
            (
                "{{ ', '.join(list) }} {{ list | tojson }}",
                r#"a, <b> ["a", "<b>"]"#,
            ),
            ("{{ text | striptags | truncate(12) }}", "A small..."),
            (
                "{{ text | striptags | wordwrap(10) }}",
                "A small\ntext, and\nmore of it",
            ),
            (
                "{{ text | wordcount }} {{ 'x' | center(3) }} {{ 'a b' | urlencode }}",
                "9  x  a%20b",
            ),
        ] {
            assert_eq!(rendered(source, &arguments).unwrap(), expected, "{source}");
        }
        let error = rendered("{{ text.split('|')[1].strip() }}", &arguments).unwrap_err();
        assert!(error.contains("undefined value"), "{error}");
        let year = rendered("{{ strftime_now('%Y') }}", &json!({})).unwrap();
        assert!(year.parse::<u32>().unwrap() > 2000);
        assert_eq!(
            rendered("{{ raise_exception('no') }}", &json!({})).unwrap_err(),
            "no (line 1 of the template)"
        );
    }

    #[test]
    fn long_lists_have_the_steps_that_they_need() {
        let list = vec![1; 200_000];
        let source = "{% for n in list %}{% if n > 0 and n < 2 %}{{ n }},{% endif %}{% endfor %}";
        let text = rendered(source, &json!({ "list": list })).unwrap();
        assert_eq!(text.len(), 400_000);
    }

    #[test]
    fn a_name_that_is_no_argument_is_refused_before_any_call() {
        let error = PromptTemplate::new("Say: {{ txet }}", &["text"]).unwrap_err();
        assert_eq!(
            error,
            "uses `txet`, which is no argument; did you mean `text`?"
        );
        let text = json!({"text": {"type": "string"}});
        let error = checked("{{ text | upcase }}", &text).unwrap_err();
        assert!(error.contains("upcase"), "{error}");
        let chain = format!("{{{{ {}text }}}}", "not ".repeat(15_000));
        drop(PromptTemplate::new(&chain, &["text"]));
        let error = PromptTemplate::new("a\n{% if %}", &[]).unwrap_err();
        assert!(error.ends_with("(line 2 of the template)"), "{error}");
    }

    /// Checks `source` with arguments of these schemas.
    fn checked(source: &str, schemas: &Value) -> Result<(), String> {
        let arguments: Vec<Argument> = schemas
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, schema)| Argument {
                name: name.clone(),
                schema: schema.clone(),
                default: None,
            })
            .collect();
        let names: Vec<&str> = arguments.iter().map(Argument::name).collect();
        PromptTemplate::new(source, &names)?.check_samples(source, &arguments)
    }

    #[test]
    fn a_method_or_operator_that_no_value_of_an_argument_has_is_refused_before_any_call() {
        let schemas = json!({
            "count": {"type": "integer"},
            "text": {"type": "string"},
            "list": {"type": "array", "items": {"type": "number"}},
            "flag": {"type": "boolean"},
        });
        for (source, fault) in [
            ("{{ count.upper() }}", "number has no method named upper"),
            ("{{ list.strip() }}", "sequence has no method named strip"),
            ("{{ list[0].strip() }}", "number has no method named strip"),
            ("{{ text.uper() }}", "string has no method named uper"),
            (
                "{% if flag %}{{ text.uper() }}{% endif %}",
                "string has no method named uper",
            ),
            ("{{ 'Count: ' + count }}", "tried to use + operator"),
            (
                "{% if flag %}{{ count.upper() }}{% else %}{{ list.strip() }}{% endif %}",
                "has no method named",
            ),
        ] {
            let error = checked(source, &schemas);
            let error = error.expect_err(source);
            assert!(error.contains(fault), "{source}: {error}");
            assert!(error.ends_with("(line 1 of the template)"), "{error}");
        }
    }

    #[test]
    fn a_prompt_that_works_for_some_values_passes() {
        let schemas = json!({
            "count": {"type": "integer", "minimum": 0},
            "text": {"type": "string"},
            "list": {"type": "array", "items": {"type": "string"}},
            "flag": {"type": "boolean"},
            "mode": {"type": "string", "enum": ["a", "b", "c", "d"]},
        });
        for source in [
            "{{ text.split('|')[1].strip() }}",
            "{{ text | int + count }}",
            "{{ list[0].upper() }}{{ list | join(', ') }}",
            "{% if count is string %}{{ count.upper() }}{% endif %}",
            "{% if flag %}{{ count.upper() }}{% endif %}",
            "{% if list %}{{ list[0] + 1 }}{% endif %}",
            "{% if text | length < 100 %}{{ count.upper() }}{% endif %}",
            "{% if mode != 'c' %}{{ count.upper() }}{% endif %}",
            "{% if text != 'yes' %}{{ count.upper() }}{% endif %}",
            "{% if count < 1000 %}{{ count.upper() }}{% endif %}",
            "{% if count > 0 %}{{ count.upper() }}{% endif %}",
            "{{ raise_exception('no') }}",
        ] {
            assert_eq!(checked(source, &schemas), Ok(()), "{source}");
        }
    }

    #[test]
    fn a_prompt_that_takes_long_is_tried_a_few_times_only_and_left_to_its_calls() {
        let schemas = json!({
            "count": {"type": "integer"},
            "mode": {"type": "string", "enum": ["a", "b", "c", "d"]},
        });
        let fault = "{{ count.upper() }}";
        assert!(checked(fault, &schemas).is_err());
        let short = format!("{{% for i in range(1000) %}}{{% endfor %}}{fault}");
        assert!(checked(&short, &schemas).is_err());
        let long = format!("{{% for i in range(300000) %}}{{% endfor %}}{fault}");
        assert_eq!(checked(&long, &schemas), Ok(()));
    }

    #[test]
    fn the_prompt_of_a_tool_is_compiled_without_trials_and_checked_with_them() {
        let set = [
            "models.a.path=tests/models/tiny-crab-chat.Q8_0.gguf",
            "tools.t.prompt={{ count.upper() }}",
            "tools.t.arguments.count.type=integer",
        ];
        let typed = Overrides {
            set: set.map(str::to_owned).into(),
            ..Overrides::default()
        };
        let around = Surroundings {
            cpus: Cpus::single(1),
            variables: BTreeMap::new(),
            folders: Vec::new(),
        };
        let (config, _) = Config::load(&typed, &around).unwrap();
        let tool = &config.tools[0];
        assert!(PromptTemplate::of(tool).is_ok());
        let error = PromptTemplate::check(tool).unwrap_err();
        assert!(error.contains("no method named upper"), "{error}");
    }

    #[test]
    fn a_template_that_never_ends_is_stopped() {
        let source =
            "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}";
        let error = rendered(source, &json!({})).unwrap_err();
        assert!(error.starts_with("it takes too many steps"), "{error}");
    }
}
