//! Checks the names of arguments.

use serde_json::{Map, Value};

use super::ArgumentError;
use crate::config::validate::{nearest, suggestion};
use crate::printable::printable;

/// Longest name that an error repeats, in characters.
const MAX_NAME: usize = 64;

/// Required arguments that a call does not give.
#[derive(Debug)]
pub(crate) struct Missing<'name> {
    /// Their names.
    pub names: Vec<&'name str>,
    /// Message that says that they are missing.
    pub message: String,
}

/// Checks that all `given` names are `known`. An error names the `missing` arguments first: an unknown name usually is a missing argument
/// that was misspelled.
///
/// # Errors
/// A name is unknown.
pub(crate) fn check_names(
    given: &Map<String, Value>,
    known: &[&str],
    missing: Option<&Missing<'_>>,
) -> Result<(), ArgumentError> {
    let Some(unknown) = given.keys().find(|key| !known.contains(&key.as_str())) else {
        return Ok(());
    };
    // A client may send a name of megabytes.
    let unknown = &*printable(unknown, MAX_NAME);
    let refusal = format!("`{unknown}` is not an argument of this tool");
    let Some(Missing { names, message }) = missing else {
        let hint = suggestion(unknown, known);
        return Err(ArgumentError(format!("{refusal}; {hint}")));
    };
    let hint = if let Some(name) = nearest(unknown, names) {
        format!("did you mean `{name}`?")
    } else {
        let others = known.iter().filter(|name| !names.contains(*name));
        let all = names.iter().chain(others).map(|name| format!("`{name}`"));
        format!("available: {}", all.collect::<Vec<_>>().join(", "))
    };
    Err(ArgumentError(format!("{message}; {refusal}; {hint}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_error_of_an_unknown_name_suggests_missing_arguments_before_known_ones() {
        let refused = |name: &str, missing: Option<&Missing<'_>>| {
            let given = Map::from_iter([(name.to_owned(), json!(1))]);
            let known = ["seed", "text", "temperature"];
            check_names(&given, &known, missing)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refused("temprature", None),
            "`temprature` is not an argument of this tool; did you mean `temperature`?"
        );
        let missing = Missing {
            names: vec!["text"],
            message: "`text` is missing".into(),
        };
        assert_eq!(
            refused("txt", Some(&missing)),
            "`text` is missing; `txt` is not an argument of this tool; did you mean `text`?"
        );
        assert_eq!(
            refused("temp", Some(&missing)),
            "`text` is missing; `temp` is not an argument of this tool; available: `text`, `seed`, `temperature`"
        );
    }
}
