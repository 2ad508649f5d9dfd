//! Tests of files that are not chat models.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// Writes a file with `pairs` and without tensors, and reads its header.
fn read_crafted(pairs: &[Pair<'_>]) -> Result<Header, GgufError> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "crafted-{}-{}.gguf",
        std::process::id(),
        NUMBER.fetch_add(1, Ordering::Relaxed)
    );
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, crafted(pairs)).unwrap();
    let header = read_header(&file);
    std::fs::remove_file(&file).unwrap();
    header
}

fn kind_of(pairs: &[Pair<'_>]) -> Option<FileKind> {
    match read_crafted(pairs) {
        Err(GgufError::OtherKind { kind, .. }) => Some(kind),
        _ => None,
    }
}

#[test]
fn a_file_that_is_not_a_model_is_recognised_by_its_type_or_architecture() {
    let architecture = |name| kind_of(&[text("general.architecture", name)]);
    for (name, kind) in [
        ("flux", FileKind::Diffusion),
        ("sd3", FileKind::Diffusion),
        ("wan", FileKind::Diffusion),
        ("whisper", FileKind::Speech),
        ("wavtokenizer-dec", FileKind::Speech),
        ("clip", FileKind::Projector),
        ("bert", FileKind::Embedding),
        ("gemma-embedding", FileKind::Embedding),
        ("t5encoder", FileKind::Encoder),
        ("llada", FileKind::TextDiffusion),
        ("controlvector", FileKind::ControlVector),
        ("some-other-network", FileKind::Other),
    ] {
        assert_eq!(architecture(name), Some(kind), "{name}");
    }
    let of_type = |kind| kind_of(&[text("general.type", kind)]);
    assert_eq!(of_type("imatrix"), Some(FileKind::Imatrix));
    assert_eq!(of_type("mmproj"), Some(FileKind::Projector));
    assert_eq!(of_type("adapter"), Some(FileKind::Adapter));
    let chunks = number("imatrix.chunk_count", 100);
    assert_eq!(kind_of(&[chunks]), Some(FileKind::Imatrix));
    assert_eq!(kind_of(&[]), Some(FileKind::Other));
}

#[test]
fn a_model_with_a_pooling_type_is_not_a_chat_model_whatever_its_architecture() {
    let pooled = |architecture, pooling| {
        let key = format!("{architecture}.pooling_type");
        let pairs = [
            text("general.architecture", architecture),
            text("tokenizer.chat_template", "{{ messages }}"),
            number(&key, pooling),
        ];
        let bytes = crafted(&pairs);
        let header = parse_header(io::Cursor::new(&bytes), bytes.len() as u64, Path::new("m"));
        match header {
            Err(GgufError::OtherKind { kind, .. }) => Some(kind),
            _ => None,
        }
    };
    assert_eq!(pooled("qwen3", 3), Some(FileKind::Embedding));
    assert_eq!(pooled("qwen3", 4), Some(FileKind::Reranker));
    assert_eq!(pooled("bert", 4), Some(FileKind::Reranker));
    assert_eq!(pooled("gemma-embedding", 1), Some(FileKind::Embedding));
    assert_eq!(pooled("qwen3", 0), None);
}

#[test]
fn a_vocabulary_without_weights_is_recognised() {
    let pairs = [
        text("general.architecture", "llama"),
        text("tokenizer.ggml.model", "gpt2"),
    ];
    assert_eq!(kind_of(&pairs), Some(FileKind::Vocabulary));
}

#[test]
fn the_error_names_the_kind_of_file_and_has_a_hint() {
    let error = read_crafted(&[text("general.architecture", "flux")]).unwrap_err();
    let message = error.to_string();
    assert!(
        message.ends_with("` is a diffusion model for images or video (architecture `flux`); it does not generate text"),
        "{message}"
    );
    assert!(error.hint().contains("choose a chat model"));
}
