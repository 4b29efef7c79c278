//! Compares any two texts as `sub` and URL. The comparison must not panic, must be symmetric, must
//! accept every equivalent spelling of a URL, and must accept only URLs that another parser finds
//! equal too.
#![no_main]

mod destination;

use std::{fmt::Write, sync::LazyLock, time::UNIX_EPOCH};

use destination::Destination;
use libfuzzer_sys::fuzz_target;
use tower_qstash::{PublicUrl, Signer, SigningKeys, Verifier};

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    Verifier::new(SigningKeys::new("sig_current", "sig_next").expect("valid keys"))
});
static SIGNER: LazyLock<Signer> =
    LazyLock::new(|| Signer::new("sig_current").expect("a valid key"));

/// Returns whether a token for `subject` is accepted at `url`.
fn is_equivalent(subject: &str, url: &str) -> bool {
    let token = SIGNER.delivery(subject, b"", UNIX_EPOCH).token();
    token.len() <= 8192 && VERIFIER.verify(&token, url, b"", UNIX_EPOCH).is_ok()
}

/// Spells a URL as differently as RFC 3986 §6.2.2 allows.
fn respelled(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rfind('@').map_or(0, |at| at + 1);
    let (user_info, host_and_port) = authority.split_at(host);
    let mut url = scheme.to_ascii_uppercase() + "://" + user_info;
    url += &host_and_port.to_ascii_uppercase();
    for character in rest.chars() {
        // Leave characters that may be the hex digits of an encoded byte.
        if matches!(character, 'g'..='z' | 'G'..='Z' | '-' | '.' | '_' | '~') {
            write!(url, "%{:02x}", u32::from(character)).expect("writing to a string");
        } else {
            url.push(character);
        }
    }
    Some(url)
}

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (a, b) = text.split_once('|').unwrap_or((&text, &text));
    // JSON escapes may make the text six times as long, and the token must not exceed its limit.
    if a.len().max(b.len()) > 600 {
        return;
    }
    for url in [a, b] {
        assert!(is_equivalent(url, url), "a URL is equivalent to itself");
        if PublicUrl::exact(url).is_ok() {
            let respelled = respelled(url).expect("a URL with a scheme");
            assert!(is_equivalent(&respelled, url), "equivalent to {respelled:?}");
        }
    }
    let verdict = is_equivalent(a, b);
    assert_eq!(verdict, is_equivalent(b, a), "equivalence is symmetric");
    if let (true, Some(a), Some(b)) = (verdict, Destination::parse(a), Destination::parse(b)) {
        assert_eq!(a, b, "equivalent, but not to another parser");
    }
});
