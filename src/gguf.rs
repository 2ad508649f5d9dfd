//! A GGUF's header, read without llama.cpp and with nothing trusted: what the server must know before any model is
//! loaded, and the errors of a file that cannot be one.
//!
//! Format: ggml's `docs/gguf.md`, versions 2 and 3, little-endian. Big arrays (the vocabulary) are skipped, not kept.

mod error;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

pub use error::GgufError;

/// What is known of a model without loading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`.
    pub name: Option<String>,
    /// The context that it was trained for.
    pub n_ctx_train: Option<u64>,
    /// Whether it brings a chat template.
    pub has_chat_template: bool,
}

/// Reads the header of the file at `path`.
///
/// # Errors
/// What is wrong with the file, see [`GgufError`].
pub fn read_header(path: &Path) -> Result<Header, GgufError> {
    let unreadable = |source| GgufError::Unreadable {
        path: path.into(),
        source,
    };
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => GgufError::Missing(path.into()),
        _ => unreadable(error),
    })?;
    if !metadata.is_file() {
        return Err(GgufError::NotAFile(path.into()));
    }
    let file = File::open(path).map_err(unreadable)?;
    let mut reader = Reader {
        inner: BufReader::with_capacity(1 << 16, file),
        position: 0,
        size: metadata.len(),
    };
    reader.header().map_err(|fault| match fault {
        Fault::Io(source) => unreadable(source),
        Fault::NotGguf(found) => GgufError::NotGguf {
            path: path.into(),
            found,
        },
        Fault::Version(version) => GgufError::Version {
            path: path.into(),
            version,
        },
        Fault::Truncated(needed) => GgufError::Truncated {
            path: path.into(),
            found: metadata.len(),
            needed,
        },
        Fault::NotGenerative(architecture) => GgufError::NotGenerative {
            path: path.into(),
            architecture,
        },
        Fault::Malformed(cause) => GgufError::Malformed {
            path: path.into(),
            cause,
        },
    })
}

enum Fault {
    Io(io::Error),
    NotGguf(String),
    Version(u32),
    Truncated(String),
    NotGenerative(String),
    Malformed(&'static str),
}

type Read1<T> = Result<T, Fault>;

struct Reader<R> {
    inner: BufReader<R>,
    position: u64,
    size: u64,
}

/// A metadata value, as far as it is of use here.
enum Value {
    Number(u64),
    Text(String),
    Other,
}

/// Longer keys and names than llama.cpp makes are a broken file.
const MAX_NAME: u64 = 1 << 16;

/// Architectures that have no causal decoder of their own and do not say so: encoders, and projectors of images.
const NOT_GENERATIVE: [&str; 3] = ["t5", "t5encoder", "clip"];

/// The longest text that is kept: a chat template has up to 64 KiB.
const MAX_TEXT: u64 = 1 << 20;

/// `ggml.h: GGML_MAX_DIMS`.
const MAX_DIMENSIONS: u32 = 4;

impl<R: Read + Seek> Reader<R> {
    fn header(&mut self) -> Read1<Header> {
        self.magic()?;
        let version = self.u32()?;
        if !matches!(version, 2 | 3) {
            return Err(Fault::Version(version));
        }
        let (tensors, pairs) = (self.u64()?, self.u64()?);
        let mut header = Header {
            architecture: String::new(),
            name: None,
            n_ctx_train: None,
            has_chat_template: false,
        };
        let mut alignment = 32;
        let mut is_causal = true;
        for _ in 0..pairs {
            let key = self.name()?;
            let kind = self.u32()?;
            match (key.as_str(), self.value(kind)?) {
                ("general.architecture", Value::Text(text)) => header.architecture = text,
                ("general.name", Value::Text(text)) => header.name = Some(text),
                ("general.alignment", Value::Number(number)) => alignment = number,
                ("tokenizer.chat_template", Value::Text(_)) => header.has_chat_template = true,
                (key, Value::Number(number)) if key.ends_with(".attention.causal") => {
                    is_causal = number != 0;
                }
                (key, Value::Number(number)) if key.ends_with(".context_length") => {
                    header.n_ctx_train = Some(number);
                }
                _ => {}
            }
        }
        if header.architecture.is_empty() {
            return Err(Fault::Malformed("it names no architecture"));
        }
        if !is_causal || NOT_GENERATIVE.contains(&header.architecture.as_str()) {
            return Err(Fault::NotGenerative(header.architecture));
        }
        if alignment == 0 || !alignment.is_power_of_two() {
            return Err(Fault::Malformed("its alignment is not a power of two"));
        }
        self.check_tensors(tensors, alignment)?;
        Ok(header)
    }

