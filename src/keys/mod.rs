//! Signing keys: checked once, then usable only to check a MAC.

mod env;
mod error;
mod handle;
mod rules;

use std::{fmt, sync::Arc};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use self::error::Problem;
pub use self::{error::SigningKeyError, handle::SigningKeysHandle};

/// The signing keys that a delivery may be signed with, in the order they are tried.
///
/// The QStash console shows two keys: QStash signs with the *current* one, and with the *next* one
/// after a roll. Each key has a label, which is logged and returned by
/// [`Claims::key_label`](crate::Claims::key_label). Cloning is cheap. `Debug` shows labels, never a
/// key.
///
/// ```
/// use tower_qstash::SigningKeys;
///
/// let keys = SigningKeys::new("sig_current", "sig_next")?;
/// assert_eq!(format!("{keys:?}"), r#"SigningKeys["current", "next"]"#);
///
/// // Another account of yours.
/// let keys = keys.also(SigningKeys::new("sig_eu_current", "sig_eu_next")?.with_label("eu")?);
/// assert_eq!(format!("{keys:?}"), r#"SigningKeys["current", "next", "eu current", "eu next"]"#);
/// # Ok::<(), tower_qstash::SigningKeyError>(())
/// ```
#[derive(Clone)]
pub struct SigningKeys {
    keys: Arc<[SigningKey]>,
}

#[derive(Clone)]
pub(crate) struct SigningKey {
    label: Arc<str>,
    role: Role,
    mac: KeyedMac,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Current,
    Next,
    Only,
}

/// A key, already scheduled into the two SHA-256 states of its HMAC.
pub(crate) type KeyedMac = Hmac<Sha256>;

impl SigningKeys {
    /// Creates a set of the current and the next signing key, as the QStash console shows them,
    /// `sig_` included. They are labeled `current` and `next`.
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
    /// - `" sig_…"` or `"sig_…\n"`: white space, mostly from a secret's file;
    /// - `"\"sig_…\""`: quotation marks, mostly from an env file that keeps them;
    /// - `"sig_\0…"`: a control character, or one that isn't ASCII;
    /// - `"undefined"`, `"null"`, `"$SIGNING_KEY"`, `"<your key>"`: a placeholder that was not
    ///   replaced;
    /// - `"sig_***"`: a masked key, as a console or a log shows it;
    /// - `"eyJ…"`: a `QSTASH_TOKEN`, which publishes messages and signs nothing;
    /// - the same key as current and next: one of the two was copied twice;
    /// - a published key, of the local development server (see
    ///   [`dangerous_development_server`](Self::dangerous_development_server)) or from Upstash's
    ///   documentation: anyone can sign with it.
    pub fn new(current: &str, next: &str) -> Result<Self, SigningKeyError> {
        Self::from_pair(["current", "next"], [current, next])
    }

    /// Creates a set of one key, neither current nor next, labeled `key`.
    ///
    /// ```
    /// use tower_qstash::SigningKeys;
    ///
    /// let keys = SigningKeys::from_key("sig_a")?.with_label("tenant a")?;
    /// assert_eq!(format!("{keys:?}"), r#"SigningKeys["tenant a"]"#);
    /// # Ok::<(), tower_qstash::SigningKeyError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new) for one key.
    pub fn from_key(key: &str) -> Result<Self, SigningKeyError> {
        rules::check("key", key)?;
        Ok(Self { keys: Arc::new([SigningKey::new("key", Role::Only, key)]) })
    }

    /// **Dangerous.** Returns the published keys of the local development server's four users
    /// (`npx @upstash/qstash-cli dev`). Anyone can sign with them.
    ///
    /// They are labeled `development server user 1 current`, `development server user 1 next`, and so
    /// on. [The local development server](crate::guides::development_server) goes from starting that server
    /// to the first delivery.
    ///
    /// ```
    /// use std::time::SystemTime;
    /// use tower_qstash::{Signer, SigningKeys, Verifier};
    ///
    /// let verifier = Verifier::new(SigningKeys::dangerous_development_server());
    /// let (url, now) = ("http://localhost:3000/webhook", SystemTime::now());
    /// let token = Signer::dangerous_development_server().delivery(url, "Hello", now).token();
    /// let claims = verifier.verify(&token, url, b"Hello", now)?;
    /// assert_eq!(claims.key_label(), "development server user 1 current");
    /// # Ok::<(), tower_qstash::VerifyError>(())
    /// ```
    pub fn dangerous_development_server() -> Self {
        let users = (1..).zip(rules::DEVELOPMENT_KEYS);
        let keys = users.flat_map(|(user, [current, next])| {
            let key = |role: Role, key| {
                SigningKey::new(&role.label(&format!("development server user {user}")), role, key)
            };
            [key(Role::Current, current), key(Role::Next, next)]
        });
        Self { keys: keys.collect() }
    }

