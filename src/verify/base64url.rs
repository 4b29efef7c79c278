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
