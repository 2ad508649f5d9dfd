//! The table of known reasoning markers, with the texts that identify a family. For the other fields, see
//! [`super::families::Markers`].

/// A row of the table. `shown_by` has alternatives: a model belongs to the family if all texts of one alternative are in its template
/// or vocabulary.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) shown_by: &'static [&'static [&'static str]],
    pub(super) open: &'static str,
    pub(super) close: &'static str,
    pub(super) head: &'static str,
    pub(super) head_end: &'static str,
    pub(super) around: &'static [(&'static str, &'static str)],
    pub(super) closing: &'static str,
    pub(super) direct: &'static str,
}

const NONE: Family = Family {
    name: "",
    shown_by: &[],
    open: "",
    close: "",
    head: "",
    head_end: "",
    around: &[],
    closing: "",
    direct: "",
};

/// The closing tag of the most common family, after which chat templates truncate earlier answers.
pub(super) const THINK_END: &str = "</think>";

/// The known families. More specific rows come first, because the first of two rows with the same `open` is used.
pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "harmony (gpt-oss, llm-jp)",
        shown_by: &[&["<|channel|>", "<|message|>"]],
        // Only the channel `final` is the answer.
        open: "<|channel|>",
        close: "<|channel|>final",
        head: "analysis<|message|>",
        head_end: "<|message|>",
        around: &[("<|channel|>final", "<|end|>")],
        closing: "<|end|><|start|>assistant<|channel|>final<|message|>",
        direct: "<|channel|>final<|message|>",
    },
    Family {
        name: "Muse Glimmer",
        shown_by: &[&["<|start|>assistant to=self<|message|>"]],
        open: "to=self<|message|>",
        close: "to=user",
        head_end: "<|message|>",
        around: &[("to=user", "<|eom|>")],
        closing: "<|eom|><|start|>assistant to=user<|message|>",
        direct: " to=user<|message|>",
        ..NONE
    },
    Family {
        name: "Solar Open",
        shown_by: &[&["<|think|>", "<|content|>"]],
        open: "<|think|>",
        close: "<|content|>",
        around: &[("<|content|>", "<|end|>")],
        closing: "<|end|><|begin|>assistant<|content|>",
        direct: "<|content|>",
        ..NONE
    },
    Family {
        name: "Kimi K3",
        shown_by: &[&["<|open|>", "<|close|>", "<|sep|>", "think"]],
        open: "<|open|>think<|sep|>",
        close: "<|close|>think<|sep|>",
        around: &[("<|open|>response<|sep|>", "<|close|>response<|sep|>")],
        closing: "<|close|>think<|sep|><|open|>response<|sep|>",
        ..NONE
    },
    Family {
        name: "Gemma 4",
        shown_by: &[&["<|channel>", "<channel|>"]],
        open: "<|channel>",
        close: "<channel|>",
        head: "thought",
        closing: "\n<channel|>",
        ..NONE
    },
    Family {
        name: "Cohere Command A and R7B",
        shown_by: &[&["<|START_THINKING|>", "<|START_RESPONSE|>"]],
        open: "<|START_THINKING|>",
        close: "<|END_THINKING|>",
        around: &[("<|START_RESPONSE|>", "<|END_RESPONSE|>")],
        closing: "<|END_THINKING|><|START_RESPONSE|>",
        ..NONE
    },
    Family {
        name: "Cohere Command A+",
        shown_by: &[&["<|START_THINKING|>", "<|START_TEXT|>"]],
        open: "<|START_THINKING|>",
        close: "<|END_THINKING|>",
        around: &[("<|START_TEXT|>", "<|END_TEXT|>")],
        closing: "<|END_THINKING|><|START_TEXT|>",
        ..NONE
    },
    Family {
        name: "Cohere",
        shown_by: &[&["<|START_THINKING|>"]],
        open: "<|START_THINKING|>",
        close: "<|END_THINKING|>",
        closing: "<|END_THINKING|>",
        ..NONE
    },
    Family {
        name: "Apertus",
        shown_by: &[&["<|inner_prefix|>", "<|inner_suffix|>"]],
        open: "<|inner_prefix|>",
        close: "<|inner_suffix|>",
        closing: "<|inner_suffix|>",
        ..NONE
    },
    Family {
        name: "Apriel",
        shown_by: &[&["[BEGIN FINAL RESPONSE]"]],
        open: "Here are my reasoning steps:",
        close: "[BEGIN FINAL RESPONSE]",
        around: &[("[BEGIN FINAL RESPONSE]", "[END FINAL RESPONSE]")],
        closing: "\n[BEGIN FINAL RESPONSE]\n",
        ..NONE
    },
    Family {
        name: "Granite",
        shown_by: &[&["Here is my thought process:"]],
        open: "Here is my thought process:",
        close: "Here is my response:",
        closing: "\n\nHere is my response:\n\n",
        ..NONE
    },
    Family {
        name: "Granite",
        shown_by: &[&["Here's my thought process:"]],
        open: "Here's my thought process:",
        close: "Here's my response:",
        closing: "\n\nHere's my response:\n\n",
        ..NONE
    },
    Family {
        name: "Magistral",
        shown_by: &[&["[THINK]"]],
        open: "[THINK]",
        close: "[/THINK]",
        closing: "[/THINK]",
        ..NONE
    },
    Family {
        name: "Hy3",
        shown_by: &[&["<think:opensource>"], &["<think{}>", ":opensource"]],
        open: "<think:opensource>",
        close: "</think:opensource>",
        closing: "</think:opensource>",
        ..NONE
    },
    Family {
        name: "Seed OSS",
        shown_by: &[&["<seed:think>"]],
        open: "<seed:think>",
        close: "</seed:think>",
        closing: "</seed:think>",
        ..NONE
    },
    Family {
        name: "MiniMax M3",
        shown_by: &[&["<mm:think>"]],
        open: "<mm:think>",
        close: "</mm:think>",
        closing: "</mm:think>",
        ..NONE
    },
    Family {
        name: "Kimi VL",
        shown_by: &[&["◁think▷"]],
        open: "◁think▷",
        close: "◁/think▷",
        closing: "◁/think▷",
        ..NONE
    },
    Family {
        name: "OpenThinker",
        shown_by: &[&["<|begin_of_thought|>"]],
        open: "<|begin_of_thought|>",
        close: "<|end_of_thought|>",
        around: &[("<|begin_of_solution|>", "<|end_of_solution|>")],
        closing: "<|end_of_thought|>\n\n<|begin_of_solution|>\n\n",
        ..NONE
    },
    Family {
        name: "MedGemma",
        shown_by: &[&["<unused94>thought"]],
        open: "<unused94>",
        close: "<unused95>",
        head: "thought",
        closing: "<unused95>",
        ..NONE
    },
    Family {
        name: "Granite 3.3 and ERNIE",
        shown_by: &[&["</think>", "<response>"]],
        around: &[("<response>", "</response>")],
        ..NONE
    },
    Family {
        name: "Hunyuan",
        shown_by: &[&["</think>", "<answer>"]],
        around: &[("<answer>", "</answer>")],
        ..NONE
    },
    Family {
        name: "<think>",
        // Some templates only truncate an earlier answer after the closing tag.
        shown_by: &[&["<think>"], &[THINK_END]],
        open: "<think>",
        close: THINK_END,
        closing: "\n</think>\n\n",
        ..NONE
    },
];
