//! Signing keys: checked once, then only usable to check a MAC.

use std::{fmt, sync::Arc};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The current and the next key of each of the local development server's four users. They are
/// published, so anyone can sign with them.
const DEVELOPMENT_KEYS: [[&str; 2]; 4] = [
    ["sig_7kYjw48mhY7kAjqNGcy6cr29RJ6r", "sig_5ZB6DVzB1wjE8S6rZ7eenA8Pdnhs"],
    ["sig_7GVPjvuwsfqF65iC8fSrs1dfYruM", "sig_5NoELc3EFnZn4DVS5bDs2Nk4b7Ua"],
    ["sig_6jWGaWRxHsw4vMSPJprXadyvrybF", "sig_7qHbvhmahe5GwfePDiS5Lg3pi6Qx"],
    ["sig_5T8FcSsynBjn9mMLBsXhpacRovJf", "sig_7GFR4YaDshFcqsxWRZpRB161jguD"],
];

/// The samples in Upstash's pages.
const SAMPLE_KEYS: [&str; 2] =
    ["sig_7RvLjqfZBvP5KEUimQCE1pvpLuou", "sig_7W3ZNbfKWk5NWwEs3U4ixuQ7fxwE"];

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
    /// - `" sig_…"` or `"sig_…\n"`: white space, mostly from a secret's file;
    /// - `"\"sig_…\""`: quotation marks, mostly from an env file that keeps them;
    /// - `"sig_\0…"`: a control character, or one that isn't ASCII;
    /// - `"undefined"`, `"null"`, `"$SIGNING_KEY"`, `"<your key>"`: a placeholder that was not
    ///   replaced;
    /// - `"sig_***"`: a masked key, as a console or a log shows it;
    /// - `"eyJ…"`: a `QSTASH_TOKEN`, which publishes messages and signs nothing;
    /// - the same key as current and next: one of the two was copied twice;
    /// - a published key, of the local development server (see
    ///   [`insecure_development_server`](Self::insecure_development_server)) or from Upstash's
    ///   documentation: anyone can sign with it.
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

    /// **Insecure.** Returns the published keys of the local development server's four users
    /// (`npx @upstash/qstash-cli dev`). Anyone can sign with them.
    ///
    /// Their labels are `development server user 1 current`, `development server user 1 next`, and
    /// so on.
    pub fn insecure_development_server() -> Self {
        let users = (1..).zip(DEVELOPMENT_KEYS);
        let keys = users.flat_map(|(user, [current, next])| {
            let key = |role, key| {
                let label = format!("development server user {user} {role}");
                SigningKey::new(label, role == "next", key)
            };
            [key("current", current), key("next", next)]
        });
        Self { keys: keys.collect() }
    }

    /// Accepts the keys of `other` as well, after these.
    ///
    /// **Every key is then accepted for every URL of the layer**: an account whose keys are joined
    /// to yours can sign deliveries to all of your endpoints. Join only accounts that you own. For
    /// another party's keys use [`QStashVerifyLayer::also`](crate::QStashVerifyLayer::also), which
    /// binds them to their own URL.
    ///
    /// Each key costs a forged request one more MAC. Up to 16 keys a token may have 8 KiB, which
    /// bounds the cost at about 0.2 ms; with more keys the longest token shrinks, down to 2 KiB from
    /// 64 keys on, where every further key costs a forged request about 3 µs.
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
        if current == next {
            let problem = SigningKeyProblem::Equal;
            return Err(SigningKeyError { name: names[1].into(), problem });
        }
        Ok(Self {
            keys: Arc::new([
                SigningKey::new(format!("{label}current"), false, current),
                SigningKey::new(format!("{label}next"), true, next),
            ]),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns the first key that made `signature` over `message`. Each comparison takes constant
    /// time.
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
    NotPrintable,
    Placeholder,
    Masked,
    Token,
    Development,
    Sample,
    Equal,
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
            SigningKeyProblem::WhiteSpace => {
                write!(
                    f,
                    "the signing key {name} contains white space; remove the spaces or line breaks"
                )
            }
            SigningKeyProblem::Quoted => {
                write!(f, "the signing key {name} has quotation marks around it; remove them")
            }
            SigningKeyProblem::NotPrintable => write!(
                f,
                "the signing key {name} contains a control character or one that is not ASCII; copy it from the QStash console again"
            ),
            SigningKeyProblem::Placeholder => write!(
                f,
                "the signing key {name} is a placeholder; set it to the one that the QStash console shows"
            ),
            SigningKeyProblem::Masked => write!(
                f,
                "the signing key {name} is masked; reveal it in the QStash console and copy it from there"
            ),
            SigningKeyProblem::Token => write!(
                f,
                "the signing key {name} is a QSTASH_TOKEN, which publishes messages; set it to a signing key, which starts with sig_"
            ),
            SigningKeyProblem::Development => write!(
                f,
                "the signing key {name} is one of the local development server's published ones, with which anyone can sign; \
                 use the key of your account, or ask for SigningKeys::insecure_development_server() by name"
            ),
            SigningKeyProblem::Sample => write!(
                f,
                "the signing key {name} is a sample from Upstash's documentation, with which anyone can sign; \
                 use the key of your account"
            ),
            SigningKeyProblem::Equal => write!(
                f,
                "the signing key {name} is the same as the current one; set it to the next key that the QStash console shows"
            ),
            SigningKeyProblem::Label => f.write_str(
                "the label of signing keys starts with sig_, as a key does; give the label first",
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

pub(crate) fn check(name: &str, key: &str) -> Result<(), SigningKeyError> {
    match problem(key) {
        None => Ok(()),
        Some(problem) => Err(SigningKeyError { name: name.into(), problem }),
    }
}

fn problem(key: &str) -> Option<SigningKeyProblem> {
    const QUOTES: [char; 2] = ['"', '\''];
    const PLACEHOLDERS: [&str; 5] = ["undefined", "null", "none", "nil", "changeme"];

    let is_placeholder = key.starts_with(['<', '$', '{'])
        || PLACEHOLDERS.iter().any(|placeholder| key.eq_ignore_ascii_case(placeholder));
    let is_masked = key.contains(['*', '•', '…']) || key.contains("...");
    Some(if key.is_empty() {
        SigningKeyProblem::Empty
    } else if is_placeholder {
        SigningKeyProblem::Placeholder
    } else if key.contains(char::is_whitespace) {
        SigningKeyProblem::WhiteSpace
    } else if key.starts_with(QUOTES) || key.ends_with(QUOTES) {
        SigningKeyProblem::Quoted
    } else if is_masked {
        SigningKeyProblem::Masked
    } else if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        SigningKeyProblem::NotPrintable
    } else if key.starts_with("eyJ") {
        // Base64 of a JSON object.
        SigningKeyProblem::Token
    } else if DEVELOPMENT_KEYS.as_flattened().contains(&key) {
        SigningKeyProblem::Development
    } else if SAMPLE_KEYS.contains(&key) {
        SigningKeyProblem::Sample
    } else {
        return None;
    })
}

pub(crate) fn keyed_mac(key: &str) -> KeyedMac {
    KeyedMac::new_from_slice(key.as_bytes()).expect("HMAC takes a key of any length (RFC 2104 §2)")
}

/// The key that the local development server signs with.
#[cfg(feature = "signer")]
pub(crate) fn development_mac() -> KeyedMac {
    keyed_mac(DEVELOPMENT_KEYS[0][0])
}
