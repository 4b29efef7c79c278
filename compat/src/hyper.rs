//! hyper alone, HTTP/1.1 and HTTP/2.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::ServiceBuilder;

/// Serves until it is dropped.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let service =
        ServiceBuilder::new().layer(crate::verify().forward_as::<Bytes>()).service_fn(webhook);
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

async fn webhook(request: Request<Bytes>) -> Result<Response<String>, Infallible> {
    Ok(Response::new(format!("{} bytes", request.body().len())))
}
