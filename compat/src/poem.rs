//! poem: a Tower service as an endpoint, or `Verifier` before an endpoint.

use std::{convert::Infallible, time::SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use poem::{
    Body, EndpointExt, Error, Request, Route, Server, endpoint::TowerCompatExt, error::BadRequest,
    handler, http::StatusCode, listener::TcpAcceptor, post,
};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_qstash::Verifier;

use crate::ORIGIN;

/// Serves until it is dropped: `/webhook` with the layer, `/verifier` with [`Verifier`].
///
/// # Errors
///
/// When the listener fails.
pub async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let layered = ServiceBuilder::new()
        .layer(crate::verify().forward_as::<Bytes>())
        .service_fn(webhook)
        .compat();
    let verifier = Verifier::new(crate::keys());
    let verified = post(handle).before(move |request| verify(verifier.clone(), request));
    let app = Route::new().at("/webhook", layered).at("/verifier", verified);
    let acceptor = TcpAcceptor::from_tokio(listener)?;
    Server::new_with_acceptor(acceptor).run(app).await
}

async fn webhook(request: http::Request<Bytes>) -> Result<http::Response<Full<Bytes>>, Infallible> {
    let text = format!("{} bytes", request.body().len());
    Ok(http::Response::new(text.into()))
}

async fn verify(verifier: Verifier, request: Request) -> poem::Result<Request> {
    // In a `nest`, `uri()` has lost the prefix.
    let path = request.original_uri().path_and_query().map_or("/", |path| path.as_str());
    let url = format!("{ORIGIN}{path}");
    let (mut parts, body) = request.into_parts();
    let mut tokens = parts.headers.get_all("upstash-signature").iter();
    let token = match (tokens.next(), tokens.next()) {
        (Some(token), None) => token.to_str().map_err(BadRequest)?,
        _ => return Err(Error::from_status(StatusCode::BAD_REQUEST)),
    };
    let mut verified = verifier.verify_token(token, &url, SystemTime::now()).map_err(BadRequest)?;
    let body = body.into_bytes_limit(1024 * 1024).await?;
    verified.update(&body);
    parts.extensions.insert(verified.finish().map_err(BadRequest)?);
    Ok(Request::from_parts(parts, Body::from(body)))
}

#[handler]
#[expect(clippy::needless_pass_by_value, reason = "an extractor")]
fn handle(body: Vec<u8>) -> String {
    format!("{} bytes", body.len())
}
