//! Counts heap allocations, which are the same on any machine.
//!
//! A test target of its own, because counting takes a global allocator.

use std::{convert::Infallible, iter};

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{Full, combinators::BoxBody};
use tower::{Layer, Service};
use tower_qstash::{
    DeliveryBuilder, MemoryStore, QStashVerify, QStashVerifyLayer, Rejection, ReplayGuard,
    ReplayResponse, ResponseFuture, Signer,
};

#[expect(dead_code, reason = "shared with the other test targets")]
mod support;

use support::{
    NOW, URL,
    bodies::Frames,
    current,
    deliveries::{delivery, request},
    futures::expect_ready,
    layer, now,
    services::Bare,
    unknown_key,
};

const FRAME: usize = 16 * 1024;

/// Returns the allocations of the second of two equal requests. The first sets up statics.
fn count<B: Body + Send>(request: impl Fn() -> Request<B>, success: bool) -> AllocationInfo
where
    QStashVerify<Bare>: Service<Request<B>, Error = Infallible, Response: IsSuccess>,
{
    count_with(&layer(), request, success)
}

fn count_with<B: Body + Send>(
    layer: &QStashVerifyLayer,
    request: impl Fn() -> Request<B>,
    success: bool,
) -> AllocationInfo
where
    QStashVerify<Bare>: Service<Request<B>, Error = Infallible, Response: IsSuccess>,
{
    let mut service = layer.layer(Bare);
    let mut info = AllocationInfo::default();
    for request in [request(), request()] {
        let mut response = None;
        info = measure(|| response = expect_ready(service.call(request)).ok());
        assert_eq!(response.expect("infallible").is_success(), success);
    }
    info
}

trait IsSuccess {
    fn is_success(&self) -> bool;
}

impl<B> IsSuccess for Response<B> {
    fn is_success(&self) -> bool {
        assert_eq!(self.status().is_success(), self.extensions().get::<Rejection>().is_none());
        self.status().is_success()
    }
}

#[test]
fn delivery_of_one_frame_takes_four_allocations() {
    for size in [0, 256, 100_000] {
        let body = Bytes::from(vec![7; size]);
        let info = count(|| delivery(&current(), &body, Full::new(body.clone())), true);
        // The text of the claims, and three for the first entry in a request's extensions: `http`
        // boxes the map, the map's table, and the entry.
        assert_eq!(info.count_total, 4, "{info:?}");
        assert!(info.bytes_total < 1_024, "independent of the body's size: {info:?}");
    }
}

/// Services without a guard don't pay for one: these are the sizes from before there were guards.
#[cfg(target_pointer_width = "64")]
#[test]
fn response_future_is_no_larger_for_the_guard() {
    assert_eq!(size_of::<ResponseFuture<Bare, Full<Bytes>>>(), 640);
    assert_eq!(size_of::<ResponseFuture<axum::Router, axum::body::Body>>(), 608);
}

/// Returns the allocations of a delivery whose token is new, and of one that has it again. The memory
/// of the guard was filled before, so that it no longer grows.
fn count_guarded(body: &Bytes) -> [AllocationInfo; 2] {
    let guard = ReplayGuard::in_memory_with(MemoryStore::with_capacity(10));
    let mut service = layer().replay_guard(guard).layer(Bare);
    let mut deliver = |expires_in| {
        let exp = NOW + expires_in;
        let token = current().delivery(URL, body, now()).claim("exp", exp).token();
        let delivery = request(&token, Full::new(body.clone()));
        let mut response = None;
        let info = measure(|| response = expect_ready(service.call(delivery)).ok());
        (info, response.expect("infallible").extensions().get().copied())
    };
    for expires_in in 1..100 {
        deliver(expires_in);
    }
    let [first, second] = [deliver(100), deliver(100)];
    assert_eq!((first.1, second.1), (None, Some(ReplayResponse::AlreadyProcessed)));
    [first.0, second.0]
}

#[test]
fn guarded_delivery_takes_one_allocation_more() {
    for size in [0, 256, 100_000] {
        let body = Bytes::from(vec![7; size]);
        let [first, second] = count_guarded(&body);
        // The future behind the guard is boxed.
        assert_eq!(first.count_total, 4 + 1, "{first:?}");
        assert!(first.bytes_total < 2_048, "independent of the body's size: {first:?}");
        // And the response of the guard, with a header and an extension of its own.
        assert_eq!(second.count_total, 4 + 1 + 5, "{second:?}");
    }
}

