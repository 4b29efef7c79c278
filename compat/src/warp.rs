//! warp: the layer goes around `warp::service`.

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::Layer;
use warp::Filter;

/// Serves until it is dropped.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let webhook = warp::path!("webhook")
        .and(warp::post())
        .and(warp::body::bytes())
        .map(|body: Bytes| format!("{} bytes", body.len()));
    let service = crate::verify().forward_as::<Full<Bytes>>().layer(warp::service(webhook));
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let connection = auto::Builder::new(TokioExecutor::new());
            // An error is this connection's alone.
            drop(connection.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}
