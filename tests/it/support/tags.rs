//! The tiny model with other reasoning markers in its vocabulary and chat template.

use super::{TempFile, tiny};

/// Token types of GGUF. llama.cpp leaves the text of control tokens out of answers.
pub(crate) const CONTROL: u32 = 3;
pub(crate) const USER_DEFINED: u32 = 4;

/// Alignment of tensors in the file.
const ALIGNMENT: usize = 32;

/// Returns the tiny model with `<think>` and `</think>` replaced by `tags`, of token type `class`, in vocabulary and template.
pub(crate) fn tiny_with_tags(name: &str, tags: [&str; 2], class: u32) -> TempFile {
    let bytes = std::fs::read(tiny()).unwrap();
    let header_end = header_end(&bytes);
    let data = bytes[header_end.next_multiple_of(ALIGNMENT)..].to_vec();
    let mut header = bytes[..header_end].to_vec();
    let [open, close] = ["<think>", "</think>"].map(|tag| token(&header, tag));
    // Edits go from the end to the beginning, so that earlier offsets stay valid.
    let template = find(&header, "tokenizer.chat_template") + "tokenizer.chat_template".len() + 4;
    let own = text(&header, template);
    let renamed = own.replace("</think>", tags[1]).replace("<think>", tags[0]);
    replace(&mut header, template, &renamed);
    let key = "tokenizer.ggml.token_type";
    let classes = find(&header, key) + key.len() + 16;
    for token in [open, close] {
        let at = classes + 4 * token;
        header[at..at + 4].copy_from_slice(&class.to_le_bytes());
    }
    for (token, tag) in [(close, tags[1]), (open, tags[0])] {
        let at = token_offset(&header, token);
        replace(&mut header, at, tag);
    }
    header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
    header.extend(data);
    TempFile::new(name, &header)
}

fn find(bytes: &[u8], text: &str) -> usize {
    let mut places = bytes.windows(text.len());
    places.position(|place| place == text.as_bytes()).unwrap()
}

fn number(bytes: &[u8], at: usize) -> usize {
    let number = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    usize::try_from(number).unwrap()
}

/// Reads the string whose length is at offset `at`.
fn text(bytes: &[u8], at: usize) -> String {
    let length = number(bytes, at);
    String::from_utf8(bytes[at + 8..at + 8 + length].to_vec()).unwrap()
}

fn replace(bytes: &mut Vec<u8>, at: usize, text: &str) {
    let length = number(bytes, at);
    let mut written = (text.len() as u64).to_le_bytes().to_vec();
    written.extend(text.as_bytes());
    bytes.splice(at..at + 8 + length, written);
}

/// Returns the offset of the text of `token`.
fn token_offset(bytes: &[u8], token: usize) -> usize {
    let key = "tokenizer.ggml.tokens";
    // After the name come the type of the value, the type of the elements, and their number.
    let first = find(bytes, key) + key.len() + 16;
    (0..token).fold(first, |at, _| at + 8 + number(bytes, at))
}

fn token(bytes: &[u8], tag: &str) -> usize {
    let mut all = 0..;
    all.find(|token| text(bytes, token_offset(bytes, *token)) == tag)
        .unwrap()
}

/// Returns the offset behind the descriptions of all tensors.
fn header_end(bytes: &[u8]) -> usize {
    let tensors = number(bytes, 8);
    // They follow the keys and begin with the name of the first tensor.
    let first = find(bytes, "blk.0.attn_k.weight") - 8;
    (0..tensors).fold(first, |at, _| {
        let dimensions = at + 8 + number(bytes, at);
        let count = u32::from_le_bytes(bytes[dimensions..dimensions + 4].try_into().unwrap());
        dimensions + 4 + 8 * usize::try_from(count).unwrap() + 4 + 8
    })
}
