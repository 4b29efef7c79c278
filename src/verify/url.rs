//! Are two URLs the same destination?

use std::fmt;

/// Whether a request to `a` and one to `b` go to the same place; see [`Url::same`].
pub(crate) fn same_destination(a: &str, b: &str) -> bool {
    a == b || matches!((Url::parse(a), Url::parse(b)), (Some(a), Some(b)) if a.same(&b))
}

/// An absolute `http` or `https` URL, cut into its components (RFC 3986 §3).
#[derive(Clone, Copy)]
pub(crate) struct Url<'a> {
    https: bool,
    user_info: Option<&'a str>,
    host: &'a str,
    port: u16,
    /// In two pieces, so that a base and a request's path need not be copied together.
    path: [&'a str; 2],
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
        let path = [path, ""];
        (!host.is_empty()).then_some(Self { https, user_info, host, port, path, query, fragment })
    }

    /// The origin `https://host`.
    #[cfg(feature = "lambda_http")]
    pub(crate) fn https(host: &'a str) -> Option<Self> {
        let delimiter = |byte| b"/?#@".contains(&byte);
        let (https, port, path) = (true, 443, ["", ""]);
        (!host.is_empty() && !host.bytes().any(delimiter)).then_some(Self {
            https,
            user_info: None,
            host,
            port,
            path,
            query: None,
            fragment: None,
        })
    }

    /// Whether paths can be put below this URL: it has neither query nor fragment.
    pub(crate) fn is_base(&self) -> bool {
        self.query.is_none() && self.fragment.is_none()
    }

    /// The URL of a request for `path` and `query` below this base. `None` where `path` would run
    /// into the host, as `OPTIONS *` would.
    pub(crate) fn below(self, path: &'a str, query: Option<&'a str>) -> Option<Self> {
        let [prefix, _] = self.path;
        let path = [prefix.strip_suffix('/').unwrap_or(prefix), path];
        path[1].starts_with('/').then_some(Self { path, query, ..self })
    }

    /// Whether a request to this URL and one to `other` go to the same place.
    ///
    /// They do if the two are equal after the normalisation of RFC 3986 §6.2.2 and §6.2.3: case of
    /// scheme and host, default port, empty path, percent-encoding of unreserved characters.
    /// Beyond that, one slash at the end of the path does not count, nor the order of the query's
    /// names (a Lambda event may have lost it), nor the fragment, which is never sent (RFC 9110
    /// §7.1). All else is exact: no prefixes, no dot segments, no `%2F` for a slash.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.https == other.https
            && self.user_info == other.user_info
            && self.host.eq_ignore_ascii_case(other.host)
            && self.port == other.port
            && self.octets_of_path().eq(other.octets_of_path())
            && same_query(self.query.unwrap_or_default(), other.query.unwrap_or_default())
    }

    fn octets_of_path(&self) -> impl Iterator<Item = Octet> {
        let [mut prefix, mut path] = self.path;
        let end = if path.is_empty() { &mut prefix } else { &mut path };
        *end = end.strip_suffix('/').unwrap_or(end);
        // A `?` here comes from a gateway that decoded `%3F`.
        Octets(prefix.bytes()).chain(Octets(path.bytes())).map(|octet| match octet {
            Octet::Literal(byte @ (b'?' | b'#')) => Octet::Encoded(byte),
            octet => octet,
        })
    }
}

/// For the operator's log.
impl fmt::Display for Url<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default_port) = if self.https { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != default_port {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path.concat())?;
        match self.query {
            Some(query) => write!(f, "?{query}"),
            None => Ok(()),
        }
    }
}

fn split_off(text: &str, delimiter: char) -> (&str, Option<&str>) {
    match text.split_once(delimiter) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

/// The host, an IPv6 literal with its brackets, and the port without its colon.
fn split_port(host_and_port: &str) -> Option<(&str, &str)> {
    let end_of_host = match host_and_port.strip_prefix('[') {
        Some(literal) => literal.find(']')? + 2,
        None => host_and_port.find(':').unwrap_or(host_and_port.len()),
    };
    let (host, port) = host_and_port.split_at(end_of_host);
    if port.is_empty() { Some((host, "")) } else { Some((host, port.strip_prefix(':')?)) }
}

/// The same text, or the same names with the same values; the order counts only among the values
/// of one name.
fn same_query(a: &str, b: &str) -> bool {
    a == b || pairs(a) == pairs(b)
}

/// The decoded pairs of a query, sorted by name. In bytes, since a lossy decoder would make
/// different queries equal.
fn pairs(query: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pieces = query.split('&').filter(|piece| !piece.is_empty());
    let mut pairs: Vec<_> = pieces
        .map(|piece| {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            (form_decode(name), form_decode(value))
        })
        .collect();
    // A stable sort: the values of one name keep their order.
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs
}

/// As HTML forms write it, and every event that carries a decoded query: `+` is a space.
fn form_decode(text: &str) -> Vec<u8> {
    let plus_as_space = |octet| match octet {
        Octet::Literal(b'+') => b' ',
        Octet::Literal(byte) | Octet::Encoded(byte) => byte,
    };
    Octets(text.bytes()).map(plus_as_space).collect()
}

/// A byte of a URL as it stands, or a percent-encoded one. An encoded unreserved character is the
/// same as the character itself (RFC 3986 §6.2.2.2); an encoded delimiter is not. A byte that no
/// URL may hold, such as a space or one of `é`, stands for its encoding: some gateways decode.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Octet {
    Literal(u8),
    Encoded(u8),
}

struct Octets<'a>(std::str::Bytes<'a>);

impl Iterator for Octets<'_> {
    type Item = Octet;

    fn next(&mut self) -> Option<Octet> {
        let byte = self.0.next()?;
        let mut ahead = self.0.clone();
        if byte == b'%'
            && let (Some(high), Some(low)) = (hex_digit(ahead.next()), hex_digit(ahead.next()))
        {
            self.0 = ahead;
            let decoded = high << 4 | low;
            return Some(if unreserved(decoded) {
                Octet::Literal(decoded)
            } else {
                Octet::Encoded(decoded)
            });
        }
        let delimiter = b":/?#[]@!$&'()*+,;=".contains(&byte);
        Some(if unreserved(byte) || delimiter {
            Octet::Literal(byte)
        } else {
            Octet::Encoded(byte)
        })
    }
}

/// RFC 3986 §2.3.
fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn hex_digit(byte: Option<u8>) -> Option<u8> {
    char::from(byte?).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_the_log_a_url_is_written_without_what_goes_without_saying() {
        let written = |url| Url::parse(url).map(|url| url.to_string());
        assert_eq!(
            written("HTTPS://a.example:443/b?c=d#e").as_deref(),
            Some("https://a.example/b?c=d")
        );
        assert_eq!(written("http://a.example:80").as_deref(), Some("http://a.example"));
        assert_eq!(written("http://a.example:443/").as_deref(), Some("http://a.example:443/"));
        // User-info may be a password.
        assert_eq!(
            written("https://user:secret@a.example/").as_deref(),
            Some("https://a.example/")
        );
    }

    #[cfg(feature = "lambda_http")]
    #[test]
    fn a_domain_name_makes_an_origin_and_nothing_else_does() {
        let origin = Url::https("hooks.example.com").expect("a domain name");
        assert!(origin.same(&Url::parse("https://hooks.example.com/").expect("a URL")));
        assert!(origin.is_base());
        for host in ["", "hooks.example.com/a", "hooks.example.com?a", "hooks.example.com#a", "a@b"]
        {
            assert!(Url::https(host).is_none(), "{host}");
        }
    }
}
