//! The reasoning markers of each model family: those of a table, and pairs of tags in templates.

use std::collections::HashSet;

use super::table::{FAMILIES, Family, THINK_END};
use super::tags::{Tag, tags_of};

/// The markers of one style of reasoning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Markers {
    /// The common name of the family.
    pub name: String,
    /// Text that opens a block. Empty if these markers only surround an answer.
    pub open: String,
    /// Text that closes the block.
    pub close: String,
    /// Header after `open`, which a template also writes if it opens a block itself.
    pub head: String,
    /// End of the header after `close` and after the beginning of an answer. Empty if there is no header.
    pub head_end: String,
    /// Pairs of texts that surround an answer and are not part of it. If a first text equals `close`, it also closes the block.
    pub around: Vec<(String, String)>,
    /// Text that the server writes to close a block, including what models of the family write before their answer.
    pub closing: String,
    /// Text at the beginning of an answer without reasoning, if the family requires it.
    pub direct: String,
}

impl Family {
    fn markers(&self) -> Markers {
        let around = self.around.iter();
        Markers {
            name: self.name.into(),
            open: self.open.into(),
            close: self.close.into(),
            head: self.head.into(),
            head_end: self.head_end.into(),
            around: around
                .map(|(begin, end)| ((*begin).into(), (*end).into()))
                .collect(),
            closing: self.closing.into(),
            direct: self.direct.into(),
        }
    }
}

impl Markers {
    /// Creates the markers for a pair of tags.
    pub(crate) fn pair(open: &str, close: &str) -> Self {
        Self {
            name: open.into(),
            open: open.into(),
            close: close.into(),
            closing: format!("\n{close}\n\n"),
            ..Self::default()
        }
    }

    /// Returns whether `prompt`, which has no white space at its end, ends inside a block.
    pub(crate) fn is_open_at(&self, prompt: &str) -> bool {
        let open = self.open.trim_end();
        let behind = prompt.rfind(open).filter(|_| !open.is_empty());
        let behind = behind.map(|at| prompt[at + open.len()..].trim_start());
        behind.is_some_and(|behind| self.head.starts_with(behind))
    }

    /// Returns the text that models write between the marker that closes a block and their answer.
    pub(crate) fn tail(&self) -> &str {
        let behind = |text: &str| {
            let at = self.closing.rfind(text)?;
            Some(at + text.len())
        };
        let from = behind(&self.head_end).filter(|_| !self.head_end.is_empty());
        let from = from.or_else(|| behind(&self.close)).unwrap_or(0);
        &self.closing[from..]
    }

    /// Returns the markers with which the text of a model may begin.
    pub(crate) fn beginnings(&self) -> impl Iterator<Item = &str> {
        let answers = self.around.iter().map(|(begin, _)| begin.as_str());
        answers.chain([self.open.as_str()])
    }

    /// Returns all marker texts, none of which is empty.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let around = self
            .around
            .iter()
            .flat_map(|(begin, end)| [begin.as_str(), end]);
        [&self.open, &self.close, &self.head_end, &self.closing]
            .into_iter()
            .map(String::as_str)
            .chain(around)
            .filter(|text| !text.trim().is_empty())
    }

    /// Returns whether `text` contains a marker text, or is a part of one.
    pub(crate) fn has_part(&self, text: &str) -> bool {
        let mut texts = self.texts();
        !text.is_empty() && texts.any(|marker| marker.contains(text) || text.contains(marker))
    }
}

/// Returns the part of an earlier `answer` after its reasoning, which chat templates print.
///
/// ```text
/// after_reasoning("<think>hm</think>Lima.") == "Lima."
/// ```
pub fn after_reasoning(answer: &str) -> &str {
    answer
        .rsplit_once(THINK_END)
        .map_or(answer, |(_, rest)| rest)
}

