//! Lookups such as `text.length` that no value of the arguments can answer. Pure.

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use serde_json::Value;

use crate::config::tool::Argument;

/// Names through which a template can get a map.
const MAKE_MAPS: [&str; 4] = ["namespace", "dict", "groupby", "caller"];

/// The lookups of one template.
pub(super) struct Lookups<'a> {
    tokens: Vec<Token<'a>>,
    arguments: &'a [Argument],
}

/// A step from a value to a part of it.
enum Step<'a> {
    /// `.name` or `['name']`.
    Attribute(&'a str),
    /// `[0]`, or a key that is not written out.
    Item,
}

impl<'a> Lookups<'a> {
    /// Reads the template `source`, which may use the `arguments`.
    pub(super) fn new(source: &'a str, arguments: &'a [Argument]) -> Self {
        let tokens = tokenize(source, false, SyntaxConfig::default());
        let tokens = tokens.map_while(Result::ok).map(|(token, _)| token);
        Self {
            tokens: tokens.collect(),
            arguments,
        }
    }

    /// Returns whether `lookup`, such as `text.length` or `list[0].name`, is undefined whatever the values of the arguments are. They are
    /// texts, numbers, booleans and lists of those, and none of them has attributes.
    pub(super) fn is_hopeless(&self, lookup: &str) -> bool {
        let Some((base, step)) = split(lookup) else {
            return lookup == "self" || lookup == "loop" || self.is_parameter(lookup);
        };
        match step {
            Step::Attribute("previtem" | "nextitem") if base == "loop" => false,
            Step::Attribute(_) if base == "loop" => true,
            Step::Attribute(_) => self.has_no_maps() || self.argument(root(base)).is_some(),
            Step::Item => matches!(self.kind(base), Some("integer" | "number" | "boolean")),
        }
    }

    /// Returns the type of the value of `lookup`, if it is an argument or an item of one.
    fn kind(&self, lookup: &str) -> Option<&str> {
        let kind = |schema: &'a Value| schema["type"].as_str();
        match split(lookup) {
            None => kind(&self.argument(lookup)?.schema),
            Some((base, Step::Item)) => {
                let schema = &self.argument(base)?.schema;
                schema.get("items").and_then(kind)
            }
            Some((_, Step::Attribute(_))) => None,
        }
    }

    /// Returns the argument `name`, unless the template gives the name another value.
    fn argument(&self, name: &str) -> Option<&'a Argument> {
        let mut arguments = self.arguments.iter();
        let argument = arguments.find(|argument| argument.name == name)?;
        (!self.is_bound(name)).then_some(argument)
    }

    /// Returns whether the template may bind `name`, by `set`, `with`, `for` or a macro.
    fn is_bound(&self, name: &str) -> bool {
        let is_name = |token: &Token<'_>| matches!(token, Token::Ident(known) if *known == name);
        let mut pairs = self.tokens.windows(2);
        let is_target = pairs.any(|pair| match pair {
            [Token::Ident("for" | "set"), token] | [token, Token::Assign | Token::Ident("in")] => {
                is_name(token)
            }
            _ => false,
        });
        is_target || self.is_parameter(name)
    }

    /// Returns whether `name` is a parameter of a macro.
    fn is_parameter(&self, name: &str) -> bool {
        let mut is_inside = false;
        self.tokens.iter().any(|token| match token {
            Token::Ident("macro" | "call") => {
                is_inside = true;
                false
            }
            Token::BlockEnd => {
                is_inside = false;
                false
            }
            Token::Ident(known) => is_inside && *known == name,
            _ => false,
        })
    }

    /// Returns whether no value of the template can be a map or another object with attributes.
    fn has_no_maps(&self) -> bool {
        !self.tokens.iter().any(|token| match token {
            Token::BraceOpen => true,
            Token::Ident(name) => MAKE_MAPS.contains(name),
            _ => false,
        })
    }
}

/// Splits off the last step of `lookup`; `None` if it is a variable.
fn split(lookup: &str) -> Option<(&str, Step<'_>)> {
    if let Some(inner) = lookup.strip_suffix(']') {
        let (base, key) = inner.rsplit_once('[')?;
        let name = key.strip_prefix(['\'', '"']);
        return Some((base, name.map_or(Step::Item, Step::Attribute)));
    }
    let (base, name) = lookup.rsplit_once('.')?;
    let is_number = name.starts_with(|c: char| c.is_ascii_digit());
    Some((
        base,
        if is_number {
            Step::Item
        } else {
            Step::Attribute(name)
        },
    ))
}

/// Returns the variable at which `lookup` begins.
fn root(lookup: &str) -> &str {
    lookup.split(['.', '[']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn is_hopeless(lookup: &str, source: &str) -> bool {
        let argument = |(name, schema): (&str, Value)| Argument {
            name: name.into(),
            schema,
            default: None,
        };
        let numbers = json!({"type": "array", "items": {"type": "integer"}});
        let arguments = [
            ("text", json!({"type": "string"})),
            ("count", json!({"type": "integer"})),
            ("numbers", numbers),
        ];
        let arguments = arguments.map(argument);
        Lookups::new(source, &arguments).is_hopeless(lookup)
    }

    #[test]
    fn an_attribute_of_an_argument_and_an_item_of_a_number_never_exist() {
        for lookup in [
            "text.length",
            "text['length']",
            "numbers.size",
            "numbers[0].name",
            "numbers[0][0]",
            "count[0]",
            "(...).name",
            "item.name",
            "self",
            "loop.idx",
        ] {
            assert!(is_hopeless(lookup, "{{ text }}"), "{lookup}");
        }
        let with_maps = "{% set m = {'a': 1} %}{{ text.length }}";
        assert!(is_hopeless("text.length", with_maps));
        let with_macro = "{% macro f(a, b) %}{{ b }}{% endmacro %}";
        assert!(is_hopeless("b", with_macro));
    }

    #[test]
    fn what_depends_on_values_may_exist() {
        for (lookup, source) in [
            ("text[5]", "{{ text[5] }}"),
            ("text[...]", "{{ text[count] }}"),
            ("numbers[7]", "{{ numbers[7] }}"),
            ("(...)[1]", "{{ text.split(':')[1] }}"),
            ("loop.nextitem", "{{ loop.nextitem }}"),
            ("m.b", "{% set m = {'a': 1} %}{{ m.b }}"),
            ("ns.b", "{% set ns = namespace(a=1) %}{{ ns.b }}"),
            ("text.a", "{% set text = {'a': 1} %}{{ text.a }}"),
            (
                "text.a",
                "{% for text in [{'a': 1}] %}{{ text.a }}{% endfor %}",
            ),
            (
                "later",
                "{% if count > 9 %}{% set later = 1 %}{% endif %}{{ later }}",
            ),
        ] {
            assert!(!is_hopeless(lookup, source), "{source}");
        }
    }
}
