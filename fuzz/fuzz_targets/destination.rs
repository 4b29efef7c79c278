//! The destination of a request, as the `url` crate parses it.

use std::{collections::BTreeMap, fmt::Write};

use url::Url;

#[derive(Debug, PartialEq)]
pub(crate) struct Destination {
    scheme: String,
    user_info: (String, Option<String>),
    host: Option<String>,
    port: Option<u16>,
    /// Percent-decoded, without a slash at its end.
    path: Vec<u8>,
    /// The values of each name.
    query: BTreeMap<String, Vec<String>>,
}

impl Destination {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(&with_encoded_typos(text)).ok()?;
        let path = url.path().strip_suffix('/').unwrap_or(url.path());
        let mut query = BTreeMap::<_, Vec<_>>::new();
        for (name, value) in url.query_pairs() {
            query.entry(name.into_owned()).or_default().push(value.into_owned());
        }
        Some(Self {
            scheme: url.scheme().to_owned(),
            user_info: (url.username().to_owned(), url.password().map(str::to_owned)),
            host: url.host_str().map(str::to_owned),
            port: url.port_or_known_default(),
            path: percent_encoding::percent_decode_str(path).collect(),
            query,
        })
    }
}

/// Percent-encodes white space, control characters and backslashes. Like a browser, the `url` crate
/// drops or replaces them, but to this crate they are equal to their encoding.
fn with_encoded_typos(text: &str) -> String {
    let mut encoded = String::new();
    for character in text.chars() {
        if character <= ' ' || character == '\\' {
            write!(encoded, "%{:02X}", u32::from(character)).expect("writing to a string");
        } else {
            encoded.push(character);
        }
    }
    encoded
}
