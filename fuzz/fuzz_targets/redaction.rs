//! Redacts any text, and any URL of which it is known what is secret. Redacting must not panic, must
//! leave nothing to redact, and must hide exactly the secrets.
#![no_main]

use std::{sync::LazyLock, time::UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use tower_qstash::{RedactedUrl, Signer, SigningKeys, Verifier, VerifyError};

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    Verifier::new(SigningKeys::new("sig_current", "sig_next").expect("valid keys"))
});
static SIGNER: LazyLock<Signer> =
    LazyLock::new(|| Signer::new("sig_current").expect("a valid key"));

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    // JSON escapes a control character with six, and the value is in the URL twice: so the token stays
    // below its limit of 8 KiB.
    if text.len() > 400 {
        return;
    }
    let once = redacted(&text).to_string();
    assert_eq!(redacted(&once).to_string(), once, "there was more to redact");

    // `scheme|user information|host|path|name|value|fragment`, or fewer of them.
    let mut parts = text.split('|');
    let mut part = |not: &[char]| parts.next().unwrap_or_default().replace(not, "");
    let scheme = part(&['/', '?', '#', '@']);
    let [user_info, host] = [part(&['/', '?', '#']), part(&['/', '?', '#', '@'])];
    let [path, name] = [part(&['?', '#']), part(&['#', '&', '='])];
    let [value, fragment] = [part(&['#', '&']), part(&[])];
    let url =
        format!("{scheme}://{user_info}@{host}/{path}?{name}={value}&{name}={value}#{fragment}");
    let redacted = redacted(&url);
    let expected = format!("{scheme}://***@{host}/{path}?{name}=***&{name}=***#***");
    assert_eq!(redacted.to_string(), expected);
    assert_eq!(format!("{redacted:?}"), format!("{expected:?}"));
    let expected = format!("{scheme}://***@{host}/{path}?{name}={value}&{name}={value}#***");
    assert_eq!(redacted.with_query_values(), expected);
    // Without a scheme, before which a path may have more slashes.
    let url = format!("{user_info}@{host}/{path}");
    assert_eq!(self::redacted(&url).to_string(), format!("***@{host}/{path}"));
});

/// Returns the URL as an error shows it.
fn redacted(url: &str) -> RedactedUrl {
    let token = SIGNER.delivery(url, b"", UNIX_EPOCH).token();
    match VERIFIER.verify(&token, "", b"", UNIX_EPOCH) {
        Err(VerifyError::SubjectMismatch { subject, .. }) => subject,
        // The empty text is the URL that was expected.
        verdict => {
            assert!(url.is_empty(), "{verdict:?}");
            redacted("#").clone()
        }
    }
}
