//! The kind of a model's training, read off its names. Pure.

/// Kind of training, as far as a model's name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tuning {
    /// Not told by the name.
    Unstated,
    /// Trained to follow instructions.
    Instruct,
    /// Base model: trained to continue text.
    Base,
}

impl Tuning {
    /// Words of names that say a model follows instructions.
    const INSTRUCT: [&str; 4] = ["instruct", "chat", "it", "assistant"];

    /// Reads it off `names`, which may be in any style: `gemma-3-270m-it`, `SmolLM2 135M Instruct`.
    pub(super) fn of(names: [&str; 3]) -> Self {
        let has = |wanted: &[&str]| {
            let mut words = names
                .iter()
                .flat_map(|name| name.split(|letter: char| !letter.is_alphanumeric()));
            words.any(|word| {
                wanted
                    .iter()
                    .any(|wanted| word.eq_ignore_ascii_case(wanted))
            })
        };
        if has(&Self::INSTRUCT) {
            Self::Instruct
        } else if has(&["base"]) {
            Self::Base
        } else {
            Self::Unstated
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruct_model_and_a_base_model_say_so_in_any_style() {
        for (name, tuning) in [
            ("SmolLM2 135M Instruct", Tuning::Instruct),
            ("gemma-3-270m-it.Q8_0", Tuning::Instruct),
            ("tiny_crab_chat", Tuning::Instruct),
            ("Qwen3-0.6B-Base", Tuning::Base),
            ("Base-Instruct", Tuning::Instruct),
            ("Mistral 7B, with a bit of database", Tuning::Unstated),
        ] {
            assert_eq!(Tuning::of(["", name, ""]), tuning, "{name}");
        }
    }
}
