//! Percent-encoding: which octets a path or a query stands for (RFC 3986 §2).

/// Whether two queries are the same text, or have the same names with the same values. The order
/// counts only among the values of one name.
pub(crate) fn is_equivalent_query(a: &str, b: &str) -> bool {
    // Counting is cheap. Decoding and sorting is not, and a token's holder can send any query with
    // it; the length of a token bounds how many pieces its own query has.
    a == b || pieces(a).count() == pieces(b).count() && sorted_pairs(a) == sorted_pairs(b)
}

fn pieces(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter(|piece| !piece.is_empty())
}

/// Returns the decoded pairs of a query, sorted by name. In bytes, since a lossy decoder would make
/// different queries equal.
fn sorted_pairs(query: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let decoded = |piece: &str| {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        (form_decode(name), form_decode(value))
    };
    let mut pairs: Vec<_> = pieces(query).map(decoded).collect();
    // A stable sort: the values of one name keep their order.
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs
}

/// Decodes as HTML forms are, and as every event with a decoded query: `+` is a space.
fn form_decode(text: &str) -> Vec<u8> {
    let plus_as_space = |octet| match octet {
        Octet::Delimiter(b'+') => b' ',
        Octet::Delimiter(byte) | Octet::Data(byte) => byte,
    };
    octets(text).map(plus_as_space).collect()
}

/// One octet of a URL, written as one byte or as `%XX`.
///
/// A delimiter differs from its encoding, which is data (RFC 3986 §2.2). For every other octet the two
/// spellings are equal: for unreserved characters (§6.2.2.2), and for those that no URL may hold, such
/// as a space or `é`, since some gateways decode them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Octet {
    Delimiter(u8),
    Data(u8),
}

pub(super) fn octets(text: &str) -> impl Iterator<Item = Octet> {
    Octets(text.bytes())
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
            return Some(Octet::Data(high * 16 + low));
        }
        Some(match byte {
            b':' | b'/' | b'?' | b'#' | b'[' | b']' | b'@' | b'!' | b'$' | b'&' | b'\'' | b'('
            | b')' | b'*' | b'+' | b',' | b';' | b'=' => Octet::Delimiter(byte),
            _ => Octet::Data(byte),
        })
    }
}

fn hex_digit(byte: Option<u8>) -> Option<u8> {
    char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
