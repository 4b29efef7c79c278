//! What the layer asks of bodies and services, and what its parts are, seen by the compiler.

use std::{
    convert::Infallible,
    marker::{PhantomData, PhantomPinned},
    pin::Pin,
    rc::Rc,
    task,
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::Full;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::{limit::RequestBodyLimitLayer, timeout::RequestBodyTimeoutLayer};
use tower_qstash_compat::verify;

fn router() -> Router {
    Router::new()
}

#[test]
fn limit_and_timeout_layers_stand_outside_in_one_builder() {
    // The body of the timeout is not `Unpin`.
    let stack = ServiceBuilder::new()
        .layer(RequestBodyTimeoutLayer::new(Duration::from_secs(5)))
        .layer(RequestBodyLimitLayer::new(1024))
        .layer(verify().forward_as::<Body>());
    drop(router().layer(stack));
    drop(router().layer(verify()));
}

/// A body that is neither `Send` nor `Unpin`, whose error is a text.
struct Local(PhantomData<Rc<()>>, PhantomPinned);

impl http_body::Body for Local {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
    ) -> task::Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        task::Poll::Ready(None)
    }
}

#[tokio::test]
async fn services_and_bodies_need_not_be_send_or_unpin() {
    let not_send = Rc::new(());
    let service = verify().forward_as::<Vec<u8>>().layer(service_fn(move |_: Request<Vec<u8>>| {
        let not_send = Rc::clone(&not_send);
        async move { Ok::<_, Infallible>(Response::new(format!("{not_send:?}"))) }
    }));
    let response = service.oneshot(Request::new(Local(PhantomData, PhantomPinned))).await;
    assert_eq!(response.unwrap().status(), 400);
}

#[test]
fn with_send_parts_everything_is_send_sync_and_static() {
    fn is_send<T: Send + 'static>(_: &T) {}
    fn is_sync<T: Sync>(_: &T) {}
    fn bounds<S, B>(mut service: S, body: B)
    where
        S: Service<Request<B>, Future: Send + 'static> + Clone + Send + Sync + 'static,
        S::Response: Send + Sync,
    {
        is_send(&service);
        is_sync(&service);
        is_send(&service.call(Request::new(body)));
    }
    let webhook = async |_: Request<Bytes>| Ok::<_, Infallible>(Response::new(String::new()));
    bounds(verify().forward_as::<Bytes>().layer(service_fn(webhook)), Full::new(Bytes::new()));
}
