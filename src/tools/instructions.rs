//! The instructions of the server: a list of its tools and their purposes, for the client's model. Pure.
//!
//! Hosts add the instructions to the model's context when they connect, even if they load the tools later, and silently truncate long ones.
//! So the instructions are short, and name as many tools as possible.

use super::ToolDescription;

/// Longest instructions, in bytes. Claude Code truncates instructions at 2 KiB (its documentation says "2KB").
const LIMIT: usize = 2000;

/// Bytes reserved for "and 4294967295 more" after the names.
const ROOM_FOR_MORE: usize = 24;

/// Shortest truncated purpose, in bytes. A shorter one would say less than more names in its place.
const MIN_PURPOSE: usize = 24;

const HEAD: &str = "Each tool asks a local language model. The model sees only what the call gives it, none of this \
conversation. Answers may be wrong, and may take a while.\n\nTools:\n";

/// Returns instructions of at most 2,000 bytes about `tools`; `None` without tools.
pub(crate) fn instructions(tools: &[&ToolDescription]) -> Option<String> {
    if tools.is_empty() {
        return None;
    }
    let room = LIMIT - HEAD.len();
    let list = lines(tools, room).unwrap_or_else(|| names(tools, room));
    Some(format!("{HEAD}{list}"))
}

/// Returns a line for each tool, with the longest purposes truncated to fit in `room`; `None` if too little would be left of them.
fn lines(tools: &[&ToolDescription], room: usize) -> Option<String> {
    let purposes: Vec<String> = tools.iter().map(|tool| purpose(tool)).collect();
    let fixed: usize = tools.iter().map(|tool| line(&tool.name, "").len()).sum();
    let length = |width: usize| {
        fixed
            + purposes
                .iter()
                .map(|text| text.len().min(width))
                .sum::<usize>()
    };
    let width = (MIN_PURPOSE..=room)
        .rev()
        .find(|width| length(*width) <= room)?;
    let lines = tools
        .iter()
        .zip(&purposes)
        .map(|(tool, purpose)| line(&tool.name, truncated(purpose, width).as_str()));
    Some(lines.collect())
}

fn line(name: &str, purpose: &str) -> String {
    format!("- `{name}`: {purpose}\n")
}

/// Returns the names of the tools that fit in `room`, and the number of the others.
fn names(tools: &[&ToolDescription], room: usize) -> String {
    let mut list = String::new();
    for (at, tool) in tools.iter().enumerate() {
        let name = format!("`{}`, ", tool.name);
        if list.len() + name.len() + ROOM_FOR_MORE > room {
            return format!("{list}and {} more\n", tools.len() - at);
        }
        list.push_str(&name);
    }
    list.truncate(list.len() - ", ".len());
    list + "\n"
}

/// Returns the first paragraph of a tool's description, on one line. The other paragraphs are about its arguments.
fn purpose(tool: &ToolDescription) -> String {
    let paragraph = tool.description.trim().split("\n\n").next();
    let words = paragraph.unwrap_or_default().split_whitespace();
    words.collect::<Vec<_>>().join(" ")
}

/// Returns the beginning of `text` in at most `width` bytes, truncated between words if possible.
fn truncated(text: &str, width: usize) -> String {
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

    use super::{HEAD, LIMIT, ToolDescription};

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

    fn instructions(tools: &[ToolDescription]) -> Option<String> {
        super::instructions(&tools.iter().collect::<Vec<_>>())
    }

    #[test]
    fn each_tool_has_a_line_with_its_purpose() {
        let tools = [
            tool(
                "small",
                "Fast, for simple questions.\n\nGive either `text` …",
            ),
            tool("classify", "Says whether a review\nis positive."),
        ];
        let text = instructions(&tools).unwrap();
        assert_eq!(
            text.strip_prefix(HEAD).unwrap(),
            "- `small`: Fast, for simple questions.\n- `classify`: Says whether a review is positive.\n"
        );
        assert_eq!(instructions(&[]), None);
    }

    #[test]
    fn only_long_purposes_are_truncated_and_only_between_words() {
        let long = "words and more of them, ".repeat(40);
        let mut tools: Vec<ToolDescription> =
            (0..9).map(|n| tool(&format!("tool_{n}"), &long)).collect();
        tools.push(tool("short", "Says little."));
        let text = instructions(&tools).unwrap();
        assert!(text.ends_with("- `short`: Says little.\n"), "{text}");
        assert!((1850..=LIMIT).contains(&text.len()), "{} bytes", text.len());
        let truncated = text.lines().filter(|line| line.ends_with('…')).count();
        assert_eq!(truncated, 9, "{text}");
    }

    #[test]
    fn hundreds_of_tools_become_names_and_the_number_of_the_others() {
        let tools: Vec<ToolDescription> = (0..500)
            .map(|n| tool(&format!("tool_{n}"), "Does something."))
            .collect();
        let text = instructions(&tools).unwrap();
        let named = text.matches("`tool_").count();
        assert!(named > 100, "{text}");
        assert!(
            text.ends_with(&format!("`, and {} more\n", 500 - named)),
            "{text}"
        );
        let few = instructions(&tools[..100]).unwrap();
        assert!(few.ends_with("`tool_98`, `tool_99`\n"), "{few}");
    }

    proptest! {
        #[test]
        fn the_instructions_for_any_tools_are_within_the_limit(
            tools in prop::collection::vec(("[a-z]{1,64}", "\\PC{0,300}"), 1..300)
        ) {
            let tools: Vec<ToolDescription> =
                tools.iter().map(|(name, description)| tool(name, description)).collect();
            let text = instructions(&tools).unwrap();
            prop_assert!(text.len() <= LIMIT);
            let first = format!("`{}`", tools[0].name);
            prop_assert!(text.contains(&first), "{}", text);
        }
    }
}
