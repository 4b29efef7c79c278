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
/// after a roll. Each has a label, which shows up in logs and in
/// [`Claims::key`](crate::Claims::key). Cloning is cheap; `Debug` shows labels, never a key.
///
/// ```
/// use tower_qstash::SigningKeys;
///
/// // Two accounts that deliver to one service.
/// let keys = SigningKeys::new("sig_current", "sig_next")?
///     .also(SigningKeys::labelled("tenant", "sig_tenant_current", "sig_tenant_next")?);
/// assert_eq!(
///     format!("{keys:?}"),
///     r#"SigningKeys["current", "next", "tenant current", "tenant next"]"#
/// );
/// # Ok::<(), tower_qstash::SigningKeyError>(())
/// ```
#[derive(Clone)]
pub struct SigningKeys {
    keys: Arc<[SigningKey]>,
}

#[derive(Clone)]
pub(super) struct SigningKey {
    pub(super) label: Arc<str>,
    pub(super) is_next: bool,
    mac: KeyedMac,
}

/// A key, already scheduled into the two SHA-256 states of its HMAC.
pub(crate) type KeyedMac = Hmac<Sha256>;

impl SigningKeys {
    /// The current and the next signing key, as the Upstash console shows them, `sig_` included.
    /// Their labels are `current` and `next`.
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
    /// - `"\"sig_…\""`: quotation marks around it, mostly from an env file that keeps them;
    /// - a published key of the local development server: see
    ///   [`insecure_development_server`](Self::insecure_development_server).
    pub fn new(current: &str, next: &str) -> Result<Self, SigningKeyError> {
        Self::pair("", ["current", "next"], [current, next])
    }

    /// A pair whose labels are `«label» current` and `«label» next`: a tenant's, a region's.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new), and a label that starts with `sig_`: it would be a key, given
    /// in the wrong place and on its way into the logs.
    pub fn labelled(label: &str, current: &str, next: &str) -> Result<Self, SigningKeyError> {
        check_label(label)?;
        Self::pair(&format!("{label} "), ["current", "next"], [current, next])
    }

    /// A single key, neither current nor next, under exactly this label.
    ///
    /// ```
    /// use tower_qstash::SigningKeys;
    ///
    /// let keys = SigningKeys::single("tenant a", "sig_a")?.also(SigningKeys::single("tenant b", "sig_b")?);
    /// assert_eq!(format!("{keys:?}"), r#"SigningKeys["tenant a", "tenant b"]"#);
    /// # Ok::<(), tower_qstash::SigningKeyError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`labelled`](Self::labelled).
    pub fn single(label: &str, key: &str) -> Result<Self, SigningKeyError> {
        check_label(label)?;
        check("key", key)?;
        Ok(Self { keys: Arc::new([SigningKey::new(label.into(), false, key)]) })
    }

    /// **Insecure.** The published keys of the local development server
    /// (`npx @upstash/qstash-cli dev`). Anyone can sign with them.
    pub fn insecure_development_server() -> Self {
        let [current, next] = DEVELOPMENT_KEYS;
        Self {
            keys: Arc::new([
                SigningKey::new("development server current".into(), false, current),
                SigningKey::new("development server next".into(), true, next),
            ]),
        }
    }

    /// These keys, then those of `other`.
    // Not `or`: `Result` has that too, and a forgotten `?` would silently drop `other`.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "like `PublicUrl::also`: both are set-up, used once"
    )]
    pub fn also(self, other: Self) -> Self {
        Self { keys: self.keys.iter().chain(&*other.keys).cloned().collect() }
    }

    /// `names` are those of the arguments or variables that the keys come from, for the error.
    pub(crate) fn pair(
        label: &str,
        names: [&str; 2],
        [current, next]: [&str; 2],
    ) -> Result<Self, SigningKeyError> {
        for (name, key) in names.into_iter().zip([current, next]) {
            check(name, key)?;
        }
        Ok(Self {
            keys: Arc::new([
                SigningKey::new(format!("{label}current"), false, current),
                SigningKey::new(format!("{label}next"), true, next),
            ]),
        })
    }

    /// The first key that made `signature` over `message`; each is tried in constant time.
    pub(super) fn find(&self, message: &[u8], signature: &[u8; 32]) -> Option<&SigningKey> {
        self.keys
            .iter()
            .find(|key| key.mac.clone().chain_update(message).verify_slice(signature).is_ok())
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKeys")?;
        f.debug_list().entries(self.keys.iter().map(|key| &key.label)).finish()
    }
}

impl SigningKey {
    fn new(label: String, is_next: bool, key: &str) -> Self {
        Self { label: label.into(), is_next, mac: keyed_mac(key) }
    }
}

/// A signing key that cannot be used, found at start-up.
///
/// It names the argument or the environment variable, never the key. Its `Debug` is its `Display`,
/// since that is what a `main` that returns it prints.
#[derive(Clone, PartialEq, Eq)]
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
    Quoted,
    Published,
    Label,
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
            SigningKeyProblem::Quoted => {
                write!(f, "the signing key {name} has quotation marks around it; remove them")
            }
            SigningKeyProblem::Label => f.write_str(
                "the label of signing keys starts with sig_, as a key does; give the label first",
            ),
            SigningKeyProblem::Published => write!(
                f,
                "the signing key {name} is the local development server's published one, with which anyone can sign; \
                 use the key of your account, or ask for SigningKeys::insecure_development_server() by name"
            ),
        }
    }
}

impl fmt::Debug for SigningKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for SigningKeyError {}

fn check_label(label: &str) -> Result<(), SigningKeyError> {
    if label.starts_with("sig_") {
        return Err(SigningKeyError { name: "label".into(), problem: SigningKeyProblem::Label });
    }
    Ok(())
}

const QUOTES: [char; 2] = ['"', '\''];

pub(crate) fn check(name: &str, key: &str) -> Result<(), SigningKeyError> {
    let problem = if key.is_empty() {
        SigningKeyProblem::Empty
    } else if key.trim() != key {
        SigningKeyProblem::WhiteSpace
    } else if key.starts_with(QUOTES) || key.ends_with(QUOTES) {
        SigningKeyProblem::Quoted
    } else if DEVELOPMENT_KEYS.contains(&key) {
        SigningKeyProblem::Published
    } else {
        return Ok(());
    };
    Err(SigningKeyError { name: name.into(), problem })
}

pub(crate) fn keyed_mac(key: &str) -> KeyedMac {
    KeyedMac::new_from_slice(key.as_bytes()).expect("HMAC takes a key of any length (RFC 2104 §2)")
}

/// The key that the local development server signs with.
#[cfg(feature = "signer")]
pub(crate) fn development_mac() -> KeyedMac {
    keyed_mac(DEVELOPMENT_KEYS[0])
}
