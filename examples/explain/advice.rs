//! What to do about a rule that failed.

use std::time::SystemTime;

use serde_json::Value;
use tower_qstash::{SigningKeys, Verifier, VerifyError};

use crate::{input::Input, print::redacted};

pub(crate) fn signature_advice(input: &Input, token: &str, at: SystemTime) -> String {
    let development = Verifier::new(SigningKeys::dangerous_development_server());
    let is_developments = !matches!(
        development.verify_token(token, "https://a.example", at),
        Err(VerifyError::SignatureMismatch)
    );
    if is_developments {
        "The local development server signed this token: start the receiver with \
         SigningKeys::dangerous_development_server(), or publish through QStash itself."
            .into()
    } else if input.is_development {
        "The local development server did not sign this token: add --keys-from-env instead of \
         --dev-server."
            .into()
    } else {
        "Compare both keys with the QStash console, for the region and the account that publish; \
         after two rolls the old keys are no longer used."
            .into()
    }
}

pub(crate) fn body_advice(body: &[u8], is_signed: impl Fn(&[u8]) -> bool) -> String {
    let without_newline =
        body.strip_suffix(b"\n").map(|body| body.strip_suffix(b"\r").unwrap_or(body));
    let json: Option<Value> = serde_json::from_slice(body).ok();
    if is_signed(b"") {
        "The message was published without a body; find out what has added one.".into()
    } else if without_newline.is_some_and(&is_signed) {
        "The signed body has no line break at its end: whatever wrote this one has added it.".into()
    } else if json.is_some_and(|json| is_signed(json.to_string().as_bytes())) {
        "The signed body is the same JSON in compact form: something has parsed it and written it \
         again. Verify the raw bytes, before any JSON middleware."
            .into()
    } else {
        "Compare the raw body with the one published: no proxy or layer before this one may \
         decompress, parse or re-encode it."
            .into()
    }
}

/// Returns both URLs, one above the other, with the first difference marked, and what to do about it.
pub(crate) fn compare(sub: &str, url: &str) -> (String, String) {
    let (shown_sub, shown_url) = (redacted(sub), redacted(url));
    let same = shown_sub.chars().zip(shown_url.chars()).take_while(|(a, b)| a == b).count();
    let (what, advice) = if shown_sub == shown_url {
        (
            "only in the user name or password, which are not shown",
            "Give the PublicUrl the same user name and password as in the published URL.",
        )
    } else {
        difference(sub, url)
    };
    let comparison = format!(
        "  sub    {shown_sub}\n  given  {shown_url}\n         {:same$}^ they differ {what}",
        ""
    );
    (comparison, advice.to_owned())
}

fn difference(sub: &str, url: &str) -> (&'static str, &'static str) {
    let parts = |url: &str| {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        [scheme, host, path, query].map(str::to_owned)
    };
    let [sub, url] = [parts(sub), parts(url)];
    let is_prefix_lost = sub[2].ends_with(&url[2]) || url[2].ends_with(&sub[2]);
    if !sub[0].eq_ignore_ascii_case(&url[0]) {
        (
            "in the scheme",
            "If TLS ends at a proxy, configure PublicUrl::base with https://, the public side.",
        )
    } else if !sub[1].eq_ignore_ascii_case(&url[1]) {
        (
            "in the domain or port",
            "Configure PublicUrl::base with the domain and port that messages are published to.",
        )
    } else if sub[2] != url[2] && is_prefix_lost {
        (
            "in the start of the path",
            "A proxy, a mapping or a nest changes the path: put the prefix that is missing into \
             PublicUrl::base, or take the one that is there twice out of it.",
        )
    } else if sub[2] != url[2] {
        (
            "in the path",
            "Publish to the path as the service serves it, or configure PublicUrl::exact.",
        )
    } else {
        (
            "in the query",
            "Publish with the query as the service receives it, or take off what a proxy adds, with \
             PublicUrl::from_fn.",
        )
    }
}
