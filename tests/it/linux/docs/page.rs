//! The blocks of a page, and the marks that say what to do with them.

/// A block that is run or checked.
pub(super) struct Block {
    /// Number of its first line, from 1.
    pub line: usize,
    pub text: String,
    pub action: Action,
}

pub(super) enum Action {
    Run,
    Server,
    Check,
    Python,
    /// Python that is compiled but not run.
    CompilePython,
    /// A combination of language and mark that makes no sense, with the reason.
    Wrong(String),
}

/// Returns the blocks of `page` in order.
pub(super) fn blocks(page: &str) -> Vec<Block> {
    let mut lines = page.lines().enumerate();
    let mut before = "";
    let mut blocks = Vec::new();
    while let Some((at, line)) = lines.next() {
        let trimmed = line.trim();
        if let Some(language) = trimmed.strip_prefix("```") {
            // Blocks in lists are indented.
            let indent = line.len() - line.trim_start().len();
            let text: String = lines
                .by_ref()
                .map_while(|(_, line)| (line.trim() != "```").then_some(line))
                .flat_map(|line| [line.get(indent..).unwrap_or_default(), "\n"])
                .collect();
            let action = action(language, mark(before));
            blocks.extend(action.map(|action| Block {
                line: at + 1,
                text,
                action,
            }));
        }
        if !trimmed.is_empty() {
            before = trimmed;
        }
    }
    blocks
}

fn mark(line: &str) -> Option<&str> {
    let comment = line.strip_prefix("<!--")?.strip_suffix("-->")?;
    Some(comment.trim())
}

fn action(language: &str, mark: Option<&str>) -> Option<Action> {
    let wrong = |why: String| Some(Action::Wrong(why));
    match (language, mark) {
        ("sh", None) => Some(Action::Run),
        ("sh", Some("server")) => Some(Action::Server),
        ("toml", Some("check")) => Some(Action::Check),
        ("python", None) => Some(Action::Python),
        ("sh" | "python", Some("not run:")) => wrong("is not run, and does not say why".into()),
        ("sh", Some(mark)) if mark.starts_with("not run: ") => None,
        ("python", Some(mark)) if mark.starts_with("not run: ") => Some(Action::CompilePython),
        ("bash" | "shell" | "console", _) => wrong("is never run: call it `sh`".into()),
        ("py" | "python3", _) => wrong("is never run: call it `python`".into()),
        (_, Some(mark)) => wrong(format!(
            "`<!-- {mark} -->` says nothing of a block of `{language}`"
        )),
        (_, None) => None,
    }
}
