//! Who may use the server over HTTP, and how much of it: bearer tokens by name.

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

/// The environment variable that holds the token of `auth`.
pub(crate) const AUTH_VARIABLE: &str = "LLAMA_MCP_AUTH";

/// The name of the token that `auth` or `auth_file` gives.
pub(crate) const AUTH: &str = "auth";

/// A token, and what it is for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenConfig {
    /// What logs call it.
    pub name: String,
    /// The secret; `None` if its file is empty or missing, or its text cannot be a token. No request matches it then, and requests
    /// without a token are still refused.
    pub token: Option<BearerToken>,
    /// The reason why `token` is `None`; it shows no secret.
    pub fault: Option<String>,
    /// Whether it may unload and restart models.
    pub admin: bool,
    /// Tools that it is for; none where it is for all.
    pub tools: Option<Arc<BTreeSet<String>>>,
    /// Whether the configuration gives it no tool on purpose (`tools = []`): it is for Prometheus, and sees all metrics.
    pub is_scraper: bool,
    /// Calls at once.
    pub max_calls: Option<usize>,
    /// Calls that may begin in a minute.
    pub calls_per_minute: Option<u32>,
}

impl TokenConfig {
    /// Returns the token without its secret, so that no request matches it. `fault` says why.
    #[must_use]
    pub(crate) fn ended(&self, fault: &str) -> Self {
        Self {
            token: None,
            fault: self.fault.clone().or_else(|| Some(fault.to_owned())),
            ..self.clone()
        }
    }

    /// Returns whether `given` is the secret of this token.
    pub(crate) fn matches(&self, given: &[u8]) -> bool {
        self.token
            .as_ref()
            .is_some_and(|token| token.matches(given))
    }

    /// Returns the tools that the token may see in status and metrics. Returns `None` if it may see all: it is for all tools, or may
    /// unload and restart every model.
    pub(crate) fn visible_tools(&self) -> Option<&BTreeSet<String>> {
        self.tools.as_deref().filter(|_| !self.admin)
    }
}

/// Resolves the tokens of `settings`. Problems go to `layers`; a token that is unusable for now is a doubt.
pub(super) fn resolve(settings: &ConfigFile, layers: &mut Layers) -> Vec<Arc<TokenConfig>> {
    let server = &settings.server;
    let source = Source {
        token: (at(AUTH), server.auth.as_ref()),
        file: (at("auth_file"), server.auth_file.as_ref()),
    };
    let of_auth = source.is_given(layers).then(|| {
        let token = source.read(layers);
        TokenConfig {
            name: AUTH.into(),
            fault: source.fault(token.as_ref(), layers),
            token,
            // It is the server's only token, or the owner's.
            admin: true,
            tools: None,
            is_scraper: false,
            max_calls: None,
            calls_per_minute: None,
        }
    });
    let refused: Vec<String> = [Address::of(["models"]), Address::of(["tools"])]
        .iter()
        .flat_map(|table| layers.refused_names(table))
        .map(str::to_owned)
        .collect();
    let mut known = naming::tools(settings);
    known.extend(refused.iter().map(String::as_str));
    let named = server
        .tokens
        .iter()
        .filter_map(|(name, token)| one(name, token, settings, &known, layers));
    let named: Vec<TokenConfig> = named.collect();
    let mut tokens: Vec<Arc<TokenConfig>> = of_auth.into_iter().map(Arc::new).collect();
    for token in named {
        if let Some(other) = tokens
            .iter()
            .find(|other| token.token.is_some() && other.token == token.token)
        {
            let message = format!(
                "has the token of `{}`, too: nobody could tell them apart",
                other.name
            );
            layers.problem_at(&at("tokens").join(&token.name), message, None);
        }
        tokens.push(Arc::new(token));
    }
    tokens
}

/// Adds a warning for each of `tokens` that is short enough to be guessed. The tokens are not shown.
pub(super) fn warn_of_short(tokens: &[Arc<TokenConfig>], layers: &mut Layers) {
    let is_short = |token: &&Arc<TokenConfig>| {
        let secret = token.token.as_ref();
        secret.is_some_and(BearerToken::is_short)
    };
    for token in tokens.iter().filter(is_short) {
        let keys = match token.name.as_str() {
            AUTH => [at(AUTH), at("auth_file")],
            name => ["token", "token_file"].map(|key| at("tokens").join(name).join(key)),
        };
        let is_said = |key: &&Address| layers.origin_of(key).0 != Origin::BuiltIn;
        let key = keys.iter().find(is_said).unwrap_or(&keys[0]).clone();
        let message = format!(
            "the token `{}` has fewer than {SHORT} characters, and can be guessed",
            token.name
        );
        let hint = "generate a strong one with `openssl rand -hex 32`";
        layers.warn_at(WarningKind::ShortToken, &key, message, hint);
    }
}

/// Turns the file's problems with the text of a single token into doubts: that token is refused, and the rest of the configuration
/// is used.
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
    let (doubts, problems): (Vec<_>, Vec<_>) = problems.into_iter().partition(concerns_token);
    layers.problems = problems;
    layers.doubts.extend(doubts);
}

/// Returns the token of these layers that may see and do most: one with `admin` before others, that of `auth` first; then one for all tools,
/// then the one for most tools. Faults of tokens are ignored, since the server checks the token itself.
pub(crate) fn for_asking(layers: &mut Layers) -> Option<BearerToken> {
    set_aside(layers);
    let tokens = resolve(&layers.merged(), layers);
    let usable = tokens.iter().filter(|token| token.token.is_some());
    // The first of equal tokens.
    let most = usable.rev().max_by_key(|token| {
        let tools = token.tools.as_ref().map_or(usize::MAX, |tools| tools.len());
        (token.admin, tools)
    });
    most?.token.clone()
}

