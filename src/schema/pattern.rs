//! Regular expressions of JSON Schema (ECMA-262), translated so that the grammar and the check of the answer interpret them alike.
//!
//! Both use Rust's dialect. Syntax that Rust interprets differently, or that the grammar does not support, is refused. Syntax that looks
//! alike and differs in meaning (`.`, `\d`, `\w`, `\s`) is translated.

use jsonschema_regex::to_rust_regex;
use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{
    Assertion, AssertionKind, Ast, ClassBracketed, ClassSet, ClassSetItem, ClassUnicodeKind,
    ErrorKind, GroupKind, HexLiteralKind, Literal, LiteralKind, SpecialLiteralKind,
};
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind};

use super::validator::{PATTERN_BYTES, Validator};

/// Maximum length of a pattern, in characters. zod's pattern for a date with a time has 400.
const MAX_CHARS: usize = 2000;

/// Maximum number of digits in a `Decimal`.
const MAX_DIGITS: u32 = 100;

/// A reason why a pattern cannot be enforced.
#[derive(Debug, thiserror::Error)]
pub(super) enum PatternError {
    #[error("is longer than {MAX_CHARS} characters; shorten it")]
    TooLong,
    #[error("requires too much memory; use fewer repetitions or smaller character classes")]
    TooLarge,
    #[error("invalid or unsupported pattern: {0}")]
    Syntax(ErrorKind),
    #[error("invalid or unsupported pattern")]
    Dialect,
    #[error("invalid or unsupported pattern: {0}")]
    Regex(regex::Error),
    #[error(
        "lookahead and lookbehind cannot be enforced; write what is allowed, or remove the pattern"
    )]
    LookAround,
    #[error("backreferences such as `\\1` cannot be enforced; write the repeated part again")]
    Backreference,
    #[error("flags such as `(?i)` cannot be enforced; write both cases, for example `[aA]`")]
    Flags,
    #[error("named groups cannot be enforced; write `(…)`")]
    NamedGroup,
    #[error("`^` must begin the pattern or an alternative, and `$` must end it")]
    Anchor,
    #[error("`{0}` cannot be enforced; remove it")]
    Assertion(String),
    #[error("`[]` and `[^]` cannot be enforced; write a bracket in a class as `\\]`")]
    EmptyClass,
    #[error(
        "`&&`, `--` and `~~` in a class cannot be enforced; put a backslash before each character"
    )]
    ClassOperator,
    #[error("unsupported `[` in a class; write `\\[`")]
    NestedClass,
    #[error("unsupported escape; write U+{0:04X} as `\\u{0:04X}`")]
    Escape(u32),
    #[error("unsupported Unicode class; write `\\p{{{0}}}`")]
    UnicodeClass(char),
}

/// Translates `pattern` to the dialect of the grammar.
///
/// # Errors
/// Fails if the pattern cannot be enforced.
pub(super) fn translate(pattern: &str) -> Result<String, PatternError> {
    if pattern.chars().count() > MAX_CHARS {
        return Err(PatternError::TooLong);
    }
    if let Some(decimals) = decimals(pattern) {
        return Ok(decimals);
    }
    let parsed = Parser::new().parse(pattern);
    let ast = parsed.map_err(|error| match error.kind() {
        ErrorKind::UnsupportedLookAround => PatternError::LookAround,
        ErrorKind::UnsupportedBackreference => PatternError::Backreference,
        kind => PatternError::Syntax(kind.clone()),
    })?;
    SyntaxCheck { pattern }.check(&ast, Edges::BOTH)?;
    let translated = to_rust_regex(pattern)
        .map_err(|()| PatternError::Dialect)?
        .into_owned();
    regex::RegexBuilder::new(&translated)
        .size_limit(PATTERN_BYTES)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
            error => PatternError::Regex(error),
        })?;
    Ok(without_every_control(translated))
}

