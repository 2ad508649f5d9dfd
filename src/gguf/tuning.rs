//! The kind of training of a model, guessed from its names. Pure.

/// Kind of training, as far as the names of a model reveal it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tuning {
    /// Unknown: no name says it.
    Unstated,
    /// Trained to follow instructions.
    Instruct,
    /// Base model: trained to continue text.
    Base,
}

impl Tuning {
    /// Words in the names of models that follow instructions.
    const INSTRUCT: [&str; 4] = ["instruct", "chat", "it", "assistant"];

    /// Guesses the tuning from `names` of any style, such as `gemma-3-270m-it` or `SmolLM2 135M Instruct`.
    pub(super) fn guess(names: [&str; 3]) -> Self {
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
    fn instruct_and_base_models_are_recognised_in_any_style_of_name() {
        for (name, tuning) in [
            ("SmolLM2 135M Instruct", Tuning::Instruct),
            ("gemma-3-270m-it.Q8_0", Tuning::Instruct),
            ("tiny_crab_chat", Tuning::Instruct),
            ("Qwen3-0.6B-Base", Tuning::Base),
            ("Base-Instruct", Tuning::Instruct),
            ("Mistral 7B, with a bit of database", Tuning::Unstated),
        ] {
            assert_eq!(Tuning::guess(["", name, ""]), tuning, "{name}");
        }
    }
}
