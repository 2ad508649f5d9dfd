use clap::CommandFactory as _;

use super::*;
use crate::config::SamplingParams;
use crate::config::sampling_arguments::PARAMETERS;
use crate::config::validate::plain;

#[test]
fn exactly_the_listed_sampling_parameters_have_a_flag_and_its_help_states_the_default() {
    let command = Cli::command();
    let [unset, free, constrained] = [None, Some(false), Some(true)].map(|is_constrained| {
        let params = SamplingParams::default();
        json!(match is_constrained {
            Some(is_constrained) => params.for_answer(is_constrained),
            None => params,
        })
    });
    for (name, default) in unset.as_object().unwrap() {
        let mut parameters = PARAMETERS.iter();
        let is_listed = parameters.any(|parameter| parameter.name == name && parameter.is_listed);
        let mut flags = command.get_arguments();
        let flag = flags.find(|flag| flag.get_id() == name.as_str());
        assert_eq!(flag.is_some(), is_listed, "{name}");
        let Some(help) = flag.and_then(Arg::get_help) else {
            continue;
        };
        let default = match default {
            Value::Null => format!(
                "{}; {} with a schema",
                plain(&free[name]),
                plain(&constrained[name])
            ),
            default => plain(default),
        };
        let expected = format!("[default: {default}]");
        assert!(help.to_string().ends_with(&expected), "{help}");
    }
}

#[cfg(unix)]
#[test]
fn a_token_file_that_is_not_utf8_is_reported() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use clap::error::ErrorKind;

    let arguments: [&[&str]; 3] = [
        &["llama-mcp-server", "--auth_file"],
        &["llama-mcp-server", "status", "--auth_file"],
        &["llama-mcp-server", "config", "check", "--auth_file"],
    ];
    for arguments in arguments {
        let arguments = arguments.iter().map(OsStr::new);
        let file = OsStr::from_bytes(b"a\xff.token");
        let parsed = Cli::try_parse_from(arguments.chain([file]));
        assert_eq!(parsed.unwrap_err().kind(), ErrorKind::InvalidUtf8);
    }
}
