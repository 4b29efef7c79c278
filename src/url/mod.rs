//! URLs: whether two of them are equivalent, and how they are logged. Knows no gateway and no
//! framework.

mod percent_encoding;
mod redacted;

use std::fmt;

pub(crate) use self::percent_encoding::is_equivalent_query;
use self::percent_encoding::{Octet, octets};
pub use self::redacted::RedactedUrl;
#[cfg(feature = "tracing")]
pub(crate) use self::redacted::truncate;

/// Whether two URLs are equivalent, or the same text; see [`Url::is_equivalent`].
pub(crate) fn is_equivalent(a: &str, b: &str) -> bool {
    a == b || matches!((Url::parse(a), Url::parse(b)), (Some(a), Some(b)) if a.is_equivalent(&b))
}

/// Whether two paths are equal octet for octet, however each octet is written.
#[cfg(feature = "lambda_http")]
pub(crate) fn is_equivalent_path(a: &str, b: &str) -> bool {
    a == b || octets(a).eq(octets(b))
}

/// Returns a path without one slash at its end.
pub(crate) fn without_end_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

/// Whether `path` is `parent` or lies below it. A path with a dot segment never does: some router might
/// resolve it.
pub(crate) fn is_path_within(path: &str, parent: &str) -> bool {
    let is_dot = |segment: &str| {
        let decoded: Vec<_> = octets(segment).collect();
        [&[Octet::Data(b'.')][..], &[Octet::Data(b'.'); 2]].contains(&&decoded[..])
    };
    let mut segments = path.split('/');
    let mut parents = without_end_slash(parent).split('/');
    !path.split('/').any(is_dot)
        && parents.all(|parent| segments.next().is_some_and(|own| octets(own).eq(octets(parent))))
}

/// An absolute `http` or `https` URL, split into its components (RFC 3986 §3).
#[derive(Clone, Copy)]
pub(crate) struct Url<'a> {
    https: bool,
    user_info: Option<&'a str>,
    host: &'a str,
    port: u16,
    /// The path of a base and that of a request, kept apart so that nothing is copied.
    path: [&'a str; 2],
    /// Whether the second one may have been percent-decoded before it arrived.
    maybe_decoded: bool,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

impl<'a> Url<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let https = scheme.eq_ignore_ascii_case("https");
        if !https && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }

        let (rest, fragment) = split_off(rest, '#');
        let (rest, query) = split_off(rest, '?');
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Self::from_components(https, authority, path, query, fragment)
    }

    fn from_components(
        https: bool,
        authority: &'a str,
        path: &'a str,
        query: Option<&'a str>,
        fragment: Option<&'a str>,
    ) -> Option<Self> {
        let (user_info, host_and_port) = match authority.rsplit_once('@') {
            Some((user_info, host_and_port)) => (Some(user_info), host_and_port),
            None => (None, authority),
        };
        let (host, port) = split_port(host_and_port)?;
        let port = match port {
            "" if https => 443,
            "" => 80,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
            _ => return None,
        };
        (!host.is_empty()).then_some(Self {
            https,
            user_info,
            host,
            port,
            path: [path, ""],
            maybe_decoded: false,
            query,
            fragment,
        })
    }

    /// Returns the origin `https://authority`, where `authority` is a host and may have a port.
    #[cfg(feature = "lambda_http")]
    pub(crate) fn https(authority: &'a str) -> Option<Self> {
        let delimiter = |byte| b"/?#@".contains(&byte);
        if authority.bytes().any(delimiter) {
            return None;
        }
        Self::from_components(true, authority, "", None, None)
    }

    pub(crate) fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// Whether a request's path can be joined to this URL, which has neither query nor fragment.
    pub(crate) fn is_base(&self) -> bool {
        self.query.is_none() && self.fragment.is_none()
    }

    /// Joins the path and query of a request to this base.
    pub(crate) fn join(self, path: RequestPath<'a>, query: Option<&'a str>) -> Self {
        let [prefix, _] = self.path;
        let path_pieces = [without_end_slash(prefix), path.text];
        Self { path: path_pieces, maybe_decoded: path.maybe_decoded, query, ..self }
    }

    /// Whether this URL and `other` identify the same resource.
    ///
    /// They do if they are equal after the normalization of RFC 3986 §6.2.2 and §6.2.3: case of
    /// scheme and host, default port, empty path, percent-encoding of unreserved characters. In
    /// addition, one slash at the end of the path does not count, nor the order of the names in the
    /// query (a Lambda event may have lost it), nor the fragment, which is never sent (RFC 9110
    /// §7.1). Everything else is exact: no prefixes, no dot segments, no `%2F` for a slash. Where this
    /// URL's path may have been decoded, decoding the path of `other` may yield it as well.
    pub(crate) fn is_equivalent(&self, other: &Self) -> bool {
        self.https == other.https
            && self.user_info == other.user_info
            && self.host.eq_ignore_ascii_case(other.host)
            && self.port == other.port
            && (self.octets_of_path().eq(other.octets_of_path())
                || self.maybe_decoded && self.is_decoded_path_of(other))
            && is_equivalent_query(self.query.unwrap_or_default(), other.query.unwrap_or_default())
    }

    fn octets_of_path(&self) -> impl Iterator<Item = Octet> {
        let [prefix, path] = self.path_without_end_slash();
        octets(prefix).chain(octets(path))
    }

    /// Whether decoding the path of `other` once yields this path as it stands. `%2F` never does: it
    /// is data within one segment, and the gateway that decoded it made two segments of one.
    fn is_decoded_path_of(&self, other: &Self) -> bool {
        let decode = |octet| match octet {
            Octet::Data(b'/') => None,
            Octet::Delimiter(byte) | Octet::Data(byte) => Some(byte),
        };
        let [prefix, path] = self.path_without_end_slash();
        let as_it_stands = octets(prefix).map(decode).chain(path.bytes().map(Some));
        as_it_stands.eq(other.octets_of_path().map(decode))
    }

    fn path_without_end_slash(&self) -> [&'a str; 2] {
        let [mut prefix, mut path] = self.path;
        let end = if path.is_empty() { &mut prefix } else { &mut path };
        *end = without_end_slash(end);
        [prefix, path]
    }
}

