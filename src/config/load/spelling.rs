//! Spells the names in environment variables as other layers do. Variables have neither case nor hyphens.

use serde_json::Value;

use super::Layers;
use crate::config::VARIABLE_PREFIX;
use crate::config::address::Address;
use crate::config::problem::{Origin, Problem};
use crate::config::validate::Entries;
use crate::config::warning::WarningKind;

/// Key of a case-sensitive table that a variable cannot spell.
#[derive(Debug)]
pub(super) struct Unspellable {
    table: Address,
    /// Variable that sets the whole table.
    table_variable: String,
}

impl Layers {
    /// Returns the address for the lower-case `parts` of a variable. Names of models, tools, tokens and arguments are spelled as in the layers
    /// so far. Returns `None` for an unknown key.
    ///
    /// # Errors
    /// Returns an error if the variable would add a key to a table whose keys are case-sensitive.
    pub(super) fn address_of(&mut self, parts: &[String]) -> Result<Option<Address>, Unspellable> {
        let mut address = Address::default();
        let mut is_case_sensitive = false;
        for (at, part) in parts.iter().enumerate() {
            let entries = self.schema.entries(&address);
            is_case_sensitive |= entries == Some(Entries::CaseSensitive);
            let known = if is_case_sensitive || entries.is_some() {
                self.spelling_of(&address, &parts[..=at])
            } else {
                None
            };
            let has_case = !part.bytes().all(|byte| byte.is_ascii_digit());
            if is_case_sensitive && known.is_none() && has_case {
                return Err(Unspellable {
                    table: address,
                    table_variable: variable(&parts[..at]),
                });
            }
            address = address.join(known.unwrap_or_else(|| part.clone()));
        }
        Ok((is_case_sensitive || self.schema.knows(&address)).then_some(address))
    }

    /// Returns the name of an entry of `table` that matches the last of `parts`. Returns `None` if the layers so far have no such entry. Warns
    /// if several match.
    fn spelling_of(&mut self, table: &Address, parts: &[String]) -> Option<String> {
        let name = parts.last()?;
        let mut names = self.names_in(table);
        // The values of these names are wrong, but the names exist.
        names.extend(self.refused_names(table).map(str::to_owned));
        names.retain(|known| known.to_lowercase().replace('-', "_") == *name);
        let meant = names.get(name).or(names.first())?.clone();
        if names.len() > 1 {
            let kind = match table.parts().last().map(String::as_str) {
                Some("models") => "model",
                Some("tools") => "tool",
                Some("tokens") => "token",
                Some("arguments") => "argument",
                _ => "key",
            };
            let message = format!("sets the {kind} `{meant}`, but also matches others");
            let (exact, rest) = match kind {
                "key" => ("KEY=VALUE", ""),
                _ => ("NAME.KEY=VALUE", "__…"),
            };
            let hint = format!("use `--set {table}.{exact}`, which names the {kind} exactly");
            let code = WarningKind::AmbiguousVariable;
            let origin = Origin::Variable(format!("{}{rest}", variable(parts)));
            self.warn(Problem::warning(origin, None, code, message, &hint));
        }
        Some(meant)
    }

    /// Reports the `variable` for a key that it cannot spell.
    pub(super) fn report_unspellable(&mut self, variable: &str, key: &Unspellable) {
        let Unspellable {
            table,
            table_variable,
        } = key;
        let last = table.parts().last().map_or("", String::as_str);
        let message = format!("cannot add a key to `{last}`: its keys are case-sensitive");
        let in_variable = match self.schema.example(table) {
            example @ Value::Object(_) => {
                format!("set a table such as `{table_variable}='{example}'`, or ")
            }
            _ => String::new(),
        };
        let hint = format!("{in_variable}use `--set {table}.KEY=VALUE`");
        let origin = Origin::Variable(variable.to_owned());
        self.add_error(origin, Some(table), message, Some(hint));
    }
}

