//! Properties, for any body, URL, time and way of arriving.

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

/// A moment, whole seconds since the epoch, at which a token is made.
fn made_at() -> impl Strategy<Value = u64> {
    300..4_000_000_000_u64
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// What may be done to a text at one place.
#[derive(Clone, Copy, Debug)]
enum Change {
    Substitute,
    Insert,
    Delete,
}

/// Where in a range; often the end, which is like no other place.
#[derive(Clone, Copy, Debug)]
enum Place {
    Any(prop::sample::Index),
    Last,
    End,
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        2 => any::<prop::sample::Index>().prop_map(Place::Any),
        1 => Just(Place::Last),
        1 => Just(Place::End),
    ]
}

impl Place {
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

    /// What becomes of an ASCII text with this change.
    fn make(self, text: &str, place: usize, with: &str) -> String {
        let (before, after) = text.split_at(place);
        let without_first = || after.get(1..).unwrap_or_default();
        match self {
            Self::Substitute => format!("{before}{with}{}", without_first()),
            Self::Insert => format!("{before}{with}{after}"),
            Self::Delete => format!("{before}{}", without_first()),
        }
    }
}

/// What must be equal for two URLs to be the same, worked out by other means than the crate's. For
/// URLs like those of `url()`, with neither port nor fragment nor user-info.
#[derive(Debug, PartialEq)]
struct Normalised {
    scheme_and_host: String,
    path: String,
    query: BTreeMap<String, Vec<String>>,
}

impl Normalised {
    fn new(url: &str) -> Self {
        let (url, query) = url.split_once('?').unwrap_or((url, ""));
        let (scheme, rest) = url.split_once("://").expect("a scheme");
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let mut names = BTreeMap::<_, Vec<_>>::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            names.entry(normalised(name)).or_default().push(normalised(value));
        }
        Self {
            scheme_and_host: format!("{scheme}://{host}").to_ascii_lowercase(),
            path: normalised(path.strip_suffix('/').unwrap_or(path)),
            query: names,
        }
    }
}

/// RFC 3986 §6.2.2: with upper-case digits, and without the encodings that need not be. A `%` that
/// encodes nothing stands for its own encoding.
fn normalised(text: &str) -> String {
    let (start, encoded) = text.split_once('%').unwrap_or((text, ""));
    if start.len() == text.len() {
        return text.to_owned();
    }
    let digits = encoded.get(..2).filter(|two| two.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let (character, rest) = match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
        Some(byte) => (char::from(byte), &encoded[2..]),
        None => ('%', encoded),
    };
    let rest = normalised(rest);
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
        .expect("a good request");
    let response = expect_ready(service.call(request)).expect("infallible");
    (
        response.status(),
        expect_ready(response.into_body().collect()).expect("infallible").to_bytes(),
    )
}