#[test]
fn request_with_extensions_takes_two_allocations() {
    let body = Bytes::from_static(b"Hello");
    let with_extension = || {
        let mut request = delivery(&current(), &body, Full::new(body.clone()));
        request.extensions_mut().insert("as axum and hyper do");
        request
    };
    let info = count(with_extension, true);
    assert_eq!(info.count_total, 2, "{info:?}");
}

/// The body is boxed again, which takes one allocation more than an unboxed one and no copy.
#[test]
fn boxed_body_of_one_frame_takes_five_allocations() {
    let bytes = Bytes::from(vec![7; 100_000]);
    let boxed =
        count(|| delivery(&current(), &bytes, BoxBody::new(Full::new(bytes.clone()))), true);
    assert_eq!(boxed.count_total, 5, "{boxed:?}");
    let axum = count(|| delivery(&current(), &bytes, axum::body::Body::from(bytes.clone())), true);
    assert_eq!(axum.count_total, 5, "{axum:?}");
    assert!(boxed.bytes_total.max(axum.bytes_total) < 1_024, "{boxed:?}, {axum:?}");
}

#[test]
fn lambda_body_is_neither_moved_nor_copied() {
    let text = "x".repeat(100_000);
    let info = count(|| delivery(&current(), &text, lambda_http::Body::Text(text.clone())), true);
    assert_eq!(info.count_total, 4, "{info:?}");
    assert!(info.bytes_total < 1_024, "{info:?}");
}

/// Creates a body in frames of 16 KiB, each allocated when it is polled, as by a connection.
fn frames(length: usize) -> Frames {
    let full = iter::repeat_n(FRAME, length / FRAME);
    let last = (!length.is_multiple_of(FRAME)).then_some(length % FRAME);
    Frames::of(full.chain(last).map(|length| vec![7; length]))
}

#[test]
fn declared_body_takes_its_length_and_one_frame() {
    for length in [FRAME, FRAME + 1, 100_000, 1024 * 1024] {
        let body = vec![7; length];
        let declared = || BoxBody::new(frames(length).with_exact_length(length));
        let info = count(|| delivery(&current(), &body, declared()), true);
        let peak = usize::try_from(info.bytes_max).expect("a small number");
        assert!(peak <= length + FRAME + 4096, "{length}: {info:?}");
    }
}

#[test]
fn undeclared_body_grows_by_doubling_at_most() {
    let length = 1024 * 1024;
    let body = vec![7; length];
    let info = count(|| delivery(&current(), &body, BoxBody::new(frames(length))), true);
    assert!(info.bytes_max <= 3 * length as u64, "{info:?}");
}

/// Returns the allocations of a delivery that is rejected before its body is read: with an empty
/// body, and with a large one.
fn count_rejected(
    layer: &QStashVerifyLayer,
    signer: &Signer,
    change: impl Fn(DeliveryBuilder) -> DeliveryBuilder,
) -> [AllocationInfo; 2] {
    [0, 1024 * 1024].map(|size| {
        let body = Bytes::from(vec![7; size]);
        let token = change(signer.delivery(URL, &body, now())).token();
        count_with(layer, || request(&token, Full::new(body.clone())), false)
    })
}

/// Of the seven, five are made by `http`: three for the rejection in the extensions, two for a
/// header. The other two are the text of the rejection, and the JSON that contains it.
#[test]
fn rejection_allocates_only_its_response() {
    for info in count_rejected(&layer(), &unknown_key(), |delivery| delivery) {
        assert_eq!(info.count_total, 7, "{info:?}");
        assert!(info.bytes_total < 2_048, "{info:?}");
    }
}

/// With a response that allocates nothing, only the rejection in its extensions is left.
#[test]
fn nothing_is_allocated_before_the_response() {
    let layer = layer().rejection_response(|rejection| {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = rejection.status();
        response
    });
    let forged = count_rejected(&layer, &unknown_key(), |delivery| delivery);
    let expired = count_rejected(&layer, &current(), |delivery| delivery.claim("exp", 1));
    for info in forged.into_iter().chain(expired) {
        assert_eq!(info.count_total, 3, "{info:?}");
    }
    // Only a holder of a configured key gets this far: both URLs are allocated, for the log.
    let elsewhere = |delivery: DeliveryBuilder| delivery.claim("sub", "https://elsewhere.example");
    for info in count_rejected(&layer, &current(), elsewhere) {
        assert_eq!(info.count_total, 3 + 10, "{info:?}");
    }
}
