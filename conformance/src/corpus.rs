//! The seeds of the fuzz targets: the vectors, the tables of URL pairs, and a few more shapes.

use std::{error::Error, fs, path::Path};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{
    url_pairs::{DIFFERENT, EQUIVALENT},
    vectors::{self, BODY, CURRENT, URL, claims_of, signer},
};

/// The JOSE headers and the values of `sub` to combine with otherwise valid claims.
const HEADERS: [&str; 4] = [
    r#"{"alg":"HS256","typ":"JWT"}"#,
    r#"{"typ":"JWT","alg":"HS256"}"#,
    r#"{"alg":"HS256"}"#,
    r#"{"alg":"HS256","crit":[]}"#,
];
const SUBJECTS: [&str; 14] = [
    URL,
    r"https:\/\u002fapi.example.com/hooks/resize",
    "htTps://api.example.com/hooks/resize",
    "HTTPS://API.example.com:443/%68ooks/%72esize/?&#a",
    "https://api.example.com/hooks",
    "https://api.example.com/hooks/resize/below",
    "https://api.example.com/hooks/Resize",
    "https://api.example.com/hooks/resize?a=1",
    "https://api.example.com/hooks/resize//",
    "https://api.example.com/hooks%2Fresize",
    "https://api.example.org/hooks/resize",
    "https://api.example.com:80/hooks/resize",
    "http://api.example.com:443/hooks/resize",
    "https://user@api.example.com/hooks/resize",
];

/// Upstash's samples, and a body that ends within a byte.
const CALLBACKS: [&str; 3] = [
    include_str!("../../tests/support/callbacks/documented.json"),
    include_str!("../../tests/support/callbacks/documented_failure.json"),
    r#"{"status":489,"header":{"Upstash-NonRetryable-Error":["true"],"Content-Length":["9"]},"body":"SGVsb","retried":0,"maxRetries":3,"sourceMessageId":"msg_1","url":"https://u:p@a.example/","notBefore":-62135596800000,"workflowRunId":"wfr_1","workflowCreatedAt":1}"#,
];

/// Writes one file for each seed into `token/`, `url/`, `request/` and `callback/` in `directory`.
pub(crate) fn write(directory: &Path) -> Result<(), Box<dyn Error>> {
    let callbacks = CALLBACKS.map(|callback| callback.as_bytes().to_vec()).to_vec();
    let targets =
        [("token", tokens()), ("url", urls()), ("request", requests()), ("callback", callbacks)];
    for (target, seeds) in targets {
        let directory = directory.join(target);
        fs::create_dir_all(&directory)?;
        for (index, seed) in seeds.iter().enumerate() {
            fs::write(directory.join(format!("seed-{index:04}")), seed)?;
        }
    }
    Ok(())
}

/// `header|claims`, only the claims, or a whole token.
fn tokens() -> Vec<Vec<u8>> {
    let claims = claims_of(&signer(CURRENT).delivery(URL, BODY, vectors::now()).token());
    let spaced = claims.replace(',', ", ").replace("1700000300", "1.7000003e9");
    let mut seeds = vec![claims.clone(), format!("{}|{spaced}", HEADERS[0])];
    for header in HEADERS {
        for subject in SUBJECTS {
            seeds.push(format!("{header}|{}", claims.replace(URL, subject)));
        }
    }
    let mut seeds: Vec<_> = seeds.into_iter().map(String::into_bytes).collect();
    for vector in vectors::generate() {
        if let Some([header, claims]) = decoded(&vector.token) {
            seeds.push([&header[..], b"|", &claims].concat());
        }
        seeds.push(vector.token.into_bytes());
    }
    seeds
}

/// `sub|url`.
fn urls() -> Vec<Vec<u8>> {
    let pairs = [EQUIVALENT, DIFFERENT].concat();
    let mut seeds: Vec<_> = pairs.iter().map(|(sub, url)| format!("{sub}|{url}").into()).collect();
    for vector in vectors::generate() {
        let Some([_, claims]) = decoded(&vector.token) else { continue };
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap_or_default();
        if let Some(subject) = claims["sub"].as_str() {
            seeds.push(format!("{subject}|{}", vector.url).into());
        }
    }
    seeds
}

/// A byte for how to sign and the size of frames, then `path|header or claims|body`.
fn requests() -> Vec<Vec<u8>> {
    const ACCEPTED: u8 = 0;
    const UNKNOWN_KEY: u8 = 1;
    const SIGNED_CLAIMS: u8 = 2;
    const RAW_HEADER: u8 = 3;
    let mode = |mode: u8, frame: u8| frame * 4 + mode;
    let seed = |mode: u8, path: &str, middle: &[u8], body: &[u8]| {
        [&[mode], path.as_bytes(), b"|", middle, b"|", body].concat()
    };

    let (path, body) = ("/hook?a=1", b"Hello");
    let url = format!("https://api.example.com{path}");
    let token = signer(CURRENT).delivery(&url, body, vectors::now()).token();
    let mut seeds = vec![
        seed(mode(ACCEPTED, 16), path, b"", body),
        seed(mode(ACCEPTED, 2), path, b"", body),
        seed(mode(UNKNOWN_KEY, 16), path, b"", body),
        seed(mode(SIGNED_CLAIMS, 16), path, claims_of(&token).as_bytes(), body),
        seed(mode(RAW_HEADER, 16), path, b"a.b.c", body),
        seed(mode(RAW_HEADER, 16), path, token.as_bytes(), body),
    ];
    let path = URL.strip_prefix("https://api.example.com").expect("the same origin");
    for vector in vectors::generate() {
        if let Some([_, claims]) = decoded(&vector.token) {
            seeds.push(seed(mode(SIGNED_CLAIMS, 0), path, &claims, BODY));
        }
    }
    seeds
}

/// The header and the claims of a token, if both are base64url.
fn decoded(token: &str) -> Option<[Vec<u8>; 2]> {
    let mut segments = token.split('.').map(|segment| BASE64_URL_SAFE_NO_PAD.decode(segment).ok());
    Some([segments.next()??, segments.next()??])
}
