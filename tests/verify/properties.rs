//! Properties that hold for any body, URL, time and division into frames.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    ops::Range,
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use proptest::prelude::*;
use tower::{Layer, Service, service_fn};
use tower_qstash::{Claims, PublicUrl, Verifier};

use crate::support::{
    BASE, NOW,
    bodies::{Boxed, Frames},
    current,
    futures::expect_ready,
    keys, layer, next, now,
};

fn url() -> impl Strategy<Value = String> {
    (
        "https?",
        "[a-z]{1,9}(\\.[a-z]{2,5}){1,2}",
        "(/([a-zA-Z0-9~._%20-]{1,8})?){0,4}",
        "(\\?[a-z0-9=&+]{0,12})?",
    )
        .prop_map(|(scheme, host, path, query)| format!("{scheme}://{host}{path}{query}"))
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..2_000)
}

/// The time at which a token is issued, in whole seconds since the epoch.
fn issued_at() -> impl Strategy<Value = u64> {
    300..4_000_000_000_u64
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A change to one character of a text.
#[derive(Clone, Copy, Debug)]
enum Change {
    Substitute,
    Insert,
    Delete,
}

/// A position in a range, biased toward the end, where most special cases are.
#[derive(Clone, Copy, Debug)]
enum Position {
    Any(prop::sample::Index),
    Last,
    End,
}

fn position() -> impl Strategy<Value = Position> {
    prop_oneof![
        2 => any::<prop::sample::Index>().prop_map(Position::Any),
        1 => Just(Position::Last),
        1 => Just(Position::End),
    ]
}

impl Position {
    fn within(self, Range { start, end }: Range<usize>) -> usize {
        match self {
            Self::Any(index) => start + index.index(end + 1 - start),
            Self::Last => end.saturating_sub(1).max(start),
            Self::End => end,
        }
    }
}

impl Change {
    const ALL: [Self; 3] = [Self::Substitute, Self::Insert, Self::Delete];

    /// Applies this change to an ASCII text.
    fn apply(self, text: &str, position: usize, with: &str) -> String {
        let (before, after) = text.split_at(position);
        let without_first = || after.get(1..).unwrap_or_default();
        match self {
            Self::Substitute => format!("{before}{with}{}", without_first()),
            Self::Insert => format!("{before}{with}{after}"),
            Self::Delete => format!("{before}{}", without_first()),
        }
    }
}

/// The parts that must be equal for two URLs to be equivalent, computed independently of the crate.
/// Supports URLs like those of `url()`: no port, fragment or user information.
#[derive(Debug, PartialEq)]
struct Normalized {
    scheme_and_host: String,
    path: String,
    query: BTreeMap<String, Vec<String>>,
}

impl Normalized {
    fn new(url: &str) -> Self {
        let (url, query) = url.split_once('?').unwrap_or((url, ""));
        let (scheme, rest) = url.split_once("://").expect("a scheme");
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let mut names = BTreeMap::<_, Vec<_>>::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            names.entry(normalized(name)).or_default().push(normalized(value));
        }
        Self {
            scheme_and_host: format!("{scheme}://{host}").to_ascii_lowercase(),
            path: normalized(path.strip_suffix('/').unwrap_or(path)),
            query: names,
        }
    }
}

/// Normalizes percent-encoding as RFC 3986 §6.2.2 does: upper-case digits, and unreserved
/// characters decoded. A `%` that doesn't begin an encoded byte becomes `%25`.
fn normalized(text: &str) -> String {
    let (start, encoded) = text.split_once('%').unwrap_or((text, ""));
    if start.len() == text.len() {
        return text.to_owned();
    }
    let digits = encoded.get(..2).filter(|two| two.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let (character, rest) = match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
        Some(byte) => (char::from(byte), &encoded[2..]),
        None => ('%', encoded),
    };
    let rest = normalized(rest);
    if character.is_ascii_alphanumeric() || "-._~".contains(character) {
        format!("{start}{character}{rest}")
    } else {
        format!("{start}%{:02X}{rest}", u32::from(character))
    }
}

/// Cuts a body into frames at random places, some of them twice.
fn frames(body: &[u8], cuts: &[prop::sample::Index]) -> Frames {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
    places.extend([0, body.len()]);
    places.sort_unstable();
    let frame = |ends: &[usize]| Bytes::copy_from_slice(&body[ends[0]..ends[1]]);
    Frames::of(places.windows(2).map(frame).collect::<Vec<_>>())
}

