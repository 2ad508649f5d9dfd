//! Bearer tokens for HTTP, with their names, rights and limits.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::address::Address;
use super::file::{ConfigFile, TokenSettings};
use super::interpolate::read_text;
use super::load::Layers;
use super::naming;
use super::problem::{Origin, Problem};
use super::validate::suggestion;
use super::warning::WarningKind;

/// Environment variable with the token of `auth`.
pub(crate) const AUTH_VARIABLE: &str = "LLAMA_MCP_AUTH";

/// Name of the token that `auth` or `auth_file` sets.
pub(crate) const AUTH: &str = "auth";

/// Reason why a token cannot be used. It contains no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TokenFault(String);

impl From<String> for TokenFault {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

/// A bearer token with its rights and limits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenConfig {
    /// Name of the token in logs and metrics.
    pub name: String,
    /// The secret, or the reason why there is none, which contains no secret: its file is empty or missing, its text is not a valid token, or it
    /// was revoked. No request matches the token then, but requests without a token are still rejected.
    pub secret: Result<BearerToken, TokenFault>,
    /// Whether the token may unload and restart models.
    pub admin: bool,
    /// Tools that the token may call; `None` for all.
    pub tools: Option<Arc<BTreeSet<String>>>,
    /// Whether the configuration sets `tools = []`. Such a token is for Prometheus and sees all metrics.
    pub is_scraper: bool,
    /// Limit of concurrent calls; `None` for no limit.
    pub max_calls: Option<usize>,
    /// Rate limit, in calls per minute; `None` for no limit.
    pub calls_per_minute: Option<u32>,
}

impl TokenConfig {
    /// Returns the token without its secret, so that no request matches it. `fault` is the reason, unless there is one already.
    #[must_use]
    pub(crate) fn ended(&self, fault: &str) -> Self {
        Self {
            secret: Err(match &self.secret {
                Ok(_) => TokenFault(fault.to_owned()),
                Err(fault) => fault.clone(),
            }),
            ..self.clone()
        }
    }

    /// Returns whether `given` is the secret of this token.
    pub(crate) fn matches(&self, given: &[u8]) -> bool {
        let secret = self.secret.as_ref();
        secret.is_ok_and(|secret| secret.matches(given))
    }

    /// Returns the tools that the token may see in status and metrics. Returns `None` if it may see all, because it may call all tools or is
    /// an admin token.
    pub(crate) fn visible_tools(&self) -> Option<&BTreeSet<String>> {
        self.tools.as_deref().filter(|_| !self.admin)
    }
}

/// Resolves the tokens of `settings`, and adds errors to `layers`. The fault of a token that is unusable for now is tolerated.
pub(super) fn resolve(settings: &ConfigFile, layers: &mut Layers) -> Vec<Arc<TokenConfig>> {
    let server = &settings.server;
    let source = TokenSource {
        token: (at(AUTH), server.auth.as_ref()),
        file: (at("auth_file"), server.auth_file.as_ref()),
    };
    let of_auth = source.is_given(layers).then(|| TokenConfig {
        name: AUTH.into(),
        secret: source.read(layers),
        // It is the only token, or that of the owner.
        admin: true,
        tools: None,
        is_scraper: false,
        max_calls: None,
        calls_per_minute: None,
    });
    let refused: Vec<String> = [Address::new(["models"]), Address::new(["tools"])]
        .iter()
        .flat_map(|table| layers.refused_names(table))
        .map(str::to_owned)
        .collect();
    let mut known = naming::tools(settings);
    known.extend(refused.iter().map(String::as_str));
    let named = server
        .tokens
        .iter()
        .filter_map(|(name, token)| resolve_named(name, token, settings, &known, layers));
    let named: Vec<TokenConfig> = named.collect();
    let mut tokens: Vec<Arc<TokenConfig>> = of_auth.into_iter().map(Arc::new).collect();
    for token in named {
        if let Some(other) = tokens
            .iter()
            .find(|other| token.secret.is_ok() && other.secret == token.secret)
        {
            let other = &other.name;
            let message =
                format!("has the same token as `{other}`, so requests cannot be told apart");
            let hint = "give each name a token of its own";
            layers.problem_at(&at("tokens").join(&token.name), message, Some(hint.into()));
        }
        tokens.push(Arc::new(token));
    }
    tokens
}

