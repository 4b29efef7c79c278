//! Which texts can't be signing keys, and why.

use super::{Problem, SigningKeyError};

/// The current and the next key of each of the local development server's four users. They are
/// published, so anyone can sign with them.
pub(super) const DEVELOPMENT_KEYS: [[&str; 2]; 4] = [
    ["sig_7kYjw48mhY7kAjqNGcy6cr29RJ6r", "sig_5ZB6DVzB1wjE8S6rZ7eenA8Pdnhs"],
    ["sig_7GVPjvuwsfqF65iC8fSrs1dfYruM", "sig_5NoELc3EFnZn4DVS5bDs2Nk4b7Ua"],
    ["sig_6jWGaWRxHsw4vMSPJprXadyvrybF", "sig_7qHbvhmahe5GwfePDiS5Lg3pi6Qx"],
    ["sig_5T8FcSsynBjn9mMLBsXhpacRovJf", "sig_7GFR4YaDshFcqsxWRZpRB161jguD"],
];

/// The samples in Upstash's documentation.
const SAMPLE_KEYS: [&str; 2] =
    ["sig_7RvLjqfZBvP5KEUimQCE1pvpLuou", "sig_7W3ZNbfKWk5NWwEs3U4ixuQ7fxwE"];

/// Checks a key. `name` is that of the argument or variable that holds it.
pub(super) fn check(name: &str, key: &str) -> Result<(), SigningKeyError> {
    match problem(key) {
        None => Ok(()),
        Some(problem) => Err(SigningKeyError { name: name.into(), problem }),
    }
}

fn problem(key: &str) -> Option<Problem> {
    const QUOTES: [char; 2] = ['"', '\''];
    const PLACEHOLDERS: [&str; 5] = ["undefined", "null", "none", "nil", "changeme"];

    let is_placeholder = key.starts_with(['<', '$', '{'])
        || PLACEHOLDERS.iter().any(|placeholder| key.eq_ignore_ascii_case(placeholder));
    let is_masked = key.contains(['*', '•', '…']) || key.contains("...");
    Some(if key.is_empty() {
        Problem::Empty
    } else if is_placeholder {
        Problem::Placeholder
    } else if key.contains(char::is_whitespace) {
        Problem::WhiteSpace
    } else if key.starts_with(QUOTES) || key.ends_with(QUOTES) {
        Problem::Quoted
    } else if is_masked {
        Problem::Masked
    } else if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        Problem::NotPrintable
    } else if key.starts_with("eyJ") {
        // The base64 of a JSON object.
        Problem::Token
    } else if DEVELOPMENT_KEYS.as_flattened().contains(&key) {
        Problem::Development
    } else if SAMPLE_KEYS.contains(&key) {
        Problem::Sample
    } else {
        return None;
    })
}
