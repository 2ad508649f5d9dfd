//! The tensors of a file: their types and shapes, and whether llama.cpp can compute with them. Pure.

use super::fault::{Fault, ReadResult};

/// A tensor as the header describes it.
#[derive(Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    /// Number of elements in each dimension.
    pub(super) shape: Vec<u64>,
    /// Number of its type in `ggml.h: ggml_type`.
    pub(super) kind: u32,
    /// Start of its data, in bytes after the header.
    pub(super) offset: u64,
}

/// A type of tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TensorType {
    name: &'static str,
    /// Number of elements in a block.
    elements: u64,
    /// Size of a block, in bytes.
    bytes: u64,
    role: Role,
}

/// The operations that llama.cpp supports for a type of tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Multiplication: `ggml-cpu.c: type_traits_cpu` has a `vec_dot`.
    Weights,
    /// Lookup.
    Indices,
    /// No operation: llama.cpp aborts in the first decode.
    Unused,
    /// No operation, because llama.cpp no longer supports the type.
    Removed,
}

/// Tensors of integers that models have: lookup tables, which are never multiplied (`llama-arch.cpp` in llama.cpp).
const INDEX_TABLES: [&str; 3] = ["d2t", "ffn_gate_tid2eid.weight", "masked_embd_ordering"];

/// Types that llama.cpp repacks on some CPUs of this architecture.
const REPACKED: &[&str] = if cfg!(target_arch = "x86_64") {
    &["Q2_K", "Q4_0", "Q4_K", "IQ4_NL", "MXFP4"]
} else {
    &[
        "Q1_0", "Q2_K", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4",
    ]
};

/// Parts of the names of tensors that are stacks of matrices, in models and in adapters: those of experts and of heads.
const STACKED: [&str; 2] = ["_exps.", "_b.weight"];

impl Tensor {
    /// Returns the end of its data, in bytes after the header.
    pub(super) fn end(&self) -> ReadResult<u64> {
        let end = self.offset.checked_add(self.bytes()?);
        end.ok_or(Fault::Malformed("a tensor is too large"))
    }

    /// Returns whether llama.cpp may repack the tensor while loading, so that the mapped file is not used
    /// (`ggml-cpu/repack.cpp: ggml_repack_get_optimal_repack_type`). The token embedding is never repacked.
    pub(super) fn is_repacked(&self) -> bool {
        let kind = TensorType::from_number(self.kind).map_or("", |kind| kind.name);
        REPACKED.contains(&kind) && self.name != "token_embd.weight"
    }

    /// Returns the size of its data, in bytes.
    pub(super) fn bytes(&self) -> ReadResult<u64> {
        let elements = (self.shape.iter()).try_fold(1_u64, |product, n| product.checked_mul(*n));
        let (block, bytes) =
            TensorType::from_number(self.kind).map_or((1, 0), |kind| (kind.elements, kind.bytes));
        elements
            .and_then(|elements| (elements / block).checked_mul(bytes))
            .ok_or(Fault::Malformed("a tensor is too large"))
    }

    /// Checks that llama.cpp can compute with the tensor. Types that are unknown here pass: llama.cpp decides.
    pub(super) fn check(&self, is_adapter: bool) -> ReadResult<()> {
        if is_adapter {
            self.check_adapter_shape()?;
        }
        let Some(kind) = TensorType::from_number(self.kind) else {
            return Ok(());
        };
        let is_usable = match kind.role {
            Role::Weights => true,
            Role::Indices => INDEX_TABLES.iter().any(|table| self.has_name(table)),
            Role::Unused | Role::Removed => false,
        };
        if is_usable {
            return Ok(());
        }
        Err(Fault::TensorType {
            tensor: self.name.clone(),
            kind: kind.name,
            is_removed: kind.role == Role::Removed,
        })
    }

    /// Returns whether the tensor is called `name`, with or without a layer prefix.
    fn has_name(&self, name: &str) -> bool {
        self.name
            .strip_suffix(name)
            .is_some_and(|before| before.is_empty() || before.ends_with('.'))
    }

    /// Checks the shape. llama.cpp multiplies the matrices of an adapter without a check, and aborts if they do not fit (`ggml_can_mul_mat`).
    fn check_adapter_shape(&self) -> ReadResult<()> {
        let layers = |dimension: usize| self.shape.get(dimension).copied().unwrap_or(1);
        let is_stacked = STACKED.iter().any(|part| self.name.contains(part));
        if layers(3) > 1 || (layers(2) > 1 && !is_stacked) {
            return Err(Fault::Malformed("a tensor of the adapter is not a matrix"));
        }
        Ok(())
    }
}