proptest! {
    #[test]
    fn what_the_signer_makes_gets_in(url in url(), body in body(), made in made_at(), later in 0..300_u64, nth in 0..2) {
        let signer = if nth == 0 { current() } else { next() };
        let token = signer.delivery(&url, &body, at(made)).token();
        let verdict = Verifier::new(keys()).verify(&token, &url, &body, at(made + later));
        prop_assert_eq!(verdict.as_ref().map(Claims::subject), Ok(url.as_str()));
    }

    #[test]
    fn outside_its_window_it_stays_out(url in url(), made in made_at(), outside in prop_oneof![0..300_u64, 600..10_000_u64], tolerance in 0..100_u64) {
        // The window is [nbf, exp) = [made, made + 300), and wider by the tolerance.
        let token = current().delivery(&url, b"", at(made)).claim("nbf", made).token();
        let verifier = Verifier::new(keys()).clock_tolerance(Duration::from_secs(tolerance));
        let now = made + outside - 300;
        let in_window = made <= now + tolerance && now < made + 300 + tolerance;
        prop_assert_eq!(verifier.verify(&token, &url, b"", at(now)).is_ok(), in_window);
    }

    #[test]
    fn any_change_of_the_token_keeps_it_out(body in body(), place in place(), to in prop_oneof!["[A-Za-z0-9_.=-]", ".", any::<char>().prop_map(String::from)]) {
        let good = current().delivery(BASE, &body, now()).token();
        for change in Change::ALL {
            let changed = change.make(&good, place.within(0..good.len()), &to);
            let verdict = Verifier::new(keys()).verify(&changed, BASE, &body, now());
            prop_assert_eq!(verdict.is_ok(), changed == good, "{:?}", change);
        }
    }

    #[test]
    fn any_change_of_the_body_keeps_it_out(body in body(), index in any::<prop::sample::Index>(), byte in any::<u8>(), kind in 0..3) {
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
    fn any_other_url_keeps_it_out(url in url(), part in 0..3_usize, place in place(), to in "/|[a-zA-Z0-9~._%?=&-]") {
        let token = current().delivery(&url, b"", now()).token();
        let host = url.find("://").expect("a scheme") + 3;
        let query = url.find('?').unwrap_or(url.len());
        let path = url[host..query].find('/').map_or(query, |slash| host + slash);
        let place = place.within([host..path, path..query, query..url.len()][part].clone());
        for change in Change::ALL {
            let changed = change.make(&url, place, &to);
            let accepted = Verifier::new(keys()).verify(&token, &changed, b"", now()).is_ok();
            let same = Normalised::new(&changed) == Normalised::new(&url);
            prop_assert_eq!(accepted, same, "{:?}: {}", change, changed);
        }
    }

    #[test]
    fn frames_make_no_difference(body in body(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12), declared in any::<bool>(), genuine in any::<bool>()) {
        let signed: &[u8] = if genuine { &body } else { b"another body" };
        let token = current().delivery(&format!("{BASE}/hook"), signed, now()).token();
        let mut frames = frames(&body, &cuts);
        if declared {
            frames = frames.with_exact_length(body.len());
        }
        let (status, echoed) = send(&HOOK, &token, BoxBody::new(frames));
        prop_assert_eq!(status.is_success(), genuine);
        prop_assert_eq!(echoed == body, genuine);
    }

    #[test]
    fn whatever_the_path_and_query_a_delivery_gets_through(
        base in prop_oneof![Just(BASE), Just("HTTPS://API.EXAMPLE.COM:443")],
        path_and_query in "(/[a-zA-Z0-9~._%20-]{0,8}){1,4}(\\?[a-zA-Z0-9~._%=&+/-]{0,12})?",
        body in body(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let token = current().delivery(&format!("{base}{path_and_query}"), &body, now()).token();
        let uri = Uri::try_from(path_and_query).expect("a path and a query");
        let declared = frames(&body, &cuts).with_exact_length(body.len());
        let (status, echoed) = send(&uri, &token, BoxBody::new(declared));
        prop_assert_eq!(status, StatusCode::OK);
        prop_assert_eq!(echoed, body);
    }

    #[test]
    fn whatever_bytes_the_path_only_who_signed_for_it_gets_through(
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
        // `*` and `evil.example:80` have no path to be below the base.
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
    fn arbitrary_bytes_are_refused_and_nothing_panics(header in proptest::collection::vec(any::<u8>(), 0..600), token in ".{0,300}", url in ".{0,100}", body in body()) {
        if let Ok(header) = HeaderValue::from_bytes(&header) {
            let (status, _) = send_with_header(&HOOK, header, BoxBody::new(Frames::of([body.clone()])));
            prop_assert_eq!(status, StatusCode::BAD_REQUEST);
        }
        prop_assert!(Verifier::new(keys()).verify(&token, &url, &body, now()).is_err());
        // As URLs: of the claim, of the operator.
        let token = current().delivery(&url, &body, at(NOW)).token();
        prop_assert!(Verifier::new(keys()).verify(&token, &url, &body, now()).is_ok());
        let _ = (PublicUrl::exact(&url), PublicUrl::base(&url));
    }

    #[test]
    fn arbitrary_claims_and_headers_do_not_panic(header in proptest::collection::vec(any::<u8>(), 0..80), claims in proptest::collection::vec(any::<u8>(), 0..400)) {
        let token = current().sign_raw(&header, &claims);
        prop_assert!(Verifier::new(keys()).verify(&token, BASE, b"", now()).is_err());
    }
}
