//! Python's `"…" % values`, which minijinja does not have: the operator is rewritten to a filter.
//!
//! minijinja offers no hook for operators on texts. So `"%s!" % name` becomes `"%s!" | percent_format(name)` before the source is
//! compiled. Only an operator after a literal text can be told from a remainder of numbers. The numbers of lines stay the same.
//! Pure; the filter is in [`super::filters`].

/// The name of the filter.
pub(super) const FILTER: &str = "percent_format";

/// Most operators after literal texts that are looked at: each one is searched for its right side, which may be the rest of the source.
const MOST: usize = 500;

/// Returns `source` with `%` after literal texts rewritten to the filter.
///
/// ```text
/// {{ "%s: %d" % (name, count) }}   →   {{ "%s: %d" | percent_format((name, count)) }}
/// ```
pub(super) fn rewrite(source: &str) -> String {
    let mut rewriter = Rewriter {
        out: String::with_capacity(source.len()),
        left: MOST,
    };
    let mut rest = source;
    while let Some(at) = next_tag(rest) {
        let (text, tag) = rest.split_at(at);
        rewriter.out.push_str(text);
        rest = rewriter.tag(tag);
    }
    rewriter.out.push_str(rest);
    rewriter.out
}

struct Rewriter {
    out: String,
    /// Operators that may still be looked at.
    left: usize,
}

impl Rewriter {
    /// Appends the comment or code with which `text` begins, and returns the rest.
    fn tag<'a>(&mut self, text: &'a str) -> &'a str {
        let (open, code) = text.split_at(2);
        let end = match open {
            "{#" => code.find("#}"),
            "{{" => end_of_code(code, "}}"),
            _ => end_of_code(code, "%}"),
        };
        // Code that does not end is left to the compiler.
        let (code, rest) = code.split_at(end.unwrap_or(code.len()));
        self.out.push_str(open);
        if open == "{#" {
            self.out.push_str(code);
        } else {
            self.code(code);
        }
        if open != "{%" || !has_word(code, "raw") {
            return rest;
        }
        let (raw, rest) = rest.split_at(end_of_raw(rest));
        self.out.push_str(raw);
        rest
    }

    /// Appends `code`, a part of an expression or statement.
    fn code(&mut self, code: &str) {
        let mut at = 0;
        while at < code.len() {
            let rest = &code[at..];
            let text = literal(rest);
            let length = text.or_else(|| rest.chars().next().map(char::len_utf8));
            let length = length.unwrap_or(1);
            self.out.push_str(&rest[..length]);
            at += length;
            while text.is_some() && self.left > 0 {
                let Some(start) = right_side(&code[at..]) else {
                    break;
                };
                self.left -= 1;
                let Some(end) = end_of_operand(&code[at..], start) else {
                    break;
                };
                let lines = code[at..at + start].matches('\n').count();
                self.out.push_str(&"\n".repeat(lines));
                self.out.push_str(" | ");
                self.out.push_str(FILTER);
                self.out.push('(');
                self.code(&code[at + start..at + end]);
                self.out.push(')');
                at += end;
            }
        }
    }
}

/// Returns the position of the next code or comment.
fn next_tag(text: &str) -> Option<usize> {
    let tags = ["{{", "{%", "{#"];
    tags.iter().filter_map(|tag| text.find(tag)).min()
}

/// Returns whether the first word of `code` is `word`.
fn has_word(code: &str, word: &str) -> bool {
    let code = code.trim_start_matches(['-', '+']).trim_start();
    code.strip_prefix(word)
        .is_some_and(|rest| !rest.starts_with(is_part_of_name))
}

fn is_part_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the position of the tag that ends the raw block of `text`.
fn end_of_raw(text: &str) -> usize {
    let mut tags = text.match_indices("{%");
    let end = tags.find(|(at, tag)| has_word(&text[at + tag.len()..], "endraw"));
    // What is left of that tag is copied as text.
    end.map_or(text.len(), |(at, tag)| at + tag.len())
}

/// Returns the position of `closes` in `code`, outside of literal texts and brackets.
fn end_of_code(code: &str, closes: &str) -> Option<usize> {
    let mut at = 0;
    let mut depth = 0_usize;
    while at < code.len() {
        let rest = &code[at..];
        if depth == 0 && rest.starts_with(closes) {
            return Some(at);
        }
        let c = rest.chars().next()?;
        depth = depth_after(c, depth);
        at += literal(rest).unwrap_or(c.len_utf8());
    }
    None
}

fn depth_after(c: char, depth: usize) -> usize {
    match c {
        '(' | '[' | '{' => depth + 1,
        ')' | ']' | '}' => depth.saturating_sub(1),
        _ => depth,
    }
}

