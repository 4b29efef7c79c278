//! What is wrong with a public URL.

use std::fmt;

use crate::url::Url;

/// The error returned when a [`PublicUrl`](crate::PublicUrl) is invalid.
///
/// Its `Debug` is its `Display`, since that is what a `main` that returns it prints.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicUrlError {
    constructor: Constructor,
    problem: Problem,
}

/// Which constructor was called: each wants another form of URL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Constructor {
    Exact,
    Base,
    Within,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    Empty,
    Quoted,
    WhiteSpace,
    Backslash,
    NoScheme,
    OtherScheme,
    NoHost,
    Port,
    Malformed,
    QueryOrFragment,
    NotAPath,
}

impl Constructor {
    pub(super) fn error(self, problem: Problem) -> PublicUrlError {
        PublicUrlError { constructor: self, problem }
    }
}

impl fmt::Display for PublicUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.problem {
            Problem::Empty => "is empty",
            Problem::Quoted => "has quotation marks around it",
            Problem::WhiteSpace => "contains white space or a control character",
            Problem::Backslash => "contains a backslash",
            Problem::NoScheme => "has no scheme",
            Problem::OtherScheme => "has another scheme than http or https",
            Problem::NoHost => "has no host",
            Problem::Port => "has a port that is not a number below 65536",
            Problem::Malformed => "is malformed",
            Problem::QueryOrFragment => "has a query or a fragment",
            Problem::NotAPath => "is not one",
        };
        match self.constructor {
            Constructor::Within => write!(
                f,
                "the path given to PublicUrl::within {problem}; write a path that begins with a slash, such as /tenants/7"
            ),
            Constructor::Exact => write!(
                f,
                "the URL given to PublicUrl::exact {problem}; write the whole URL that messages are published to, \
                 such as https://api.example.com/hook"
            ),
            Constructor::Base => write!(
                f,
                "the URL given to PublicUrl::base {problem}; write the origin that messages are published to, \
                 such as https://api.example.com: the path of each request is added to it"
            ),
        }
    }
}

impl fmt::Debug for PublicUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for PublicUrlError {}

/// Parses a URL, and says what is wrong with one that can't be parsed.
pub(super) fn parse(constructor: Constructor, url: &str) -> Result<Url<'_>, PublicUrlError> {
    const QUOTES: [char; 2] = ['"', '\''];
    let parsed = if url.is_empty() {
        Err(Problem::Empty)
    } else if url.starts_with(QUOTES) || url.ends_with(QUOTES) {
        Err(Problem::Quoted)
    } else if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        Err(Problem::WhiteSpace)
    } else if url.contains('\\') {
        Err(Problem::Backslash)
    } else {
        Url::parse(url).ok_or_else(|| malformed(url))
    };
    parsed.map_err(|problem| constructor.error(problem))
}

/// Returns what is wrong with a URL that could not be parsed.
fn malformed(url: &str) -> Problem {
    let Some((scheme, rest)) = url.split_once("://") else { return Problem::NoScheme };
    if scheme.contains(['/', '.', '?']) {
        // The `://` belongs to a path or a query.
        return Problem::NoScheme;
    }
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Problem::OtherScheme;
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host_and_port = authority.rsplit('@').next().unwrap_or_default();
    match host_and_port.rsplit_once(':') {
        _ if host_and_port.is_empty() => Problem::NoHost,
        Some(("", _)) => Problem::NoHost,
        Some((host, _)) if !host.starts_with('[') || host.ends_with(']') => Problem::Port,
        _ => Problem::Malformed,
    }
}