static HOOK: LazyLock<Uri> = LazyLock::new(|| Uri::from_static("/hook"));

/// Sends a request through the layer to a service that answers with the body it got.
fn send(uri: &Uri, signature: &str, body: Boxed) -> (StatusCode, Bytes) {
    let signature = HeaderValue::from_str(signature).expect("ASCII");
    send_with_header(uri, signature, body)
}

fn send_with_header(uri: &Uri, signature: HeaderValue, body: Boxed) -> (StatusCode, Bytes) {
    let echo = service_fn(async |request: Request<Boxed>| {
        Ok::<_, Infallible>(Response::new(Full::new(
            request.into_body().collect().await.expect("a complete body").to_bytes(),
        )))
    });
    let mut service = layer().layer(echo);
    let request = Request::post(uri)
        .header("upstash-signature", signature)
        .body(body)
        .expect("a valid request");
    let response = expect_ready(service.call(request)).expect("infallible");
    (
        response.status(),
        expect_ready(response.into_body().collect()).expect("infallible").to_bytes(),
    )
}

proptest! {
    #[test]
    fn signed_deliveries_are_accepted_until_they_expire(url in url(), body in body(), issued in issued_at(), later in 0..300_u64, nth in 0..2) {
        let signer = if nth == 0 { current() } else { next() };
        let token = signer.delivery(&url, &body, at(issued)).token();
        let verdict = Verifier::new(keys()).verify(&token, &url, &body, at(issued + later));
        prop_assert_eq!(verdict.as_ref().map(Claims::subject), Ok(url.as_str()));
    }

    #[test]
    fn a_token_is_accepted_only_in_its_window(url in url(), issued in issued_at(), outside in prop_oneof![0..300_u64, 600..10_000_u64], tolerance in 0..100_u64) {
        // The window is [nbf, exp) = [issued, issued + 300), widened by the tolerance at both ends.
        let token = current().delivery(&url, b"", at(issued)).claim("nbf", issued).token();
        let verifier = Verifier::new(keys()).clock_tolerance(Duration::from_secs(tolerance));
        let now = issued + outside - 300;
        let in_window = issued <= now + tolerance && now < issued + 300 + tolerance;
        prop_assert_eq!(verifier.verify(&token, &url, b"", at(now)).is_ok(), in_window);
    }

    #[test]
    fn any_change_of_the_token_is_rejected(body in body(), position in position(), to in prop_oneof!["[A-Za-z0-9_.=-]", ".", any::<char>().prop_map(String::from)]) {
        let valid = current().delivery(BASE, &body, now()).token();
        for change in Change::ALL {
            let changed = change.apply(&valid, position.within(0..valid.len()), &to);
            let verdict = Verifier::new(keys()).verify(&changed, BASE, &body, now());
            prop_assert_eq!(verdict.is_ok(), changed == valid, "{:?}", change);
        }
    }

    #[test]
    fn any_change_of_the_body_is_rejected(body in body(), index in any::<prop::sample::Index>(), byte in any::<u8>(), kind in 0..3) {
        let token = current().delivery(BASE, &body, now()).token();
        let mut changed = body.clone();
        match kind {
            0 => changed.insert(index.index(changed.len() + 1), byte),
            1 if !changed.is_empty() => drop(changed.remove(index.index(body.len()))),
            _ if !changed.is_empty() => changed[index.index(body.len())] = byte,
            _ => {}
        }
        let verdict = Verifier::new(keys()).verify(&token, BASE, &changed, now());
        prop_assert_eq!(verdict.is_ok(), changed == body);
    }

    #[test]
    fn only_equivalent_urls_are_accepted(url in url(), part in 0..3_usize, position in position(), to in "/|[a-zA-Z0-9~._%?=&-]") {
        let token = current().delivery(&url, b"", now()).token();
        let host = url.find("://").expect("a scheme") + 3;
        let query = url.find('?').unwrap_or(url.len());
        let path = url[host..query].find('/').map_or(query, |slash| host + slash);
        let position = position.within([host..path, path..query, query..url.len()][part].clone());
        for change in Change::ALL {
            let changed = change.apply(&url, position, &to);
            let accepted = Verifier::new(keys()).verify(&token, &changed, b"", now()).is_ok();
            let equivalent = Normalized::new(&changed) == Normalized::new(&url);
            prop_assert_eq!(accepted, equivalent, "{:?}: {}", change, changed);
        }
    }

    #[test]
    fn frame_boundaries_do_not_change_the_outcome(body in body(), splits in proptest::collection::vec(any::<prop::sample::Index>(), 0..12), declared in any::<bool>(), genuine in any::<bool>()) {
        let signed: &[u8] = if genuine { &body } else { b"another body" };
        let token = current().delivery(&format!("{BASE}/hook"), signed, now()).token();
        let mut frames = frames(&body, &splits);
        if declared {
            frames = frames.with_exact_length(body.len());
        }
        let (status, echoed) = send(&HOOK, &token, BoxBody::new(frames));
        prop_assert_eq!(status.is_success(), genuine);
        prop_assert_eq!(echoed == body, genuine);
    }

    #[test]
    fn deliveries_to_any_path_and_query_are_accepted(
        base in prop_oneof![Just(BASE), Just("HTTPS://API.EXAMPLE.COM:443")],
        path_and_query in "(/[a-zA-Z0-9~._%20-]{0,8}){1,4}(\\?[a-zA-Z0-9~._%=&+/-]{0,12})?",
        body in body(),
        splits in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let token = current().delivery(&format!("{base}{path_and_query}"), &body, now()).token();
        let uri = Uri::try_from(path_and_query).expect("a path and a query");
        let declared = frames(&body, &splits).with_exact_length(body.len());
        let (status, echoed) = send(&uri, &token, BoxBody::new(declared));
        prop_assert_eq!(status, StatusCode::OK);
        prop_assert_eq!(echoed, body);
    }

    #[test]
    fn only_the_signed_path_and_query_are_accepted(
        start in prop_oneof![8 => Just("/"), 1 => Just(""), 1 => Just("http://evil.example/")],
        bytes in proptest::collection::vec(prop_oneof![9 => 0x20..0x7F_u8, 1 => any::<u8>()], 0..12),
    ) {
        let Ok(uri) = Uri::try_from([start.as_bytes(), &bytes].concat()) else { return Ok(()) };
        let accepted = |url: String| {
            let token = current().delivery(&url, b"", now()).token();
            send(&uri, &token, BoxBody::new(Frames::new([]))).0 == StatusCode::OK
        };
        let (path, query) = (uri.path(), uri.query().map(|query| format!("?{query}")));
        let query = query.unwrap_or_default();
        // `*` and `evil.example:80` have no path that could be joined to the base.
        prop_assert_eq!(accepted(format!("{BASE}{path}{query}")), path.starts_with('/'));
        for other in [
            format!("{BASE}{path}x{query}"),
            format!("{BASE}/x{path}{query}"),
            format!("{BASE}{path}?x&{query}"),
            format!("https://evil.example{path}{query}"),
        ] {
            prop_assert!(!accepted(other));
        }
    }

    #[test]
    fn arbitrary_input_is_rejected_without_panicking(header in proptest::collection::vec(any::<u8>(), 0..600), token in ".{0,300}", url in ".{0,100}", body in body()) {
        if let Ok(header) = HeaderValue::from_bytes(&header) {
            let (status, _) = send_with_header(&HOOK, header, BoxBody::new(Frames::of([body.clone()])));
            prop_assert_eq!(status, StatusCode::BAD_REQUEST);
        }
        prop_assert!(Verifier::new(keys()).verify(&token, &url, &body, now()).is_err());
        // The same text as a URL: in the claim, and in the configuration.
        let token = current().delivery(&url, &body, at(NOW)).token();
        prop_assert!(Verifier::new(keys()).verify(&token, &url, &body, now()).is_ok());
        let _ = (PublicUrl::exact(&url), PublicUrl::base(&url));
    }

    #[test]
    fn arbitrary_claims_and_headers_are_rejected(header in proptest::collection::vec(any::<u8>(), 0..80), claims in proptest::collection::vec(any::<u8>(), 0..400)) {
        let token = current().sign_raw(&header, &claims);
        prop_assert!(Verifier::new(keys()).verify(&token, BASE, b"", now()).is_err());
    }
}
