//! Patterns: the regular expressions of JSON Schema (ECMA-262), as far as the grammar and the check afterwards read them alike.
//!
//! Both work with Rust's dialect. What that reads otherwise than ECMA-262, or the grammar not at all, is refused; what is
//! written alike and means something else (`.`, `\d`, `\w`, `\s`) is translated, for both by the same library.

use jsonschema_regex::to_rust_regex;
use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{
    Assertion, AssertionKind, Ast, ClassBracketed, ClassSet, ClassSetItem, ClassUnicodeKind,
    ErrorKind, GroupKind, HexLiteralKind, Literal, LiteralKind, SpecialLiteralKind,
};

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind};

use super::validator::{PATTERN_BYTES, Validator};

/// Characters of a pattern; that of zod for a date with a time has 400.
const MAX_CHARS: usize = 2000;

/// Digits of a `Decimal`.
const MAX_DIGITS: u32 = 100;

/// `pattern` as the grammar is given it.
///
/// # Errors
/// What of it cannot be enforced.
pub(super) fn enforced(pattern: &str) -> Result<String, String> {
    if pattern.chars().count() > MAX_CHARS {
        return Err(format!("is longer than {MAX_CHARS} characters; shorten it"));
    }
    if let Some(decimals) = decimals(pattern) {
        return Ok(decimals);
    }
    let ast = Parser::new()
        .parse(pattern)
        .map_err(|error| match error.kind() {
            ErrorKind::UnsupportedLookAround => {
                "lookahead and lookbehind cannot be enforced; write what is allowed, or remove the pattern".to_owned()
            }
            ErrorKind::UnsupportedBackreference => {
                "backreferences, as in `\\1`, cannot be enforced; write the repeated part again".to_owned()
            }
            kind => format!("invalid or unsupported pattern: {kind}"),
        })?;
    Reader { pattern }.read(&ast, Ends::BOTH)?;
    let made = to_rust_regex(pattern)
        .map_err(|()| "invalid or unsupported pattern".to_owned())?
        .into_owned();
    regex::RegexBuilder::new(&made)
        .size_limit(PATTERN_BYTES)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                "takes too much memory; repeat less, or fewer kinds of characters".to_owned()
            }
            error => format!("invalid or unsupported pattern: {error}"),
        })?;
    Ok(without_every_control(made))
}

/// Returns a pattern of numbers that `pattern` matches, if it is one of those that pydantic before 2.14 writes for `Decimal`. They have
/// lookarounds: something besides signs and points must be there, and only so many digits.
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

/// Returns whether `pattern`, of ECMA-262, occurs in each of `texts`; `false` if it cannot be read.
pub(super) fn matches_all(pattern: &str, texts: &[&str]) -> bool {
    let validator = Validator::of_pattern(pattern);
    validator.is_ok_and(|validator| {
        let mut texts = texts.iter();
        texts.all(|text| validator.is_valid(&serde_json::Value::from(*text)))
    })
}

/// `pattern` as it is, or where a class of it holds every control character, but not all that JSON escapes, without NUL there.
///
/// llguidance takes such a class for one of all escapes (derivre 0.3, `json_quote`): `[^"]` would let `\"` be written.
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
        // It was compiled just before.
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

/// Whether a part stands where the text begins or ends.
#[derive(Clone, Copy)]
struct Ends {
    begins: bool,
    ends: bool,
}

impl Ends {
    const BOTH: Self = Self {
        begins: true,
        ends: true,
    };
    const NONE: Self = Self {
        begins: false,
        ends: false,
    };
}

struct Reader<'pattern> {
    pattern: &'pattern str,
}

