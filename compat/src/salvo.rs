//! salvo: the layer is a hoop. Its handlers have a limit of their own, 64 KiB.

use salvo::{conn::tcp::TcpAcceptor, http::ReqBody, prelude::*};

/// Serves until it is dropped.
///
/// # Panics
///
/// When the listener has no address.
pub async fn serve(listener: tokio::net::TcpListener) {
    let verify = crate::verify().forward_as::<ReqBody>().compat::<ReqBody>();
    let router = Router::with_path("webhook").hoop(verify).post(webhook);
    let acceptor = TcpAcceptor::try_from(listener).expect("a bound listener");
    Server::new(acceptor).serve(router).await;
}

#[handler]
async fn webhook(request: &mut Request) -> Result<String, salvo::http::ParseError> {
    let body = request.payload_with_max_size(1024 * 1024).await?;
    Ok(format!("{} bytes", body.len()))
}
