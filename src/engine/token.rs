//! A token of a model's vocabulary.

/// Number of a token in the vocabulary of the model.
pub(crate) type Token = i32;
