//! Keys, signers, a fixed time and a layer for the tests; the modules hold what else they share.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tower_qstash::{PublicUrl, QStashVerifyLayer, Signer, SigningKeys};

pub(crate) mod bodies;
pub(crate) mod deliveries;
pub(crate) mod futures;
pub(crate) mod log;
pub(crate) mod responses;
pub(crate) mod services;

pub(crate) const CURRENT_KEY: &str = "sig_test_current_5kVXAD7q";
pub(crate) const NEXT_KEY: &str = "sig_test_next_9wQmZ2pL";
/// A key that no receiver is configured with.
pub(crate) const UNKNOWN_KEY: &str = "sig_test_unknown_1hYc8R";

pub(crate) const BASE: &str = "https://api.example.com";
/// The URL of `/hook` under [`BASE`].
pub(crate) const URL: &str = "https://api.example.com/hook";

/// The time of every test that has a clock, in seconds since the epoch.
pub(crate) const NOW: u64 = 1_700_000_000;

pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

pub(crate) fn keys() -> SigningKeys {
    SigningKeys::new(CURRENT_KEY, NEXT_KEY).expect("valid keys")
}

/// Signs with the current key.
pub(crate) fn current() -> Signer {
    Signer::new(CURRENT_KEY).expect("a valid key")
}

/// Signs with the next key.
pub(crate) fn next() -> Signer {
    Signer::new(NEXT_KEY).expect("a valid key")
}

/// Signs with a key that no receiver is configured with.
pub(crate) fn unknown_key() -> Signer {
    Signer::new(UNKNOWN_KEY).expect("a valid key")
}

/// Creates a layer at the fixed time, for every URL under [`BASE`].
pub(crate) fn layer() -> QStashVerifyLayer {
    layer_for(PublicUrl::base(BASE).expect("a valid base"))
}

pub(crate) fn layer_for(public_url: PublicUrl) -> QStashVerifyLayer {
    QStashVerifyLayer::new(keys(), public_url).clock(now)
}
