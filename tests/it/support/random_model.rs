//! Tiny models of architectures that have no small real model, with random weights and the tiny model's vocabulary. Their output is
//! nonsense, but depends on every token of the prompt.

use super::{TempFile, tiny};

/// Width of all layers.
const WIDTH: u64 = 64;

/// Inner width of a recurrent layer. llama.cpp supports only twice the outer width.
const INNER: u64 = 2 * WIDTH;

/// Tokens that a convolution covers.
const KERNEL: u64 = 4;

/// Size of the state per [`INNER`] channel.
const STATE: u64 = 16;

/// Rank of the time steps.
const RANK: u64 = 4;

const HEADS: u64 = 4;
const HEADS_KV: u64 = 2;
const FEED_FORWARD: u64 = 128;

/// Value types of GGUF.
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Returns a recurrent model: `mamba` as in llama.cpp's `models/mamba.cpp`.
pub(crate) fn recurrent() -> TempFile {
    mamba(|file| file.ones("output_norm.weight", WIDTH)).save("recurrent.gguf")
}

/// Returns a recurrent model with a norm in F16, which makes llama.cpp's CPU code abort in the first decode: the model loads, but answers
/// no call.
pub(crate) fn with_norm_in_f16() -> TempFile {
    const F16: u32 = 1;
    let one = 0x3c00_u16.to_le_bytes();
    let norm = |file: &mut GgufWriter| {
        file.describe_tensor("output_norm.weight", &[WIDTH], F16);
        for _ in 0..WIDTH {
            file.data.extend(one);
        }
        file.align();
    };
    mamba(norm).save("f16-norm.gguf")
}

fn mamba(output_norm: impl Fn(&mut GgufWriter)) -> GgufWriter {
    let mut file = GgufWriter::new("mamba", 2);
    for (key, value) in [
        ("ssm.conv_kernel", KERNEL),
        ("ssm.inner_size", INNER),
        ("ssm.state_size", STATE),
        ("ssm.time_step_rank", RANK),
    ] {
        file.number(key, value);
    }
    output_norm(&mut file);
    for layer in 0..2 {
        let name = |part: &str| format!("blk.{layer}.{part}");
        file.ones(&name("attn_norm.weight"), WIDTH);
        file.matrix(&name("ssm_in.weight"), WIDTH, 2 * INNER, 1.0);
        file.matrix(&name("ssm_conv1d.weight"), KERNEL, INNER, 1.0);
        file.vector(&name("ssm_conv1d.bias"), INNER, |_| 0.0);
        file.matrix(&name("ssm_x.weight"), INNER, RANK + 2 * STATE, 3.0);
        file.matrix(&name("ssm_dt.weight"), RANK, INNER, 0.5);
        // Steps that let one part of the state last for hundreds of tokens, and another for a dozen.
        file.vector(&name("ssm_dt.bias"), INNER, |random| -4.2 + random);
        file.tensor(&name("ssm_a"), &[STATE, INNER], |_| -1.0);
        file.vector(&name("ssm_d"), INNER, |_| 0.2);
        file.matrix(&name("ssm_out.weight"), INNER, WIDTH, 4.0);
    }
    file
}

/// Returns a hybrid model of short convolutions and attention: `lfm2` as in llama.cpp's `models/lfm2.cpp`.
pub(crate) fn hybrid() -> TempFile {
    // Number of heads in each layer; layers without heads have convolutions.
    let heads_kv = [0, HEADS_KV, 0, HEADS_KV];
    let mut file = GgufWriter::new("lfm2", heads_kv.len() as u64);
    for (key, value) in [
        ("feed_forward_length", FEED_FORWARD),
        ("attention.head_count", HEADS),
        ("shortconv.l_cache", KERNEL),
    ] {
        file.number(key, value);
    }
    file.key("attention.head_count_kv", ARRAY);
    file.keys.extend(I32.to_le_bytes());
    file.keys.extend((heads_kv.len() as u64).to_le_bytes());
    for heads in heads_kv {
        file.keys
            .extend(u32::try_from(heads).unwrap().to_le_bytes());
    }
    file.ones("token_embd_norm.weight", WIDTH);
    for (layer, heads_kv) in heads_kv.into_iter().enumerate() {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        file.ones(&name("attn_norm"), WIDTH);
        if heads_kv == 0 {
            file.matrix(&name("shortconv.conv"), KERNEL, WIDTH, 1.0);
            file.matrix(&name("shortconv.in_proj"), WIDTH, 3 * WIDTH, 1.0);
            file.matrix(&name("shortconv.out_proj"), WIDTH, WIDTH, 1.0);
        } else {
            let head = WIDTH / HEADS;
            // Attention to only few tokens, so that each of them matters.
            file.vector(&name("attn_q_norm"), head, |_| 2.0);
            file.vector(&name("attn_k_norm"), head, |_| 2.0);
            file.matrix(&name("attn_q"), WIDTH, WIDTH, 1.0);
            file.matrix(&name("attn_k"), WIDTH, heads_kv * head, 1.0);
            file.matrix(&name("attn_v"), WIDTH, heads_kv * head, 1.0);
            file.matrix(&name("attn_output"), WIDTH, WIDTH, 2.0);
        }
        file.ones(&name("ffn_norm"), WIDTH);
        file.matrix(&name("ffn_gate"), WIDTH, FEED_FORWARD, 1.0);
        file.matrix(&name("ffn_up"), WIDTH, FEED_FORWARD, 1.0);
        file.matrix(&name("ffn_down"), FEED_FORWARD, WIDTH, 1.0);
    }
    file.save("hybrid.gguf")
}

