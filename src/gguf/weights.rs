//! Bytes of the tensors of a model by layer. Pure.

/// Maximum number of layers.
pub(super) const MAX_LAYERS: usize = 512;

/// Tensors that llama.cpp keeps in the machine's memory whatever is offloaded (`LLM_TENSOR_LAYER_INPUT` in `llama-arch.cpp`).
const INPUTS: [&str; 5] = [
    EMBEDDING,
    "token_types",
    "position_embd",
    "per_layer_token_embd",
    "masked_embd_centroids",
];

/// Name of the token embedding. Models without an output matrix use it as the output matrix, too.
const EMBEDDING: &str = "token_embd";

/// Name of the output matrix.
const OUTPUT: &str = "output";

/// Bytes of the tensors of a model, by layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Weights {
    /// Bytes of each layer.
    layers: Vec<u64>,
    /// Bytes of the tensors after the last layer.
    output: u64,
    /// Bytes of the token embedding.
    embedding: u64,
    /// Whether the output has a matrix of its own.
    has_output: bool,
}

impl Weights {
    /// Adds the tensor `name`, which has `bytes` bytes.
    pub(super) fn add(&mut self, name: &str, bytes: u64) {
        let (first, rest) = name.split_once('.').unwrap_or((name, ""));
        let layer = || rest.split('.').next()?.parse::<usize>().ok();
        match layer().filter(|layer| first == "blk" && *layer < MAX_LAYERS) {
            Some(layer) => {
                if self.layers.len() <= layer {
                    self.layers.resize(layer + 1, 0);
                }
                self.layers[layer] = self.layers[layer].saturating_add(bytes);
            }
            None if first == EMBEDDING => self.embedding = self.embedding.saturating_add(bytes),
            None if INPUTS.contains(&first) => {}
            None => {
                self.has_output |= first == OUTPUT;
                self.output = self.output.saturating_add(bytes);
            }
        }
    }

    /// Adds the tensors of another part of a split file.
    pub(super) fn merge(&mut self, part: &Self) {
        if self.layers.len() < part.layers.len() {
            self.layers.resize(part.layers.len(), 0);
        }
        for (layer, bytes) in self.layers.iter_mut().zip(&part.layers) {
            *layer = layer.saturating_add(*bytes);
        }
        self.output = self.output.saturating_add(part.output);
        self.embedding = self.embedding.saturating_add(part.embedding);
        self.has_output |= part.has_output;
    }

    /// Returns the bytes that the GPU holds if layers are offloaded from `first` on, including the output.
    pub(super) fn on_gpu_from(&self, first: usize) -> u64 {
        let layers = self.layers.iter().skip(first);
        layers
            .fold(self.output, |sum, bytes| sum.saturating_add(*bytes))
            .saturating_add(self.copied())
    }

    /// Returns the bytes that are in both memories: those of the token embedding, if it is the output matrix, too.
    pub(super) fn copied(&self) -> u64 {
        if self.has_output { 0 } else { self.embedding }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(tensors: &[(&str, u64)]) -> Weights {
        let mut weights = Weights::default();
        for (name, bytes) in tensors {
            weights.add(name, *bytes);
        }
        weights
    }

    const TENSORS: [(&str, u64); 6] = [
        ("token_embd.weight", 1000),
        ("blk.0.attn_q.weight", 1),
        ("blk.0.ffn_up.weight", 2),
        ("blk.1.attn_q.weight", 10),
        ("output_norm.weight", 100),
        ("output.weight", 200),
    ];

    #[test]
    fn the_gpu_holds_the_offloaded_layers_and_the_output() {
        let weights = weights(&TENSORS);
        let held: Vec<u64> = (0..3).map(|first| weights.on_gpu_from(first)).collect();
        assert_eq!(held, [313, 310, 300]);
    }

    #[test]
    fn an_embedding_that_is_also_the_output_is_in_both_memories() {
        let tied = weights(&TENSORS[..5]);
        assert_eq!((tied.on_gpu_from(1), tied.copied()), (1110, 1000));
    }

    #[test]
    fn parts_of_a_split_file_add_up() {
        let mut first = weights(&TENSORS[..2]);
        first.merge(&weights(&TENSORS[2..]));
        assert_eq!(first, weights(&TENSORS));
    }

    #[test]
    fn a_layer_number_beyond_the_maximum_allocates_nothing() {
        let broken = weights(&[("blk.18446744073709551615.attn_q.weight", 7)]);
        assert_eq!((broken.layers.len(), broken.output), (0, 7));
    }
}
