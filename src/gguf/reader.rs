//! The bytes of a GGUF file: magic, metadata, tensors. Nothing is trusted: no length is allocated before the file is known
//! to be that long, and only what is of use is kept.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Seek};

/// Why a file was not read to its end.
#[derive(Debug)]
pub(super) enum Fault {
    Io(io::Error),
    NotGguf(String),
    Version(u32),
    Truncated(String),
    NotGenerative(String),
    Malformed(&'static str),
}

pub(super) type Read1<T> = Result<T, Fault>;

#[derive(Debug)]
pub(super) struct Reader<R> {
    inner: BufReader<R>,
    position: u64,
    size: u64,
}

/// What a file holds, as far as it is of use.
#[derive(Debug, Default)]
pub(super) struct Contents {
    values: HashMap<String, Value>,
    /// Bytes of the tensors' data.
    pub(super) tensor_bytes: u64,
}

/// A metadata value, as far as it is of use here.
#[derive(Debug)]
pub(super) enum Value {
    Number(u64),
    Text(String),
    /// A short array of whole numbers.
    Numbers(Vec<u64>),
    /// The length of any other array.
    Length(u64),
    Other,
}

/// Keys that are kept; `*` stands for the architecture.
const KEPT: [&str; 20] = [
    "general.architecture",
    "general.name",
    "general.type",
    "general.alignment",
    "split.count",
    "split.no",
    "tokenizer.chat_template",
    "tokenizer.ggml.tokens",
    "*.attention.causal",
    "*.attention.head_count",
    "*.attention.head_count_kv",
    "*.attention.key_length",
    "*.attention.value_length",
    "*.attention.sliding_window",
    "*.attention.sliding_window_pattern",
    "*.attention.chunk_size",
    "*.ssm.conv_kernel",
    "*.shortconv.l_cache",
    "*.wkv.head_size",
    "*.block_count",
];

/// The same, widths and lengths.
const KEPT_SIZES: [&str; 3] = [
    "*.context_length",
    "*.embedding_length",
    "*.feed_forward_length",
];

fn is_kept(key: &str) -> bool {
    KEPT.iter()
        .chain(&KEPT_SIZES)
        .any(|kept| match kept.strip_prefix('*') {
            Some(suffix) => key.ends_with(suffix),
            None => key == *kept,
        })
}

/// More layers than any model has.
const MAX_NUMBERS: u64 = 4096;

/// Longer keys and names than llama.cpp makes are a broken file.
const MAX_NAME: u64 = 1 << 16;

/// The longest text that is kept: a chat template has up to 64 KiB.
const MAX_TEXT: u64 = 1 << 20;

/// `ggml.h: GGML_MAX_DIMS`.
const MAX_DIMENSIONS: u32 = 4;

impl Contents {
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        match self.values.get(key) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// A number for each of `count` layers; one that is told once counts for all.
    pub(super) fn of_layers(&self, key: &str, count: usize) -> Option<Vec<u64>> {
        match self.values.get(key)? {
            Value::Number(number) => Some(vec![*number; count]),
            Value::Numbers(numbers) => Some(numbers.clone()),
            _ => None,
        }
    }

    pub(super) fn length(&self, key: &str) -> Option<u64> {
        match self.values.get(key)? {
            Value::Length(length) => Some(*length),
            Value::Numbers(numbers) => Some(numbers.len() as u64),
            _ => None,
        }
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Over a file of `size` bytes.
    pub(super) fn new(file: R, size: u64) -> Self {
        Self {
            inner: BufReader::with_capacity(1 << 16, file),
            position: 0,
            size,
        }
    }

    /// Reads the whole header.
    pub(super) fn contents(&mut self) -> Read1<Contents> {
        self.magic()?;
        let version = self.u32()?;
        if !matches!(version, 2 | 3) {
            return Err(Fault::Version(version));
        }
        let (tensors, pairs) = (self.u64()?, self.u64()?);
        let mut contents = Contents::default();
        for _ in 0..pairs {
            let key = self.name()?;
            let kind = self.u32()?;
            let value = self.value(kind)?;
            if is_kept(&key) {
                contents.values.insert(key, value);
            }
        }
        let alignment = contents.number("general.alignment").unwrap_or(32);
        if alignment == 0 || !alignment.is_power_of_two() {
            return Err(Fault::Malformed("its alignment is not a power of two"));
        }
        contents.tensor_bytes = self.check_tensors(tensors, alignment)?;
        Ok(contents)
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

    /// The data of every tensor must lie inside the file; gives where it ends, counted from its beginning.
    fn check_tensors(&mut self, tensors: u64, alignment: u64) -> Read1<u64> {
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
            Some(needed) if needed <= self.size => Ok(end),
            Some(needed) => Err(Fault::Truncated(format!("its tensors need {needed}"))),
            None => Err(Fault::Malformed("a tensor is too large")),
        }
    }

    fn value(&mut self, kind: u32) -> Read1<Value> {
        Ok(match kind {
            0 | 1 => self.skip(1)?,
            3 => self.skip(2)?,
            7 => Value::Number(self.bytes::<1>()?[0].into()),
            // A signed number of use is never below 0.
            4 | 5 => Value::Number(self.u32()?.into()),
            2 => Value::Number(u16::from_le_bytes(self.bytes()?).into()),
            6 => self.skip(4)?,
            8 => self.text()?,
            9 => self.array()?,
            10 => Value::Number(self.u64()?),
            11 | 12 => self.skip(8)?,
            _ => return Err(Fault::Malformed("a value has an unknown type")),
        })
    }

    fn array(&mut self) -> Read1<Value> {
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
                return Ok(Value::Length(length));
            }
            _ => return Err(Fault::Malformed("an array has an unknown type")),
        };
        if length <= MAX_NUMBERS && matches!(kind, 4 | 5 | 7) {
            let number = |reader: &mut Self| match kind {
                7 => reader.bytes::<1>().map(|[byte]| byte.into()),
                _ => reader.u32().map(u64::from),
            };
            return (0..length)
                .map(|_| number(self))
                .collect::<Read1<_>>()
                .map(Value::Numbers);
        }
        let bytes = length
            .checked_mul(width)
            .ok_or(Fault::Malformed("an array is too large"))?;
        self.skip(bytes)?;
        Ok(Value::Length(length))
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
