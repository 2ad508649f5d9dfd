//! Kinds of GGUF files that are not models for text generation, recognised by their metadata. Pure.
//!
//! Many kinds of files have the GGUF format and are often in the same folder as a model. llama.cpp refuses most of them with "unknown
//! model architecture", and loads some, such as embedding models, as if they could generate text.

use std::fmt;

use super::contents::Contents;

/// A kind of file that cannot generate answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// A `LoRA` adapter.
    Adapter,
    /// A vector that steers another model.
    ControlVector,
    /// A diffusion model, which makes images or video.
    Diffusion,
    /// A model that turns texts into vectors.
    Embedding,
    /// A text encoder for other models.
    Encoder,
    /// Statistics of activations for quantizing a model.
    Imatrix,
    /// The vision or audio part of another model.
    Projector,
    /// A model that scores how well texts fit a query.
    Reranker,
    /// A model for speech recognition or synthesis.
    Speech,
    /// A model that fills in all tokens of a text in several passes.
    TextDiffusion,
    /// A vocabulary without weights.
    Vocabulary,
    /// Anything else that is not a language model.
    Other,
}

/// Kinds of files by architecture name. The names come from the converters of llama.cpp, `ComfyUI-GGUF`, `stable-diffusion.cpp`,
/// `whisper.cpp` and speech programs. `attention.causal` also marks encoders.
const ARCHITECTURES: &[(FileKind, &[&str])] = &[
    (FileKind::ControlVector, &["controlvector"]),
    (
        FileKind::Diffusion,
        &[
            "aura",
            "auraflow",
            "chroma",
            "cosmos",
            "flux",
            "flux2",
            "hidream",
            "hunyuan_video",
            "hyvid",
            "ltxv",
            "lumina2",
            "mochi",
            "omnigen",
            "pig",
            "pixart",
            "qwen_image",
            "sana",
            "sd1",
            "sd2",
            "sd3",
            "sdxl",
            "svd",
            "vae",
            "wan",
            "z_image",
        ],
    ),
    (
        FileKind::Embedding,
        &[
            "bert",
            "eurobert",
            "gemma-embedding",
            "jina-bert-v2",
            "jina-bert-v3",
            "modern-bert",
            "neo-bert",
            "nomic-bert",
            "nomic-bert-moe",
        ],
    ),
    // T5 has a decoder that reads the output of an encoder; the server supports only decoder models.
    (FileKind::Encoder, &["clip_l", "clip_g", "t5", "t5encoder"]),
    (FileKind::Projector, &["clip", "mmproj"]),
    (
        FileKind::Speech,
        &[
            "canary",
            "dia",
            "kokoro",
            "moonshine",
            "parakeet",
            "parler-tts",
            "wav2vec2",
            "wavtokenizer-dec",
            "whisper",
        ],
    ),
    (
        FileKind::TextDiffusion,
        &["dream", "llada", "llada-moe", "rnd1"],
    ),
];

/// `pooling_type` of models that turn a text into one vector (`llama.h: llama_pooling_type`): mean, first and last token.
const POOLED: std::ops::RangeInclusive<u64> = 1..=3;

/// `pooling_type` of rerank models.
const RANK: u64 = 4;

impl FileKind {
    /// Returns the kind of a file with `contents`. Returns `None` if the file may be a model that generates text.
    pub(super) fn from_contents(contents: &Contents) -> Option<Self> {
        let by_type = match contents.text("general.type") {
            Some("adapter") => Some(Self::Adapter),
            Some("mmproj") => Some(Self::Projector),
            Some("imatrix") => Some(Self::Imatrix),
            _ if contents.has("imatrix.chunk_count") => Some(Self::Imatrix),
            _ => None,
        };
        if by_type.is_some() {
            return by_type;
        }
        let Some(architecture) = contents.text("general.architecture") else {
            return Some(Self::Other);
        };
        let known = ARCHITECTURES
            .iter()
            .find(|(_, names)| names.contains(&architecture));
        let number = |name: &str| contents.number(&format!("{architecture}.{name}"));
        match (known, number("pooling_type")) {
            (Some((kind, _)), _) if *kind != Self::Embedding => Some(*kind),
            (_, Some(RANK)) => Some(Self::Reranker),
            (Some((kind, _)), _) => Some(*kind),
            (None, Some(pooling)) if POOLED.contains(&pooling) => Some(Self::Embedding),
            (None, _) => (number("attention.causal") == Some(0)).then_some(Self::Embedding),
        }
    }

    /// Returns the kind of an intact file that lacks data which llama.cpp requires of every model.
    pub(super) fn from_incomplete_contents(contents: &Contents) -> Option<Self> {
        let is_split = contents.number("split.count").unwrap_or(0) > 1;
        if !contents.has("tokenizer.ggml.model") {
            Some(Self::Other)
        } else if contents.tensors == 0 && !is_split {
            Some(Self::Vocabulary)
        } else {
            None
        }
    }

    /// Returns what to do about a file of this kind.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::Adapter => {
                "choose the model that the adapter was made for, and add the adapter with `lora = { path = … }`"
            }
            Self::Projector => {
                "choose the language model that it belongs to; images and audio are not supported"
            }
            Self::Imatrix | Self::ControlVector => "choose the model that the file was made for",
            Self::Vocabulary => "download the file of the model that has weights",
            Self::Diffusion
            | Self::Embedding
            | Self::Encoder
            | Self::Other
            | Self::Reranker
            | Self::Speech
            | Self::TextDiffusion => {
                "choose a chat model (often named `-Instruct`, `-it` or `-chat`)"
            }
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Adapter => "a LoRA adapter",
            Self::ControlVector => "a control vector for another model",
            Self::Diffusion => "a diffusion model for images or video",
            Self::Embedding => "an embedding model",
            Self::Encoder => "a text encoder",
            Self::Imatrix => "an importance matrix (imatrix) for quantizing another model",
            Self::Projector => "a projector (mmproj), the vision or audio part of another model",
            Self::Reranker => "a rerank model",
            Self::Speech => "a speech model",
            Self::TextDiffusion => "a text diffusion model",
            Self::Vocabulary => "a vocabulary without weights",
            Self::Other => "a GGUF file without a language model",
        })
    }
}
