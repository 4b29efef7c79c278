//! Receivers of QStash deliveries in other frameworks, as small as they can be. Each serves
//! `/webhook` on a listener and responds with the length of the body it was given.

pub mod actix_web;
pub mod hyper;
pub mod poem;
pub mod salvo;
pub mod vercel;
pub mod warp;

use std::time::SystemTime;

use tower_qstash::{PublicUrl, QStashVerifyLayer, SigningKeys};

/// The origin that messages are published to.
pub const ORIGIN: &str = "https://api.example.com";

/// The keys that deliveries are signed with.
///
/// # Panics
///
/// Never: both keys are valid.
pub fn keys() -> SigningKeys {
    SigningKeys::new("sig_current", "sig_next").expect("valid keys")
}

/// The layer that all receivers use.
///
/// # Panics
///
/// Never: the URL is valid.
pub fn verify() -> QStashVerifyLayer {
    QStashVerifyLayer::new(keys(), PublicUrl::base(ORIGIN).expect("a valid URL"))
}

/// The time, for [`Verifier`](tower_qstash::Verifier) and the tests.
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// The examples of two guides, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../docs/where-it-runs.md")]
struct WhereItRuns;

#[cfg(doctest)]
#[doc = include_str!("../../docs/without-tower.md")]
struct WithoutTower;
