//! Sends a request with any path, query and Lambda context through the layer. The inner service must
//! see the path and query of the URL that the token was signed for, and that URL must have the domain
//! name of the context.
#![no_main]

mod destination;

use std::{
    convert::Infallible,
    pin::pin,
    sync::Mutex,
    task::{Context, Poll, Waker},
    time::UNIX_EPOCH,
};

use destination::Destination;
use http::{Request, Response, Uri};
use lambda_http::{
    Body, RequestExt,
    aws_lambda_events::apigw::{ApiGatewayProxyRequestContext, ApiGatewayV2httpRequestContext},
    request::RequestContext,
};
use libfuzzer_sys::fuzz_target;
use tower::{Layer, Service, service_fn};
use tower_qstash::{PublicUrl, QStashVerifyLayer, Rejection, Signer, SigningKeys};

fuzz_target!(|data: &[u8]| {
    // A byte for the kind of event, then `domain|path of the URL|path of the URI|raw path|path of the
    // context|stage|query`. An empty path is that of the URL.
    let [kind, rest @ ..] = data else { return };
    let Ok(text) = str::from_utf8(rest) else { return };
    if text.len() > 1_000 {
        return;
    }
    let mut parts = text.split('|');
    let mut part = || parts.next().unwrap_or_default();
    let [domain, target] = [part(), part()];
    // Otherwise the domain would go on in it, such as with a port.
    if !target.is_empty() && !target.starts_with(['/', '?', '#']) {
        return;
    }
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let mut or_path = || Some(part()).filter(|text| !text.is_empty()).unwrap_or(path);
    let [uri, raw_path, context_path] = [or_path(), or_path(), or_path()];
    let [stage, query] = [part(), part()];

    let uri = match query {
        "" => uri.parse::<Uri>(),
        query => format!("{uri}?{query}").parse(),
    };
    let Ok(uri) = uri else { return };
    let parameters = if kind & 4 == 0 { uri.query().unwrap_or_default() } else { query };
    let subject = format!("https://{domain}{target}");
    let now = UNIX_EPOCH;
    let signer = Signer::new("sig_current").expect("a valid key");
    let token = signer.delivery(&subject, b"", now).token();

    let is_v1 = kind & 1 == 0;
    let context = if is_v1 {
        let mut context = ApiGatewayProxyRequestContext::default();
        context.domain_name = Some(domain.to_owned());
        context.path = (kind & 2 == 0).then(|| context_path.to_owned());
        context.stage = Some(stage.to_owned());
        RequestContext::ApiGatewayV1(context)
    } else {
        let mut context = ApiGatewayV2httpRequestContext::default();
        context.domain_name = Some(domain.to_owned());
        context.stage = Some(stage.to_owned());
        RequestContext::ApiGatewayV2(context)
    };
    let parameters: lambda_http::aws_lambda_events::query_map::QueryMap =
        parameters.parse().expect("infallible");
    let request = Request::post(uri).header("upstash-signature", token).body(Body::Empty);
    let Ok(request) = request else { return };
    let request = request
        .with_raw_http_path(raw_path)
        .with_query_string_parameters(parameters)
        .with_request_context(context);

    let keys = SigningKeys::new("sig_current", "sig_next").expect("valid keys");
    let layer = QStashVerifyLayer::new(keys, PublicUrl::from_lambda_context()).clock(move || now);
    let seen = Mutex::new(None);
    let mut service = layer.layer(service_fn(|request: Request<Body>| {
        *seen.lock().expect("not poisoned") = Some(request);
        std::future::ready(Ok::<_, Infallible>(Response::new(Body::Empty)))
    }));
    let poll = pin!(service.call(request)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(Ok(response)) = poll else { panic!("no future here is ever pending") };
    let seen = seen.lock().expect("not poisoned").take();
    assert_eq!(seen.is_some(), response.extensions().get::<Rejection>().is_none());
    let Some(seen) = seen else { return };

    // What was verified is what is routed.
    let sent = without_end_slash(path);
    let has_context_path = is_v1 && kind & 2 == 0 && !context_path.is_empty();
    let event_path = if has_context_path { context_path } else { raw_path };
    let event_path = if event_path.is_empty() { seen.uri().path() } else { event_path };
    let event_path = without_end_slash(event_path);
    assert!(
        decoded(sent) == decoded(event_path) || decoded(sent) == event_path.as_bytes(),
        "signed for {sent:?}, sent to {event_path:?}"
    );
    let routed = decoded(without_end_slash(seen.uri().path()));
    assert!(routed.ends_with(&decoded(without_end_slash(raw_path))), "routed to {routed:?}");

    let with_query = |query: &str| Destination::parse(&format!("http://a.example/?{query}"));
    let (_, signed) =
        target.split('#').next().unwrap_or_default().split_once('?').unwrap_or_default();
    let routed = seen.uri().query().unwrap_or_default();
    assert_eq!(with_query(signed), with_query(routed), "the query");
    let parameters = seen.query_string_parameters();
    assert_eq!(parameters, routed.parse().expect("infallible"), "the query of the event");
});

fn without_end_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

fn decoded(path: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(path).collect()
}