/// Returns the markers of a model with this chat `template` and these special tokens. `tags` is a pair from the configuration and comes
/// first.
///
/// ```text
/// markers_of("{{ '[THINK]' }}", &[], None)[0].close == "[/THINK]"
/// ```
pub fn markers_of(template: &str, specials: &[String], tags: Option<&[String; 2]>) -> Vec<Markers> {
    let has = |text: &&str| template.contains(*text) || specials.iter().any(|own| own == text);
    let mut all: Vec<Markers> = tags
        .map(|[open, close]| Markers::pair(open, close))
        .into_iter()
        .collect();
    let shown = FAMILIES
        .iter()
        .filter(|family| family.shown_by.iter().any(|texts| texts.iter().all(has)))
        .map(Family::markers);
    let specials = specials.iter().flat_map(|text| tags_of(text));
    let found = Tags::from_tags(tags_of(template).chain(specials));
    let pairs = found.pairs(Tag::is_reasoning);
    let pairs = pairs.map(|(tag, close)| Markers::pair(tag.text, &close));
    for markers in shown.chain(pairs.take(MAX_PAIRS)) {
        let is_known = |known: &Markers| !markers.open.is_empty() && known.open == markers.open;
        if !all.iter().any(is_known) && !all.contains(&markers) {
            all.push(markers);
        }
    }
    all
}

/// Maximum number of pairs of tags that one model may add to the table. Known models have one or two.
const MAX_PAIRS: usize = 32;

/// Distinct tags, in the order of their first occurrence.
struct Tags<'text> {
    all: Vec<Tag<'text>>,
    texts: HashSet<&'text str>,
}

impl<'text> Tags<'text> {
    fn from_tags(tags: impl Iterator<Item = Tag<'text>>) -> Self {
        let mut texts = HashSet::new();
        let all = tags.filter(|tag| texts.insert(tag.text)).collect();
        Self { all, texts }
    }

    /// Returns the `chosen` tags that have a closing tag, each with the text of its closing tag.
    fn pairs(
        &self,
        chosen: impl Fn(&Tag<'text>) -> bool,
    ) -> impl Iterator<Item = (&Tag<'text>, String)> {
        let chosen = self.all.iter().filter(move |tag| chosen(tag));
        chosen.filter_map(|tag| {
            let mut partners = tag.partners().into_iter();
            let close = partners.find(|close| self.texts.contains(close.as_str()))?;
            Some((tag, close))
        })
    }
}

/// Text in a template that looks like a marker of reasoning, but is not removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownMarkers {
    /// Text that may open a block.
    pub open: String,
    /// Text that may close the block, if the template has one.
    pub close: Option<String>,
}

