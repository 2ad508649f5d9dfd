//! The tensors of a file: their types and shapes, and whether llama.cpp can compute with them. Pure.

use super::fault::{Fault, Read1};

/// A tensor as the header describes it.
#[derive(Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    /// Elements along each dimension.
    pub(super) shape: Vec<u64>,
    /// Number of its type in `ggml.h: ggml_type`.
    pub(super) kind: u32,
    /// Where its data begins, in bytes behind the header.
    pub(super) offset: u64,
}

/// A type of tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    name: &'static str,
    /// Elements of a block.
    elements: u64,
    /// Bytes of a block.
    bytes: u64,
    role: Role,
}

/// The use that llama.cpp has for tensors of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Multiplies with them: `ggml-cpu.c: type_traits_cpu` has a `vec_dot`.
    Weights,
    /// Looks numbers up in them.
    Indices,
    /// Nothing: llama.cpp dies of them in the first decode.
    Unused,
    /// Nothing: llama.cpp no longer supports the type.
    Removed,
}

/// Tensors of whole numbers that models have: tables, which are never multiplied (llama.cpp's `llama-arch.cpp`).
const INDEX_TABLES: [&str; 3] = ["d2t", "ffn_gate_tid2eid.weight", "masked_embd_ordering"];

/// Types that llama.cpp rearranges on some CPUs of this architecture.
const REPACKED: &[&str] = if cfg!(target_arch = "x86_64") {
    &["Q2_K", "Q4_0", "Q4_K", "IQ4_NL", "MXFP4"]
} else {
    &[
        "Q1_0", "Q2_K", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4",
    ]
};

/// Parts of the names of weights that are matrices one upon the other, for adapters, too: those of experts, and of heads.
const STACKED: [&str; 2] = ["_exps.", "_b.weight"];

impl Tensor {
    /// Returns where its data ends, in bytes behind the header.
    pub(super) fn end(&self) -> Read1<u64> {
        let end = self.offset.checked_add(self.bytes()?);
        end.ok_or(Fault::Malformed("a tensor is too large"))
    }

    /// Returns whether llama.cpp may copy the tensor into another layout while loading, so that the mapped file is not used
    /// (`ggml-cpu/repack.cpp: ggml_repack_get_optimal_repack_type`). The token embedding is never rearranged.
    pub(super) fn is_repacked(&self) -> bool {
        let kind = Kind::of(self.kind).map_or("", |kind| kind.name);
        REPACKED.contains(&kind) && self.name != "token_embd.weight"
    }

    /// Returns the length of its data.
    pub(super) fn bytes(&self) -> Read1<u64> {
        let elements = (self.shape.iter()).try_fold(1_u64, |product, n| product.checked_mul(*n));
        let (block, bytes) = Kind::of(self.kind).map_or((1, 0), |kind| (kind.elements, kind.bytes));
        elements
            .and_then(|elements| (elements / block).checked_mul(bytes))
            .ok_or(Fault::Malformed("a tensor is too large"))
    }

    /// Checks that llama.cpp can compute with the tensor. A type that is unknown here is left to llama.cpp.
    pub(super) fn check(&self, is_adapter: bool) -> Read1<()> {
        if is_adapter {
            self.check_adapter_shape()?;
        }
        let Some(kind) = Kind::of(self.kind) else {
            return Ok(());
        };
        let is_usable = match kind.role {
            Role::Weights => true,
            Role::Indices => INDEX_TABLES.iter().any(|table| self.is_called(table)),
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

    /// Returns whether the name is `name`, perhaps with the number of a layer before it.
    fn is_called(&self, name: &str) -> bool {
        self.name
            .strip_suffix(name)
            .is_some_and(|before| before.is_empty() || before.ends_with('.'))
    }

    /// Checks the shape. llama.cpp multiplies an adapter's matrices as they are, and aborts if they do not fit (`ggml_can_mul_mat`).
    fn check_adapter_shape(&self) -> Read1<()> {
        let layers = |dimension: usize| self.shape.get(dimension).copied().unwrap_or(1);
        let is_stacked = STACKED.iter().any(|part| self.name.contains(part));
        if layers(3) > 1 || (layers(2) > 1 && !is_stacked) {
            return Err(Fault::Malformed("a tensor of the adapter is not a matrix"));
        }
        Ok(())
    }
}

impl Kind {
    /// Returns the type of that number (`ggml.c: type_traits`); `None` if it is not known here.
    fn of(number: u32) -> Option<Self> {
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

    /// Name of the type that is refused.
    fn refused(tensor: &Tensor) -> Option<&'static str> {
        match tensor.check(false) {
            Err(Fault::TensorType { kind, .. }) => Some(kind),
            _ => None,
        }
    }

    #[test]
    fn weights_of_types_that_cannot_be_multiplied_are_refused_by_name() {
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
    fn tables_of_whole_numbers_are_those_that_models_have() {
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
    fn a_type_that_is_not_known_is_left_to_llama_cpp() {
        assert_eq!(refused(&tensor("blk.0.attn_q.weight", 43)), None);
        assert_eq!(tensor("x", 43).end().unwrap(), 32);
    }

    #[test]
    fn an_adapter_holds_matrices_and_those_of_experts_are_stacked() {
        let of = |name: &str, shape: &[u64]| {
            let shape = shape.to_vec();
            Tensor {
                shape,
                ..tensor(name, 0)
            }
            .check(true)
            .is_ok()
        };
        assert!(of("blk.0.attn_q.weight.lora_a", &[64, 8]));
        assert!(of("blk.0.attn_q.weight.lora_a", &[64, 8, 1, 1]));
        assert!(of("blk.0.ffn_up_exps.weight.lora_a", &[64, 8, 4]));
        assert!(!of("blk.0.attn_q.weight.lora_a", &[64, 8, 4]));
        assert!(!of("blk.0.ffn_up_exps.weight.lora_a", &[64, 8, 4, 2]));
    }

    #[test]
    fn the_end_of_a_tensor_counts_whole_blocks() {
        assert_eq!(tensor("x", 12).end().unwrap(), 32 + 2 * 144);
        let endless = Tensor {
            shape: vec![u64::MAX, 2],
            ..tensor("x", 0)
        };
        assert!(endless.end().is_err());
    }
}