    fn magic(&mut self) -> Read1<()> {
        let mut magic = [0; 4];
        let start = usize::try_from(self.size.min(4)).unwrap_or(4);
        self.inner
            .read_exact(&mut magic[..start])
            .map_err(Fault::Io)?;
        self.position += start as u64;
        match &magic[..start] {
            b"GGUF" => Ok(()),
            [] => Err(Fault::NotGguf("it is empty".into())),
            other => Err(Fault::NotGguf(format!(
                "it begins with `{}`",
                other.escape_ascii()
            ))),
        }
    }

    /// The data of every tensor must lie inside the file.
    fn check_tensors(&mut self, tensors: u64, alignment: u64) -> Read1<()> {
        let mut end = 0_u64;
        for _ in 0..tensors {
            self.name()?;
            let dimensions = self.u32()?;
            if dimensions > MAX_DIMENSIONS {
                return Err(Fault::Malformed("a tensor has more than 4 dimensions"));
            }
            let mut elements = 1_u64;
            for _ in 0..dimensions {
                elements = elements
                    .checked_mul(self.u64()?)
                    .ok_or(Fault::Malformed("a tensor is too large"))?;
            }
            let kind = self.u32()?;
            let offset = self.u64()?;
            let (block, bytes) = block_size(kind);
            let length = (elements / block).checked_mul(bytes);
            let tensor_end = length.and_then(|length| offset.checked_add(length));
            end = end.max(tensor_end.ok_or(Fault::Malformed("a tensor is too large"))?);
        }
        let data = self.position.next_multiple_of(alignment);
        match data.checked_add(end) {
            Some(needed) if needed <= self.size => Ok(()),
            Some(needed) => Err(Fault::Truncated(format!("its tensors need {needed}"))),
            None => Err(Fault::Malformed("a tensor is too large")),
        }
    }

    fn value(&mut self, kind: u32) -> Read1<Value> {
        Ok(match kind {
            0 | 1 => self.skip(1)?,
            2 | 3 => self.skip(2)?,
            7 => Value::Number(self.bytes::<1>()?[0].into()),
            4 => Value::Number(self.u32()?.into()),
            5 | 6 => self.skip(4)?,
            8 => self.text()?,
            9 => self.skip_array()?,
            10 => Value::Number(self.u64()?),
            11 | 12 => self.skip(8)?,
            _ => return Err(Fault::Malformed("a value has an unknown type")),
        })
    }

    fn skip_array(&mut self) -> Read1<Value> {
        let (kind, length) = (self.u32()?, self.u64()?);
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 => {
                for _ in 0..length {
                    let bytes = self.u64()?;
                    self.skip(bytes)?;
                }
                return Ok(Value::Other);
            }
            _ => return Err(Fault::Malformed("an array has an unknown type")),
        };
        self.skip(
            length
                .checked_mul(width)
                .ok_or(Fault::Malformed("an array is too large"))?,
        )
    }

    /// A key or a tensor's name.
    fn name(&mut self) -> Read1<String> {
        let length = self.u64()?;
        if length > MAX_NAME {
            return Err(Fault::Malformed("a name is too long"));
        }
        Ok(String::from_utf8_lossy(&self.raw(length)?).into_owned())
    }

