//! What the operator's log shows of URLs, and of other texts that a client chose.

use std::fmt;

use super::split_off;

const REDACTED: &str = "***";

/// Truncates a text that a client chose to the 256 bytes that are worth logging.
#[cfg(feature = "tracing")]
pub(crate) fn truncate(text: &str) -> &str {
    const LIMIT: usize = 256;
    let is_boundary = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=LIMIT.min(text.len())).rev().find(is_boundary).unwrap_or_default();
    &text[..end]
}

/// A URL for the operator's log.
///
/// `Display` and `Debug` replace with `***` whatever may be a secret: the user name and password,
/// the values in the query, and the fragment. The scheme, the host, the path and the names of
/// values in the query stay readable.
///
/// ```
/// use tower_qstash::{SigningKeys, Signer, Verifier, VerifyError};
/// # let now = std::time::UNIX_EPOCH;
///
/// let verifier = Verifier::new(SigningKeys::new("sig_current", "sig_next")?);
/// let token = Signer::new("sig_current")?.delivery("https://a.example/?tenant=7", "", now).token();
/// let error = verifier.verify(&token, "https://b.example", b"", now).unwrap_err();
/// let VerifyError::SubjectMismatch { subject, .. } = error else { panic!("{error}") };
/// assert_eq!(subject.to_string(), "https://a.example/?tenant=***");
/// assert_eq!(subject.with_query_values(), "https://a.example/?tenant=7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RedactedUrl {
    url: Box<str>,
}

impl RedactedUrl {
    pub(crate) fn new(url: &str) -> Self {
        Self { url: url.into() }
    }

    /// Returns the URL with the values in its query. The user name, the password and the fragment
    /// stay redacted.
    pub fn with_query_values(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, true).expect("writing to a String cannot fail");
        text
    }

    fn write(&self, to: &mut impl fmt::Write, query_values: bool) -> fmt::Result {
        let (rest, fragment) = split_off(&self.url, '#');
        let (rest, query) = split_off(rest, '?');
        // Not `Url::parse`: even a text that is no URL may hold a password. Slashes within its path, or
        // after a password, don't begin an authority.
        let slashes = rest.find("//").filter(|at| !rest[..*at].contains(['/', '@']));
        let authority = slashes.map_or(0, |slashes| slashes + "//".len());
        let end_of_authority =
            rest[authority..].find('/').map_or(rest.len(), |end| authority + end);
        match rest[authority..end_of_authority].rfind('@') {
            Some(at) => {
                write!(to, "{}{REDACTED}{}", &rest[..authority], &rest[authority + at..])?;
            }
            None => to.write_str(rest)?,
        }
        match query {
            Some(query) if query_values => write!(to, "?{query}")?,
            Some(query) => {
                for (index, piece) in query.split('&').enumerate() {
                    to.write_char(if index == 0 { '?' } else { '&' })?;
                    match piece.split_once('=') {
                        Some((name, _)) => write!(to, "{name}={REDACTED}")?,
                        // A flag, or a secret without a name.
                        None if piece.is_empty() => {}
                        None => to.write_str(REDACTED)?,
                    }
                }
            }
            None => {}
        }
        if fragment.is_some() { write!(to, "#{REDACTED}") } else { Ok(()) }
    }
}

impl fmt::Display for RedactedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, false)
    }
}

impl fmt::Debug for RedactedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_redacted_and_nothing_else() {
        for (url, redacted, with_query_values) in [
            ("https://a.example/b", "https://a.example/b", "https://a.example/b"),
            (
                "https://u:secret@a.example/x@y",
                "https://***@a.example/x@y",
                "https://***@a.example/x@y",
            ),
            (
                "HTTPS://s@a.example:443/#secret",
                "HTTPS://***@a.example:443/#***",
                "HTTPS://***@a.example:443/#***",
            ),
            ("https://s@s@a.example", "https://***@a.example", "https://***@a.example"),
            (
                "https://s:s@a.example:99999",
                "https://***@a.example:99999",
                "https://***@a.example:99999",
            ),
            (
                "https://a.example?mail=s@a&b&c=s=s#s",
                "https://a.example?mail=***&***&c=***#***",
                "https://a.example?mail=s@a&b&c=s=s#***",
            ),
            ("https://a.example/?", "https://a.example/?", "https://a.example/?"),
            ("queue:resize?a=s", "queue:resize?a=***", "queue:resize?a=s"),
            ("u:secret@a.example/b", "***@a.example/b", "***@a.example/b"),
            ("//u:secret@a.example/b", "//***@a.example/b", "//***@a.example/b"),
            ("u:secret@a.example/b//c", "***@a.example/b//c", "***@a.example/b//c"),
            ("u:secret@//a.example", "***@//a.example", "***@//a.example"),
            ("u:secret@a.example://b", "***@a.example://b", "***@a.example://b"),
            ("", "", ""),
        ] {
            let url = RedactedUrl::new(url);
            assert_eq!(url.to_string(), redacted);
            assert_eq!(url.with_query_values(), with_query_values);
            assert_eq!(format!("{url:?}"), format!("{redacted:?}"));
        }
    }
}
