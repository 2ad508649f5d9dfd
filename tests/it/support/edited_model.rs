//! Copies of the tiny model with an edited header.

use std::path::Path;

use super::{TempFile, tiny};

/// Returns the tiny model with `from` replaced by `to` in its header. Both must have the same length.
pub(crate) fn tiny_with_replaced(name: &str, from: &str, to: &str) -> TempFile {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(tiny()).unwrap();
    let at = bytes
        .windows(from.len())
        .position(|window| window == from.as_bytes())
        .unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    TempFile::new(name, &bytes)
}

/// Returns the tiny model with `text` as the value of `key` in its header, padded with spaces: the header's length must stay a multiple of
/// 32, and the offsets behind it must not change.
pub(crate) fn tiny_with_text(name: &str, key: &str, text: &str) -> TempFile {
    let mut bytes = std::fs::read(tiny()).unwrap();
    let mut places = bytes.windows(key.len());
    let at = places.position(|place| place == key.as_bytes()).unwrap() + key.len() + 4;
    let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let length = usize::try_from(length).unwrap();
    let mut text = text.to_owned();
    while text.len() % 32 != length % 32 {
        text.push(' ');
    }
    let new = [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    bytes.splice(at..at + 8 + length, new);
    TempFile::new(name, &bytes)
}

/// Returns the content of `model` with the type of `tensor` changed to `kind`.
pub(crate) fn with_tensor_type(model: &Path, tensor: &str, kind: u32) -> Vec<u8> {
    let mut bytes = std::fs::read(model).unwrap();
    let mut places = bytes.windows(tensor.len());
    let at = places.position(|place| place == tensor.as_bytes()).unwrap() + tensor.len();
    let dimensions = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let at = at + 4 + 8 * usize::try_from(dimensions).unwrap();
    bytes[at..at + 4].copy_from_slice(&kind.to_le_bytes());
    bytes
}

/// Returns the tiny model with another chat template, which must not be longer than the original.
pub(crate) fn tiny_with_template(name: &str, template: &str) -> TempFile {
    let mut bytes = std::fs::read(tiny()).unwrap();
    let key = b"tokenizer.chat_template";
    let length_at = bytes
        .windows(key.len())
        .position(|window| window == key)
        .unwrap()
        + key.len()
        + 4;
    let length = u64::from_le_bytes(bytes[length_at..length_at + 8].try_into().unwrap());
    let place = &mut bytes[length_at + 8..][..usize::try_from(length).unwrap()];
    place.fill(b' ');
    place[..template.len()].copy_from_slice(template.as_bytes());
    TempFile::new(name, &bytes)
}
