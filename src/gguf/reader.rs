//! The bytes of a GGUF file: magic, metadata, tensors. Nothing is trusted: no length is allocated before the file is known
//! to be that long, only what is of use is kept, and both that and the way through the header have a bound.

use std::io::{BufReader, Read, Seek};

use super::contents::{Contents, MAX_NUMBERS, Value, is_kept};
use super::fault::{Fault, Read1, Substitute};
use super::tensor::Tensor;

#[derive(Debug)]
pub(super) struct Reader<R> {
    inner: BufReader<R>,
    position: u64,
    size: u64,
    /// Texts in all arrays so far.
    texts: u64,
}

/// Bytes after the magic number that identify a file in another format.
const SUBSTITUTE_BYTES: u64 = 60;

/// Longer keys and names than llama.cpp makes are a broken file.
const MAX_NAME: u64 = 1 << 16;

/// The longest text that is kept: a chat template has up to 64 KiB.
const MAX_TEXT: u64 = 1 << 20;

/// Most texts in all arrays, ten times what the largest vocabularies have: each takes time to skip.
const MAX_TEXTS: u64 = 1 << 22;

/// Most keys, and most tensors: real files have some dozen and some thousand.
const MAX_ENTRIES: u64 = 1 << 16;

/// Longest header, in bytes, which bounds the time to read it: that of a vocabulary of a quarter million tokens has 15 MiB.
const MAX_HEADER: u64 = 256 << 20;

/// `ggml.h: GGML_MAX_DIMS`.
const MAX_DIMENSIONS: u32 = 4;

impl<R: Read + Seek> Reader<R> {
    /// Over a file of `size` bytes.
    pub(super) fn new(file: R, size: u64) -> Self {
        Self {
            inner: BufReader::with_capacity(1 << 16, file),
            position: 0,
            size,
            texts: 0,
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
        if pairs > MAX_ENTRIES {
            return Err(Fault::Malformed("it has more than 65,536 keys"));
        }
        if tensors > MAX_ENTRIES {
            return Err(Fault::Malformed("it has more than 65,536 tensors"));
        }
        let mut contents = Contents::default();
        for _ in 0..pairs {
            let key = self.name()?;
            let kind = self.u32()?;
            if is_kept(&key) {
                let value = self.value(kind)?;
                contents.keep(key, value)?;
            } else {
                self.skip_value(kind)?;
            }
        }
        let alignment = contents.number("general.alignment").unwrap_or(32);
        if alignment == 0 || !alignment.is_power_of_two() {
            return Err(Fault::Malformed("its alignment is not a power of two"));
        }
        let is_adapter = contents.text("general.type") == Some("adapter");
        let (mut end, mut mapped) = (0_u64, 0_u64);
        for _ in 0..tensors {
            let tensor = self.tensor()?;
            tensor.check(is_adapter)?;
            end = end.max(tensor.end()?);
            contents.weights.add(&tensor.name, tensor.bytes()?);
            if !tensor.is_repacked() {
                mapped = mapped.saturating_add(tensor.bytes()?);
            }
        }
        self.check_end(end, alignment)?;
        contents.tensor_bytes = end;
        // Tensors of a broken file may overlap.
        contents.mapped_bytes = mapped.min(end);
        contents.tensors = tensors;
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
            other => {
                let mut beginning = other.to_vec();
                self.inner
                    .by_ref()
                    .take(SUBSTITUTE_BYTES)
                    .read_to_end(&mut beginning)
                    .map_err(Fault::Io)?;
                Err(match Substitute::of(&beginning) {
                    Some(substitute) => Fault::Substitute(substitute),
                    None => Fault::NotGguf(format!("it begins with `{}`", other.escape_ascii())),
                })
            }
        }
    }

    fn tensor(&mut self) -> Read1<Tensor> {
        let name = self.name()?;
        let dimensions = self.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(Fault::Malformed("a tensor has more than 4 dimensions"));
        }
        let shape = (0..dimensions).map(|_| self.u64());
        Ok(Tensor {
            name,
            shape: shape.collect::<Read1<_>>()?,
            kind: self.u32()?,
            offset: self.u64()?,
        })
    }

    /// The data of all tensors, which ends `end` bytes behind the header, must lie inside the file.
    fn check_end(&self, end: u64, alignment: u64) -> Read1<()> {
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
            3 => self.skip(2)?,
            7 => Value::Number(self.bytes::<1>()?[0].into()),
            // A signed number of use is never below 0.
            4 | 5 => Value::Number(self.u32()?.into()),
            2 => Value::Number(u16::from_le_bytes(self.bytes()?).into()),
            6 => self.skip(4)?,
            8 => self.text()?,
            9 => self.array(MAX_NUMBERS)?,
            10 => Value::Number(self.u64()?),
            11 | 12 => self.skip(8)?,
            _ => return Err(Fault::Malformed("a value has an unknown type")),
        })
    }

    /// A value that is of no use.
    fn skip_value(&mut self, kind: u32) -> Read1<()> {
        match kind {
            8 => {
                let length = self.u64()?;
                self.skip(length).map(drop)
            }
            9 => self.array(0).map(drop),
            kind => self.value(kind).map(drop),
        }
    }

    /// An array; of one that has up to `kept` whole numbers, these.
    fn array(&mut self, kept: u64) -> Read1<Value> {
        let (kind, length) = (self.u32()?, self.u64()?);
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 => {
                self.texts = self.texts.saturating_add(length);
                if self.texts > MAX_TEXTS {
                    return Err(Fault::Malformed("it has more than 4 million texts"));
                }
                for _ in 0..length {
                    let bytes = self.u64()?;
                    self.skip(bytes)?;
                }
                return Ok(Value::Length(length));
            }
            _ => return Err(Fault::Malformed("an array has an unknown type")),
        };
        if length <= kept && matches!(kind, 4 | 5 | 7) {
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

    /// Reads a text value. One longer than [`MAX_TEXT`] is skipped.
    fn text(&mut self) -> Read1<Value> {
        let length = self.u64()?;
        if length > MAX_TEXT {
            return self.skip(length).map(|_| Value::LongText);
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
            Some(end) if end <= self.size.min(MAX_HEADER) => Ok(()),
            Some(end) if end <= self.size => Err(Fault::Malformed("it is longer than 256 MiB")),
            _ => Err(Fault::Truncated("its header is longer".into())),
        }
    }
}
