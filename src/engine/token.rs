//! A token of a model's vocabulary.

/// Number of a token in the vocabulary of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token(pub i32);

impl Token {
    /// Returns the index of the token in an array over the vocabulary, such as logits. Returns `None` if the number is negative.
    pub(crate) fn index(self) -> Option<usize> {
        usize::try_from(self.0).ok()
    }
}

/// A vocabulary of bytes, for tests.
#[cfg(test)]
impl From<u8> for Token {
    fn from(byte: u8) -> Self {
        Self(byte.into())
    }
}

/// Returns the tokens with these numbers.
#[cfg(test)]
pub(crate) fn tokens(numbers: impl IntoIterator<Item = i32>) -> Vec<Token> {
    numbers.into_iter().map(Token).collect()
}
