//! Reads signing keys from any variables. What the variables hold must not be shown, and the keys
//! must be exactly those of the regions that are set.
#![no_main]

use std::{collections::BTreeMap, time::UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use tower_qstash::{Signer, SigningKeys, Verifier};

const NAMES: [&str; 10] = [
    "QSTASH_CURRENT_SIGNING_KEY",
    "QSTASH_NEXT_SIGNING_KEY",
    "QSTASH_REGION",
    "QSTASH_DEV",
    "US_EAST_1_QSTASH_CURRENT_SIGNING_KEY",
    "US_EAST_1_QSTASH_NEXT_SIGNING_KEY",
    "EU_CENTRAL_1_QSTASH_CURRENT_SIGNING_KEY",
    "EU_CENTRAL_1_QSTASH_NEXT_SIGNING_KEY",
    "AP_SOUTH_1_QSTASH_CURRENT_SIGNING_KEY",
    "AP_SOUTH_1_QSTASH_NEXT_SIGNING_KEY",
];
const REGION: &str = NAMES[2];
const DEV: &str = NAMES[3];

fuzz_target!(|data: &[u8]| {
    // Lines of a byte for the variable, then its value.
    let text = String::from_utf8_lossy(data);
    let mut variables = BTreeMap::new();
    for line in text.split('\n') {
        let Some(name) = line.bytes().next().filter(u8::is_ascii) else { continue };
        variables.insert(NAMES[usize::from(name) % NAMES.len()], &line[1..]);
    }
    let get = |name: &str| variables.get(name).copied();
    let keys = SigningKeys::from_lookup(|name| get(name).map(str::to_owned));
    let shown = match &keys {
        Ok(keys) => format!("{keys:?}"),
        Err(error) => format!("{error}{error:?}"),
    };
    let values = variables.values().filter(|value| value.starts_with("sig_") && value.len() > 4);
    for value in values {
        assert!(!shown.contains(value), "{value:?} is shown: {shown}");
    }

    let Ok(keys) = keys else { return };
    assert!(matches!(get(DEV), None | Some("" | "false" | "0")), "development mode");
    let verifier = Verifier::new(keys);
    let moving = get(REGION).is_some_and(|region| !region.is_empty());
    let named = get(REGION).unwrap_or_default().to_ascii_uppercase().replace('-', "_");
    let mut accepted = Vec::new();
    for (index, name) in NAMES.into_iter().enumerate() {
        let is_read = match index {
            0 | 1 => true,
            4..=7 => moving,
            8 | 9 => named == "AP_SOUTH_1",
            _ => false,
        };
        match get(name) {
            Some(key) if is_read => {
                assert!(accepts(&verifier, key).expect("a valid key"), "{name} is not accepted");
                accepted.push(key);
            }
            _ => {}
        }
    }
    assert!(accepted.len() >= 2, "there is a pair");
    for (name, value) in &variables {
        let is_accepted = accepts(&verifier, value) == Some(true);
        assert!(!is_accepted || accepted.contains(value), "{name} is accepted");
    }
});

/// Returns whether a token signed with this key is accepted, if it can be a key.
fn accepts(verifier: &Verifier, key: &str) -> Option<bool> {
    let url = "https://api.example.com/";
    let token = Signer::new(key).ok()?.delivery(url, b"", UNIX_EPOCH).token();
    Some(verifier.verify(&token, url, b"", UNIX_EPOCH).is_ok())
}
