//! Any two texts as `sub` and URL: nothing panics, the comparison is symmetric, a URL is the same
//! however it is written, and what is the same goes to the same place for another parser too.
#![no_main]

mod destination;

use std::{fmt::Write, sync::LazyLock, time::UNIX_EPOCH};

use destination::Destination;
use libfuzzer_sys::fuzz_target;
use tower_qstash::{PublicUrl, Signer, SigningKeys, Verifier};

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    Verifier::new(SigningKeys::new("sig_current", "sig_next").expect("good keys"))
});
static SIGNER: LazyLock<Signer> = LazyLock::new(|| Signer::new("sig_current").expect("a good key"));

fn same(subject: &str, url: &str) -> bool {
    let token = SIGNER.delivery(subject, b"", UNIX_EPOCH).token();
    token.len() <= 8192 && VERIFIER.verify(&token, url, b"", UNIX_EPOCH).is_ok()
}

/// The same URL, written as differently as RFC 3986 §6.2.2 lets one.
fn rewritten(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rfind('@').map_or(0, |at| at + 1);
    let (user_info, host_and_port) = authority.split_at(host);
    let mut url = scheme.to_ascii_uppercase() + "://" + user_info;
    url += &host_and_port.to_ascii_uppercase();
    for character in rest.chars() {
        // Not what could be a hex digit of an encoded byte.
        if matches!(character, 'g'..='z' | 'G'..='Z' | '-' | '.' | '_' | '~') {
            write!(url, "%{:02x}", u32::from(character)).expect("into a string");
        } else {
            url.push(character);
        }
    }
    Some(url)
}

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (a, b) = text.split_once('|').unwrap_or((&text, &text));
    // Six times as long when JSON escapes it; the token must stay below its limit.
    if a.len().max(b.len()) > 600 {
        return;
    }
    for url in [a, b] {
        assert!(same(url, url), "a URL is the same as itself");
        if PublicUrl::exact(url).is_ok() {
            let rewritten = rewritten(url).expect("it has a scheme");
            assert!(same(&rewritten, url), "the same URL as {rewritten:?}");
        }
    }
    let verdict = same(a, b);
    assert_eq!(verdict, same(b, a), "symmetric");
    if let (true, Some(a), Some(b)) = (verdict, Destination::parse(a), Destination::parse(b)) {
        assert_eq!(a, b, "the same destination, but not to another parser");
    }
});
