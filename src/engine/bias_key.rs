//! Keys of `logit_bias`: a token, or a text. Pure.

/// A key of `logit_bias`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BiasKey<'key> {
    /// A key of digits: the number of a token, or `None` if no token can have that number.
    Token(Option<i32>),
    /// Any other key: a text, whose tokens get the bias.
    Text(&'key str),
}

impl<'key> BiasKey<'key> {
    /// Parses a key.
    pub(crate) fn parse(key: &'key str) -> Self {
        if key.bytes().all(|byte| byte.is_ascii_digit()) {
            Self::Token(key.parse().ok())
        } else {
            Self::Text(key)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_digits_is_a_token_even_if_no_token_has_that_number() {
        assert_eq!(BiasKey::parse("13"), BiasKey::Token(Some(13)));
        assert_eq!(
            BiasKey::parse("2147483647"),
            BiasKey::Token(Some(2_147_483_647))
        );
        for too_large in ["2147483648", "4294967295", "99999999999999999999"] {
            assert_eq!(BiasKey::parse(too_large), BiasKey::Token(None));
        }
        for text in ["-1", "+1", " 13", "1.5", "sorry", "\u{661}"] {
            assert_eq!(BiasKey::parse(text), BiasKey::Text(text));
        }
    }
}
