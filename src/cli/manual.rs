//! Shell completions and the manual page, generated from the description of the command line.

use std::io::{self, Write};

use clap::{Arg, Command, CommandFactory};
pub(crate) use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;

/// Returns the completion script for `shell`.
pub(crate) fn completions(shell: Shell) -> String {
    let mut program = Cli::command();
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, &name, &mut script);
    // If the name of a program has a hyphen, the script for bash spells its subcommands in two ways:
    // https://github.com/clap-rs/clap/issues/6421
    let [wrong, right] = ["__subcmd__", "__"].map(|mark| name.replace('-', mark));
    String::from_utf8_lossy(&script).replace(&wrong, &right)
}

/// Returns the manual page. Each subcommand is a section.
///
/// # Errors
/// Does not fail in practice, since the page is written to memory.
pub(crate) fn manual() -> io::Result<String> {
    let mut program = Cli::command();
    program.build();
    let page = Man::new(program.clone());
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_options_section(&mut text)?;
    for command in program.get_subcommands() {
        add_section(command, &mut text)?;
    }
    page.render_extra_section(&mut text)?;
    page.render_version_section(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let text = text.replace(".SH EXTRA", ".SH \"EXIT STATUS AND ENVIRONMENT\"");
    Ok(text.chars().map(ascii).collect())
}

/// Appends a section for `command`, or for each of its subcommands. The flags of the server, which have headings, are not repeated.
fn add_section(command: &Command, text: &mut Vec<u8>) -> io::Result<()> {
    if command.has_subcommands() {
        return command
            .get_subcommands()
            .try_for_each(|command| add_section(command, text));
    }
    let is_flag = |argument: &Arg| argument.get_help_heading().is_some();
    let has_flags = command.get_arguments().any(is_flag);
    let own = command.clone().mut_args(|argument| {
        let is_known = is_flag(&argument) || argument.get_id() == "help";
        argument.hide(is_known)
    });
    let page = Man::new(own);
    let mut section = Vec::new();
    page.render_synopsis_section(&mut section)?;
    page.render_description_section(&mut section)?;
    page.render_options_section(&mut section)?;
    let section = String::from_utf8_lossy(&section).replace("\n.SH ", "\n.SS ");
    let title = command.get_bin_name().unwrap_or_default().to_uppercase();
    write!(text, ".SH \"{title}\"\n{section}")?;
    if has_flags {
        text.extend(b".PP\nThe flags of the server apply, too.\n");
    }
    Ok(())
}

/// Returns `c` in ASCII, since not every roff reads UTF-8.
fn ascii(c: char) -> String {
    if c.is_ascii() {
        c.to_string()
    } else {
        format!("\\[u{:04X}]", u32::from(c))
    }
}