impl TensorType {
    /// Returns the type with this `number` (`ggml.c: type_traits`). Returns `None` if it is unknown here.
    fn from_number(number: u32) -> Option<Self> {
        use Role::{Indices, Removed, Unused, Weights};
        let (name, elements, bytes, role) = match number {
            0 => ("F32", 1, 4, Weights),
            1 => ("F16", 1, 2, Weights),
            2 => ("Q4_0", 32, 18, Weights),
            3 => ("Q4_1", 32, 20, Weights),
            4 => ("Q4_2", 1, 0, Removed),
            5 => ("Q4_3", 1, 0, Removed),
            6 => ("Q5_0", 32, 22, Weights),
            7 => ("Q5_1", 32, 24, Weights),
            8 => ("Q8_0", 32, 34, Weights),
            9 => ("Q8_1", 32, 36, Unused),
            10 => ("Q2_K", 256, 84, Weights),
            11 => ("Q3_K", 256, 110, Weights),
            12 => ("Q4_K", 256, 144, Weights),
            13 => ("Q5_K", 256, 176, Weights),
            14 => ("Q6_K", 256, 210, Weights),
            15 => ("Q8_K", 256, 292, Unused),
            16 => ("IQ2_XXS", 256, 66, Weights),
            17 => ("IQ2_XS", 256, 74, Weights),
            18 => ("IQ3_XXS", 256, 98, Weights),
            19 => ("IQ1_S", 256, 50, Weights),
            20 => ("IQ4_NL", 32, 18, Weights),
            21 => ("IQ3_S", 256, 110, Weights),
            22 => ("IQ2_S", 256, 82, Weights),
            23 => ("IQ4_XS", 256, 136, Weights),
            24 => ("I8", 1, 1, Unused),
            25 => ("I16", 1, 2, Unused),
            26 => ("I32", 1, 4, Indices),
            27 => ("I64", 1, 8, Indices),
            28 => ("F64", 1, 8, Unused),
            29 => ("IQ1_M", 256, 56, Weights),
            30 => ("BF16", 1, 2, Weights),
            31 => ("Q4_0_4_4", 1, 0, Removed),
            32 => ("Q4_0_4_8", 1, 0, Removed),
            33 => ("Q4_0_8_8", 1, 0, Removed),
            34 => ("TQ1_0", 256, 54, Weights),
            35 => ("TQ2_0", 256, 66, Weights),
            36 => ("IQ4_NL_4_4", 1, 0, Removed),
            37 => ("IQ4_NL_4_8", 1, 0, Removed),
            38 => ("IQ4_NL_8_8", 1, 0, Removed),
            39 => ("MXFP4", 32, 17, Weights),
            40 => ("NVFP4", 64, 36, Weights),
            41 => ("Q1_0", 128, 18, Weights),
            42 => ("Q2_0", 64, 18, Weights),
            _ => return None,
        };
        Some(Self {
            name,
            elements,
            bytes,
            role,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, kind: u32) -> Tensor {
        Tensor {
            name: name.into(),
            shape: vec![256, 2],
            kind,
            offset: 32,
        }
    }

    /// Returns the name of the type for which `tensor` is refused.
    fn refused(tensor: &Tensor) -> Option<&'static str> {
        match tensor.check(false) {
            Err(Fault::TensorType { kind, .. }) => Some(kind),
            _ => None,
        }
    }

    #[test]
    fn weights_of_types_that_cannot_be_multiplied_are_refused_with_the_type_name() {
        let weights = |kind| refused(&tensor("blk.0.attn_q.weight", kind));
        let found: Vec<_> = (0..50).filter_map(weights).collect();
        assert_eq!(
            found,
            [
                "Q4_2",
                "Q4_3",
                "Q8_1",
                "Q8_K",
                "I8",
                "I16",
                "I32",
                "I64",
                "F64",
                "Q4_0_4_4",
                "Q4_0_4_8",
                "Q4_0_8_8",
                "IQ4_NL_4_4",
                "IQ4_NL_4_8",
                "IQ4_NL_8_8"
            ]
        );
    }

    #[test]
    fn integers_are_accepted_only_in_lookup_tables_that_models_have() {
        for name in [
            "d2t",
            "blk.7.ffn_gate_tid2eid.weight",
            "masked_embd_ordering",
        ] {
            assert_eq!(refused(&tensor(name, 26)), None, "{name}");
            assert_eq!(refused(&tensor(name, 24)), Some("I8"), "{name}");
        }
        assert_eq!(refused(&tensor("blk.0.xd2t", 27)), Some("I64"));
    }

    #[test]
    fn an_unknown_type_is_left_to_llama_cpp() {
        assert_eq!(refused(&tensor("blk.0.attn_q.weight", 43)), None);
        assert_eq!(tensor("x", 43).end().unwrap(), 32);
    }

    #[test]
    fn an_adapter_has_matrices_and_stacks_only_for_experts_and_heads() {
        let is_accepted = |name: &str, shape: &[u64]| {
            let shape = shape.to_vec();
            Tensor {
                shape,
                ..tensor(name, 0)
            }
            .check(true)
            .is_ok()
        };
        assert!(is_accepted("blk.0.attn_q.weight.lora_a", &[64, 8]));
        assert!(is_accepted("blk.0.attn_q.weight.lora_a", &[64, 8, 1, 1]));
        assert!(is_accepted("blk.0.ffn_up_exps.weight.lora_a", &[64, 8, 4]));
        assert!(!is_accepted("blk.0.attn_q.weight.lora_a", &[64, 8, 4]));
        assert!(!is_accepted(
            "blk.0.ffn_up_exps.weight.lora_a",
            &[64, 8, 4, 2]
        ));
    }

    #[test]
    fn the_size_of_a_tensor_is_a_multiple_of_its_block_size() {
        assert_eq!(tensor("x", 12).end().unwrap(), 32 + 2 * 144);
        let endless = Tensor {
            shape: vec![u64::MAX, 2],
            ..tensor("x", 0)
        };
        assert!(endless.end().is_err());
    }
}