/// Translates the patterns that pydantic before 2.14 writes for `Decimal`, which use lookarounds. Returns `None` for other patterns. The
/// translation allows a subset: it requires a digit and limits their number.
fn decimals(pattern: &str) -> Option<String> {
    let number = |text: &str| {
        text.parse::<u32>()
            .ok()
            .filter(|number| *number <= MAX_DIGITS)
    };
    let rest = pattern.strip_prefix(r"^(?!^[-+.]*$)[+-]?0*")?;
    if rest == r"\d*\.?\d*$" {
        return Some(r"^-?[0-9]+(?:\.[0-9]+)?$".to_owned());
    }
    let of_places = |whole: &str, places: u32| match places {
        0 => format!("^-?{whole}$"),
        places => format!(r"^-?{whole}(?:\.[0-9]{{1,{places}}})?$"),
    };
    if let Some(places) = rest.strip_prefix(r"\d*\.?\d{0,") {
        return Some(of_places("[0-9]+", number(places.strip_suffix("}0*$")?)?));
    }
    let (digits, rest) = rest
        .strip_prefix(r"(?:\d{0,")?
        .split_once(r"}|(?=[\d.]{1,")?;
    let (digits, (_, rest)) = (number(digits)?, rest.split_once("}0*$)")?);
    if rest == r"\d*\.\d*0*$)" {
        let whole = format!("[0-9]{{1,{digits}}}");
        return Some(match digits / 2 {
            0 => format!("^-?{whole}$"),
            half => format!(r"^-?(?:{whole}|[0-9]{{1,{half}}}\.[0-9]{{1,{half}}})$"),
        });
    }
    let (_, places) = rest.strip_prefix(r"\d{0,")?.split_once(r"}\.\d{0,")?;
    let places = number(places.strip_suffix("}0*$)")?)?;
    Some(match digits {
        0 => of_places("0", places),
        digits => of_places(&format!("[0-9]{{1,{digits}}}"), places),
    })
}

/// Returns whether the ECMA-262 `pattern` matches each of `texts`. Returns `false` if it is invalid.
pub(super) fn matches_all(pattern: &str, texts: &[&str]) -> bool {
    let validator = Validator::compile_pattern(pattern);
    validator.is_ok_and(|validator| {
        let mut texts = texts.iter();
        texts.all(|text| validator.is_valid(&serde_json::Value::from(*text)))
    })
}

/// Removes NUL from each class of `pattern` that contains all control characters but not both `"` and `\`.
///
/// llguidance takes such a class for one that contains all escapes (`json_quote` in derivre 0.3): `[^"]` would allow `\"`.
fn without_every_control(pattern: String) -> String {
    let mut is_narrowed = false;
    match regex_syntax::parse(&pattern) {
        Ok(hir) => {
            let narrowed = narrowed(hir, &mut is_narrowed);
            if is_narrowed {
                narrowed.to_string()
            } else {
                pattern
            }
        }
        // Cannot happen: the pattern was just compiled.
        Err(_) => pattern,
    }
}

fn narrowed(hir: Hir, is_narrowed: &mut bool) -> Hir {
    let each = |parts: Vec<Hir>, is_narrowed: &mut bool| -> Vec<Hir> {
        let parts = parts.into_iter();
        parts.map(|part| narrowed(part, is_narrowed)).collect()
    };
    match hir.into_kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => Hir::literal(literal.0),
        HirKind::Look(look) => Hir::look(look),
        HirKind::Class(Class::Unicode(mut class)) => {
            if takes_escapes(&class) {
                let nul = ClassUnicodeRange::new('\0', '\0');
                class.difference(&ClassUnicode::new([nul]));
                *is_narrowed = true;
            }
            Hir::class(Class::Unicode(class))
        }
        HirKind::Class(bytes) => Hir::class(bytes),
        HirKind::Repetition(mut repetition) => {
            let sub = narrowed(*repetition.sub, is_narrowed);
            repetition.sub = Box::new(sub);
            Hir::repetition(repetition)
        }
        HirKind::Capture(mut capture) => {
            let sub = narrowed(*capture.sub, is_narrowed);
            capture.sub = Box::new(sub);
            Hir::capture(capture)
        }
        HirKind::Concat(parts) => Hir::concat(each(parts, is_narrowed)),
        HirKind::Alternation(parts) => Hir::alternation(each(parts, is_narrowed)),
    }
}

fn takes_escapes(class: &ClassUnicode) -> bool {
    let holds = |character: char| {
        let mut ranges = class.iter();
        ranges.any(|range| range.start() <= character && character <= range.end())
    };
    let holds_controls = ('\0'..' ').all(|control| control == '\n' || holds(control));
    holds_controls && !(holds('"') && holds('\\'))
}

/// Whether a part is at the beginning or the end of the pattern.
#[derive(Clone, Copy)]
struct Edges {
    at_start: bool,
    at_end: bool,
}

