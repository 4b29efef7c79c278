//! Any two texts as `sub` and URL: nothing panics, the comparison is symmetric, and what is the
//! same has the same host.
#![no_main]

use std::{sync::LazyLock, time::UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use tower_qstash::{Signer, SigningKeys, Verifier};

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    Verifier::new(SigningKeys::new("sig_current", "sig_next").expect("good keys"))
});
static SIGNER: LazyLock<Signer> = LazyLock::new(|| Signer::new("sig_current").expect("a good key"));

fn same(subject: &str, url: &str) -> bool {
    let token = SIGNER.token(subject, b"", UNIX_EPOCH).sign();
    token.len() <= 8192 && VERIFIER.verify(&token, url, b"", UNIX_EPOCH).is_ok()
}

/// What is between the scheme and the path, by the crudest of means.
fn authority(url: &str) -> String {
    let after = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    let host_and_port = &after[..end];
    let trimmed =
        host_and_port.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(':');
    trimmed.to_ascii_lowercase()
}

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (a, b) = text.split_once('|').unwrap_or((&text, &text));
    // Six times as long when JSON escapes it; the token must stay below its limit.
    if a.len().max(b.len()) > 600 {
        return;
    }
    assert!(same(a, a) && same(b, b), "a URL is the same as itself");
    let verdict = same(a, b);
    assert_eq!(verdict, same(b, a), "symmetric");
    if verdict && a != b {
        assert_eq!(authority(a), authority(b), "the same destination has the same host");
    }
});
