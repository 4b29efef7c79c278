//! Where a request goes, as the `url` crate reads it.

use std::{collections::BTreeMap, fmt::Write};

use url::Url;

#[derive(Debug, PartialEq)]
pub(crate) struct Destination {
    scheme: String,
    user_info: (String, Option<String>),
    host: Option<String>,
    port: Option<u16>,
    /// Percent-decoded, without one slash at its end.
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

/// The `url` crate reads URLs as a browser does: it drops line breaks, and spaces at the ends, and a
/// backslash is a slash to it. Here each stands for its encoding, as any character that no URL holds.
fn with_encoded_typos(text: &str) -> String {
    let mut encoded = String::new();
    for character in text.chars() {
        if character <= ' ' || character == '\\' {
            write!(encoded, "%{:02X}", u32::from(character)).expect("into a string");
        } else {
            encoded.push(character);
        }
    }
    encoded
}
