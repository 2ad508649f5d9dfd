//! What a client is told of the server as a whole: which tools there are, and what each is for. Pure.
//!
//! Hosts put it into the model's context when they connect, also where they load the tools themselves later, and cut what is
//! too long without a word: so it is short, and names every tool that fits.

use super::ToolDescription;

/// Claude Code cuts instructions at 2 KiB (its documentation says "2KB"). Counted in bytes, which are never fewer than characters.
const LIMIT: usize = 2000;

/// Room for "and 4294967295 more" behind names.
const ROOM_FOR_MORE: usize = 24;

/// A purpose that is cut shorter than this says nothing: the names alone say more.
const LEAST_PURPOSE: usize = 24;

const HEAD: &str = "Each tool asks a local language model. The model sees only what the call gives it, none of this \
conversation. Answers may be wrong, and may take a while.\n\nTools:\n";

/// At most 2,000 bytes about `tools`; none where there is no tool.
pub(crate) fn instructions(tools: &[ToolDescription]) -> Option<String> {
    if tools.is_empty() {
        return None;
    }
    let room = LIMIT - HEAD.len();
    let told = lines(tools, room).unwrap_or_else(|| names(tools, room));
    Some(format!("{HEAD}{told}"))
}

/// A line a tool, the longest purposes cut as far as it takes; none where too little would be left of them.
fn lines(tools: &[ToolDescription], room: usize) -> Option<String> {
    let purposes: Vec<String> = tools.iter().map(purpose).collect();
    let fixed: usize = tools.iter().map(|tool| line(&tool.name, "").len()).sum();
    let length = |width: usize| {
        fixed
            + purposes
                .iter()
                .map(|text| text.len().min(width))
                .sum::<usize>()
    };
    let width = (LEAST_PURPOSE..=room)
        .rev()
        .find(|width| length(*width) <= room)?;
    let lines = tools
        .iter()
        .zip(&purposes)
        .map(|(tool, purpose)| line(&tool.name, cut(purpose, width).as_str()));
    Some(lines.collect())
}

fn line(name: &str, purpose: &str) -> String {
    format!("- `{name}`: {purpose}\n")
}

/// The names, and how many more there are.
fn names(tools: &[ToolDescription], room: usize) -> String {
    let mut told = String::new();
    for (at, tool) in tools.iter().enumerate() {
        let name = format!("`{}`, ", tool.name);
        if told.len() + name.len() + ROOM_FOR_MORE > room {
            return format!("{told}and {} more\n", tools.len() - at);
        }
        told.push_str(&name);
    }
    told.truncate(told.len() - ", ".len());
    told + "\n"
}

/// The first paragraph of a tool's description, on one line: how it is called stands in the tool itself.
fn purpose(tool: &ToolDescription) -> String {
    let paragraph = tool.description.trim().split("\n\n").next();
    let words = paragraph.unwrap_or_default().split_whitespace();
    words.collect::<Vec<_>>().join(" ")
}

/// The beginning of `text` in at most `width` bytes, cut between words where there are any.
fn cut(text: &str, width: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= width {
        return text.to_owned();
    }
    let kept = &text[..text.floor_char_boundary(width.saturating_sub(MARK.len()))];
    let words = kept.rfind(' ').map_or(kept, |end| &kept[..end]);
    format!("{words}{MARK}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn tool(name: &str, description: &str) -> ToolDescription {
        ToolDescription {
            name: name.into(),
            title: String::new(),
            description: description.into(),
            input_schema: Value::Null,
            output_schema: None,
            max_chars: 0,
        }
    }

    #[test]
    fn each_tool_has_a_line_that_says_what_it_is_for() {
        let tools = [
            tool(
                "small",
                "Fast, for simple questions.\n\nGive either `text` …",
            ),
            tool("classify", "Says whether a review\nis positive."),
        ];
        let told = instructions(&tools).unwrap();
        assert_eq!(
            told.strip_prefix(HEAD).unwrap(),
            "- `small`: Fast, for simple questions.\n- `classify`: Says whether a review is positive.\n"
        );
        assert_eq!(instructions(&[]), None);
    }

    #[test]
    fn only_long_purposes_are_cut_and_between_words() {
        let long = "words and more of them, ".repeat(40);
        let mut tools: Vec<ToolDescription> =
            (0..9).map(|n| tool(&format!("tool_{n}"), &long)).collect();
        tools.push(tool("short", "Says little."));
        let told = instructions(&tools).unwrap();
        assert!(told.ends_with("- `short`: Says little.\n"), "{told}");
        assert!((1850..=LIMIT).contains(&told.len()), "{} bytes", told.len());
        let cut = told.lines().filter(|line| line.ends_with('…')).count();
        assert_eq!(cut, 9, "{told}");
    }

    #[test]
    fn hundreds_of_tools_are_names_and_how_many_more() {
        let tools: Vec<ToolDescription> = (0..500)
            .map(|n| tool(&format!("tool_{n}"), "Does something."))
            .collect();
        let told = instructions(&tools).unwrap();
        let named = told.matches("`tool_").count();
        assert!(named > 100, "{told}");
        assert!(
            told.ends_with(&format!("`, and {} more\n", 500 - named)),
            "{told}"
        );
        let few = instructions(&tools[..100]).unwrap();
        assert!(few.ends_with("`tool_98`, `tool_99`\n"), "{few}");
    }

    proptest! {
        #[test]
        fn whatever_the_tools_are_it_is_within_the_limit(
            tools in prop::collection::vec(("[a-z]{1,64}", "\\PC{0,300}"), 1..300)
        ) {
            let tools: Vec<ToolDescription> =
                tools.iter().map(|(name, description)| tool(name, description)).collect();
            let told = instructions(&tools).unwrap();
            prop_assert!(told.len() <= LIMIT);
            let first = format!("`{}`", tools[0].name);
            prop_assert!(told.contains(&first), "{}", told);
        }
    }
}
