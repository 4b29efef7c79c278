//! What is known about a delivery, from the command line and standard input.

use std::{error::Error, fs, io::Read, time::SystemTime};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use tower_qstash::SigningKeys;

use crate::time::{parse_time, seconds};

const USAGE: &str = "usage: cargo run --example explain -- [--url URL] [--body TEXT|@FILE] \
                     [--at TIME] [--keys-from-env|--dev-server] [TOKEN]";

/// What the user knows about a delivery.
#[derive(Default)]
pub(crate) struct Input {
    pub(crate) token: String,
    pub(crate) url: Option<String>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) at: i64,
    pub(crate) keys: Option<SigningKeys>,
    /// Whether `keys` are the local development server's.
    pub(crate) is_development: bool,
}

impl Input {
    pub(crate) fn read(
        mut arguments: impl Iterator<Item = String>,
    ) -> Result<Self, Box<dyn Error>> {
        let mut input = Self { at: seconds(SystemTime::now()), ..Self::default() };
        let mut token = None;
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().ok_or_else(|| format!("{argument} needs a value; {USAGE}"));
            match &*argument {
                "--url" => input.url = Some(value()?),
                "--body" => input.body = Some(read_body(&value()?)?),
                "--at" => {
                    let text = value()?;
                    let error = || format!("--at {text}: neither Unix seconds nor RFC 3339");
                    input.at = parse_time(&text).ok_or_else(error)?;
                }
                "--keys-from-env" => input.keys = Some(SigningKeys::from_env()?),
                "--dev-server" => {
                    input.keys = Some(SigningKeys::dangerous_development_server());
                    input.is_development = true;
                }
                option if option.starts_with('-') || token.is_some() => return Err(USAGE.into()),
                _ => token = Some(argument),
            }
        }
        match token {
            Some(token) => input.token = token.trim().to_owned(),
            None => {
                let mut dump = Vec::new();
                std::io::stdin().read_to_end(&mut dump)?;
                input.read_dump(&dump)?;
            }
        }
        Ok(input)
    }

    /// Finds the token in any text, and the URL and the body unless they were given.
    fn read_dump(&mut self, dump: &[u8]) -> Result<(), Box<dyn Error>> {
        let text = String::from_utf8_lossy(dump);
        if text.split_whitespace().count() == 1 {
            text.trim().clone_into(&mut self.token);
            return Ok(());
        }
        let mut tokens: Vec<&str> = Vec::new();
        for token in header_values(&text) {
            if !tokens.contains(&token) {
                tokens.push(token);
            }
        }
        match tokens[..] {
            [] => {
                return Err("standard input has no Upstash-Signature header; without one, the \
                              layer rejects a request"
                    .into());
            }
            [token] => token.clone_into(&mut self.token),
            _ => {
                return Err("standard input has several Upstash-Signature headers; the layer \
                             rejects a request with more than one"
                    .into());
            }
        }
        if self.url.is_none() {
            self.url = dumped_url(&text, claim(&self.token, "sub").as_deref());
        }
        if self.body.is_none() {
            self.body = dumped_body(dump);
        }
        Ok(())
    }
}

/// Returns what follows the header's name, in HTTP, on curl's command line or in JSON.
fn header_values(text: &str) -> impl Iterator<Item = &str> {
    let name = "upstash-signature";
    let lower = text.to_ascii_lowercase();
    let places: Vec<_> = lower.match_indices(name).map(|(at, _)| at + name.len()).collect();
    places.into_iter().filter_map(|at| {
        let value = text[at..].trim_start_matches(['"', '\'', ':', '[', ' ', '\t', '\r', '\n']);
        let end = value.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.=".contains(c));
        let value = &value[..end.unwrap_or(value.len())];
        value.contains('.').then_some(value)
    })
}

/// Returns the URL of an HTTP request, from its first line and its `Host`. Neither holds the scheme, so
/// that is `X-Forwarded-Proto`, or else the scheme of `sub`.
fn dumped_url(text: &str, sub: Option<&str>) -> Option<String> {
    let lines = || text.lines().map(|line| line.trim_start_matches("> ").trim());
    let target = lines().find_map(|line| {
        let (_method, rest) = line.split_once(' ')?;
        rest.rsplit_once(" HTTP/").map(|(target, _)| target)
    })?;
    let header = |name: &str| {
        lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    if target.contains("://") {
        return Some(target.to_owned());
    }
    let scheme = header("x-forwarded-proto")
        .or_else(|| sub?.split_once("://").map(|(scheme, _)| scheme))
        .unwrap_or("https");
    Some(format!("{scheme}://{}{target}", header("host")?))
}

/// Returns the body of a raw HTTP request. `curl -v` doesn't print the body that it sends.
fn dumped_body(dump: &[u8]) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(dump);
    let is_raw = text.lines().next()?.contains(" HTTP/") && !text.starts_with(['>', '*']);
    let after = |delimiter: &[u8]| {
        let at = dump.windows(delimiter.len()).position(|window| window == delimiter)?;
        Some(dump[at + delimiter.len()..].to_vec())
    };
    let mut body = is_raw.then(|| after(b"\r\n\r\n").or_else(|| after(b"\n\n")))??;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    // An editor may have added a line break.
    body.truncate(length.unwrap_or(usize::MAX));
    Some(body)
}

fn read_body(argument: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    match argument.strip_prefix('@') {
        Some(file) => fs::read(file).map_err(|error| format!("--body @{file}: {error}").into()),
        None => Ok(argument.into()),
    }
}

/// Decodes a segment of a token, which may not be valid.
pub(crate) fn decode(token: &str, segment: usize) -> Option<Map<String, Value>> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(segment)?).ok()?;
    serde_json::from_slice(&json).ok()
}

fn claim(token: &str, name: &str) -> Option<String> {
    decode(token, 1)?.get(name)?.as_str().map(str::to_owned)
}
