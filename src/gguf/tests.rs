mod kinds;

use proptest::prelude::*;

use super::*;

const TINY: &[u8] = include_bytes!("../../tests/models/tiny-crab-chat.Q8_0.gguf");

fn contents_header(bytes: &[u8]) -> ReadResult<Header> {
    let mut reader = Reader::new(io::Cursor::new(bytes), bytes.len() as u64);
    reader
        .contents()
        .and_then(|contents| Header::from_contents(&contents))
}

#[test]
fn the_header_of_a_real_model_is_read() {
    let Ok(header) = contents_header(TINY) else {
        panic!("a good file was refused")
    };
    assert_eq!(
        (
            header.architecture.as_str(),
            header.n_ctx_train,
            header.chat_template.is_some()
        ),
        ("llama", Some(4096), true)
    );
    assert_eq!(
        (
            header.n_head_kv.as_slice(),
            header.key_length,
            header.n_vocab
        ),
        ([2, 2, 2].as_slice(), 24, 512)
    );
}

#[test]
fn a_file_truncated_anywhere_is_refused() {
    for length in [5, 23, 24, 100, 5000, TINY.len() / 2, TINY.len() - 1] {
        assert!(
            matches!(
                contents_header(&TINY[..length]),
                Err(Fault::Truncated { .. })
            ),
            "at {length}"
        );
    }
}

#[test]
fn a_length_beyond_the_file_allocates_nothing() {
    let mut bytes = TINY.to_vec();
    bytes[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(contents_header(&bytes), Err(Fault::Malformed(_))));
}

proptest! {
    #[test]
    fn a_damaged_header_never_panics(at in 4_usize..8000, byte: u8) {
        let mut bytes = TINY.to_vec();
        bytes[at] = byte;
        drop(contents_header(&bytes));
    }
}

/// Numbers of value types.
const U32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const U64: u32 = 10;

/// A key, the type of its value, and the bytes of its value.
type Pair<'a> = (&'a str, u32, Vec<u8>);

fn string(text: &[u8]) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    bytes
}

fn text<'a>(key: &'a str, value: &str) -> Pair<'a> {
    (key, STRING, string(value.as_bytes()))
}

fn number(key: &str, value: u64) -> Pair<'_> {
    (key, U64, value.to_le_bytes().to_vec())
}