/// Returns the length of the literal text with which `code` begins; one that does not end takes all of it.
fn literal(code: &str) -> Option<usize> {
    let quote = code.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut is_escaped = false;
    for (at, c) in code.char_indices().skip(1) {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' {
            is_escaped = true;
        } else if c == quote {
            return Some(at + 1);
        }
    }
    Some(code.len())
}

/// Returns the position of the operator's right side, if `code` begins with the operator.
fn right_side(code: &str) -> Option<usize> {
    let operator = skip_blank(code, 0);
    code[operator..].strip_prefix('%')?;
    Some(skip_blank(code, operator + 1))
}

/// Returns the end of the operand that begins at `start`, with its members, calls and filters.
fn end_of_operand(code: &str, start: usize) -> Option<usize> {
    let sign = usize::from(code[start..].starts_with(['-', '+']));
    let mut end = primary(code, skip_blank(code, start + sign))?;
    loop {
        let next = skip_blank(code, end);
        end = match code[next..].chars().next() {
            Some('(' | '[') => bracketed(code, next)?,
            Some('.' | '|') => name(code, skip_blank(code, next + 1))?,
            _ => return Some(end),
        };
    }
}

fn skip_blank(code: &str, at: usize) -> usize {
    let rest = &code[at..];
    at + rest.len() - rest.trim_start().len()
}

/// Returns the end of the literal, name, number or bracket that begins at `at`.
fn primary(code: &str, at: usize) -> Option<usize> {
    let rest = &code[at..];
    if let Some(length) = literal(rest) {
        return Some(at + length);
    }
    let first = rest.chars().next()?;
    if matches!(first, '(' | '[' | '{') {
        return bracketed(code, at);
    }
    let end = name(code, at)?;
    let is_decimal = first.is_ascii_digit()
        && code[end..].starts_with('.')
        && code[end + 1..].starts_with(|c: char| c.is_ascii_digit());
    if is_decimal {
        name(code, end + 1)
    } else {
        Some(end)
    }
}

/// Returns the end of the name or the digits that begin at `at`.
fn name(code: &str, at: usize) -> Option<usize> {
    let rest = &code[at..];
    let length = rest.find(|c| !is_part_of_name(c)).unwrap_or(rest.len());
    (length > 0).then_some(at + length)
}

/// Returns the end of the bracket that begins at `at`.
fn bracketed(code: &str, at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut end = at;
    while end < code.len() {
        let rest = &code[end..];
        let c = rest.chars().next()?;
        end += literal(rest).unwrap_or(c.len_utf8());
        depth = depth_after(c, depth);
        if depth == 0 {
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::rewrite;

    #[test]
    fn only_operators_after_literal_texts_in_code_are_rewritten() {
        for (source, expected) in [
            (
                "{{ '%s' % x.y[0].upper() ~ 'z' }}",
                "{{ '%s' | percent_format(x.y[0].upper()) ~ 'z' }}",
            ),
            (
                "{% if '%d' % -3 == x %}",
                "{% if '%d' | percent_format(-3) == x %}",
            ),
            (
                "{{ '%s' % ('%s' % 'a', 1.5) }}",
                "{{ '%s' | percent_format(('%s' | percent_format('a'), 1.5)) }}",
            ),
            (
                "{{ '%%s' % () % x | join('%}') }}",
                "{{ '%%s' | percent_format(()) | percent_format(x | join('%}')) }}",
            ),
            (
                "{{ \"it's\\\" %s\"\n% x }}",
                "{{ \"it's\\\" %s\"\n | percent_format(x) }}",
            ),
        ] {
            assert_eq!(rewrite(source), expected);
        }
        for same in [
            "{{ 7 % 3 }} {{ x['a'] % 3 }}",
            "'a' % 3 {# 'a' % 3 #}",
            "{% raw %}{{ 'a' % 3 }}{% endraw %}",
            "{% set x = 'a' %}{% if x == 'a' -%}{{ {'a': {'b': '}}'}} }}",
            "{{ 'a' % ",
            "{{ 'a' % (",
            "{{ 'a",
            "{% raw %}",
            "{",
            "é{{é",
        ] {
            assert_eq!(rewrite(same), same);
        }
    }

    #[test]
    fn a_source_that_is_all_operators_takes_no_long_time() {
        let nested = format!("{{{{ {}", "'' % (".repeat(10_000));
        assert_eq!(rewrite(&nested), nested);
        let quotes = format!("{{{{ '{}", "\\'".repeat(30_000));
        assert_eq!(rewrite(&quotes), quotes);
        let closed = format!("{{{{ {}x{} }}}}", "'' % (".repeat(5_000), ")".repeat(5_000));
        assert!(rewrite(&closed).len() > closed.len());
    }
}