/// Returns the texts of `template` that look like markers of reasoning and are not `known`: at most 32 pairs of tags. A single tag may
/// be a switch, so only the first one is returned, and only if no markers are known.
pub fn unknown_markers(template: &str, known: &[Markers]) -> Vec<UnknownMarkers> {
    let found = Tags::from_tags(tags_of(template));
    let is_known = |text: &str| known.iter().any(|markers| markers.has_part(text));
    let pairs = found
        .pairs(Tag::looks_like_reasoning)
        .filter(|(tag, close)| !is_known(tag.text) && !is_known(close))
        .map(|(tag, close)| UnknownMarkers {
            open: tag.text.into(),
            close: Some(close),
        });
    let mut unknown: Vec<UnknownMarkers> = pairs.take(MAX_PAIRS).collect();
    if unknown.is_empty() && known.is_empty() {
        let mut found = found.all.iter();
        let single = found.find(|tag| tag.looks_like_reasoning());
        unknown.extend(single.map(|tag| UnknownMarkers {
            open: tag.text.into(),
            close: None,
        }));
    }
    unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(template: &str, specials: &[&str]) -> Vec<(String, String)> {
        let specials: Vec<String> = specials.iter().map(ToString::to_string).collect();
        markers_of(template, &specials, None)
            .into_iter()
            .map(|markers| (markers.open, markers.close))
            .collect()
    }

    #[test]
    fn a_family_is_recognised_by_its_template_or_its_vocabulary() {
        let think = [("<think>".to_owned(), "</think>".to_owned())];
        assert_eq!(pairs("{{ '<think>' }}", &[]), think);
        assert_eq!(pairs("", &["<think>", "</think>"]), think);
        assert_eq!(pairs("content.split('</think>')[-1]", &[]), think);
        assert_eq!(pairs("{{ messages }}", &["<|im_end|>"]), []);
    }

    #[test]
    fn a_more_specific_row_takes_precedence() {
        let names = |template| -> Vec<String> {
            let markers = markers_of(template, &[], None).into_iter();
            markers.map(|markers| markers.closing).collect()
        };
        assert_eq!(
            names("<|START_THINKING|><|END_THINKING|><|START_RESPONSE|>"),
            ["<|END_THINKING|><|START_RESPONSE|>"]
        );
    }

    #[test]
    fn a_pair_of_tags_with_a_reasoning_name_needs_no_row() {
        for (open, close) in [
            ("<acme:thinking>", "</acme:thinking>"),
            ("[REASONING]", "[/REASONING]"),
            ("<|thought_begin|>", "<|thought_end|>"),
            ("<|START_REASONING|>", "<|END_REASONING|>"),
        ] {
            assert_eq!(
                pairs(&format!("{{{{ '{open}' + x + '{close}' }}}}"), &[]),
                [(open.to_owned(), close.to_owned())]
            );
            assert_eq!(pairs("", &[open, close]), [(open.into(), close.into())]);
        }
        assert_eq!(
            pairs(
                "<tool_call></tool_call><thinking_mode></thinking_mode>",
                &[]
            ),
            []
        );
    }

    #[test]
    fn a_configured_pair_comes_first() {
        let tags = ["[X]".to_owned(), "[/X]".to_owned()];
        let markers = markers_of("<think>", &[], Some(&tags));
        assert_eq!(markers[0].open, "[X]");
        assert_eq!(markers[1].open, "<think>");
    }

    /// Returns the unknown markers of `template`, each as opening and closing text.
    fn unknown(template: &str, tags: Option<&[String; 2]>) -> Vec<(String, Option<String>)> {
        unknown_markers(template, &markers_of(template, &[], tags))
            .into_iter()
            .map(|markers| (markers.open, markers.close))
            .collect()
    }

    #[test]
    fn a_marker_without_a_closing_tag_is_noticed() {
        assert_eq!(
            unknown("{{ '<|ponder|>' }}", None),
            [("<|ponder|>".into(), None)]
        );
        assert_eq!(
            unknown("{{ '[SCRATCHPAD]' }}", None),
            [("[SCRATCHPAD]".into(), None)]
        );
        assert_eq!(unknown("message[reasoning]<tool_call>", None), []);
        // A switch of Gemma 4, not a marker.
        assert_eq!(unknown("<|think|><|channel><channel|>", None), []);
    }

    #[test]
    fn pairs_that_are_not_removed_are_noticed_even_if_other_markers_are_known() {
        let template = "<think></think><ponder></ponder><analysis>x</analysis><ponder></ponder>";
        let pair = |open: &str, close: &str| (open.to_owned(), Some(close.to_owned()));
        assert_eq!(
            unknown(template, None),
            [
                pair("<ponder>", "</ponder>"),
                pair("<analysis>", "</analysis>")
            ]
        );
        let tags = ["<ponder>".to_owned(), "</ponder>".to_owned()];
        assert_eq!(
            unknown(template, Some(&tags)),
            [pair("<analysis>", "</analysis>")]
        );
    }

    #[test]
    fn a_template_with_thousands_of_tags_is_read_in_one_pass_and_adds_at_most_32_pairs() {
        let tag = |mark: &str, at: usize| format!("<{mark}think{at}><{mark}ponder{at}>");
        let opens: String = (0..90_000).map(|at| tag("", at)).collect();
        assert_eq!(pairs(&opens, &[]), []);
        assert_eq!(unknown(&opens, None).len(), 1);
        let closes: String = (0..90_000).map(|at| tag("/", at)).collect();
        let both = opens + &closes;
        assert_eq!(pairs(&both, &[]).len(), MAX_PAIRS);
        assert_eq!(unknown(&both, None).len(), MAX_PAIRS);
    }

    #[test]
    fn an_earlier_answer_begins_after_its_last_block() {
        for (text, answer) in [
            ("<think>a</think><think>b</think>Lima.", "Lima."),
            ("Lima.", "Lima."),
            ("<think>a</think>", ""),
        ] {
            assert_eq!(after_reasoning(text), answer);
        }
    }
}
