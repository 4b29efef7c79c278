//! Signing keys: checked once, then only usable to check a MAC.

use std::{fmt, sync::Arc};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What the local development server signs with: published, so anyone can.
const DEVELOPMENT_KEYS: [&str; 2] =
    ["sig_7kYjw48mhY7kAjqNGcy6cr29RJ6r", "sig_5ZB6DVzB1wjE8S6rZ7eenA8Pdnhs"];

/// The signing keys that a delivery may be signed with, in the order they are tried.
///
/// The Upstash console shows two: QStash signs with the *current* key, and with the *next* one
/// after a roll. Cloning is cheap; `Debug` never shows a key.
#[derive(Clone)]
pub struct SigningKeys {
    keys: Arc<[KeyedMac]>,
}

/// A key, already scheduled into the two SHA-256 states of its HMAC.
pub(crate) type KeyedMac = Hmac<Sha256>;

impl SigningKeys {
    /// The current and the next signing key, as the Upstash console shows them, `sig_` included.
    ///
    /// ```
    /// use tower_qstash::SigningKeys;
    ///
    /// let keys = SigningKeys::new("sig_current", "sig_next")?;
    /// assert!(SigningKeys::new("", "sig_next").is_err());
    /// # Ok::<(), tower_qstash::SigningKeyError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - `""`: an empty key would let everyone sign;
    /// - `" sig_…"` or `"sig_…\n"`: white space around the key, mostly from a secret's file;
    /// - a published key of the local development server: see
    ///   [`insecure_development_server`](Self::insecure_development_server).
    pub fn new(current: &str, next: &str) -> Result<Self, SigningKeyError> {
        Self::from_named([("current", current), ("next", next)])
    }

    /// **Insecure.** The published keys of the local development server
    /// (`npx @upstash/qstash-cli dev`). Anyone can sign with them.
    pub fn insecure_development_server() -> Self {
        Self { keys: DEVELOPMENT_KEYS.iter().map(|key| keyed_mac(key)).collect() }
    }

    /// Each key with the name of the argument or variable it came from, for the error.
    pub(crate) fn from_named<'a>(
        named: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, SigningKeyError> {
        let keys = named.into_iter().map(|(name, key)| {
            check(key).map_err(|problem| SigningKeyError { name: name.into(), problem })?;
            Ok(keyed_mac(key))
        });
        Ok(Self { keys: keys.collect::<Result<_, _>>()? })
    }

    /// Whether one of the keys made `signature` over `message`; each is tried in constant time.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8; 32]) -> bool {
        self.keys
            .iter()
            .any(|key| key.clone().chain_update(message).verify_slice(signature).is_ok())
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeys({} redacted)", self.keys.len())
    }
}

/// A signing key that cannot be used, found at start-up.
///
/// It names the argument or the environment variable, never the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeyError {
    pub(crate) name: String,
    pub(crate) problem: SigningKeyProblem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SigningKeyProblem {
    Missing,
    NotUnicode,
    Empty,
    WhiteSpace,
    Published,
}

impl SigningKeyError {
    /// The argument (`current`) or environment variable (`QSTASH_CURRENT_SIGNING_KEY`) at fault.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for SigningKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.problem {
            SigningKeyProblem::Missing => write!(
                f,
                "the environment variable {name} is not set; set it to the signing key that the QStash console shows"
            ),
            SigningKeyProblem::NotUnicode => write!(
                f,
                "the environment variable {name} is not UTF-8; set it to the signing key that the QStash console shows"
            ),
            SigningKeyProblem::Empty => write!(
                f,
                "the signing key {name} is empty; set it to the one that the QStash console shows"
            ),
            SigningKeyProblem::WhiteSpace => write!(
                f,
                "the signing key {name} has white space around it; remove the spaces or line breaks"
            ),
            SigningKeyProblem::Published => write!(
                f,
                "the signing key {name} is the local development server's published one, with which anyone can sign; \
                 use the key of your account, or ask for SigningKeys::insecure_development_server() by name"
            ),
        }
    }
}

impl std::error::Error for SigningKeyError {}

fn check(key: &str) -> Result<(), SigningKeyProblem> {
    if key.is_empty() {
        Err(SigningKeyProblem::Empty)
    } else if key.trim() != key {
        Err(SigningKeyProblem::WhiteSpace)
    } else if DEVELOPMENT_KEYS.contains(&key) {
        Err(SigningKeyProblem::Published)
    } else {
        Ok(())
    }
}

pub(crate) fn keyed_mac(key: &str) -> KeyedMac {
    KeyedMac::new_from_slice(key.as_bytes()).expect("HMAC takes a key of any length (RFC 2104 §2)")
}
