//! What is wrong with a configuration, where it was said, and how that is shown.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::{Value, json};

use super::address::Address;
use super::source::Source;
use crate::error_code::ErrorCode;

/// Who said a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Nobody: the program.
    BuiltIn,
    /// The file.
    File(Arc<Source>),
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flag(String),
}

impl Origin {
    /// What there is to look at: `server.toml:7:9`, `LLAMA_MCP_N_CTX`, `--n_ctx`, `built in`.
    pub fn position_of(&self, address: &Address) -> String {
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

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Who said it.
    pub origin: Origin,
    /// Where in the file.
    pub place: Option<Range<usize>>,
    /// Which value; none where it is the file.
    pub address: Option<Address>,
    /// What kind of thing is wrong.
    pub code: ErrorCode,
    /// What is wrong.
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
    /// Its line must not be shown.
    pub is_secret: bool,
}

impl Problem {
    /// Of the value at `address`, or of its key, as `origin` said it.
    pub fn at(
        origin: Origin,
        address: Option<&Address>,
        is_key: bool,
        message: String,
        hint: Option<String>,
        is_secret: bool,
    ) -> Self {
        let place = match (&origin, address) {
            (Origin::File(source), Some(address)) if is_key => source.place_of_key(address),
            (Origin::File(source), Some(address)) => source.place_of(address),
            _ => None,
        };
        Self {
            place,
            code: match address {
                Some(_) if is_key => ErrorCode::ConfigUnknownKey,
                Some(address) => code_of(address),
                None if origin == Origin::BuiltIn => ErrorCode::ConfigUnreadable,
                None => ErrorCode::ConfigUnknownKey,
            },
            address: address.filter(|_| !is_key).cloned(),
            origin,
            message,
            hint,
            is_secret,
        }
    }

    /// Of the file's text.
    pub fn of_syntax(source: &Arc<Source>, message: &str, place: Option<Range<usize>>) -> Self {
        Self {
            origin: Origin::File(Arc::clone(source)),
            place,
            address: None,
            code: ErrorCode::ConfigSyntax,
            message: message.to_owned(),
            hint: None,
            is_secret: false,
        }
    }

    /// As the value's name and what is wrong with it: what was typed, where a flag or a variable said it.
    fn title(&self) -> String {
        match (&self.origin, &self.address) {
            (Origin::Variable(name) | Origin::Flag(name), _) => {
                format!("`{name}`: {}", self.message)
            }
            (_, Some(address)) => format!("`{address}`: {}", self.message),
            (_, None) => self.message.clone(),
        }
    }

    /// Its kind and its place, and nothing of what was written there.
    pub fn outlined(&self) -> String {
        let place = match (&self.origin, &self.place) {
            (Origin::File(source), Some(place)) => source.position(place),
            (Origin::File(source), None) => source.path.display().to_string(),
            (Origin::Variable(name) | Origin::Flag(name), _) => name.clone(),
            (Origin::BuiltIn, _) => return format!("error[{}]", self.code),
        };
        format!("error[{}] at {place}", self.code)
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let mut json = json!({"code": self.code, "message": self.title()});
        if let Some(hint) = &self.hint {
            json["hint"] = hint.as_str().into();
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
    /// `error[code]: …`, the line with a caret, and the hint, each on lines of their own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = self.title();
        let group = Level::ERROR
            .primary_title(title.as_str())
            .id(self.code.name());
        if let (Origin::File(source), Some(place)) = (&self.origin, &self.place) {
            let path = source.path.display().to_string();
            // In a broken file a line may be the midst of a longer text.
            let is_syntax = self.address.is_none();
            if self.is_secret || source.may_show_secret(place, is_syntax) {
                let title = format!("{title} ({})", source.position(place));
                return write!(
                    f,
                    "error[{}]: {title}{}",
                    self.code,
                    hint_line(self.hint.as_deref())
                );
            }
            let annotation = AnnotationKind::Primary.span(place.clone());
            let snippet = Snippet::source(source.text.as_str())
                .path(path)
                .annotation(annotation);
            let mut group = group.element(snippet);
            if let Some(hint) = &self.hint {
                group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
            }
            return f.write_str(&Renderer::plain().render(&[group]));
        }
        write!(
            f,
            "error[{}]: {title}{}",
            self.code,
            hint_line(self.hint.as_deref())
        )
    }
}

/// By the part of the file that a value stands in.
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
