//! The formats of strings and numbers that can be enforced.

use serde_json::Value;

use super::{Table, pattern};

/// A format of strings.
#[derive(Debug)]
pub(super) struct TextFormat {
    pub(super) name: &'static str,
    /// How its strings are enforced. The grammar generates a bounded subset of those that the format allows.
    pub(super) pattern: FormatRule,
    /// Strings that the format allows. A `pattern` that no grammar can follow is accepted if it matches all of them.
    pub(super) samples: &'static [&'static str],
}

/// The way in which a format of strings is enforced.
#[derive(Debug, Clone, Copy)]
pub(super) enum FormatRule {
    /// A regular expression in Rust's dialect, without anchors.
    Pattern(&'static str),
    /// The grammar supports the format itself.
    Grammar,
}

// The lowest year of Python's `datetime` is 1.
macro_rules! date {
    () => {
        "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)-02-29"
    };
}

// A time without leap seconds, which no pattern can describe, and with a bounded fraction.
macro_rules! clock {
    () => {
        r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?"
    };
}

macro_rules! zone {
    () => {
        "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
    };
}

macro_rules! label {
    () => {
        "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,30}[a-zA-Z0-9])?"
    };
}

macro_rules! email {
    () => {
        concat!(
            "[a-zA-Z0-9](?:(?:[a-zA-Z0-9_+-]|\\.[a-zA-Z0-9]){0,40}[a-zA-Z0-9])?@(?:",
            label!(),
            "\\.){1,4}[a-zA-Z]{2,12}"
        )
    };
}

macro_rules! path {
    () => {
        r"(?:[a-zA-Z0-9._~!$&'()*+,;=:@/-]|%[0-9a-fA-F]{2})"
    };
}

/// The formats that can be enforced. Some allow more strings than their pattern; ajv-formats and the check of finished answers accept
/// all strings of these patterns.
pub(super) const TEXT_FORMATS: &[TextFormat] = &[
    TextFormat {
        name: "date",
        pattern: FormatRule::Pattern(concat!("(?:", date!(), ")")),
        samples: &["2024-02-29", "1999-12-31", "2023-04-30"],
    },
    TextFormat {
        name: "time",
        pattern: FormatRule::Pattern(concat!(clock!(), zone!())),
        samples: &["23:59:59Z", "00:00:00.5+01:00", "12:30:45.123456789-11:30"],
    },
    TextFormat {
        name: "date-time",
        pattern: FormatRule::Pattern(concat!("(?:", date!(), ")T", clock!(), zone!())),
        samples: &[
            "2024-02-29T23:59:59Z",
            "1999-12-31T00:00:00.5+01:00",
            "2023-04-30T12:30:45.123456789-11:30",
        ],
    },
    TextFormat {
        name: "duration",
        pattern: FormatRule::Pattern(
            "P(?:[0-9]{1,4}W|(?:[0-9]{1,4}Y(?:[0-9]{1,3}M(?:[0-9]{1,3}D)?)?|[0-9]{1,3}M(?:[0-9]{1,3}D)?|[0-9]{1,4}D)(?:T(?:[0-9]{1,4}H(?:[0-9]{1,4}M(?:[0-9]{1,4}S)?)?|[0-9]{1,4}M(?:[0-9]{1,4}S)?|[0-9]{1,6}S))?|T(?:[0-9]{1,4}H(?:[0-9]{1,4}M(?:[0-9]{1,4}S)?)?|[0-9]{1,4}M(?:[0-9]{1,4}S)?|[0-9]{1,6}S))",
        ),
        samples: &[
            "P2W", "P1Y2M3D", "P1DT12H", "PT30M", "PT5S", "P3M", "PT1H2M3S",
        ],
    },
    TextFormat {
        name: "email",
        pattern: FormatRule::Pattern(email!()),
        samples: &[
            "ab@c.de",
            "Jane.Doe-2+x_y9@mail-1.Example.com",
            "a.b.c0@x.y.z0.org",
        ],
    },
    TextFormat {
        name: "idn-email",
        pattern: FormatRule::Pattern(email!()),
        samples: &["ab@c.de", "Jane.Doe-2+x_y9@mail-1.Example.com"],
    },
    TextFormat {
        name: "hostname",
        pattern: FormatRule::Pattern(concat!(label!(), "(?:\\.", label!(), "){0,5}")),
        samples: &["a", "localhost", "mail-1.Example.com", "x.y.z0.org"],
    },
    TextFormat {
        name: "ipv4",
        pattern: FormatRule::Grammar,
        samples: &["127.0.0.1", "255.249.199.99", "8.8.8.8"],
    },
    TextFormat {
        name: "ipv6",
        pattern: FormatRule::Grammar,
        samples: &["::1", "fe80::1:2", "::", "2001:db8:0:0:1:0:0:1"],
    },
    TextFormat {
        name: "uuid",
        pattern: FormatRule::Grammar,
        samples: &[
            "01234567-89ab-4cde-8123-456789abcdef",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        ],
    },
    TextFormat {
        name: "uri",
        pattern: FormatRule::Pattern(concat!(
            "(?:(?:mailto|tel|urn):[a-zA-Z0-9._~+:@-]{1,200}|[a-z][a-z0-9+.-]{1,15}://",
            label!(),
            "(?:\\.",
            label!(),
            "){0,5}(?::[1-9][0-9]{0,3})?(?:/",
            path!(),
            "{0,500})?(?:\\?(?:",
            path!(),
            "|\\?){0,300})?(?:#",
            path!(),
            "{0,100})?)"
        )),
        samples: &[
            "https://example.com",
            "http://a.b-c.example.org:8080/x/y.html?q=1&r=%20#top",
            "ftp://ftp.example.net/pub/",
        ],
    },
    TextFormat {
        name: "uri-reference",
        pattern: FormatRule::Pattern(concat!("/", path!(), "{0,500}")),
        samples: &["/", "/a/b.html"],
    },
];

/// Returns whether `schema` has a time format, which requires an offset from UTC, and a pattern that forbids one. zod writes this for
/// `z.iso.time()`, where only the pattern is meant.
pub(super) fn pattern_forbids_offset(schema: &Table) -> bool {
    let text = |key: &str| schema.get(key).and_then(Value::as_str);
    let (Some(pattern), Some(format)) = (text("pattern"), text("format")) else {
        return false;
    };
    let date = match format {
        "time" => "",
        "date-time" => "2024-02-29T",
        _ => return false,
    };
    let matches = |time: &str| pattern::matches_all(pattern, &[&format!("{date}{time}")]);
    let times = [
        "12:30",
        "12:30:45",
        "12:30:45.5",
        "12:30:45.123",
        "12:30:45.123456",
    ];
    let zones = ["Z", "+01:00"];
    times
        .iter()
        .any(|time| matches(time) && !zones.iter().any(|zone| matches(&format!("{time}{zone}"))))
}

/// Formats that describe how to show or store a value and do not constrain it.
pub(super) const ANNOTATIONS: [&str; 8] = [
    "float", "double", "binary", "byte", "password", "textarea", "markdown", "color",
];

impl TextFormat {
    /// Returns a pattern for property names of this format. Grammars support formats only for strings.
    pub(super) fn names_pattern(&self) -> &'static str {
        match (self.pattern, self.name) {
            (FormatRule::Pattern(pattern), _) => pattern,
            (FormatRule::Grammar, "ipv4") => {
                r"(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
            }
            (FormatRule::Grammar, "ipv6") => "(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}",
            (FormatRule::Grammar, _) => {
                "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
            }
        }
    }
}

/// Returns the string format called `name`.
pub(super) fn string_format(name: &str) -> Option<&'static TextFormat> {
    TEXT_FORMATS.iter().find(|format| format.name == name)
}

/// Returns the range of the number format called `name`.
pub(super) fn number_range(name: &str) -> Option<(i128, i128)> {
    Some(match name {
        "int8" => (i8::MIN.into(), i8::MAX.into()),
        "int16" => (i16::MIN.into(), i16::MAX.into()),
        "int32" => (i32::MIN.into(), i32::MAX.into()),
        "int64" | "int" => (i64::MIN.into(), i64::MAX.into()),
        "uint8" => (0, u8::MAX.into()),
        "uint16" => (0, u16::MAX.into()),
        "uint32" => (0, u32::MAX.into()),
        "uint64" | "uint" => (0, u64::MAX.into()),
        _ => return None,
    })
}

/// Returns the types that `format` constrains. Returns `None` if the format is unknown.
pub(super) fn types_of(format: &Value) -> Option<&'static [&'static str]> {
    let name = format.as_str()?;
    if string_format(name).is_some() {
        return Some(&["string"]);
    }
    number_range(name).map(|_| &["integer", "number"][..])
}
