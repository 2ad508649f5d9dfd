//! Parses the bytes of a GGUF file: magic number, metadata and tensors. Nothing in the file is trusted: memory is allocated only after the
//! file is known to be long enough, only relevant values are kept, and both their size and the length of the header are limited.

use std::io::{BufReader, Read, Seek};

use super::contents::{Contents, MAX_NUMBERS, Value, is_kept};
use super::fault::{Fault, ReadResult, Substitute};
use super::tensor::Tensor;

#[derive(Debug)]
pub(super) struct Reader<R> {
    inner: BufReader<R>,
    position: u64,
    size: u64,
    /// Number of texts in all arrays so far.
    texts: u64,
}

/// Bytes after the magic number that identify a file in another format.
const SUBSTITUTE_BYTES: u64 = 60;

/// Maximum length of a key or a name, in bytes. llama.cpp writes much shorter ones.
const MAX_NAME: u64 = 1 << 16;

/// Maximum length of a text that is kept, in bytes. Chat templates have up to 64 KiB.
const MAX_TEXT: u64 = 1 << 20;

/// Maximum number of texts in all arrays, ten times that of the largest vocabularies: skipping each takes time.
const MAX_TEXTS: u64 = 1 << 22;

/// Maximum number of keys, and of tensors. Real files have dozens of keys and thousands of tensors.
const MAX_ENTRIES: u64 = 1 << 16;

/// Maximum length of the header, in bytes, which limits the time to read it. With a vocabulary of 250,000 tokens, it has 15 MiB.
const MAX_HEADER: u64 = 256 << 20;

/// `ggml.h: GGML_MAX_DIMS`.
const MAX_DIMENSIONS: u32 = 4;

impl<R: Read + Seek> Reader<R> {
    /// Creates a reader for `file`, which has `size` bytes.
    pub(super) fn new(file: R, size: u64) -> Self {
        Self {
            inner: BufReader::with_capacity(1 << 16, file),
            position: 0,
            size,
            texts: 0,
        }
    }

    /// Reads the whole header.
    pub(super) fn contents(&mut self) -> ReadResult<Contents> {
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
                contents.insert(key, value)?;
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
        // The tensors of a broken file may overlap.
        contents.mapped_bytes = mapped.min(end);
        contents.tensors = tensors;
        Ok(contents)
    }

    fn magic(&mut self) -> ReadResult<()> {
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
                Err(match Substitute::recognise(&beginning) {
                    Some(substitute) => Fault::Substitute(substitute),
                    None => Fault::NotGguf(format!("it begins with `{}`", other.escape_ascii())),
                })
            }
        }
    }

    fn tensor(&mut self) -> ReadResult<Tensor> {
        let name = self.name()?;
        let dimensions = self.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(Fault::Malformed("a tensor has more than 4 dimensions"));
        }
        let shape = (0..dimensions).map(|_| self.u64());
        Ok(Tensor {
            name,
            shape: shape.collect::<ReadResult<_>>()?,
            kind: self.u32()?,
            offset: self.u64()?,
        })
    }

    /// Checks that the data of all tensors, which ends `end` bytes after the header, is inside the file.
    fn check_end(&self, end: u64, alignment: u64) -> ReadResult<()> {
        let data = self.position.next_multiple_of(alignment);
        match data.checked_add(end) {
            Some(needed) if needed <= self.size => Ok(()),
            Some(needed) => Err(self.truncated(format!("its tensors need {needed}"))),
            None => Err(Fault::Malformed("a tensor is too large")),
        }
    }

    fn value(&mut self, kind: u32) -> ReadResult<Value> {
        Ok(match kind {
            0 | 1 => self.skip(1)?,
            3 => self.skip(2)?,
            7 => Value::Number(self.bytes::<1>()?[0].into()),
            // The signed numbers that are kept are never negative.
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

    /// Skips a value that is not kept.
    fn skip_value(&mut self, kind: u32) -> ReadResult<()> {
        match kind {
            8 => {
                let length = self.u64()?;
                self.skip(length).map(drop)
            }
            9 => self.array(0).map(drop),
            kind => self.value(kind).map(drop),
        }
    }

    /// Reads an array. Its numbers are kept if there are at most `kept` of them, and they are 32-bit integers or booleans.
    fn array(&mut self, kept: u64) -> ReadResult<Value> {
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
                .collect::<ReadResult<_>>()
                .map(Value::Numbers);
        }
        let bytes = length
            .checked_mul(width)
            .ok_or(Fault::Malformed("an array is too large"))?;
        self.skip(bytes)?;
        Ok(Value::Length(length))
    }

    /// Reads a key or the name of a tensor.
    fn name(&mut self) -> ReadResult<String> {
        let length = self.u64()?;
        if length > MAX_NAME {
            return Err(Fault::Malformed("a name is too long"));
        }
        Ok(String::from_utf8_lossy(&self.raw(length)?).into_owned())
    }

    /// Reads a text value. A text longer than [`MAX_TEXT`] is skipped.
    fn text(&mut self) -> ReadResult<Value> {
        let length = self.u64()?;
        if length > MAX_TEXT {
            return self.skip(length).map(|_| Value::LongText);
        }
        Ok(Value::Text(
            String::from_utf8_lossy(&self.raw(length)?).into_owned(),
        ))
    }

    fn raw(&mut self, length: u64) -> ReadResult<Vec<u8>> {
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

    fn skip(&mut self, bytes: u64) -> ReadResult<Value> {
        self.expect(bytes)?;
        let distance =
            i64::try_from(bytes).map_err(|_too_large| Fault::Malformed("an array is too large"))?;
        // Short distances stay within the buffer.
        self.inner.seek_relative(distance).map_err(Fault::Io)?;
        self.position += bytes;
        Ok(Value::Other)
    }

    fn u32(&mut self) -> ReadResult<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> ReadResult<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn bytes<const N: usize>(&mut self) -> ReadResult<[u8; N]> {
        self.expect(N as u64)?;
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(Fault::Io)?;
        self.position += N as u64;
        Ok(bytes)
    }

    fn truncated(&self, needed: String) -> Fault {
        Fault::Truncated {
            found: self.size,
            needed,
        }
    }

    /// Checks that `bytes` more bytes are inside the file and inside the maximum header, before anything is allocated for them.
    fn expect(&self, bytes: u64) -> ReadResult<()> {
        match self.position.checked_add(bytes) {
            Some(end) if end <= self.size.min(MAX_HEADER) => Ok(()),
            Some(end) if end <= self.size => Err(Fault::Malformed("it is longer than 256 MiB")),
            _ => Err(self.truncated("its header is longer".into())),
        }
    }
}
