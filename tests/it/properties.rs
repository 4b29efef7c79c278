//! Properties, for any body, URL, time and way of arriving.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use proptest::prelude::*;
use tower::{Layer, Service, service_fn};
use tower_qstash::{Claims, PublicUrl, Verifier};

use crate::support::{BASE, NOW, current, keys, layer_for, next, now};

fn url() -> impl Strategy<Value = String> {
    (
        "https?",
        "[a-z]{1,9}(\\.[a-z]{2,5}){1,2}",
        "(/[a-zA-Z0-9~._%20-]{0,8}){0,4}",
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

/// A body in frames.
struct Frames(VecDeque<Bytes>);

impl Frames {
    /// Cut at random places, some of them twice.
    fn cut(body: &[u8], cuts: &[prop::sample::Index]) -> Self {
        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        places.extend([0, body.len()]);
        places.sort_unstable();
        Self(
            places.windows(2).map(|pair| Bytes::copy_from_slice(&body[pair[0]..pair[1]])).collect(),
        )
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Sends a request through the layer to a service that answers with the body it got.
fn send(
    path: &str,
    signature: HeaderValue,
    body: BoxBody<Bytes, Infallible>,
) -> (StatusCode, Bytes) {
    let echo = service_fn(async |request: Request<BoxBody<Bytes, Infallible>>| {
        Ok::<_, Infallible>(Response::new(Full::new(
            request.into_body().collect().await?.to_bytes(),
        )))
    });
    let mut service = layer_for(PublicUrl::base(BASE).expect("a good base")).layer(echo);
    let request = Request::post(path)
        .header("upstash-signature", signature)
        .body(body)
        .expect("a good request");
    let response = ready(service.call(request)).expect("infallible");
    (response.status(), ready(response.into_body().collect()).expect("infallible").to_bytes())
}

fn ready<F: Future>(future: F) -> F::Output {
    match Box::pin(future).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing here has to wait"),
    }
}

proptest! {
    #[test]
    fn what_the_signer_makes_gets_in(url in url(), body in body(), made in made_at(), later in 0..300_u64, nth in 0..2) {
        let signer = if nth == 0 { current() } else { next() };
        let token = signer.token(&url, &body, at(made)).sign();
        let verdict = Verifier::new(keys()).verify(&token, &url, &body, at(made + later));
        prop_assert_eq!(verdict.as_ref().map(Claims::subject), Ok(url.as_str()));
    }

    #[test]
    fn outside_its_window_it_stays_out(url in url(), made in made_at(), outside in prop_oneof![0..300_u64, 600..10_000_u64], tolerance in 0..100_u64) {
        // The window is [nbf, exp) = [made, made + 300), and wider by the tolerance.
        let token = current().token(&url, b"", at(made)).claim("nbf", made).sign();
        let verifier = Verifier::new(keys()).clock_tolerance(Duration::from_secs(tolerance));
        let now = made + outside - 300;
        let in_window = made <= now + tolerance && now < made + 300 + tolerance;
        prop_assert_eq!(verifier.verify(&token, &url, b"", at(now)).is_ok(), in_window);
    }

    #[test]
    fn any_change_of_the_token_keeps_it_out(index in any::<prop::sample::Index>(), to in any::<char>()) {
        let good = current().token(BASE, b"Hello", now()).sign();
        let mut changed: Vec<char> = good.chars().collect();
        let index = index.index(changed.len());
        changed[index] = to;
        let changed: String = changed.into_iter().collect();
        let verdict = Verifier::new(keys()).verify(&changed, BASE, b"Hello", now());
        prop_assert_eq!(verdict.is_ok(), changed == good);
    }

    #[test]
    fn any_change_of_the_body_keeps_it_out(body in body(), index in any::<prop::sample::Index>(), byte in any::<u8>(), kind in 0..3) {
        let token = current().token(BASE, &body, now()).sign();
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
    fn any_other_url_keeps_it_out(a in url(), b in url()) {
        let token = current().token(&a, b"", now()).sign();
        let accepted = Verifier::new(keys()).verify(&token, &b, b"", now()).is_ok();
        // Made at random, two URLs are hardly ever the same in any way but to the letter.
        let letters = |url: &str| url.trim_end_matches(['/', '?', '&']).to_owned();
        prop_assert!(!accepted || letters(&a) == letters(&b) || a.split('?').next().map(letters) == b.split('?').next().map(letters));
        prop_assert!(accepted || a != b);
    }

    #[test]
    fn frames_make_no_difference(body in body(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12), genuine in any::<bool>()) {
        let signed: &[u8] = if genuine { &body } else { b"another body" };
        let token = current().token(&format!("{BASE}/hook"), signed, now()).sign();
        let token = HeaderValue::from_str(&token).expect("ASCII");
        let (status, echoed) = send("/hook", token, BoxBody::new(Frames::cut(&body, &cuts)));
        prop_assert_eq!(status.is_success(), genuine);
        prop_assert_eq!(echoed == body, genuine);
    }

    #[test]
    fn arbitrary_bytes_are_refused_and_nothing_panics(header in proptest::collection::vec(any::<u8>(), 0..600), token in ".{0,300}", url in ".{0,100}", body in body()) {
        if let Ok(header) = HeaderValue::from_bytes(&header) {
            let (status, _) = send("/hook", header, BoxBody::new(Full::from(body.clone())));
            prop_assert_eq!(status, StatusCode::BAD_REQUEST);
        }
        prop_assert!(Verifier::new(keys()).verify(&token, &url, &body, now()).is_err());
        // As URLs: of the claim, of the operator.
        let token = current().token(&url, &body, at(NOW)).sign();
        prop_assert!(Verifier::new(keys()).verify(&token, &url, &body, now()).is_ok());
        let _ = (PublicUrl::exact(&url), PublicUrl::base(&url));
    }

    #[test]
    fn arbitrary_claims_and_headers_do_not_panic(header in proptest::collection::vec(any::<u8>(), 0..80), claims in proptest::collection::vec(any::<u8>(), 0..400)) {
        let token = current().sign_raw(&header, &claims);
        prop_assert!(Verifier::new(keys()).verify(&token, BASE, b"", now()).is_err());
    }
}
