//! Verifies any text as a token, and any header and claims with a valid MAC. The verifier must not
//! panic, and must accept only tokens with a valid MAC and claims that keep the rules.
#![no_main]

mod destination;
mod oracle;

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use oracle::Delivery;
use tower_qstash::{Signer, SigningKeys, Verifier, VerifyError};

// The same as in the seeds, so that their valid claims are accepted.
const URL: &str = "https://api.example.com/hooks/resize";
const BODY: &[u8] = b"{\"image\": 7}";
const NOW: u64 = 1_700_000_000;
const TOLERANCE: u64 = 2;

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    Verifier::new(SigningKeys::new("sig_current", "sig_next").expect("valid keys"))
        .clock_tolerance(Duration::from_secs(TOLERANCE))
});
static SIGNER: LazyLock<Signer> =
    LazyLock::new(|| Signer::new("sig_current").expect("a valid key"));

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);

    // Unchanged: rejected, since the seeds are signed with other keys.
    let verdict = VERIFIER.verify(&text, URL, BODY, now());
    assert!(verdict.is_err(), "accepted without a valid MAC");

    // With a valid MAC, to reach the checks after it: `header|claims`, and raw segments.
    let cut = data.iter().position(|&byte| byte == b'|');
    let (header, claims) = match cut {
        Some(cut) => (&data[..cut], &data[cut + 1..]),
        None => (&b"{\"alg\":\"HS256\",\"typ\":\"JWT\"}"[..], data),
    };
    let token = SIGNER.sign_raw(header, claims);
    if accepts(&token) {
        delivery(header, claims).assert_rules();
    }
    if accepts(&SIGNER.sign_segments(&text)) {
        let decoded = text.split_once('.').map(|(header, claims)| {
            [header, claims].map(|segment| BASE64_URL_SAFE_NO_PAD.decode(segment))
        });
        let Some([Ok(header), Ok(claims)]) = decoded else { panic!("accepted, but not a JWT") };
        delivery(&header, &claims).assert_rules();
    }
});

/// Returns whether a token with a valid MAC is accepted.
fn accepts(token: &str) -> bool {
    match VERIFIER.verify(token, URL, BODY, now()) {
        Err(VerifyError::SignatureMismatch) => panic!("a valid MAC was rejected"),
        Err(_) => false,
        Ok(claims) => {
            assert_eq!(claims.key_label(), "current");
            true
        }
    }
}

fn delivery<'a>(header: &'a [u8], claims: &'a [u8]) -> Delivery<'a> {
    let (now, tolerance) = (NOW as i64, TOLERANCE as i64);
    Delivery { header, claims, url: URL, body: BODY, now, tolerance }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}
