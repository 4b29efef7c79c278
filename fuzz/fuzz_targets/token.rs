//! Any text as a token, and any text signed as one: nothing panics, nothing without a valid MAC is
//! accepted, and what is accepted keeps the rules.
#![no_main]

use std::{
    sync::LazyLock,
    time::{Duration, UNIX_EPOCH},
};

use libfuzzer_sys::fuzz_target;
use tower_qstash::{Signer, SigningKeys, Verifier, VerifyError};

const URL: &str = "https://api.example.com/hook";

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    Verifier::new(SigningKeys::new("sig_current", "sig_next").expect("good keys"))
});
static SIGNER: LazyLock<Signer> = LazyLock::new(|| Signer::new("sig_current").expect("a good key"));

fuzz_target!(|data: &[u8]| {
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let text = String::from_utf8_lossy(data);

    // As it comes: whoever has no key cannot get in. The corpus is signed with keys not used here.
    let verdict = VERIFIER.verify(&text, URL, b"Hello", now);
    assert!(verdict.is_err(), "accepted without a valid MAC");

    // Signed, so that what lies behind the MAC is reached: `header|claims`, and segments as they come.
    let cut = data.iter().position(|&byte| byte == b'|');
    let (header, claims) = match cut {
        Some(cut) => (&data[..cut], &data[cut + 1..]),
        None => (&b"{\"alg\":\"HS256\",\"typ\":\"JWT\"}"[..], data),
    };
    for token in [SIGNER.sign_raw(header, claims), SIGNER.sign_segments(&text)] {
        match VERIFIER.verify(&token, URL, b"Hello", now) {
            Err(VerifyError::SignatureMismatch) => panic!("a good signature was refused"),
            Err(_) => {}
            Ok(claims) => {
                assert_eq!(claims.key(), "current");
                assert!(claims.expires_at().as_secs() >= 1_700_000_000);
                // RFC 3986 §6.2.2.1: a scheme is the same in whatever case.
                let scheme = claims.subject().get(..8).unwrap_or_default();
                assert!(scheme.eq_ignore_ascii_case("https://"));
            }
        }
    }
});
