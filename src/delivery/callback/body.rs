//! The base64 of a body in a callback, which may be truncated.

use base64::{
    DecodeError, Engine,
    alphabet::STANDARD,
    engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD_NO_PAD},
};

/// Ignores the bits after the last whole byte, which a truncated text may have.
const TRUNCATED: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone),
);

/// Decodes the whole bytes in `text`, and returns with them whether it ends in the middle of one.
///
/// Padding is optional and its length isn't checked: the text is signed, and Upstash's own samples
/// have too much of it.
pub(super) fn decode(text: &str) -> Option<(Vec<u8>, bool)> {
    let symbols = text.strip_suffix('=').unwrap_or(text);
    let symbols = symbols.strip_suffix('=').unwrap_or(symbols);
    match STANDARD_NO_PAD.decode(symbols) {
        Ok(bytes) => Some((bytes, false)),
        Err(DecodeError::InvalidLength(_)) => {
            // The last symbol has six bits, too few for a byte. It must be a symbol all the same.
            let (rest, last) = symbols.split_at_checked(symbols.len().checked_sub(1)?)?;
            let is_symbol = STANDARD.as_str().contains(last);
            let bytes = TRUNCATED.decode(rest).ok().filter(|_| is_symbol)?;
            Some((bytes, true))
        }
        Err(DecodeError::InvalidLastSymbol { .. }) => Some((TRUNCATED.decode(symbols).ok()?, true)),
        Err(_) => None,
    }
}

pub(super) fn encode(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn padding_is_optional_and_not_counted() {
        for text in ["YWI=", "YWI", "YWI=="] {
            assert_eq!(decode(text), Some((b"ab".to_vec(), false)), "{text}");
        }
        for text in ["", "=", "=="] {
            assert_eq!(decode(text), Some((Vec::new(), false)), "{text}");
        }
    }

    #[test]
    fn text_that_ends_within_a_byte_is_truncated() {
        // Prefixes of "YWJj". One symbol is less than a byte; two and three hold bits of the next byte.
        for (text, bytes) in [("Y", &b""[..]), ("YW", b"a"), ("YWJ", b"ab")] {
            assert_eq!(decode(text), Some((bytes.to_vec(), true)), "{text}");
        }
        assert_eq!(decode("YWJj"), Some((b"abc".to_vec(), false)));
    }

    #[test]
    fn only_the_standard_alphabet_decodes() {
        for text in ["YW-_", "YWI \n", "Y=WI", "YWI===", "é", "YWJj\u{e9}", "YWJj-", "====", "*"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_round_trip_and_cuts_decode_to_a_prefix(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            cut in any::<prop::sample::Index>(),
        ) {
            let text = encode(&bytes);
            prop_assert_eq!(decode(&text), Some((bytes.clone(), false)));
            prop_assert_eq!(decode(text.trim_end_matches('=')), Some((bytes.clone(), false)));

            let symbols = text.trim_end_matches('=');
            let cut = cut.index(symbols.len() + 1);
            let (prefix, truncated) = decode(&symbols[..cut]).expect("base64");
            prop_assert_eq!(&prefix[..], &bytes[..cut * 3 / 4]);
            prop_assert!(!truncated || prefix.len() < bytes.len());
            prop_assert!(cut % 4 != 1 || truncated);
        }

        #[test]
        fn symbols_and_up_to_two_paddings_decode(
            before in "[A-Za-z0-9+/]{0,40}",
            other in "[-_ .=é]?",
            after in "[A-Za-z0-9+/]{0,8}=?",
        ) {
            let text = before + &other + &after;
            let symbols = text.trim_end_matches('=');
            let is_symbol = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
            let is_valid = symbols.bytes().all(is_symbol) && text.len() - symbols.len() <= 2;
            prop_assert_eq!(decode(&text).is_some(), is_valid);
        }
    }
}