/// Resolves `[server.tokens.NAME]`. `known` has the names of all tools, including those of models and tools with errors.
fn one(
    name: &str,
    token: &TokenSettings,
    settings: &ConfigFile,
    known: &[&str],
    layers: &mut Layers,
) -> Option<TokenConfig> {
    let place = at("tokens").join(name);
    if name == AUTH {
        let message = "is what the token of `auth` is called".into();
        layers.problem_at(&place, message, Some("give it another name".into()));
        return None;
    }
    let source = Source {
        token: (place.join("token"), token.token.as_ref()),
        file: (place.join("token_file"), token.token_file.as_ref()),
    };
    if !source.is_given(layers) {
        let hint = "`token = \"${env:NAME}\"`, or `token_file = \"name.token\"`";
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
    let secret = source.read(layers);
    Some(TokenConfig {
        name: name.to_owned(),
        fault: source.fault(secret.as_ref(), layers),
        token: secret,
        admin: token.admin,
        tools: tools.map(|tools| Arc::new(tools.iter().map(named).collect())),
        is_scraper: tools.is_some_and(Vec::is_empty) && !is_lost,
        max_calls: token.max_calls,
        calls_per_minute: token.calls_per_minute,
    })
}

fn at(key: &str) -> Address {
    Address::of(["server", key])
}

/// Where a token may stand: in a text, or in a file.
struct Source<'settings> {
    token: (Address, Option<&'settings String>),
    file: (Address, Option<&'settings PathBuf>),
}

impl Source<'_> {
    /// Returns whether a token is given, even if its text refers to a file or variable that does not exist.
    fn is_given(&self, layers: &Layers) -> bool {
        let ((token_at, token), (file_at, file)) = (&self.token, &self.file);
        let is_doubted = |at: &Address| {
            layers
                .doubts
                .iter()
                .any(|doubt| doubt.address.as_ref() == Some(at))
        };
        token.is_some() || file.is_some() || is_doubted(token_at) || is_doubted(file_at)
    }

    /// Returns why there is no `token`, as it was reported to `layers`.
    fn fault(&self, token: Option<&BearerToken>, layers: &Layers) -> Option<String> {
        let concerns_token = |fault: &&Problem| {
            let at = fault.address.as_ref();
            at == Some(&self.token.0) || at == Some(&self.file.0)
        };
        let mut faults = layers.doubts.iter().chain(&layers.problems);
        match token {
            Some(_) => None,
            None => faults
                .find(concerns_token)
                .map(|fault| fault.message.clone()),
        }
    }

    /// Reads the token; if two are given, the one in the higher layer. Returns `None`, with a doubt or a problem, if it cannot be used.
    fn read(&self, layers: &mut Layers) -> Option<BearerToken> {
        let ((token_at, token), (file_at, file)) = (&self.token, &self.file);
        if token.is_some()
            && file.is_some()
            && !layers.is_above(file_at, token_at)
            && !layers.is_above(token_at, file_at)
        {
            let key = token_at.parts().last().map_or("", String::as_str);
            let message = format!("`{key}` is given, too: which of them is the token?");
            layers.problem_at(file_at, message, Some("remove one".into()));
        }
        let (place, token) = match (*token, *file) {
            // The fault of its text is reported already.
            (None, None) => return None,
            (None, Some(file)) if file.as_os_str().is_empty() => {
                (file_at, Err("the file name must not be empty".into()))
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
        match token.and_then(|token| BearerToken::parse(&token)) {
            Ok(token) => Some(token),
            Err(message) => {
                // A flag or a variable cannot change until the next start, so it is a problem, not a doubt.
                let is_of_file = matches!(layers.origin_of(place).0, Origin::File(_));
                if place == file_at || is_of_file {
                    layers.doubt_at(place, message, None);
                } else {
                    layers.problem_at(place, message, None);
                }
                None
            }
        }
    }
}

/// A token with fewer characters is noted as weak.
pub(crate) const SHORT: usize = 16;

/// A secret. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BearerToken(String);

impl BearerToken {
    /// # Errors
    /// What no header can carry; the text is not shown.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Err("the token must not be empty".into())
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Err("the token must be letters, digits and signs of ASCII, without spaces".into())
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// The value of `Authorization`, for the server that it is for.
    pub(crate) fn to_header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// The token itself, to derive keys from. It must not be shown.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns whether the token is so short that guessing it is feasible.
    pub(crate) fn is_short(&self) -> bool {
        self.0.len() < SHORT
    }

    /// Whether `given` is this token; how long that takes tells the length alone.
    pub(crate) fn matches(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Secret that signs session ids. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SessionSecret(String);

/// Characters of the shortest secret: at least the length of the keys that are derived from it.
const MIN_SECRET: usize = 32;

impl SessionSecret {
    /// Checks that a secret is long enough.
    ///
    /// # Errors
    /// The secret is too short; it is not shown.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.chars().count() < MIN_SECRET {
            return Err(format!("must have at least {MIN_SECRET} characters"));
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the secret, to derive keys from. It must not be shown.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Reads the secret of `settings`. Problems go to `layers`.
    pub(super) fn resolve(settings: &ConfigFile, layers: &mut Layers) -> Option<Self> {
        let secret = Self::parse(settings.server.session_secret.as_deref()?);
        secret
            .map_err(|message| {
                let hint = "`openssl rand -hex 32` prints one";
                layers.problem_at(&at("session_secret"), message, Some(hint.into()));
            })
            .ok()
    }
}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