/// The path of a request, as it arrived.
#[derive(Clone, Copy)]
pub(crate) struct RequestPath<'a> {
    pub(crate) text: &'a str,
    maybe_decoded: bool,
}

impl<'a> RequestPath<'a> {
    /// Returns `None` where the text can't be joined to a base: for `*`, and for a path with a `?` or
    /// `#`, which a gateway has decoded, so that path and query can no longer be told apart.
    pub(crate) fn new(text: &'a str, maybe_decoded: bool) -> Option<Self> {
        let is_path = text.starts_with('/') && !text.contains(['?', '#']);
        is_path.then_some(Self { text, maybe_decoded })
    }
}

impl fmt::Display for Url<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default_port) = if self.https { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://")?;
        if let Some(user_info) = self.user_info {
            write!(f, "{user_info}@")?;
        }
        f.write_str(self.host)?;
        if self.port != default_port {
            write!(f, ":{}", self.port)?;
        }
        let [prefix, path] = self.path;
        write!(f, "{prefix}{path}")?;
        match self.query {
            Some(query) => write!(f, "?{query}"),
            None => Ok(()),
        }
    }
}

/// Splits off what follows the first `delimiter`.
fn split_off(text: &str, delimiter: char) -> (&str, Option<&str>) {
    match text.split_once(delimiter) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

/// Splits an authority into the host, an IPv6 literal with its brackets, and the port without its
/// colon.
fn split_port(host_and_port: &str) -> Option<(&str, &str)> {
    let end_of_host = match host_and_port.strip_prefix('[') {
        Some(literal) => literal.find(']')? + 2,
        None => host_and_port.find(':').unwrap_or(host_and_port.len()),
    };
    let (host, port) = host_and_port.split_at(end_of_host);
    if port.is_empty() { Some((host, "")) } else { Some((host, port.strip_prefix(':')?)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_omits_default_port_and_fragment() {
        let written = |url| Url::parse(url).map(|url| url.to_string());
        assert_eq!(
            written("HTTPS://a.example:443/b?c=d#e").as_deref(),
            Some("https://a.example/b?c=d")
        );
        assert_eq!(written("http://a.example:80").as_deref(), Some("http://a.example"));
        assert_eq!(written("http://a.example:443/").as_deref(), Some("http://a.example:443/"));
        assert_eq!(written("https://user@a.example/").as_deref(), Some("https://user@a.example/"));
    }

    #[test]
    fn decoded_path_is_equivalent_to_the_sent_one() {
        let origin = Url::parse("https://a.example/p%40q").expect("a URL");
        let is_equivalent = |sent: &str, arrived, maybe_decoded| {
            let sent = format!("https://a.example/p%40q{sent}");
            let arrived = RequestPath::new(arrived, maybe_decoded).expect("a path");
            Url::parse(&sent).is_some_and(|sent| origin.join(arrived, None).is_equivalent(&sent))
        };
        for (sent, arrived) in [
            ("/user/joe%40example.com", "/user/joe@example.com"),
            ("/user/joe@example.com", "/user/joe@example.com"),
            ("/a%2Cb%3Bc%2Bd%3De%3A/", "/a,b;c+d=e:"),
            ("/100%25", "/100%"),
            ("/100%2525", "/100%25"),
            ("/a%20b%C3%A9", "/a bé"),
            ("/%7Eb", "/~b"),
        ] {
            assert!(is_equivalent(sent, arrived, true), "{sent}");
            assert!(
                is_equivalent(sent, sent, false) && is_equivalent(sent, sent, true),
                "{sent}, not decoded"
            );
        }
        assert!(!is_equivalent("/user/joe%40example.com", "/user/joe@example.com", false));
        for (sent, arrived) in
            [("/a%2Fb", "/a/b"), ("/a/b", "/a%2Fb"), ("/a%2F", "/a"), ("/a%2F", "/a/")]
        {
            assert!(
                !is_equivalent(sent, arrived, true) && !is_equivalent(sent, arrived, false),
                "{sent}"
            );
        }
        for not_a_path in ["", "*", "a", "/a?b", "/a#b"] {
            assert!(RequestPath::new(not_a_path, true).is_none(), "{not_a_path}");
        }
    }

    #[cfg(feature = "lambda_http")]
    #[test]
    fn https_takes_only_a_host_with_an_optional_port() {
        let origin = Url::https("hooks.example.com").expect("a domain name");
        assert!(origin.is_equivalent(&Url::parse("https://hooks.example.com/").expect("a URL")));
        assert!(origin.is_base());
        let with_port = Url::https("x.example:4566").expect("a domain name and a port");
        assert!(with_port.is_equivalent(&Url::parse("https://x.example:4566/").expect("a URL")));
        assert!(!with_port.is_equivalent(&Url::parse("https://x.example/").expect("a URL")));
        for host in
            ["", ":443", "a.example:port", "a.example/a", "a.example?a", "a.example#a", "a@b"]
        {
            assert!(Url::https(host).is_none(), "{host}");
        }
    }
}