/// Returns the name of the variable with these lower-case `parts`.
fn variable(parts: &[String]) -> String {
    format!("{VARIABLE_PREFIX}{}", parts.join("__").to_uppercase())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::config::Overrides;

    const FILE: &str = "\
[models.Small-1]
path = \"a.gguf\"
logit_bias = { Hello = -5, No = -1, no = -2 }
template_arguments = { Effort = \"low\" }

[server.tokens.team-a]
token = \"${env:SECRET}\"
tools = [\"t\"]

[tools.t]
prompt = \"Where is {{ City }}?\"
arguments.City.description = \"A city.\"
";

    fn read(variables: &[(&str, &str)]) -> Layers {
        let secret = [("SECRET", "0123456789abcdef")];
        let variables = variables.iter().chain(&secret);
        let variables = variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let typed = Overrides::default();
        let path = Path::new("test.toml");
        Layers::read_as(&typed, &variables.collect(), path, FILE.into())
    }

    fn messages(layers: &Layers) -> Vec<String> {
        layers.problems.iter().map(Problem::line).collect()
    }

    #[test]
    fn a_variable_names_an_entry_as_the_file_spells_it() {
        let layers = read(&[
            ("LLAMA_MCP_MODELS__SMALL_1__N_CTX", "64"),
            ("LLAMA_MCP_MODELS__SMALL_1__LOGIT_BIAS__13", "-100"),
            ("LLAMA_MCP_MODELS__SMALL_1__LOGIT_BIAS__HELLO", "5"),
            (
                "LLAMA_MCP_MODELS__SMALL_1__TEMPLATE_ARGUMENTS__EFFORT",
                "high",
            ),
            (
                "LLAMA_MCP_SERVER__TOKENS__TEAM_A__TOKEN",
                "fedcba9876543210",
            ),
            ("LLAMA_MCP_TOOLS__T__ARGUMENTS__CITY__DEFAULT", "Rome"),
        ]);
        assert_eq!(messages(&layers), [""; 0]);
        let tree = layers.effective();
        let token = json!({"token": "fedcba9876543210", "tools": ["t"]});
        assert_eq!(tree["server"]["tokens"], json!({ "team-a": token }));
        let argument = json!({"description": "A city.", "default": "Rome"});
        assert_eq!(tree["tools"]["t"]["arguments"], json!({ "City": argument }));
        let model = &tree["models"]["Small-1"];
        assert_eq!(model["n_ctx"], 64);
        assert_eq!(
            model["logit_bias"],
            json!({"13": -100, "Hello": 5, "No": -1, "no": -2})
        );
        assert_eq!(model["template_arguments"], json!({"Effort": "high"}));
    }

    #[test]
    fn a_variable_that_matches_two_keys_gets_a_warning_with_the_way_to_name_one() {
        let layers = read(&[("LLAMA_MCP_MODELS__SMALL_1__LOGIT_BIAS__NO", "5")]);
        let warnings: Vec<_> = layers.warnings.iter().map(Problem::line).collect();
        assert_eq!(
            warnings,
            [
                "`LLAMA_MCP_MODELS__SMALL_1__LOGIT_BIAS__NO`: sets the key `no`, but also matches others; use `--set models.Small-1.logit_bias.KEY=VALUE`, which names the key exactly"
            ]
        );
    }

    #[test]
    fn a_variable_adds_no_key_whose_case_it_cannot_spell() {
        for (variable, hint) in [
            (
                "LLAMA_MCP_MODELS__SMALL_1__LOGIT_BIAS__SORRY",
                "`LLAMA_MCP_MODELS__SMALL_1__LOGIT_BIAS='{\" sorry\":-5,\"13\":-100}'`, or use `--set models.Small-1.logit_bias.KEY=VALUE`",
            ),
            (
                "LLAMA_MCP_TOOLS__T__TEMPLATE_ARGUMENTS__MOOD",
                "`LLAMA_MCP_TOOLS__T__TEMPLATE_ARGUMENTS='{\"reasoning_effort\":\"low\"}'`, or use `--set tools.t.template_arguments.KEY=VALUE`",
            ),
            (
                "LLAMA_MCP_TOOLS__T__OUTPUT__PROPERTIES__CITY__TYPE",
                "use `--set tools.t.output.KEY=VALUE`",
            ),
        ] {
            let layers = read(&[(variable, "1")]);
            let messages = messages(&layers);
            assert!(
                messages.len() == 1 && messages[0].contains(hint),
                "{messages:?}"
            );
        }
    }

    #[test]
    fn a_variable_for_an_unknown_token_is_reported() {
        let layers = read(&[
            ("LLAMA_MCP_SERVER__TOKENS__TEAMA__TOOLS", "t"),
            ("LLAMA_MCP_SERVER__TOKENS__TEAMA__ADMIN", "true"),
            ("LLAMA_MCP_SERVER__TOKENS__TEAM_C__TOKEN", "0123456789"),
            ("LLAMA_MCP_SERVER__TOKENS__TEAM_C__TOOLS", "t"),
            // Its table was removed from the file.
            ("LLAMA_MCP_SERVER__TOKENS__OTHER__TOKEN", "0123456789"),
        ]);
        let requires = "a new token requires `token` or `token_file`, and `tools`";
        assert_eq!(
            messages(&layers),
            [
                format!(
                    "`LLAMA_MCP_SERVER__TOKENS__OTHER__TOKEN`: there is no token `other`; {requires}"
                ),
                format!(
                    "`LLAMA_MCP_SERVER__TOKENS__TEAMA__ADMIN`: there is no token `teama`; did you mean the token `team-a`? If not, {requires}"
                ),
            ]
        );
    }
}