    /// A text value; one longer than anything of use here is skipped.
    fn text(&mut self) -> Read1<Value> {
        let length = self.u64()?;
        if length > MAX_TEXT {
            return self.skip(length);
        }
        Ok(Value::Text(
            String::from_utf8_lossy(&self.raw(length)?).into_owned(),
        ))
    }

    fn raw(&mut self, length: u64) -> Read1<Vec<u8>> {
        self.expect(length)?;
        let mut bytes = Vec::new();
        self.inner
            .by_ref()
            .take(length)
            .read_to_end(&mut bytes)
            .map_err(Fault::Io)?;
        self.position += length;
        Ok(bytes)
    }

    fn skip(&mut self, bytes: u64) -> Read1<Value> {
        self.expect(bytes)?;
        let distance =
            i64::try_from(bytes).map_err(|_too_large| Fault::Malformed("an array is too large"))?;
        // Short ways stay in the buffer.
        self.inner.seek_relative(distance).map_err(Fault::Io)?;
        self.position += bytes;
        Ok(Value::Other)
    }

    fn u32(&mut self) -> Read1<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Read1<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn bytes<const N: usize>(&mut self) -> Read1<[u8; N]> {
        self.expect(N as u64)?;
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(Fault::Io)?;
        self.position += N as u64;
        Ok(bytes)
    }

    /// Refuses to go beyond the file's end, before anything is allocated for it.
    fn expect(&self, bytes: u64) -> Read1<()> {
        match self.position.checked_add(bytes) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(Fault::Truncated("its header is longer".into())),
        }
    }
}

/// Elements and bytes of a block of a tensor type (`ggml.c: type_traits`); no bytes for one that is not known here, so
/// that a new type is left to llama.cpp.
fn block_size(kind: u32) -> (u64, u64) {
    match kind {
        0 | 26 => (1, 4),
        1 | 25 | 30 => (1, 2),
        24 => (1, 1),
        27 | 28 => (1, 8),
        2 | 20 => (32, 18),
        3 => (32, 20),
        6 => (32, 22),
        7 => (32, 24),
        8 => (32, 34),
        9 => (32, 36),
        39 => (32, 17),
        10 => (256, 84),
        11 | 21 => (256, 110),
        12 => (256, 144),
        13 => (256, 176),
        14 => (256, 210),
        15 => (256, 292),
        16 | 35 => (256, 66),
        17 => (256, 74),
        18 => (256, 98),
        19 => (256, 50),
        22 => (256, 82),
        23 => (256, 136),
        29 => (256, 56),
        34 => (256, 54),
        _ => (1, 0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TINY: &[u8] = include_bytes!("../tests/models/tiny-crab-chat.Q8_0.gguf");

    fn header_of(bytes: &[u8]) -> Read1<Header> {
        let mut reader = Reader {
            inner: BufReader::new(io::Cursor::new(bytes)),
            position: 0,
            size: bytes.len() as u64,
        };
        reader.header()
    }

    #[test]
    fn the_header_of_a_real_model_is_read() {
        let Ok(header) = header_of(TINY) else {
            panic!("a good file was refused")
        };
        assert_eq!(
            (
                header.architecture.as_str(),
                header.n_ctx_train,
                header.has_chat_template
            ),
            ("llama", Some(4096), true)
        );
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        for length in [5, 23, 24, 100, 5000, TINY.len() / 2, TINY.len() - 1] {
            assert!(
                matches!(header_of(&TINY[..length]), Err(Fault::Truncated(_))),
                "at {length}"
            );
        }
    }

    #[test]
    fn a_length_beyond_all_memory_allocates_nothing() {
        let mut bytes = TINY.to_vec();
        bytes[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(header_of(&bytes), Err(Fault::Malformed(_))));
    }

    proptest! {
        #[test]
        fn a_damaged_header_never_panics(at in 4_usize..8000, byte: u8) {
            let mut bytes = TINY.to_vec();
            bytes[at] = byte;
            drop(header_of(&bytes));
        }
    }
}
