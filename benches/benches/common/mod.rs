//! What every benchmark needs: deliveries, the floor, and services to measure.
#![expect(dead_code, reason = "each benchmark uses its own part of this")]

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

pub const CURRENT: &str = "sig_7RvLjqLZBb5vdkuDKgqkcZsPGHjS";
pub const NEXT: &str = "sig_5NrzPWtoDs3SgcRMVuVjsJ4qDZvT";
pub const STRANGER: &str = "sig_4hPqXyWn2CkS9aLzEbT7mVuRgJfD";
pub const URL: &str = "https://api.example.com/hooks/resize";
pub const PATH: &str = "/hooks/resize";
pub const SIZES: [usize; 5] = [0, 256, 1024, 64 * 1024, 1024 * 1024];

pub fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

pub fn body(size: usize) -> Bytes {
    (0..size).map(|index| (index * 31 + index / 256) as u8).collect()
}

pub fn sign(key: &str, body: &[u8]) -> String {
    Signer::new(key).expect("a good key").token(URL, body, now()).sign()
}

pub fn verifier() -> Verifier {
    Verifier::new(SigningKeys::new(CURRENT, NEXT).expect("good keys"))
}

/// The least that verification can cost: one HMAC-SHA256 over the token, with the key schedule done
/// beforehand, and one SHA-256 over the body.
pub struct Floor {
    mac: Hmac<Sha256>,
}

impl Floor {
    pub fn new() -> Self {
        Self { mac: Hmac::new_from_slice(CURRENT.as_bytes()).expect("any length") }
    }

    pub fn run(&self, token: &str, body: &[u8]) {
        let message = &token.as_bytes()[..token.len() - 44];
        black_box(self.mac.clone().chain_update(black_box(message)).finalize());
        black_box(Sha256::digest(black_box(body)));
    }
}

/// Answers at once.
#[derive(Clone)]
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

pub fn service() -> QStashVerify<Bare> {
    let keys = SigningKeys::new(CURRENT, NEXT).expect("good keys");
    let base = PublicUrl::base("https://api.example.com").expect("a good base");
    QStashVerifyLayer::new(keys, base).clock(now).layer(Bare)
}

/// Calls a service whose future never has to wait.
pub fn call<S, B>(service: &mut S, request: Request<B>) -> S::Response
where
    S: Service<Request<B>, Error = Infallible>,
{
    let mut context = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut context).is_ready());
    match pin!(service.call(request)).poll(&mut context) {
        Poll::Ready(Ok(response)) => response,
        Poll::Pending => unreachable!("nothing to wait for"),
    }
}

pub fn request<B>(token: &str, body: B) -> Request<B> {
    Request::post(PATH).header("upstash-signature", token).body(body).expect("a good request")
}

/// A body in frames of 16 KiB with a declared length, as hyper reads one.
pub struct Frames(Bytes);

impl Frames {
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

pub fn signed_with_claim(name: &str, value: serde_json::Value, body: &[u8]) -> String {
    let signer = Signer::new(CURRENT).expect("a good key");
    signer.token(URL, body, now()).claim(name, value).sign()
}

pub fn peer() -> qstash_rs::Receiver {
    qstash_rs::Receiver::new(qstash_rs::ReceiverConfig {
        current_signing_key: CURRENT.into(),
        next_signing_key: NEXT.into(),
    })
}

/// qstash-rs rejects what QStash really sends: `aud` must be missing, `nbf` not negative. It has no
/// clock to set, so its token is good for long.
pub fn sign_for_peer(body: &[u8]) -> String {
    let signer = Signer::new(CURRENT).expect("a good key");
    let token = signer.token(URL, body, now()).without_claim("aud");
    token.claim("nbf", 1_700_000_000).claim("exp", 99_999_999_999_u64).sign()
}

pub fn ask_peer(peer: &qstash_rs::Receiver, token: &str, body: &[u8]) {
    let request = qstash_rs::VerifyRequest {
        signature: black_box(token),
        body: black_box(body),
        url: Some(URL),
        clock_tolerance_seconds: 0,
    };
    assert!(peer.verify(request).is_ok());
}
