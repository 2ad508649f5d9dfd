//! The blocks of a page, and what their marks say of them.

/// A block that something is done with.
pub(super) struct Block {
    /// Where it begins, from 1.
    pub line: usize,
    pub text: String,
    pub what: What,
}

pub(super) enum What {
    Run,
    Server,
    Check,
    Python,
    /// Python that is compiled, and not run.
    CompilePython,
    /// Cannot be meant.
    Wrong(String),
}

/// In their order.
pub(super) fn blocks(page: &str) -> Vec<Block> {
    let mut lines = page.lines().enumerate();
    let mut before = "";
    let mut blocks = Vec::new();
    while let Some((at, line)) = lines.next() {
        let trimmed = line.trim();
        if let Some(language) = trimmed.strip_prefix("```") {
            // In a list it is indented.
            let indent = line.len() - line.trim_start().len();
            let text: String = lines
                .by_ref()
                .map_while(|(_, line)| (line.trim() != "```").then_some(line))
                .flat_map(|line| [line.get(indent..).unwrap_or_default(), "\n"])
                .collect();
            let what = what(language, mark(before));
            blocks.extend(what.map(|what| Block {
                line: at + 1,
                text,
                what,
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

fn what(language: &str, mark: Option<&str>) -> Option<What> {
    let wrong = |why: String| Some(What::Wrong(why));
    match (language, mark) {
        ("sh", None) => Some(What::Run),
        ("sh", Some("server")) => Some(What::Server),
        ("toml", Some("check")) => Some(What::Check),
        ("python", None) => Some(What::Python),
        ("sh" | "python", Some("not run:")) => wrong("is not run, and does not say why".into()),
        ("sh", Some(mark)) if mark.starts_with("not run: ") => None,
        ("python", Some(mark)) if mark.starts_with("not run: ") => Some(What::CompilePython),
        ("bash" | "shell" | "console", _) => wrong("is never run: call it `sh`".into()),
        ("py" | "python3", _) => wrong("is never run: call it `python`".into()),
        (_, Some(mark)) => wrong(format!(
            "`<!-- {mark} -->` says nothing of a block of `{language}`"
        )),
        (_, None) => None,
    }
}