/// Writes a GGUF file: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
struct GgufWriter {
    architecture: &'static str,
    keys: Vec<u8>,
    key_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
    data: Vec<u8>,
    random: u64,
}

impl GgufWriter {
    fn new(architecture: &'static str, layers: u64) -> Self {
        let tokenizer = Tokenizer::from_tiny_model();
        let mut file = Self {
            architecture,
            keys: tokenizer.keys,
            key_count: tokenizer.key_count,
            tensors: Vec::new(),
            tensor_count: 0,
            data: Vec::new(),
            random: 1,
        };
        string(&mut file.keys, "general.architecture");
        file.keys.extend(STRING.to_le_bytes());
        string(&mut file.keys, architecture);
        file.key_count += 1;
        file.number("context_length", 4096);
        file.number("embedding_length", WIDTH);
        file.number("block_count", layers);
        file.key("attention.layer_norm_rms_epsilon", F32);
        file.keys.extend(1e-5_f32.to_le_bytes());
        let vocabulary = tokenizer.is_letters.len() as u64;
        file.tensor("token_embd.weight", &[WIDTH, vocabulary], |random| random);
        let mut at = 0;
        file.tensor("output.weight", &[WIDTH, vocabulary], |random| {
            // Tokens other than letters have the logit 0, so they are never the likeliest.
            let is_letters = tokenizer.is_letters[at / usize::try_from(WIDTH).unwrap()];
            at += 1;
            if is_letters { random } else { 0.0 }
        });
        file
    }

    fn key(&mut self, key: &str, kind: u32) {
        let key = format!("{}.{key}", self.architecture);
        string(&mut self.keys, &key);
        self.keys.extend(kind.to_le_bytes());
        self.key_count += 1;
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key, U32);
        self.keys
            .extend(u32::try_from(value).unwrap().to_le_bytes());
    }

    /// Adds a tensor of F32 values. `make` gets a random number of mean 0 and variance 1 for each of them.
    fn tensor(&mut self, name: &str, shape: &[u64], mut make: impl FnMut(f32) -> f32) {
        // Type 0 is F32.
        self.describe_tensor(name, shape, 0);
        for _ in 0..shape.iter().product() {
            let random = self.random();
            self.data.extend(make(random).to_le_bytes());
        }
        self.align();
    }

    /// Describes in the header the tensor whose data comes next.
    fn describe_tensor(&mut self, name: &str, shape: &[u64], kind: u32) {
        string(&mut self.tensors, name);
        self.tensors
            .extend(u32::try_from(shape.len()).unwrap().to_le_bytes());
        for length in shape {
            self.tensors.extend(length.to_le_bytes());
        }
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend((self.data.len() as u64).to_le_bytes());
        self.tensor_count += 1;
    }

    /// Pads the data to the alignment of the next tensor.
    fn align(&mut self) {
        const ALIGNMENT: usize = 32;
        self.data
            .resize(self.data.len().next_multiple_of(ALIGNMENT), 0);
    }

    fn vector(&mut self, name: &str, length: u64, make: impl FnMut(f32) -> f32) {
        self.tensor(name, &[length], make);
    }

    fn ones(&mut self, name: &str, length: u64) {
        self.vector(name, length, |_| 1.0);
    }

    /// Adds a matrix that maps values of variance 1 to values of standard deviation `gain`.
    fn matrix(&mut self, name: &str, from: u64, to: u64, gain: f32) {
        let scale = gain / f32::from(u16::try_from(from).unwrap()).sqrt();
        self.tensor(name, &[from, to], |random| random * scale);
    }

    /// Returns a uniform random number (splitmix64).
    fn random(&mut self) -> f32 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let upper = u16::try_from((mixed ^ (mixed >> 31)) >> 48).unwrap();
        (f32::from(upper) / f32::from(u16::MAX) - 0.5) * 12_f32.sqrt()
    }

    fn save(self, name: &str) -> TempFile {
        const ALIGNMENT: usize = 32;
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(self.tensor_count.to_le_bytes());
        bytes.extend(self.key_count.to_le_bytes());
        bytes.extend(self.keys);
        bytes.extend(self.tensors);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        bytes.extend(self.data);
        TempFile::new(name, &bytes)
    }
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// The vocabulary and chat template of the tiny model, copied from its file.
struct Tokenizer {
    keys: Vec<u8>,
    key_count: u64,
    /// Whether each token consists of letters.
    is_letters: Vec<bool>,
}

impl Tokenizer {
    fn from_tiny_model() -> Self {
        let bytes = std::fs::read(tiny()).unwrap();
        let find = |text: &str| {
            let mut places = bytes.windows(text.len());
            places.position(|place| place == text.as_bytes()).unwrap()
        };
        // They are the last keys. The length of each name precedes it.
        let keys = &bytes[find("tokenizer.ggml.model") - 8..find("blk.0.attn_k.weight") - 8];
        let names = keys.windows(10).filter(|name| name == b"tokenizer.");
        let number = |at: usize| {
            let number = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            usize::try_from(number).unwrap()
        };
        // After the name come the type of the value, the type of the elements, and their number.
        let key = "tokenizer.ggml.tokens";
        let mut at = find(key) + key.len() + 8;
        let count = number(at);
        at += 8;
        let is_letters = (0..count).map(|_| {
            let end = at + 8 + number(at);
            let token = &bytes[at + 8..end];
            at = end;
            token.iter().all(u8::is_ascii_alphabetic)
        });
        Self {
            is_letters: is_letters.collect(),
            key_count: names.count() as u64,
            keys: keys.to_vec(),
        }
    }
}
