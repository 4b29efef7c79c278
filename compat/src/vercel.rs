//! Vercel: a plain function, and an axum router.

use bytes::Bytes;
use http_body_util::BodyExt;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use vercel_runtime::{AppState, Error, Request, Response, ResponseBody, axum::VercelLayer};

/// What `vercel_runtime::run` takes.
pub trait Function:
    tower::Service<
        (AppState, Request),
        Response = Response<ResponseBody>,
        Error = Error,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static
{
}

impl<S> Function for S where
    S: tower::Service<
            (AppState, Request),
            Response = Response<ResponseBody>,
            Error = Error,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static
{
}

/// A plain function.
pub fn plain() -> impl Function {
    let verified = crate::verify().forward_as::<Bytes>().layer(service_fn(webhook));
    vercel_runtime::service_fn(move |request: Request| {
        let verified = verified.clone();
        async move {
            let response = verified.oneshot(request).await?;
            Ok::<_, Error>(response.map(|body| ResponseBody(body.map_err(Error::from).boxed())))
        }
    })
}

async fn webhook(request: http::Request<Bytes>) -> Result<Response<String>, Error> {
    Ok(Response::new(format!("{} bytes", request.body().len())))
}

/// An axum router, with the layer inside.
pub fn axum() -> impl Function {
    use axum::{Router, routing::post};

    let app = Router::new()
        .route("/webhook", post(async |body: Bytes| format!("{} bytes", body.len())))
        .layer(crate::verify());
    ServiceBuilder::new().layer(VercelLayer::new()).service(app)
}
