//! Detection of lookups, such as `text.length`, that are undefined for every value of the arguments. Pure.

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use serde_json::Value;

use crate::config::tool::Argument;

/// Names of functions, filters and variables that give a template a map.
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
    /// `[0]`, or a key that is computed.
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
    /// Other lookups depend on the values: only names and keys are understood, not calls, filters or operators.
    pub(super) fn is_hopeless(&self, lookup: &str) -> bool {
        if !is_plain(lookup) {
            return false;
        }
        let Some((base, step)) = split(lookup) else {
            return lookup == "self" || lookup == "loop" || self.is_never_given(lookup);
        };
        match step {
            Step::Attribute("previtem" | "nextitem") if base == "loop" => false,
            Step::Attribute(_) if base == "loop" => true,
            Step::Attribute(_) => self.has_no_maps() || self.argument(root(base)).is_some(),
            Step::Item => matches!(self.kind(base), Some("integer" | "number" | "boolean")),
        }
    }

    /// Returns the type of the value of `lookup`, if it is an argument or an item of one.
    pub(super) fn kind(&self, lookup: &str) -> Option<&str> {
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

    /// Returns whether `name` is a parameter of a macro and no call gives it a value.
    fn is_never_given(&self, name: &str) -> bool {
        let is_macro = |at: &usize| matches!(self.tokens[*at], Token::Ident("macro"));
        let positions = (0..self.tokens.len()).filter(is_macro).filter_map(|at| {
            let Token::Ident(of) = self.tokens.get(at + 1)? else {
                return None;
            };
            let parameters = self.parts(at + 2);
            let is_it = |part: &&[Token<'_>]| matches!(part.first(), Some(Token::Ident(known)) if *known == name);
            let position = parameters.iter().position(is_it)?;
            Some((*of, position, parameters[position].len() > 1))
        });
        let positions: Vec<_> = positions.collect();
        let is_omitted = |(of, position, has_default): &(&str, usize, bool)| {
            !has_default && self.is_omitted(of, *position, name)
        };
        !positions.is_empty() && !self.spreads() && positions.iter().all(is_omitted)
    }

    /// Returns whether all calls of the macro `of` leave out its parameter `name`, which has this `position`.
    fn is_omitted(&self, of: &str, position: usize, name: &str) -> bool {
        let is_name = |at: &usize| matches!(self.tokens[*at], Token::Ident(known) if known == of);
        let mut uses = (0..self.tokens.len()).filter(is_name);
        uses.all(|at| {
            let before = at.checked_sub(1).map(|before| &self.tokens[before]);
            if matches!(before, Some(Token::Ident("macro"))) {
                return true;
            }
            // A macro that is not called here may be called by another name.
            let is_called = matches!(self.tokens.get(at + 1), Some(Token::ParenOpen));
            let parts = self.parts(at + 1);
            let is_keyword = |part: &&[Token<'_>]| matches!(part, [Token::Ident(_), Token::Assign, ..]);
            let names = |part: &&[Token<'_>]| matches!(part, [Token::Ident(known), Token::Assign, ..] if *known == name);
            let positional = parts.iter().filter(|part| !is_keyword(part)).count();
            is_called && positional <= position && !parts.iter().any(names)
        })
    }

    /// Returns the parts between the parenthesis at `open` and the one that closes it, which commas separate.
    fn parts(&self, open: usize) -> Vec<&[Token<'a>]> {
        let mut parts = Vec::new();
        let mut depth = 0_usize;
        let mut start = open + 1;
        for (at, token) in self.tokens.iter().enumerate().skip(open) {
            match token {
                Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => depth += 1,
                Token::ParenClose | Token::BracketClose | Token::BraceClose => {
                    depth = depth.saturating_sub(1);
                }
                _ => {}
            }
            let ends = depth == 0;
            if ends || depth == 1 && matches!(token, Token::Comma) {
                if start < at {
                    parts.push(&self.tokens[start..at]);
                }
                start = at + 1;
            }
            if ends {
                break;
            }
        }
        parts
    }

    /// Returns whether the template gives the items of a value as the arguments of a call, as in `f(*list)`.
    pub(super) fn spreads(&self) -> bool {
        self.tokens.windows(2).any(|pair| {
            matches!(
                pair,
                [Token::ParenOpen | Token::Comma, Token::Mul | Token::Pow]
            )
        })
    }

    /// Returns whether the `expression` is made of literals and arguments only, or is a call of a function with such values.
    pub(super) fn is_of_arguments(&self, expression: &str) -> bool {
        let source = format!("{{{{ {expression} }}}}");
        let tokens = tokenize(&source, false, SyntaxConfig::default());
        let tokens: Vec<_> = tokens
            .map_while(Result::ok)
            .map(|(token, _)| token)
            .collect();
        // The first one begins the expression.
        tokens.iter().enumerate().all(|(at, token)| match token {
            Token::Pipe | Token::Dot => false,
            Token::ParenOpen => at == 2,
            Token::Ident("in" | "not" | "true" | "false") => true,
            Token::Ident(name) => {
                let next = tokens.get(at + 1);
                let is_called = at == 1 && matches!(next, Some(Token::ParenOpen));
                let is_keyword = matches!(next, Some(Token::Assign));
                is_called || is_keyword || self.argument(name).is_some()
            }
            _ => true,
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

/// Returns whether `lookup` has names and keys only.
fn is_plain(lookup: &str) -> bool {
    let lookup = lookup.strip_prefix("(...)").unwrap_or(lookup);
    let is_part = |c: char| c.is_alphanumeric() || "_.[]'\"-".contains(c);
    lookup.chars().all(is_part)
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
        let with_call = format!("{with_macro}{{{{ f((1, 2)) }}}}");
        assert!(is_hopeless("b", &with_call));
    }

    #[test]
    fn a_lookup_that_depends_on_values_may_exist() {
        for (lookup, source) in [
            ("text.split('.')[1:]|first", "{{ text }}"),
            ("(text.split('.')|first).name", "{{ text }}"),
            (
                "b",
                "{% macro f(a, b) %}{{ b }}{% endmacro %}{{ f(1, text[9]) }}",
            ),
            (
                "b",
                "{% macro f(a, b) %}{{ b }}{% endmacro %}{{ f(b=text[9], a=(1, 2)) }}",
            ),
            (
                "b",
                "{% macro f(a, b) %}{{ b }}{% endmacro %}{{ f(*numbers) }}",
            ),
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
