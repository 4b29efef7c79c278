//! What is wrong with a signing key.

use std::fmt;

/// The error returned when a signing key can't be used.
///
/// It names the argument or the environment variable, never the key. Its `Debug` is its `Display`,
/// since that is what a `main` that returns it prints. [Troubleshooting](crate::guides::troubleshooting)
/// lists the causes.
///
/// ```
/// use tower_qstash::SigningKeys;
///
/// let error = SigningKeys::new("sig_current", "").unwrap_err();
/// assert_eq!(error.name(), "next");
/// println!("{error}");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKeyError {
    pub(super) name: String,
    pub(super) problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// Not set in the environment.
    Missing,
    /// Not returned by the lookup of `from_lookup`.
    NotFound,
    /// The platform has no environment.
    NoEnvironment,
    NotUnicode,
    Empty,
    WhiteSpace,
    Quoted,
    NotPrintable,
    Placeholder,
    Masked,
    Token,
    Development,
    DevelopmentMode,
    Sample,
    Equal,
    Label,
}

impl SigningKeyError {
    /// Returns the name of the argument (`current`) or environment variable
    /// (`QSTASH_CURRENT_SIGNING_KEY`) at fault.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for SigningKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.problem {
            Problem::Missing => write!(
                f,
                "the environment variable {name} is not set; set it to the signing key that the QStash console shows"
            ),
            Problem::NotFound => write!(
                f,
                "the lookup returned no {name}; set it to the signing key that the QStash console shows"
            ),
            Problem::NoEnvironment => write!(
                f,
                "this platform has no environment variables, so {name} cannot be read; \
                 use SigningKeys::from_lookup, in a Cloudflare Worker \
                 SigningKeys::from_lookup(|name| Some(env.secret(name).ok()?.to_string()))"
            ),
            Problem::NotUnicode => write!(
                f,
                "the environment variable {name} is not UTF-8; set it to the signing key that the QStash console shows"
            ),
            Problem::Empty => write!(
                f,
                "the signing key {name} is empty; set it to the one that the QStash console shows"
            ),
            Problem::WhiteSpace => write!(
                f,
                "the signing key {name} contains white space; remove the spaces or line breaks"
            ),
            Problem::Quoted => {
                write!(f, "the signing key {name} has quotation marks around it; remove them")
            }
            Problem::NotPrintable => write!(
                f,
                "the signing key {name} contains a control character or one that is not ASCII; copy it from the QStash console again"
            ),
            Problem::Placeholder => write!(
                f,
                "the signing key {name} is a placeholder; set it to the one that the QStash console shows"
            ),
            Problem::Masked => write!(
                f,
                "the signing key {name} is masked; reveal it in the QStash console and copy it from there"
            ),
            Problem::Token => write!(
                f,
                "the signing key {name} is a QSTASH_TOKEN, which publishes messages; set it to a signing key, which starts with sig_"
            ),
            Problem::Development => write!(
                f,
                "the signing key {name} is one of the local development server's published ones, with which anyone can sign; \
                 use the key of your account, or ask for SigningKeys::dangerous_development_server() by name"
            ),
            Problem::DevelopmentMode => write!(
                f,
                "the environment variable {name} asks for the local development server's published keys, with which \
                 anyone can sign; call SigningKeys::dangerous_development_server() for them, or unset it"
            ),
            Problem::Sample => write!(
                f,
                "the signing key {name} is a sample from Upstash's documentation, with which anyone can sign; \
                 use the key of your account"
            ),
            Problem::Equal => write!(
                f,
                "the signing key {name} is the same as the current one; set it to the next key that the QStash console shows"
            ),
            Problem::Label => f.write_str(
                "the label of the signing keys is empty or starts with sig_, as a key does; pass a name that may be logged",
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
