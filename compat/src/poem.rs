//! poem: a Tower service as an endpoint, or `Verifier` before an endpoint.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Full;
use poem::{
    Body, EndpointExt, Request, Route, Server, endpoint::TowerCompatExt, error::BadRequest,
    handler, listener::TcpAcceptor, post,
};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_qstash::Verifier;

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
    let (mut parts, body) = request.into_parts();
    let body = body.into_bytes_limit(1024 * 1024).await?;
    let token = parts.headers.get("upstash-signature").and_then(|value| value.to_str().ok());
    let url = format!("{}{}", crate::ORIGIN, parts.uri);
    let claims = verifier
        .verify(token.unwrap_or_default(), &url, &body, crate::now())
        .map_err(BadRequest)?;
    parts.extensions.insert(claims);
    Ok(Request::from_parts(parts, Body::from(body)))
}

#[handler]
#[expect(clippy::needless_pass_by_value, reason = "an extractor")]
fn handle(body: Vec<u8>) -> String {
    format!("{} bytes", body.len())
}
