//! Heap allocations, counted: exact figures, whatever the machine is doing.
//!
//! A test target of its own, since counting takes a global allocator.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Ready, ready},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Full, combinators::BoxBody};
use tower::{Layer, Service};
use tower_qstash::{
    DeliveryBuilder, PublicUrl, QStashVerify, QStashVerifyLayer, Rejection, Signer, SigningKeys,
};

const URL: &str = "https://api.example.com/hook";

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

/// Answers at once, without an allocation, and keeps nothing.
#[derive(Clone)]
struct Bare;

impl<B> Service<Request<B>> for Bare {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(Response::new(Full::default())))
    }
}

fn layer() -> QStashVerifyLayer {
    let keys = SigningKeys::new("sig_current", "sig_next").expect("good keys");
    let base = PublicUrl::base("https://api.example.com").expect("a good base");
    QStashVerifyLayer::new(keys, base).clock(now)
}

fn request<B>(key: &str, signed: &[u8], body: B) -> Request<B> {
    let token = Signer::new(key).expect("a good key").delivery(URL, signed, now()).token();
    Request::post("/hook").header("upstash-signature", token).body(body).expect("a good request")
}

/// What the layer allocates for one request; the first is not counted, which sets up statics.
fn count<B: Body + Send>(requests: [Request<B>; 2], success: bool) -> AllocationInfo
where
    QStashVerify<Bare>: Service<Request<B>, Error = Infallible>,
    <QStashVerify<Bare> as Service<Request<B>>>::Response: Answer,
{
    count_with(&layer(), requests, success)
}

fn count_with<B: Body + Send>(
    layer: &QStashVerifyLayer,
    mut requests: [Request<B>; 2],
    success: bool,
) -> AllocationInfo
where
    QStashVerify<Bare>: Service<Request<B>, Error = Infallible>,
    <QStashVerify<Bare> as Service<Request<B>>>::Response: Answer,
{
    let mut service = layer.layer(Bare);
    let mut info = AllocationInfo::default();
    requests.reverse();
    for request in requests {
        let mut answer = None;
        info = measure(|| {
            let mut context = Context::from_waker(Waker::noop());
            let Poll::Ready(response) = pin!(service.call(request)).poll(&mut context) else {
                panic!("nothing here has to wait");
            };
            answer = response.ok();
        });
        assert_eq!(answer.expect("infallible").is_success(), success);
    }
    info
}

trait Answer {
    fn is_success(&self) -> bool;
}

impl<B> Answer for Response<B> {
    fn is_success(&self) -> bool {
        assert_eq!(self.status().is_success(), self.extensions().get::<Rejection>().is_none());
        self.status().is_success()
    }
}

#[test]
fn an_accepted_delivery_of_one_frame_takes_four_allocations() {
    for size in [0, 256, 100_000] {
        let body = Bytes::from(vec![7; size]);
        let info =
            count([(); 2].map(|()| request("sig_current", &body, Full::new(body.clone()))), true);
        // The claims' text, and three for a first entry in a request's extensions: `http` boxes the
        // map, the map's table, and the entry.
        assert_eq!(info.count_total, 4, "{info:?}");
        assert!(info.bytes_total < 1_024, "nothing grows with the body: {info:?}");
    }
}

#[test]
fn a_delivery_whose_request_has_extensions_takes_two() {
    let body = Bytes::from_static(b"Hello");
    let with_extension = || {
        let mut request = request("sig_current", &body, Full::new(body.clone()));
        request.extensions_mut().insert("as axum and hyper do");
        request
    };
    let info = count([with_extension(), with_extension()], true);
    assert_eq!(info.count_total, 2, "{info:?}");
}

/// A boxed body of one frame is boxed anew: one more than an unboxed one, and still not copied.
#[test]
fn a_boxed_body_of_one_frame_takes_one_more() {
    let bytes = Bytes::from(vec![7; 100_000]);
    let boxed = || request("sig_current", &bytes, BoxBody::new(Full::new(bytes.clone())));
    let info = count([boxed(), boxed()], true);
    assert_eq!(info.count_total, 5, "{info:?}");
    let of_axum = || request("sig_current", &bytes, axum::body::Body::from(bytes.clone()));
    let of_axum = count([of_axum(), of_axum()], true);
    assert_eq!(of_axum.count_total, 5, "{of_axum:?}");
    assert!(info.bytes_total.max(of_axum.bytes_total) < 1_024, "{info:?}, {of_axum:?}");
}