impl Edges {
    const BOTH: Self = Self {
        at_start: true,
        at_end: true,
    };
    const NONE: Self = Self {
        at_start: false,
        at_end: false,
    };
}

struct SyntaxCheck<'pattern> {
    pattern: &'pattern str,
}

impl SyntaxCheck<'_> {
    fn check(&self, ast: &Ast, at: Edges) -> Result<(), PatternError> {
        match ast {
            Ast::Empty(_) | Ast::Dot(_) | Ast::ClassPerl(_) => Ok(()),
            Ast::Flags(_) => Err(PatternError::Flags),
            Ast::Literal(literal) => check_literal(literal),
            Ast::Assertion(assertion) => self.check_anchor(assertion, at),
            Ast::ClassUnicode(class) => check_unicode_class(&class.kind),
            Ast::ClassBracketed(class) => self.check_class(class),
            Ast::Repetition(repetition) => self.check(&repetition.ast, Edges::NONE),
            Ast::Group(group) => match &group.kind {
                GroupKind::CaptureName { .. } => Err(PatternError::NamedGroup),
                GroupKind::NonCapturing(flags) if !flags.items.is_empty() => {
                    Err(PatternError::Flags)
                }
                GroupKind::CaptureIndex(_) | GroupKind::NonCapturing(_) => {
                    self.check(&group.ast, at)
                }
            },
            Ast::Alternation(options) => {
                options.asts.iter().try_for_each(|ast| self.check(ast, at))
            }
            Ast::Concat(parts) => {
                let (first, last) = (0, parts.asts.len() - 1);
                (0..).zip(&parts.asts).try_for_each(|(n, ast)| {
                    let part = Edges {
                        at_start: at.at_start && n == first,
                        at_end: at.at_end && n == last,
                    };
                    self.check(ast, part)
                })
            }
        }
    }

    fn check_anchor(&self, assertion: &Assertion, at: Edges) -> Result<(), PatternError> {
        match assertion.kind {
            AssertionKind::StartLine if at.at_start => Ok(()),
            AssertionKind::EndLine if at.at_end => Ok(()),
            AssertionKind::StartLine | AssertionKind::EndLine => Err(PatternError::Anchor),
            _ => {
                let span = assertion.span;
                let text = &self.pattern[span.start.offset..span.end.offset];
                Err(PatternError::Assertion(text.to_owned()))
            }
        }
    }

    fn check_class(&self, class: &ClassBracketed) -> Result<(), PatternError> {
        let inside = &self.pattern[class.span.start.offset + 1..];
        if inside.strip_prefix('^').unwrap_or(inside).starts_with(']') {
            return Err(PatternError::EmptyClass);
        }
        match &class.kind {
            ClassSet::Item(item) => check_class_item(item),
            ClassSet::BinaryOp(_) => Err(PatternError::ClassOperator),
        }
    }
}

/// Checks an item of a class.
fn check_class_item(item: &ClassSetItem) -> Result<(), PatternError> {
    match item {
        ClassSetItem::Empty(_) | ClassSetItem::Perl(_) => Ok(()),
        ClassSetItem::Literal(literal) => check_literal(literal),
        ClassSetItem::Range(range) => check_literal(&range.start).and(check_literal(&range.end)),
        ClassSetItem::Unicode(class) => check_unicode_class(&class.kind),
        ClassSetItem::Ascii(_) | ClassSetItem::Bracketed(_) => Err(PatternError::NestedClass),
        ClassSetItem::Union(union) => union.items.iter().try_for_each(check_class_item),
    }
}

/// Refuses escapes that ECMA-262 does not have, or that it interprets as the letter itself.
fn check_literal(literal: &Literal) -> Result<(), PatternError> {
    match &literal.kind {
        LiteralKind::Special(SpecialLiteralKind::Bell)
        | LiteralKind::Octal
        | LiteralKind::HexBrace(HexLiteralKind::X | HexLiteralKind::UnicodeLong)
        | LiteralKind::HexFixed(HexLiteralKind::UnicodeLong) => {
            Err(PatternError::Escape(literal.c.into()))
        }
        _ => Ok(()),
    }
}

fn check_unicode_class(kind: &ClassUnicodeKind) -> Result<(), PatternError> {
    match kind {
        ClassUnicodeKind::OneLetter(letter) => Err(PatternError::UnicodeClass(*letter)),
        ClassUnicodeKind::Named(_) | ClassUnicodeKind::NamedValue { .. } => Ok(()),
    }
}
