//! What every test needs: two keys, a fixed time, a signer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tower_qstash::{PublicUrl, QStashVerifyLayer, Signer, SigningKeys};

pub(crate) const CURRENT_KEY: &str = "sig_test_current_5kVXAD7q";
pub(crate) const NEXT_KEY: &str = "sig_test_next_9wQmZ2pL";
pub(crate) const STRANGERS_KEY: &str = "sig_test_stranger_1hYc8R";
pub(crate) const BASE: &str = "https://api.example.com";

/// The time of every test that has a clock.
pub(crate) const NOW: u64 = 1_700_000_000;

pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

pub(crate) fn keys() -> SigningKeys {
    SigningKeys::new(CURRENT_KEY, NEXT_KEY).expect("two good keys")
}

pub(crate) fn current() -> Signer {
    Signer::new(CURRENT_KEY).expect("a good key")
}

pub(crate) fn next() -> Signer {
    Signer::new(NEXT_KEY).expect("a good key")
}

pub(crate) fn stranger() -> Signer {
    Signer::new(STRANGERS_KEY).expect("a good key")
}

/// A layer at the fixed time, for everything below `https://api.example.com`.
pub(crate) fn layer() -> QStashVerifyLayer {
    layer_for(PublicUrl::base(BASE).expect("a good base"))
}

pub(crate) fn layer_for(public_url: PublicUrl) -> QStashVerifyLayer {
    QStashVerifyLayer::new(keys(), public_url).clock(now)
}
