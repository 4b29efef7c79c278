//! Sends any headers, each any number of times. `UnsignedDelivery` must hold those that are present
//! once and are text, and the layer must read the signature from exactly one such header.
#![no_main]

use std::{
    convert::Infallible,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::Full;
use libfuzzer_sys::fuzz_target;
use tower::{Layer, Service, service_fn};
use tower_qstash::{PublicUrl, QStashVerifyLayer, Rejection, SigningKeys, UnsignedDelivery};

const NAMES: [&str; 7] = [
    "upstash-signature",
    "upstash-message-id",
    "upstash-retried",
    "upstash-schedule-id",
    "upstash-topic-name",
    "upstash-caller-ip",
    "upstash-region",
];

fuzz_target!(|data: &[u8]| {
    // Lines of a byte for the name, then the value.
    let mut headers = HeaderMap::new();
    let mut values: [Vec<&[u8]>; NAMES.len()] = Default::default();
    for line in data.split(|&byte| byte == b'\n') {
        let [name, value @ ..] = line else { continue };
        let Ok(header) = HeaderValue::from_bytes(value) else { continue };
        let name = usize::from(*name) % NAMES.len();
        headers.append(NAMES[name], header);
        values[name].push(value);
    }
    let single = |name: usize| match values[name][..] {
        [value] if !value.is_empty() && is_ascii_text(value) => str::from_utf8(value).ok(),
        _ => None,
    };

    let delivery = UnsignedDelivery::from_headers(&headers);
    assert_eq!(delivery.message_id.as_deref(), single(1));
    assert_eq!(delivery.retried, single(2).and_then(|text| text.parse().ok()));
    assert_eq!(delivery.schedule_id.as_deref(), single(3));
    assert_eq!(delivery.url_group.as_deref(), single(4));
    assert_eq!(delivery.caller_ip, single(5).and_then(|text| text.parse().ok()));
    assert_eq!(delivery.region.as_deref(), single(6));
    for retries in [0, 3, u32::MAX] {
        let is_last = delivery.retried.is_some_and(|retried| retried >= retries);
        assert_eq!(delivery.is_last_attempt(retries), is_last);
    }

    let expected = match values[0][..] {
        [] => Some("missing_signature"),
        [_, _, ..] => Some("duplicate_signature"),
        [b""] => Some("empty_signature"),
        [value] if !is_ascii_text(value) => Some("non_ascii_signature"),
        [_] => None,
    };
    let code = rejection(headers).code();
    let about_header = code.ends_with("_signature").then_some(code);
    assert_eq!(about_header, expected);
});

fn is_ascii_text(value: &[u8]) -> bool {
    value.iter().all(|&byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
}

/// Returns why the layer rejects a request with these headers, whose token is never valid.
fn rejection(headers: HeaderMap) -> Rejection {
    let keys = SigningKeys::new("sig_current", "sig_next").expect("valid keys");
    let layer = QStashVerifyLayer::new(keys, PublicUrl::dangerous_unchecked());
    let mut service = layer.layer(service_fn(
        async |_: Request<Full<Bytes>>| -> Result<Response<Full<Bytes>>, Infallible> {
            panic!("no token here is valid")
        },
    ));
    let mut request = Request::new(Full::default());
    *request.headers_mut() = headers;
    let poll = pin!(service.call(request)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(Ok(mut response)) = poll else { panic!("no future here is ever pending") };
    response.extensions_mut().remove().expect("the request was rejected")
}