/// Adds a warning for each of `tokens` that is short enough to be guessed. The warnings do not contain the tokens.
pub(super) fn warn_of_short(tokens: &[Arc<TokenConfig>], layers: &mut Layers) {
    let is_short = |token: &&Arc<TokenConfig>| {
        let secret = token.secret.as_ref();
        secret.is_ok_and(BearerToken::is_short)
    };
    for token in tokens.iter().filter(is_short) {
        let keys = match token.name.as_str() {
            AUTH => [at(AUTH), at("auth_file")],
            name => ["token", "token_file"].map(|key| at("tokens").join(name).join(key)),
        };
        let is_set = |key: &&Address| layers.origin_of(key).0 != Origin::BuiltIn;
        let key = keys.iter().find(is_set).unwrap_or(&keys[0]).clone();
        let message = format!(
            "the token `{}` has fewer than {SHORT} characters and can be guessed",
            token.name
        );
        let hint = "generate a strong one with `openssl rand -hex 32`";
        layers.warn_at(WarningKind::ShortToken, &key, message, hint);
    }
}

/// Turns errors in the file about the text of a single token into tolerated faults. Requests with that token are rejected, but the rest of the
/// configuration is used.
pub(super) fn set_aside(layers: &mut Layers) {
    let concerns_token = |problem: &Problem| {
        let parts = problem.address.as_ref().map_or(&[][..], Address::parts);
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let is_token = matches!(
            parts[..],
            ["server", "auth" | "auth_file"] | ["server", "tokens", _, "token" | "token_file"]
        );
        is_token && matches!(problem.origin, Origin::File(_))
    };
    let problems = std::mem::take(&mut layers.problems);
    let (tolerated, problems): (Vec<_>, Vec<_>) = problems.into_iter().partition(concerns_token);
    layers.problems = problems;
    layers.tolerated_faults.extend(tolerated);
}

/// Returns the token with the most rights, for a request to the server. An admin token comes first, in particular that of `auth`; then the one
/// for the most tools. Errors of tokens are ignored, since the server checks the token itself.
pub(crate) fn for_request(layers: &mut Layers) -> Option<BearerToken> {
    set_aside(layers);
    let tokens = resolve(&layers.merged(), layers);
    let usable = tokens.iter().filter(|token| token.secret.is_ok());
    // Reversed, since `max_by_key` returns the last of several equal tokens.
    let most = usable.rev().max_by_key(|token| {
        let tools = token.tools.as_ref().map_or(usize::MAX, |tools| tools.len());
        (token.admin, tools)
    });
    most?.secret.clone().ok()
}

/// Resolves `[server.tokens.NAME]`. `known` has the names of all tools, including those of models and tools with errors.
fn resolve_named(
    name: &str,
    token: &TokenSettings,
    settings: &ConfigFile,
    known: &[&str],
    layers: &mut Layers,
) -> Option<TokenConfig> {
    let place = at("tokens").join(name);
    if name == AUTH {
        let message = "is the reserved name of the token of `auth`".into();
        layers.problem_at(&place, message, Some("choose another name".into()));
        return None;
    }
    let source = TokenSource {
        token: (place.join("token"), token.token.as_ref()),
        file: (place.join("token_file"), token.token_file.as_ref()),
    };
    if !source.is_given(layers) {
        let hint = "set `token = \"${env:NAME}\"`, or `token_file = \"name.token\"`";
        layers.problem_at(&place, "has no token".into(), Some(hint.into()));
        return None;
    }
    for (at, tool) in token.tools.iter().flatten().enumerate() {
        if naming::tool(settings, tool).is_none() && !known.contains(&tool.as_str()) {
            let place = place.join("tools").join(at.to_string());
            let message = format!("there is no tool `{tool}`");
            layers.problem_at(&place, message, Some(suggestion(tool, known)));
        }
    }
    let named = |tool: &String| naming::tool(settings, tool).unwrap_or(tool).to_owned();
    let tools = token.tools.as_ref();
    // An empty variable may have lost its value, so it grants nothing.
    let is_lost = matches!(
        layers.origin_of(&place.join("tools")).0,
        Origin::Variable(_)
    );
    Some(TokenConfig {
        name: name.to_owned(),
        secret: source.read(layers),
        admin: token.admin,
        tools: tools.map(|tools| Arc::new(tools.iter().map(named).collect())),
        is_scraper: tools.is_some_and(Vec::is_empty) && !is_lost,
        max_calls: token.max_calls,
        calls_per_minute: token.calls_per_minute,
    })
}

