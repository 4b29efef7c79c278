//! Deliveries, the floor and services for the benchmarks, which are in `benches/`.
//!
//! Run them with `cargo bench -p tower-qstash-bench`.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Full, combinators::BoxBody};
use sha2::{Digest, Sha256};
use tower::{Layer, Service};
use tower_qstash::{PublicUrl, QStashVerify, QStashVerifyLayer, Signer, SigningKeys, Verifier};

/// The current signing key.
pub const CURRENT: &str = "sig_7RvLjqLZBb5vdkuDKgqkcZsPGHjS";
/// The next signing key.
pub const NEXT: &str = "sig_5NrzPWtoDs3SgcRMVuVjsJ4qDZvT";
/// A key that is not configured.
pub const UNKNOWN: &str = "sig_4hPqXyWn2CkS9aLzEbT7mVuRgJfD";
/// The URL that every message is published to.
pub const URL: &str = "https://api.example.com/hooks/resize";
/// The path of [`URL`].
pub const PATH: &str = "/hooks/resize";
/// The sizes of the bodies, in bytes.
pub const SIZES: [usize; 5] = [0, 256, 1024, 64 * 1024, 1024 * 1024];

/// Returns the time of every delivery.
pub fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

/// Returns a body of varying bytes.
pub fn body(size: usize) -> Bytes {
    (0..size).map(|index| (index * 31 + index / 256) as u8).collect()
}

/// Returns a token as QStash issues it.
pub fn sign(key: &str, body: &[u8]) -> String {
    Signer::new(key).expect("a valid key").delivery(URL, body, now()).token()
}

/// Returns a verifier with both keys.
pub fn verifier() -> Verifier {
    Verifier::new(SigningKeys::new(CURRENT, NEXT).expect("valid keys"))
}

/// The work that no verifier can avoid: one HMAC-SHA256 over the token, with the key schedule
/// computed in advance, and one SHA-256 over the body.
#[derive(Debug)]
pub struct Floor {
    mac: Hmac<Sha256>,
}

impl Default for Floor {
    fn default() -> Self {
        Self { mac: Hmac::new_from_slice(CURRENT.as_bytes()).expect("any length") }
    }
}

impl Floor {
    /// Computes both.
    pub fn run(&self, token: &str, body: &[u8]) {
        self.mac(token);
        black_box(Sha256::digest(black_box(body)));
    }

    /// Computes only the HMAC.
    pub fn mac(&self, token: &str) {
        let message = &token.as_bytes()[..token.len() - 44];
        black_box(self.mac.clone().chain_update(black_box(message)).finalize());
    }
}

/// A service that responds immediately.
#[derive(Clone, Debug)]
pub struct Bare;

impl<B> Service<Request<B>> for Bare {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        black_box(request);
        ready(Ok(Response::new(Full::default())))
    }
}

/// Returns the layer around [`Bare`], with the origin of [`URL`] as the base.
pub fn service() -> QStashVerify<Bare> {
    service_for(PublicUrl::base("https://api.example.com").expect("a valid base"))
}

/// Returns the layer around [`Bare`], with this public URL.
pub fn service_for(public_url: PublicUrl) -> QStashVerify<Bare> {
    let keys = SigningKeys::new(CURRENT, NEXT).expect("valid keys");
    QStashVerifyLayer::new(keys, public_url).clock(now).layer(Bare)
}

/// Calls a service whose future is never pending.
pub fn call<S, B>(service: &mut S, request: Request<B>) -> S::Response
where
    S: Service<Request<B>, Error = Infallible>,
{
    let mut context = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut context).is_ready());
    match pin!(service.call(request)).poll(&mut context) {
        Poll::Ready(Ok(response)) => response,
        Poll::Pending => unreachable!("the service is never pending"),
    }
}

/// Returns a request with this token and body.
pub fn request<B>(token: &str, body: B) -> Request<B> {
    Request::post(PATH).header("upstash-signature", token).body(body).expect("a valid request")
}

/// A body in frames of 16 KiB with a declared length, as hyper reads one.
#[derive(Debug)]
pub struct Frames(Bytes);

impl Frames {
    /// Creates the body, boxed as a type that implements `RequestBody`.
    pub fn boxed(bytes: Bytes) -> BoxBody<Bytes, Infallible> {
        BoxBody::new(Self(bytes))
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.0.len().min(16 * 1024);
        let frame = self.0.split_to(length);
        Poll::Ready((length > 0).then_some(Ok(Frame::data(frame))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

/// Returns a token in which one claim is replaced.
pub fn signed_with_claim(name: &str, value: serde_json::Value, body: &[u8]) -> String {
    let signer = Signer::new(CURRENT).expect("a valid key");
    signer.delivery(URL, body, now()).claim(name, value).token()
}

/// Returns the verifier of qstash-rs, with both keys.
pub fn qstash_rs_receiver() -> qstash_rs::Receiver {
    qstash_rs::Receiver::new(qstash_rs::ReceiverConfig {
        current_signing_key: CURRENT.into(),
        next_signing_key: NEXT.into(),
    })
}

/// Returns a token that qstash-rs accepts. It rejects QStash's own, in which `aud` is present and
/// `nbf` is negative, and its clock can't be set, so the token expires late.
pub fn sign_for_qstash_rs(body: &[u8]) -> String {
    let signer = Signer::new(CURRENT).expect("a valid key");
    let token = signer.delivery(URL, body, now()).without_claim("aud");
    token.claim("nbf", 1_700_000_000).claim("exp", 99_999_999_999_u64).token()
}

/// Verifies with qstash-rs.
pub fn verify_with_qstash_rs(receiver: &qstash_rs::Receiver, token: &str, body: &[u8]) {
    let request = qstash_rs::VerifyRequest {
        signature: black_box(token),
        body: black_box(body),
        url: Some(URL),
        clock_tolerance_seconds: 0,
    };
    assert!(receiver.verify(request).is_ok());
}

/// Returns the median.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

/// The times of two sides that took turns, in nanoseconds: one of each for every round.
#[derive(Debug, Default)]
pub struct Pair {
    /// The times of both sides.
    pub nanos: [Vec<f64>; 2],
}

impl Pair {
    /// Prints the titles of what [`print`](Self::print) prints.
    pub fn print_header() {
        println!(
            "{:44} {:>8} {:>7} {:>7} {:>7} {:>10} {:>10}",
            "median ratio of all rounds", "body", "ratio", "25 %", "75 %", "ns", "ns"
        );
    }

    /// Prints the median and the quartiles of the rounds' ratios, and the median time of each side.
    pub fn print(&self, what: &str, size: usize) {
        let ratios: Vec<f64> =
            self.nanos[0].iter().zip(&self.nanos[1]).map(|(a, b)| a / b).collect();
        let [ratio, low, high] = [0.5, 0.25, 0.75].map(|part| quantile(&ratios, part));
        let [a, b] = self.medians();
        println!("{what:44} {size:>8} {ratio:>7.3} {low:>7.3} {high:>7.3} {a:>10.0} {b:>10.0}");
    }

    /// Returns the median time of each side.
    pub fn medians(&self) -> [f64; 2] {
        [0, 1].map(|side| median(&self.nanos[side]))
    }
}
