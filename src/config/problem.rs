//! Problems of a configuration: errors and warnings, with their place in the file and hints.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::{Value, json};

use super::address::Address;
use super::source_text::SourceText;
use super::warning::WarningKind;
use crate::error_code::ErrorCode;

/// The layer that sets a value.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// The built-in defaults.
    BuiltIn,
    /// The configuration file.
    File(Arc<SourceText>),
    /// An environment variable of this name.
    Variable(String),
    /// A flag, as typed.
    Flag(String),
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::BuiltIn, Self::BuiltIn) => true,
            // Comparing the texts of files is slow, and each new problem is compared with all others.
            (Self::File(one), Self::File(other)) => Arc::ptr_eq(one, other) || one == other,
            (Self::Variable(one), Self::Variable(other)) | (Self::Flag(one), Self::Flag(other)) => {
                one == other
            }
            _ => false,
        }
    }
}

impl Origin {
    /// Returns the position of the value at `address`, such as `server.toml:7:9`, `LLAMA_MCP_N_CTX`, `--n_ctx` or `built in`.
    pub(crate) fn position_of(&self, address: &Address) -> String {
        match self {
            Self::BuiltIn => "built in".into(),
            Self::File(source) => source.place_of(address).map_or_else(
                || source.path.display().to_string(),
                |place| source.position(&place),
            ),
            Self::Variable(name) | Self::Flag(name) => name.clone(),
        }
    }
}

/// Severity of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// A part of the configuration cannot be used.
    Error,
    /// A setting works, but is probably a mistake.
    Warning,
}

/// An error or a warning about the configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    /// Whether it is an error or a warning.
    pub severity: Severity,
    /// Layer that sets the value.
    pub origin: Origin,
    /// Bytes of the file that it is about; `None` if that is unknown, or for other layers.
    pub place: Option<Range<usize>>,
    /// Address of the value or table; `None` if it is about the whole layer.
    pub address: Option<Address>,
    /// Whether the key itself is wrong, not its value.
    pub is_key: bool,
    /// Name of an [`ErrorCode`] or a [`WarningKind`], which is stable.
    pub code: &'static str,
    /// Description without the address.
    pub message: String,
    /// How to fix it.
    pub hint: Option<String>,
    /// Whether the line of the file must not be shown.
    pub is_secret: bool,
}

impl Problem {
    /// Returns an error about the value at `address`, or about `origin` itself. Without `code`, the error has the code of its part of the file.
    pub(crate) fn error(
        origin: Origin,
        address: Option<&Address>,
        code: Option<ErrorCode>,
        message: String,
        hint: Option<String>,
    ) -> Self {
        let code = code.unwrap_or_else(|| match address {
            Some(address) => code_of(address),
            None if origin == Origin::BuiltIn => ErrorCode::ConfigUnreadable,
            None => ErrorCode::ConfigUnknownKey,
        });
        Self {
            severity: Severity::Error,
            place: match (&origin, address) {
                (Origin::File(source), Some(address)) => source.place_of(address),
                _ => None,
            },
            address: address.cloned(),
            is_key: false,
            code: code.name(),
            origin,
            message,
            hint,
            is_secret: false,
        }
    }

    /// Returns an error about the key at `address`, which `origin` sets.
    pub(crate) fn of_key(
        origin: Origin,
        address: &Address,
        message: String,
        hint: Option<String>,
    ) -> Self {
        let place = match &origin {
            Origin::File(source) => source.place_of_key(address),
            _ => None,
        };
        let code = Some(ErrorCode::ConfigUnknownKey);
        Self {
            place,
            is_key: true,
            ..Self::error(origin, Some(address), code, message, hint)
        }
    }

    /// Returns a warning of this `kind`, located like an error.
    pub(crate) fn warning(
        origin: Origin,
        address: Option<&Address>,
        kind: WarningKind,
        message: String,
        hint: &str,
    ) -> Self {
        Self {
            severity: Severity::Warning,
            code: kind.name(),
            ..Self::error(origin, address, None, message, Some(hint.to_owned()))
        }
    }

    /// Returns a syntax error at `place` in the file.
    pub(crate) fn of_syntax(
        source: &Arc<SourceText>,
        message: &str,
        place: Option<Range<usize>>,
    ) -> Self {
        let origin = Origin::File(Arc::clone(source));
        let code = Some(ErrorCode::ConfigSyntax);
        Self {
            place,
            ..Self::error(origin, None, code, message.to_owned(), None)
        }
    }