#[test]
fn on_lambda_the_body_is_not_moved_nor_copied() {
    let text = "x".repeat(100_000);
    let body = || lambda_http::Body::Text(text.clone());
    let info =
        count([body(), body()].map(|body| request("sig_current", text.as_bytes(), body)), true);
    assert_eq!(info.count_total, 4, "{info:?}");
    assert!(info.bytes_total < 1_024, "{info:?}");
}

/// A body in frames of 16 KiB, each made when it is asked for, as a connection does.
struct Frames {
    frames: VecDeque<usize>,
    declared: bool,
}

impl Frames {
    fn of(length: usize, declared: bool) -> Self {
        let size = 16 * 1024;
        let whole = std::iter::repeat_n(size, length / size);
        Self {
            frames: whole.chain((!length.is_multiple_of(size)).then_some(length % size)).collect(),
            declared,
        }
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.frames.pop_front();
        Poll::Ready(frame.map(|length| Ok(Frame::data(Bytes::from(vec![7; length])))))
    }

    fn size_hint(&self) -> SizeHint {
        match self.declared {
            true => SizeHint::with_exact(self.frames.iter().sum::<usize>() as u64),
            false => SizeHint::new(),
        }
    }
}

#[test]
fn a_declared_body_of_many_frames_needs_its_length_and_one_frame() {
    let frame = 16 * 1024;
    for length in [frame, frame + 1, 100_000, 1024 * 1024] {
        let body = vec![7; length];
        let make = || request("sig_current", &body, BoxBody::new(Frames::of(length, true)));
        let info = count([make(), make()], true);
        let peak = usize::try_from(info.bytes_max).expect("a small number");
        assert!(peak <= length + frame + 4096, "{length}: {info:?}");
    }
}

#[test]
fn an_undeclared_body_of_many_frames_grows_by_doubling_at_worst() {
    let length = 1024 * 1024;
    let body = vec![7; length];
    let make = || request("sig_current", &body, BoxBody::new(Frames::of(length, false)));
    let info = count([make(), make()], true);
    assert!(info.bytes_max <= 3 * length as u64, "{info:?}");
}

/// A rejected request with each reason that is found before the body is read, and with a body that
/// is not there or large.
fn rejected(
    token: impl Fn(DeliveryBuilder) -> DeliveryBuilder,
    key: &str,
) -> [[Request<Full<Bytes>>; 2]; 2] {
    [0, 1024 * 1024].map(|size| {
        let body = Bytes::from(vec![7; size]);
        [(); 2].map(|()| {
            let signer = Signer::new(key).expect("a good key");
            let token = token(signer.delivery(URL, &body, now())).token();
            let request = Request::post("/hook").header("upstash-signature", token);
            request.body(Full::new(body.clone())).expect("a good request")
        })
    })
}

/// Of the seven, `http` takes five: three for the reason in the extensions, two for a header. The
/// other two are the reason's text, and the JSON with it.
#[test]
fn a_rejection_allocates_only_its_answer_and_nothing_for_the_body() {
    for requests in rejected(|token| token, "sig_stranger") {
        let info = count(requests, false);
        assert_eq!(info.count_total, 7, "{info:?}");
        assert!(info.bytes_total < 2_048, "{info:?}");
    }
}

/// With an answer that allocates nothing, only the reason in its extensions is left.
#[test]
fn nothing_is_allocated_before_the_answer() {
    let empty = || {
        layer().rejection_response(|rejection| {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = rejection.status();
            response
        })
    };
    let strangers = rejected(|token| token, "sig_stranger");
    let expired = rejected(|token| token.claim("exp", 1), "sig_current");
    for requests in strangers.into_iter().chain(expired) {
        let info = count_with(&empty(), requests, false);
        assert_eq!(info.count_total, 3, "{info:?}");
    }
    // Only the operator's keys get so far: both URLs, for the log.
    let elsewhere =
        rejected(|token| token.claim("sub", "https://elsewhere.example"), "sig_current");
    for requests in elsewhere {
        let info = count_with(&empty(), requests, false);
        assert_eq!(info.count_total, 3 + 10, "{info:?}");
    }
}
