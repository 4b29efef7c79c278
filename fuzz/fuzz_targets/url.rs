//! Any two texts as `sub` and URL: nothing panics, the comparison is symmetric, and what is the
//! same goes to the same host and port for another parser too.
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

/// Where a request goes, as the `url` crate reads it.
fn destination(url: &str) -> Option<(String, Option<String>, Option<u16>, String)> {
    let url = url::Url::parse(url).ok()?;
    let user_info = format!("{}:{}", url.username(), url.password().unwrap_or_default());
    let host = url.host_str().map(str::to_owned);
    Some((url.scheme().to_owned(), host, url.port_or_known_default(), user_info))
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
    if let (true, Some(a), Some(b)) = (verdict, destination(a), destination(b)) {
        assert_eq!(a, b, "the same destination, but not to another parser");
    }
});