    /// Returns the message with the name of the value: its address, or the flag or variable that sets it.
    fn title(&self) -> String {
        match (&self.origin, &self.address) {
            (Origin::Variable(name) | Origin::Flag(name), _) => {
                format!("`{name}`: {}", self.message)
            }
            (_, Some(address)) if !self.is_key => format!("`{address}`: {}", self.message),
            _ => self.message.clone(),
        }
    }

    /// Returns the position, such as `server.toml:7:9`, `LLAMA_MCP_N_CTX` or `--n_ctx`. Returns `None` for a built-in default.
    fn position(&self) -> Option<String> {
        match (&self.origin, &self.place) {
            (Origin::File(source), Some(place)) => Some(source.position(place)),
            (Origin::File(source), None) => Some(source.path.display().to_string()),
            (Origin::Variable(name) | Origin::Flag(name), _) => Some(name.clone()),
            (Origin::BuiltIn, _) => None,
        }
    }

    /// Returns `error[code]` or `warning[code]`.
    fn label(&self) -> String {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        format!("{severity}[{}]", self.code)
    }

    /// Formats the problem on one line, for a log: message, hint and position.
    pub(crate) fn line(&self) -> String {
        let hint = self.hint.iter().map(|hint| format!("; {hint}"));
        let position = match &self.origin {
            Origin::File(_) => self.position().map(|at| format!(" ({at})")),
            _ => None,
        };
        let hint: String = hint.collect();
        format!("{}{hint}{}", self.title(), position.unwrap_or_default())
    }

    /// Formats only code and position, for a report that must not quote the configuration.
    pub(crate) fn redacted(&self) -> String {
        match self.position() {
            Some(position) => format!("{} at {position}", self.label()),
            None => self.label(),
        }
    }

    /// Returns the problem as JSON.
    pub(crate) fn to_json(&self) -> Value {
        let mut json = json!({"code": self.code, "message": self.title()});
        if let Some(hint) = &self.hint {
            json["hint"] = hint.as_str().into();
        }
        if let Some(address) = &self.address {
            json["key"] = address.to_string().into();
        }
        match (&self.origin, &self.place) {
            (Origin::File(source), place) => {
                json["file"] = source.path.display().to_string().into();
                if let Some(place) = place {
                    let (line, column) = source.line_and_column(place);
                    json["line"] = line.into();
                    json["column"] = column.into();
                }
            }
            (Origin::Variable(name), _) => json["variable"] = name.as_str().into(),
            (Origin::Flag(name), _) => json["flag"] = name.as_str().into(),
            (Origin::BuiltIn, _) => {}
        }
        json
    }
}

impl fmt::Display for Problem {
    /// Formats `error[code]: …`, the line of the file with a caret, and the hint, each on lines of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = self.title();
        let hint = self.hint.as_deref();
        let (Origin::File(source), Some(place)) = (&self.origin, &self.place) else {
            return write!(f, "{}: {title}{}", self.label(), hint_line(hint));
        };
        // In a file with errors, a line may be inside a multi-line string.
        let is_broken = self.address.is_none() || self.is_key;
        if self.is_secret || source.may_show_secret(place, is_broken) {
            let position = source.position(place);
            let (label, hint) = (self.label(), hint_line(hint));
            return write!(f, "{label}: {title} ({position}){hint}");
        }
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let snippet = Snippet::source(source.text.as_str())
            .path(source.path.display().to_string())
            .annotation(AnnotationKind::Primary.span(place.clone()));
        let group = level.primary_title(title.as_str()).id(self.code);
        let mut group = group.element(snippet);
        if let Some(hint) = hint {
            group = group.element(Level::HELP.with_name("hint").message(hint));
        }
        f.write_str(&Renderer::plain().render(&[group]))
    }
}

/// Returns the code for errors about the value at `address`, by its part of the file.
fn code_of(address: &Address) -> ErrorCode {
    let parts: Vec<&str> = address.parts().iter().map(String::as_str).collect();
    match parts[..] {
        [
            "server",
            "auth" | "auth_file" | "tokens" | "session_secret",
            ..,
        ] => ErrorCode::ConfigToken,
        ["server", ..] => ErrorCode::ConfigServer,
        ["tools", ..] => ErrorCode::ConfigTool,
        ["models"]
        | [
            "models",
            _,
            "path" | "lora" | "chat_template" | "pin" | "preload",
            ..,
        ] => ErrorCode::ConfigModel,
        _ => ErrorCode::ConfigValue,
    }
}

fn hint_line(hint: Option<&str>) -> String {
    hint.map(|hint| format!("\n  hint: {hint}"))
        .unwrap_or_default()
}
