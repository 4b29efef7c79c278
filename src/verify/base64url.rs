//! Strict base64url without padding, as RFC 7515 §2 wants it: no stray bits, no white space.

use std::mem::MaybeUninit;

use base64_simd::{Out, URL_SAFE_NO_PAD};

/// A MAC or a hash of SHA-256.
pub(super) fn decode_32(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let fits = text.len() == URL_SAFE_NO_PAD.encoded_length(bytes.len());
    let decoded =
        fits && URL_SAFE_NO_PAD.decode(text.as_bytes(), Out::from_slice(&mut bytes)).is_ok();
    decoded.then_some(bytes)
}

/// Any number of bytes, in `buffer` if there is room for them, else in `overflow`.
pub(super) fn decode<'a>(
    text: &str,
    buffer: &'a mut [MaybeUninit<u8>],
    overflow: &'a mut Vec<u8>,
) -> Option<&'a [u8]> {
    if URL_SAFE_NO_PAD.estimated_decoded_length(text.len()) <= buffer.len() {
        let bytes = URL_SAFE_NO_PAD.decode(text.as_bytes(), Out::from_uninit_slice(buffer));
        bytes.ok().map(|bytes| &*bytes)
    } else {
        *overflow = URL_SAFE_NO_PAD.decode_to_vec(text).ok()?;
        Some(overflow)
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The decoder may be fast only if it is as strict as the slow one.
        #[test]
        fn texts_are_taken_and_refused_as_by_another_decoder(
            text in "[A-Za-z0-9_-]{0,200}",
            other in "[+/=. \n\u{e9}\0]?",
            place in any::<prop::sample::Index>(),
        ) {
            let mut text = text;
            text.insert_str(place.index(text.len() + 1), &other);
            let expected = BASE64_URL_SAFE_NO_PAD.decode(&text).ok();
            let (mut buffer, mut overflow) = ([MaybeUninit::uninit(); 64], Vec::new());
            let decoded = decode(&text, &mut buffer, &mut overflow);
            prop_assert_eq!(decoded, expected.as_deref());
        }

        #[test]
        fn of_32_bytes_so_are_all_43_characters(text in "[A-Za-z0-9_-]{42,44}|[A-Za-z0-9_=-]{43}") {
            let expected = BASE64_URL_SAFE_NO_PAD.decode(&text).ok();
            prop_assert_eq!(decode_32(&text), expected.and_then(|bytes| bytes.try_into().ok()));
        }
    }
}
