//! Sends a request with any signature header, path and body through the layer. The layer must not
//! panic, and must call the inner service only with a valid MAC, the signed body and claims that
//! keep the rules.
#![no_main]

mod destination;
mod oracle;

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::{Pin, pin},
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, Waker},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, uri::PathAndQuery};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use libfuzzer_sys::fuzz_target;
use oracle::Delivery;
use tower::{Layer, Service, service_fn};
use tower_qstash::{PublicUrl, QStashVerifyLayer, Rejection, Signer, SigningKeys};

const HEADER: &[u8] = b"{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
const NOW: u64 = 1_700_000_000;

static CALLS: AtomicUsize = AtomicUsize::new(0);

fn run<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("no future here is ever pending"),
    }
}

fuzz_target!(|data: &[u8]| {
    // A byte for how to sign and the size of frames, then `path|header or claims|body`.
    let [mode, rest @ ..] = data else { return };
    let mut parts = rest.splitn(3, |&byte| byte == b'|');
    let (path, middle, body) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let Ok(path) = PathAndQuery::try_from(path) else { return };
    if !path.as_str().starts_with('/') || data.len() > 20_000 {
        return;
    }
    let now = UNIX_EPOCH + Duration::from_secs(NOW);

    let signer = Signer::new("sig_current").expect("a valid key");
    let url = format!("https://api.example.com{path}");
    let is_valid = mode % 4 == 0;
    let signature = match mode % 4 {
        0 => signer.delivery(&url, body, now).token().into_bytes(),
        1 => Signer::new("sig_unknown")
            .expect("a valid key")
            .delivery(&url, body, now)
            .token()
            .into_bytes(),
        2 => signer.sign_raw(HEADER, middle).into_bytes(),
        _ => middle.to_vec(),
    };
    let too_long = signature.len() > 8192;
    let Ok(signature) = HeaderValue::from_bytes(&signature) else { return };
    let signed_by_key = mode % 4 == 0 || mode % 4 == 2;

    let keys = SigningKeys::new("sig_current", "sig_next").expect("valid keys");
    let base = PublicUrl::base("https://api.example.com").expect("a valid base");
    let layer = QStashVerifyLayer::new(keys, base).clock(move || now).body_limit(4096);
    let expected = Bytes::copy_from_slice(body);
    let mut service =
        layer.layer(service_fn(move |request: Request<BoxBody<Bytes, Infallible>>| {
            let expected = expected.clone();
            async move {
                CALLS.fetch_add(1, Ordering::Relaxed);
                let got = request.into_body().collect().await.expect("infallible").to_bytes();
                assert_eq!(got, expected, "the inner service received another body");
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }
        }));

    let frame = usize::from(mode / 4).max(1);
    let frames = Frames(body.chunks(frame).map(Bytes::copy_from_slice).collect());
    let request = Request::post(path.as_str()).header("upstash-signature", signature);
    let Ok(request) = request.body(BoxBody::new(frames)) else { return };

    let before = CALLS.load(Ordering::Relaxed);
    let response = run(service.call(request)).expect("infallible");
    let reached = CALLS.load(Ordering::Relaxed) > before;
    assert_eq!(reached, response.status() == StatusCode::OK);
    assert_eq!(reached, response.extensions().get::<Rejection>().is_none());
    assert!(signed_by_key || !reached, "accepted without a valid MAC");
    assert!(!is_valid || reached || too_long || body.len() > 4096, "a valid delivery was rejected");
    if reached && mode % 4 == 2 {
        let (url, now) = (&*url, NOW as i64);
        Delivery { header: HEADER, claims: middle, url, body, now, tolerance: 0 }.assert_rules();
    }
});

/// A body of several frames.
struct Frames(VecDeque<Bytes>);

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