    /// Labels the keys `<label> current` and `<label> next`, and one of
    /// [`from_key`](Self::from_key) exactly `<label>`. A label is logged: a tenant's name, a region.
    ///
    /// # Errors
    ///
    /// `""`, and a label that starts with `sig_`: it is probably a key passed in the wrong position,
    /// and labels are logged.
    pub fn with_label(self, label: &str) -> Result<Self, SigningKeyError> {
        if label.is_empty() || label.starts_with("sig_") {
            return Err(SigningKeyError { name: "label".into(), problem: Problem::Label });
        }
        let keys = self.keys.iter().map(|key| {
            let label = key.role.label(label).into();
            SigningKey { label, ..key.clone() }
        });
        Ok(Self { keys: keys.collect() })
    }

    /// Accepts the keys of `other` as well, after these.
    ///
    /// **Every key is then accepted for every URL of the layer**: an account whose keys are joined
    /// to yours can sign deliveries to all of your endpoints. Join only accounts that you own. For
    /// another party's keys use [`QStashVerifyLayer::also`](crate::QStashVerifyLayer::also), which
    /// binds them to their own URL, and [`PublicUrl::within`](crate::PublicUrl::within).
    ///
    /// Each key costs a forged request one more MAC. Up to 16 keys a token may have 8 KiB, which
    /// bounds the cost at about 0.2 ms. With more keys the longest token shrinks, down to 2 KiB from
    /// 64 keys on, where every further key costs a forged request about 3 µs.
    // Not `or`: `Result` has that too, and a forgotten `?` would silently drop `other`.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "like `PublicUrl::also`: both are configuration, used once"
    )]
    pub fn also(self, other: Self) -> Self {
        Self { keys: self.keys.iter().chain(&*other.keys).cloned().collect() }
    }

    /// Creates a pair. `names` are those of the arguments or variables that hold the keys, for the
    /// error.
    fn from_pair(names: [&str; 2], [current, next]: [&str; 2]) -> Result<Self, SigningKeyError> {
        for (name, key) in names.into_iter().zip([current, next]) {
            rules::check(name, key)?;
        }
        if current == next {
            return Err(SigningKeyError { name: names[1].into(), problem: Problem::Equal });
        }
        Ok(Self {
            keys: Arc::new([
                SigningKey::new("current", Role::Current, current),
                SigningKey::new("next", Role::Next, next),
            ]),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns the first key that made `signature` over `message`. Each comparison takes constant
    /// time.
    pub(crate) fn find(&self, message: &[u8], signature: &[u8; 32]) -> Option<&SigningKey> {
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
    fn new(label: &str, role: Role, key: &str) -> Self {
        Self { label: label.into(), role, mac: keyed_mac(key) }
    }

    pub(crate) fn label(&self) -> &Arc<str> {
        &self.label
    }

    pub(crate) fn is_next(&self) -> bool {
        self.role == Role::Next
    }
}

impl Role {
    fn label(self, owner: &str) -> String {
        match self {
            Self::Current => format!("{owner} current"),
            Self::Next => format!("{owner} next"),
            Self::Only => owner.to_owned(),
        }
    }
}

fn keyed_mac(key: &str) -> KeyedMac {
    KeyedMac::new_from_slice(key.as_bytes()).expect("HMAC takes a key of any length (RFC 2104 §2)")
}

/// Schedules a key for signing in tests.
///
/// # Errors
///
/// Those of [`SigningKeys::from_key`].
#[cfg(feature = "testing")]
pub(crate) fn testing_mac(key: &str) -> Result<KeyedMac, SigningKeyError> {
    rules::check("key", key)?;
    Ok(keyed_mac(key))
}

/// Schedules the key that the local development server signs with.
#[cfg(feature = "testing")]
pub(crate) fn development_server_mac() -> KeyedMac {
    keyed_mac(rules::DEVELOPMENT_KEYS[0][0])
}
