//! Patterns that JavaScript (ECMA-262 with the flag `u`) and Python (`re`) interpret alike.
//!
//! A pattern is rewritten from its syntax tree: without unnecessary escapes, and with `\d`, `\w` and `\s` as the characters that they
//! match in ECMA-262. A pattern with Unicode classes has no portable form, because only JavaScript supports them.

use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{
    AssertionKind, Ast, ClassPerl, ClassPerlKind, ClassSet, ClassSetItem, GroupKind, Literal,
    Repetition, RepetitionKind, RepetitionRange,
};

/// The characters that `\s` matches in ECMA-262.
const SPACE: &str = r"\t\n\v\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff";

/// Returns the portable form of `pattern`. Returns `None` if there is no such form.
pub(super) fn portable(pattern: &str) -> Option<String> {
    let ast = Parser::new().parse(pattern).ok()?;
    let mut made = String::new();
    write(&ast, &mut made)?;
    Some(made)
}

fn write(ast: &Ast, to: &mut String) -> Option<()> {
    match ast {
        Ast::Empty(_) => {}
        Ast::Dot(_) => to.push_str(r"[^\n\r\u2028\u2029]"),
        Ast::Literal(literal) => write_literal(literal, to),
        Ast::Assertion(assertion) => to.push(match assertion.kind {
            AssertionKind::StartLine => '^',
            AssertionKind::EndLine => '$',
            _ => return None,
        }),
        Ast::ClassPerl(class) => {
            let negated = if class.negated { "^" } else { "" };
            to.extend(["[", negated, characters(class), "]"]);
        }
        Ast::ClassBracketed(class) => {
            to.push('[');
            if class.negated {
                to.push('^');
            }
            match &class.kind {
                ClassSet::Item(item) => write_item(item, to)?,
                ClassSet::BinaryOp(_) => return None,
            }
            to.push(']');
        }
        Ast::Repetition(repetition) => write_repetition(repetition, to)?,
        Ast::Group(group) => {
            match &group.kind {
                GroupKind::CaptureIndex(_) => to.push('('),
                GroupKind::NonCapturing(flags) if flags.items.is_empty() => to.push_str("(?:"),
                _ => return None,
            }
            write(&group.ast, to)?;
            to.push(')');
        }
        Ast::Alternation(options) => {
            for (at, option) in options.asts.iter().enumerate() {
                if at > 0 {
                    to.push('|');
                }
                write(option, to)?;
            }
        }
        Ast::Concat(parts) => {
            for part in &parts.asts {
                // `a|b` in a sequence is always in a group.
                write(part, to)?;
            }
        }
        Ast::Flags(_) | Ast::ClassUnicode(_) => return None,
    }
    Some(())
}

fn write_repetition(repetition: &Repetition, to: &mut String) -> Option<()> {
    let is_single = matches!(
        *repetition.ast,
        Ast::Literal(_) | Ast::Dot(_) | Ast::ClassPerl(_) | Ast::ClassBracketed(_) | Ast::Group(_)
    );
    if is_single {
        write(&repetition.ast, to)?;
    } else {
        to.push_str("(?:");
        write(&repetition.ast, to)?;
        to.push(')');
    }
    match &repetition.op.kind {
        RepetitionKind::ZeroOrOne => to.push('?'),
        RepetitionKind::ZeroOrMore => to.push('*'),
        RepetitionKind::OneOrMore => to.push('+'),
        RepetitionKind::Range(RepetitionRange::Exactly(count)) => {
            to.extend(["{", &count.to_string(), "}"]);
        }
        RepetitionKind::Range(RepetitionRange::AtLeast(least)) => {
            to.extend(["{", &least.to_string(), ",}"]);
        }
        RepetitionKind::Range(RepetitionRange::Bounded(least, most)) => {
            to.extend(["{", &least.to_string(), ",", &most.to_string(), "}"]);
        }
    }
    if !repetition.greedy {
        to.push('?');
    }
    Some(())
}

fn write_item(item: &ClassSetItem, to: &mut String) -> Option<()> {
    match item {
        ClassSetItem::Empty(_) => {}
        ClassSetItem::Literal(literal) => write_in_class(literal.c, to),
        ClassSetItem::Range(range) => {
            write_in_class(range.start.c, to);
            to.push('-');
            write_in_class(range.end.c, to);
        }
        ClassSetItem::Perl(class) if !class.negated => to.push_str(characters(class)),
        ClassSetItem::Union(union) => {
            for item in &union.items {
                write_item(item, to)?;
            }
        }
        ClassSetItem::Perl(_)
        | ClassSetItem::Unicode(_)
        | ClassSetItem::Ascii(_)
        | ClassSetItem::Bracketed(_) => return None,
    }
    Some(())
}

fn characters(class: &ClassPerl) -> &'static str {
    match class.kind {
        ClassPerlKind::Digit => "0-9",
        ClassPerlKind::Word => "A-Za-z0-9_",
        ClassPerlKind::Space => SPACE,
    }
}

fn write_literal(literal: &Literal, to: &mut String) {
    if r"^$\.*+?()[]{}|".contains(literal.c) {
        to.push('\\');
        to.push(literal.c);
    } else {
        write_plain(literal.c, to);
    }
}

/// Escapes the characters that Python warns about in a class: `--`, `&&`, `~~`, `||` and `[`.
fn write_in_class(character: char, to: &mut String) {
    match character {
        '\\' | ']' | '[' | '^' | '-' => {
            to.push('\\');
            to.push(character);
        }
        '&' | '~' | '|' | '#' => to.extend(["\\x", &format!("{:02x}", u32::from(character))]),
        other => write_plain(other, to),
    }
}

fn write_plain(character: char, to: &mut String) {
    match u32::from(character) {
        code @ (0..=0x1f | 0x7f..=0xa0 | 0x2028 | 0x2029 | 0xfeff) => {
            to.extend(["\\u", &format!("{code:04x}")]);
        }
        _ => to.push(character),
    }
}