/// Returns a file with the metadata `pairs` and without tensors.
fn crafted(pairs: &[Pair<'_>]) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend((pairs.len() as u64).to_le_bytes());
    for (key, kind, value) in pairs {
        bytes.extend(string(key.as_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes
}

/// Returns the error for a file of the architecture `llama` with `pairs`.
fn refusal(pairs: &[Pair<'_>]) -> Option<String> {
    let mut all = vec![text("general.architecture", "llama")];
    all.extend_from_slice(pairs);
    let bytes = crafted(&all);
    parse_header(
        io::Cursor::new(&bytes),
        bytes.len() as u64,
        Path::new("m.gguf"),
    )
    .err()
    .map(|error| error.to_string())
}

fn named(name: &str) -> Option<String> {
    let bytes = crafted(&[
        text("general.architecture", "llama"),
        text("general.name", name),
    ]);
    contents_header(&bytes).ok().unwrap().name
}

#[test]
fn a_name_becomes_one_short_printable_line() {
    assert_eq!(named("crab").as_deref(), Some("crab"));
    assert_eq!(
        named("crab.\n\nIMPORTANT: \u{1b}[31mcall\u{202e} x\0").as_deref(),
        Some("crab. IMPORTANT: [31mcall x")
    );
    assert_eq!(named(&"x".repeat(1000)).unwrap().chars().count(), MAX_SHOWN);
}

#[test]
fn a_name_without_printable_characters_is_omitted() {
    assert_eq!(named(" \n\u{202e}\0\t "), None);
    assert_eq!(named(""), None);
}

#[test]
fn an_architecture_has_only_letters_digits_and_separators() {
    for name in ["llama", "qwen3.5-moe_x", &"x".repeat(64)] {
        assert!(contents_header(&crafted(&[text("general.architecture", name)])).is_ok());
    }
    let long = "x".repeat(65);
    for name in ["", "lla ma", "\u{1b}[31mllama", "llama\n", "ламa", &long] {
        let found = contents_header(&crafted(&[text("general.architecture", name)]));
        assert!(matches!(found, Err(Fault::Malformed(_))), "{name:?}");
    }
}

#[test]
fn numbers_that_would_crash_llama_cpp_are_refused_with_their_range() {
    let error = refusal(&[number("llama.context_length", 1 << 31)]).unwrap();
    assert_eq!(
        error,
        "the model file `m.gguf`: `llama.context_length` is out of range: 2147483648; llama.cpp supports 0 to 2147483647"
    );
    for (key, value) in [
        ("llama.block_count", 0),
        ("llama.block_count", 513),
        ("llama.expert_count", 1025),
        ("llama.embedding_length", u64::MAX),
    ] {
        assert!(
            refusal(&[number(key, value)]).is_some_and(|error| error.contains(key)),
            "{key} {value}"
        );
    }
    let heads = [U32.to_le_bytes().to_vec(), 2_u64.to_le_bytes().to_vec()].concat();
    let heads = [heads, 4_u32.to_le_bytes().to_vec(), vec![0xff; 4]].concat();
    assert!(refusal(&[("llama.attention.head_count_kv", ARRAY, heads)]).is_some());
    for (key, value) in [
        ("llama.block_count", 512),
        ("llama.expert_count", 1024),
        ("llama.context_length", i32::MAX as u64),
        ("mamba.block_count", 9999),
    ] {
        assert_eq!(refusal(&[number(key, value)]), None, "{key} {value}");
    }
}

#[test]
fn the_size_of_kept_metadata_is_limited_however_many_keys_match() {
    let keys: Vec<String> = (0..100)
        .map(|at| format!("{at}{}.block_count", "x".repeat(60_000)))
        .collect();
    let pairs: Vec<Pair<'_>> = keys.iter().map(|key| number(key, 1)).collect();
    assert!(refusal(&pairs).is_some_and(|error| error.contains("2 MiB of metadata")));
    let texts: Vec<String> = (0..4).map(|at| format!("{at}.context_length")).collect();
    let long = "x".repeat(1 << 20);
    let pairs: Vec<Pair<'_>> = texts.iter().map(|key| text(key, &long)).collect();
    assert!(refusal(&pairs).is_some_and(|error| error.contains("2 MiB of metadata")));
}

#[test]
fn arrays_with_more_texts_than_any_vocabulary_are_refused_before_they_are_skipped() {
    let texts = [
        STRING.to_le_bytes().to_vec(),
        (1_u64 << 23).to_le_bytes().to_vec(),
    ]
    .concat();
    let error = refusal(&[("x.texts", ARRAY, texts)]).unwrap();
    assert!(error.contains("more than 4 million texts"), "{error}");
}

#[test]
fn a_chat_template_ends_at_a_nul_and_is_refused_if_too_long() {
    let template = |source: &str| {
        let pairs = [
            text("general.architecture", "llama"),
            text("tokenizer.chat_template", source),
        ];
        contents_header(&crafted(&pairs)).map(|header| header.chat_template)
    };
    assert_eq!(
        template("{{ a }}\0{{ b }}").ok().flatten().as_deref(),
        Some("{{ a }}")
    );
    assert!(template(&"x".repeat(1 << 20)).is_ok());
    let long = text("tokenizer.chat_template", &"x".repeat((1 << 20) + 1));
    let error =
        "the header of the model file `m.gguf` is broken: its chat template is longer than 1 MiB";
    assert_eq!(refusal(&[long]).as_deref(), Some(error));
}

#[test]
fn a_duplicate_key_is_refused() {
    let twice = [
        number("llama.block_count", 1),
        number("llama.block_count", 2),
    ];
    assert!(refusal(&twice).is_some_and(|error| error.contains("twice")));
}

#[test]
fn too_many_keys_or_tensors_are_refused_before_they_are_read() {
    for (at, what) in [(8, "tensors"), (16, "keys")] {
        let mut bytes = crafted(&[]);
        bytes[at..at + 8].copy_from_slice(&(1_u64 << 17).to_le_bytes());
        let Err(Fault::Malformed(error)) = contents_header(&bytes) else {
            panic!("{what} were read")
        };
        assert!(error.contains(what), "{error}");
    }
}

/// An endless run of zeros after `start`, like a sparse file.
struct Sparse {
    start: Vec<u8>,
    at: u64,
    reads: u64,
}

impl Read for Sparse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(0);
        if let Some(rest) = usize::try_from(self.at)
            .ok()
            .and_then(|at| self.start.get(at..))
        {
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
        }
        self.at += buffer.len() as u64;
        self.reads += buffer.len() as u64;
        Ok(buffer.len())
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        match to {
            io::SeekFrom::Current(by) => self.at = self.at.strict_add_signed(by),
            io::SeekFrom::Start(at) => self.at = at,
            io::SeekFrom::End(_) => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(self.at)
    }
}

#[test]
fn an_endless_header_is_refused_at_the_maximum_length() {
    let size = 1_u64 << 50;
    // An array of empty texts.
    let texts = [
        STRING.to_le_bytes().to_vec(),
        (size / 16).to_le_bytes().to_vec(),
    ]
    .concat();
    let mut start = crafted(&[("tokenizer.ggml.tokens", ARRAY, texts)]);
    start.truncate(24 + 8 + "tokenizer.ggml.tokens".len() + 4 + 12);
    let mut file = Sparse {
        start,
        at: 0,
        reads: 0,
    };
    let found = Reader::new(&mut file, size).contents();
    assert!(matches!(found, Err(Fault::Malformed(_))), "{found:?}");
    assert!(file.reads < 300 << 20, "{} bytes were read", file.reads);
}

#[test]
fn texts_of_an_adapter_are_one_printable_line_in_messages() {
    let file = std::env::temp_dir().join(format!("adapter-{}.gguf", std::process::id()));
    let refusal_of = |kind: &str, architecture: &str| {
        let pairs = [
            text("general.type", kind),
            text("general.architecture", architecture),
        ];
        std::fs::write(&file, crafted(&pairs)).unwrap();
        read_adapter(&file, "llama").unwrap_err().to_string()
    };
    let long = format!("\u{1b}[31m\n{}", "x".repeat(5000));
    let errors = [refusal_of(&long, "llama"), refusal_of("adapter", &long)];
    std::fs::remove_file(&file).unwrap();
    for error in errors {
        assert!(
            error.len() < 400 && !error.contains(['\n', '\u{1b}']),
            "{error}"
        );
    }
}

proptest! {
    #[test]
    fn any_name_becomes_a_short_line(name in "(?s).{0,200}") {
        if let Some(name) = named(&name) {
            prop_assert!(!name.is_empty() && name.chars().count() <= MAX_SHOWN);
            prop_assert!(!name.contains(char::is_control));
        }
    }

    #[test]
    fn a_tensor_of_any_type_and_shape_is_read_or_refused(kind in 0_u32..50, shape: [u64; 2]) {
        let mut bytes = crafted(&[text("general.architecture", "llama")]);
        bytes[8] = 1;
        let end = 24 + 8 + "general.architecture".len() + 4 + 8 + "llama".len();
        bytes.truncate(end);
        bytes.extend(string(b"x"));
        bytes.extend(2_u32.to_le_bytes());
        bytes.extend(shape.iter().flat_map(|n| n.to_le_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        bytes.resize(256, 0);
        drop(contents_header(&bytes));
    }
}
