//! Detection of filters, tests, functions and variables of a template that do not exist, including those in branches that no value
//! reaches.

use minijinja::machinery::{Span, Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, context};

use super::{Fault, NAME};
use crate::config::validate::{nearest, suggestion};

/// Names of the filters of prompts. `docs/tools.md` lists them, and a misspelled name is compared with them.
pub(crate) const FILTERS: &str = "abs attr batch bool capitalize center chain count d default dictsort e escape filesizeformat first float \
    format groupby indent int items join last length lines list lower map max min pprint reject rejectattr replace reverse round safe \
    select selectattr slice sort split string striptags sum title tojson trim truncate unique upper urlencode wordcount wordwrap zip";

/// Names of the tests of prompts, as in `x is defined`; see [`FILTERS`].
pub(crate) const TESTS: &str = "boolean defined divisibleby endingwith eq equalto escaped even false filter float ge greaterthan gt in int \
    integer iterable le lessthan lower lt mapping ne none number odd sameas safe sequence startingwith string test true undefined upper";

/// The way in which a template uses a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `value | name`.
    Filter,
    /// `value is name`.
    Test,
    /// `name(…)`.
    Function,
    /// `value.name(…)`.
    Method,
    /// Any other name.
    Other,
}

/// A name in a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Use<'a> {
    pub(super) kind: Kind,
    pub(super) name: &'a str,
    /// The line of the template, from 1.
    pub(super) line: usize,
}

/// Returns the names in the template `source`, in their order.
pub(super) fn uses(source: &str) -> Vec<Use<'_>> {
    let tokens = tokenize(source, false, SyntaxConfig::default());
    let tokens: Vec<_> = tokens.map_while(Result::ok).collect();
    let at = |index: usize| tokens.get(index).map(|(token, _)| token);
    let word = |index: usize| match at(index) {
        Some(Token::Ident(word)) => Some(*word),
        _ => None,
    };
    let kind = |index: usize| {
        let before = |by: usize| index.checked_sub(by);
        let word_before = |by| before(by).and_then(word);
        let is_of_test = match word_before(1) {
            Some("is") => !is_attribute(before(2).and_then(at)),
            Some("not") => word_before(2) == Some("is"),
            _ => false,
        };
        let is_called = matches!(at(index + 1), Some(Token::ParenOpen));
        match before(1).and_then(at) {
            Some(Token::Pipe) => Kind::Filter,
            Some(Token::Dot) if is_called => Kind::Method,
            Some(Token::Ident("filter"))
                if matches!(before(2).and_then(at), Some(Token::BlockStart)) =>
            {
                Kind::Filter
            }
            _ if is_of_test && word(index) != Some("not") => Kind::Test,
            _ if is_called => Kind::Function,
            _ => Kind::Other,
        }
    };
    let found = (0..tokens.len()).filter_map(|index| {
        Some(Use {
            name: word(index)?,
            kind: kind(index),
            line: tokens[index].1.start_line.into(),
        })
    });
    found.collect()
}

/// Returns the statements of `source` that need another template. A prompt has none.
fn other_templates(source: &str) -> Vec<Fault> {
    let tokens = tokenize(source, false, SyntaxConfig::default());
    let tokens: Vec<_> = tokens.map_while(Result::ok).collect();
    let fault = |pair: &[(Token<'_>, Span)]| match pair {
        [
            (Token::BlockStart, _),
            (Token::Ident(name @ ("include" | "import" | "from" | "extends")), span),
        ] => {
            let what = format!("`{name}` is not supported: a prompt is a single template");
            let hint = "put the text into the prompt itself, or use `${file:…}`";
            Some(Fault::new(
                what,
                Some(span.start_line.into()),
                Some(hint.into()),
            ))
        }
        _ => None,
    };
    tokens.windows(2).filter_map(fault).collect()
}

fn is_attribute(before: Option<&Token<'_>>) -> bool {
    matches!(before, Some(Token::Dot))
}

/// Returns the names in `source`, which `environment` has compiled, that are neither known there nor `variables`. Each is returned once.
pub(super) fn unknown(
    environment: &Environment<'_>,
    source: &str,
    variables: &[&str],
) -> Vec<Fault> {
    let template = environment.get_template(NAME);
    let undeclared = template.map(|template| template.undeclared_variables(false));
    let undeclared = undeclared.unwrap_or_default();
    let is_global = |name: &str| environment.globals().any(|(known, _)| known == name);
    let mut faults = other_templates(source);
    for Use { kind, name, line } in uses(source) {
        let (what, hint) = match kind {
            Kind::Filter if !is_known(environment, name, "filter") => {
                (format!("there is no filter `{name}`"), near(name, FILTERS))
            }
            Kind::Test if !is_known(environment, name, "test") => {
                (format!("there is no test `{name}`"), near(name, TESTS))
            }
            Kind::Function | Kind::Other
                if undeclared.contains(name) && !variables.contains(&name) && !is_global(name) =>
            {
                let hint = suggestion(name, variables);
                (format!("uses `{name}`, which is not an argument"), hint)
            }
            _ => continue,
        };
        let fault = Fault::new(what, Some(line), Some(hint));
        // The same name on another line is the same fault.
        if !faults.iter().any(|known| known.is_like(&fault)) {
            faults.push(fault);
        }
    }
    faults
}

/// Returns whether `environment` has the filter or the test `name`.
pub(super) fn is_known(environment: &Environment<'_>, name: &str, kind: &str) -> bool {
    let question = if kind == "filter" {
        "name is filter"
    } else {
        "name is test"
    };
    let asked = environment.compile_expression(question);
    let answer = asked.and_then(|asked| asked.eval(context! { name => name }));
    answer.is_ok_and(|answer| answer.is_true())
}

fn near(name: &str, known: &str) -> String {
    let known: Vec<&str> = known.split_whitespace().collect();
    let meant = nearest(name, &known).map(|meant| format!("did you mean `{meant}`?"));
    meant.unwrap_or_else(|| "docs/tools.md lists all filters and tests".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_with_their_use_and_line_and_not_in_texts_or_comments() {
        let source = "a | b is c {# | d #}\n{{ x.y | up('| z') is not odd }}{% filter low %}{% endfilter %}\n{{ f(g.h()) }}";
        let found: Vec<(Kind, &str, usize)> = uses(source)
            .into_iter()
            .filter(|used| used.kind != Kind::Other)
            .map(|used| (used.kind, used.name, used.line))
            .collect();
        let expected = [
            (Kind::Filter, "up", 2),
            (Kind::Test, "odd", 2),
            (Kind::Filter, "low", 2),
            (Kind::Function, "f", 3),
            (Kind::Method, "h", 3),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn every_filter_and_test_that_is_listed_exists() {
        let mut environment = Environment::new();
        crate::engine::template::add_python(&mut environment);
        for (names, kind) in [(FILTERS, "filter"), (TESTS, "test")] {
            for name in names.split_whitespace() {
                assert!(is_known(&environment, name, kind), "{name}");
            }
        }
    }
}