impl Reader<'_> {
    fn read(&self, ast: &Ast, at: Ends) -> Result<(), String> {
        match ast {
            Ast::Empty(_) | Ast::Dot(_) | Ast::ClassPerl(_) => Ok(()),
            Ast::Flags(_) => Err(FLAGS.into()),
            Ast::Literal(literal) => literal_of(literal),
            Ast::Assertion(assertion) => self.anchor(assertion, at),
            Ast::ClassUnicode(class) => unicode(&class.kind),
            Ast::ClassBracketed(class) => self.class(class),
            Ast::Repetition(repetition) => self.read(&repetition.ast, Ends::NONE),
            Ast::Group(group) => match &group.kind {
                GroupKind::CaptureName { .. } => {
                    Err("named groups cannot be enforced: write `(…)`".into())
                }
                GroupKind::NonCapturing(flags) if !flags.items.is_empty() => Err(FLAGS.into()),
                GroupKind::CaptureIndex(_) | GroupKind::NonCapturing(_) => {
                    self.read(&group.ast, at)
                }
            },
            Ast::Alternation(options) => options.asts.iter().try_for_each(|ast| self.read(ast, at)),
            Ast::Concat(parts) => {
                let (first, last) = (0, parts.asts.len() - 1);
                (0..).zip(&parts.asts).try_for_each(|(n, ast)| {
                    let part = Ends {
                        begins: at.begins && n == first,
                        ends: at.ends && n == last,
                    };
                    self.read(ast, part)
                })
            }
        }
    }

    fn anchor(&self, assertion: &Assertion, at: Ends) -> Result<(), String> {
        match assertion.kind {
            AssertionKind::StartLine if at.begins => Ok(()),
            AssertionKind::EndLine if at.ends => Ok(()),
            AssertionKind::StartLine | AssertionKind::EndLine => Err(
                "`^` must begin the pattern or an alternative of it, and `$` must end it".into(),
            ),
            _ => {
                let span = assertion.span;
                let text = &self.pattern[span.start.offset..span.end.offset];
                Err(format!("`{text}` cannot be enforced; remove it"))
            }
        }
    }

    fn class(&self, class: &ClassBracketed) -> Result<(), String> {
        let inside = &self.pattern[class.span.start.offset + 1..];
        if inside.strip_prefix('^').unwrap_or(inside).starts_with(']') {
            return Err(
                "`[]` and `[^]` cannot be enforced; a bracket in a class is written `\\]`".into(),
            );
        }
        match &class.kind {
            ClassSet::Item(item) => in_class(item),
            ClassSet::BinaryOp(_) => Err(
                "`&&`, `--` and `~~` in a class cannot be enforced: put a backslash before each character"
                    .into(),
            ),
        }
    }
}

/// What a class may hold.
fn in_class(item: &ClassSetItem) -> Result<(), String> {
    match item {
        ClassSetItem::Empty(_) | ClassSetItem::Perl(_) => Ok(()),
        ClassSetItem::Literal(literal) => literal_of(literal),
        ClassSetItem::Range(range) => literal_of(&range.start).and(literal_of(&range.end)),
        ClassSetItem::Unicode(class) => unicode(&class.kind),
        ClassSetItem::Ascii(_) | ClassSetItem::Bracketed(_) => {
            Err("a bracket in a class is written `\\[`".into())
        }
        ClassSetItem::Union(union) => union.items.iter().try_for_each(in_class),
    }
}

const FLAGS: &str = "flags, as in `(?i)`, cannot be enforced: write both cases, for example `[aA]`";

/// Escapes that ECMA-262 does not have, or reads as the letter.
fn literal_of(literal: &Literal) -> Result<(), String> {
    match &literal.kind {
        LiteralKind::Special(SpecialLiteralKind::Bell)
        | LiteralKind::Octal
        | LiteralKind::HexBrace(HexLiteralKind::X | HexLiteralKind::UnicodeLong)
        | LiteralKind::HexFixed(HexLiteralKind::UnicodeLong) => Err(format!(
            "U+{0:04X} is written `\\u{0:04X}`",
            u32::from(literal.c)
        )),
        _ => Ok(()),
    }
}

fn unicode(kind: &ClassUnicodeKind) -> Result<(), String> {
    match kind {
        ClassUnicodeKind::OneLetter(letter) => {
            Err(format!("write this Unicode class as `\\p{{{letter}}}`"))
        }
        ClassUnicodeKind::Named(_) | ClassUnicodeKind::NamedValue { .. } => Ok(()),
    }
}