fn at(key: &str) -> Address {
    Address::new(["server", key])
}

/// The two keys that may set a token, each with its address: a string and a file.
struct TokenSource<'settings> {
    token: (Address, Option<&'settings String>),
    file: (Address, Option<&'settings PathBuf>),
}

impl TokenSource<'_> {
    /// Returns whether a key sets a token, even if its string refers to a file or variable that does not exist.
    fn is_given(&self, layers: &Layers) -> bool {
        let ((token_at, token), (file_at, file)) = (&self.token, &self.file);
        let is_tolerated = |at: &Address| {
            layers
                .tolerated_faults
                .iter()
                .any(|fault| fault.address.as_ref() == Some(at))
        };
        token.is_some() || file.is_some() || is_tolerated(token_at) || is_tolerated(file_at)
    }

    /// Returns the message of the error in `layers` about one of the keys.
    fn reported_fault(&self, layers: &Layers) -> String {
        let concerns_token = |fault: &&Problem| {
            let at = fault.address.as_ref();
            at == Some(&self.token.0) || at == Some(&self.file.0)
        };
        let mut faults = layers.tolerated_faults.iter().chain(&layers.problems);
        let fault = faults.find(concerns_token);
        fault.map_or_else(
            || "see the server's log".into(),
            |fault| fault.message.clone(),
        )
    }

    /// Reads the token. If both keys are set, the one in the higher layer takes precedence. If the token cannot be used, adds the
    /// fault to `layers`.
    ///
    /// # Errors
    /// The reason why the token cannot be used.
    fn read(&self, layers: &mut Layers) -> Result<BearerToken, TokenFault> {
        let ((token_at, token), (file_at, file)) = (&self.token, &self.file);
        if token.is_some()
            && file.is_some()
            && !layers.is_above(file_at, token_at)
            && !layers.is_above(token_at, file_at)
        {
            let key = token_at.parts().last().map_or("", String::as_str);
            let message = format!("conflicts with `{key}`");
            layers.problem_at(file_at, message, Some("remove one of the two".into()));
        }
        let (place, token) = match (*token, *file) {
            // The error of its string is already reported.
            (None, None) => return Err(self.reported_fault(layers).into()),
            (None, Some(file)) if file.as_os_str().is_empty() => {
                (file_at, Err("the file name must not be empty".to_owned()))
            }
            (token, Some(file)) if token.is_none() || layers.is_above(file_at, token_at) => {
                layers.files.push(file.clone());
                layers.server_files.push(file.clone());
                let token = read_text(file).map_err(|error| {
                    let file = layers.quoted(file_at, &file.display().to_string());
                    format!("could not read {file}: {error}")
                });
                (file_at, token.map(|token| token.trim().to_owned()))
            }
            (token, _) => (token_at, Ok(token.cloned().unwrap_or_default())),
        };
        let token = token
            .and_then(|token| BearerToken::parse(&token).map_err(|invalid| invalid.to_string()));
        let token = token.inspect_err(|message| {
            // A flag or a variable cannot change before the next start, so it is not tolerated.
            let is_of_file = matches!(layers.origin_of(place).0, Origin::File(_));
            if place == file_at || is_of_file {
                layers.tolerate_at(place, message.clone(), None);
            } else {
                layers.problem_at(place, message.clone(), None);
            }
        });
        token.map_err(TokenFault)
    }
}

/// Number of characters below which a token is weak.
pub(crate) const SHORT: usize = 16;

/// Reason why a text is not a bearer token. It does not contain the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidToken {
    #[error("the token must not be empty")]
    Empty,
    #[error("the token must be printable ASCII without spaces")]
    NotPrintable,
}

/// Secret text of a bearer token. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BearerToken(String);

impl BearerToken {
    /// Parses a token.
    ///
    /// # Errors
    /// The token is empty, or an HTTP header cannot contain it.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidToken> {
        if text.is_empty() {
            Err(InvalidToken::Empty)
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Err(InvalidToken::NotPrintable)
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// Returns the value of the header `Authorization`.
    pub(crate) fn to_header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Returns the token itself, to derive keys from. It must not be shown.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns whether the token is so short that guessing it is feasible.
    pub(crate) fn is_short(&self) -> bool {
        self.0.len() < SHORT
    }

    /// Returns whether `given` is this token. Compares in constant time, so the duration reveals only the length.
    pub(crate) fn matches(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
