//! actix-web has no Tower: an extractor around `Verifier`.

use std::{future::Future, net::TcpListener, pin::Pin};

use actix_web::{
    App, FromRequest, HttpRequest, HttpServer, dev::Payload, error::ErrorBadRequest, web,
};
use tower_qstash::{Claims, Verifier};

/// A delivery that was verified: its body and claims.
#[derive(Debug)]
pub struct Verified {
    /// The body, as it was signed.
    pub body: web::Bytes,
    /// The claims of the token.
    pub claims: Claims,
}

impl FromRequest for Verified {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Self::Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        // Up to the limit of `web::PayloadConfig`, 256 KiB if it is not set.
        let body = web::Bytes::from_request(&request, payload);
        Box::pin(async move {
            let body = body.await?;
            let verifier = request.app_data::<Verifier>().expect("the app has a Verifier");
            let token = request.headers().get("upstash-signature");
            let token = token.and_then(|value| value.to_str().ok()).unwrap_or_default();
            let url = format!("{}{}", crate::ORIGIN, request.uri());
            let claims =
                verifier.verify(token, &url, &body, crate::now()).map_err(ErrorBadRequest)?;
            Ok(Self { body, claims })
        })
    }
}

/// Serves until it is dropped.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let verifier = Verifier::new(crate::keys());
    HttpServer::new(move || {
        App::new()
            .app_data(verifier.clone())
            .app_data(web::PayloadConfig::new(1024 * 1024))
            .route("/webhook", web::post().to(webhook))
    })
    .workers(1)
    .listen(listener)?
    .run()
    .await
}

async fn webhook(delivery: Verified) -> String {
    format!("{} bytes", delivery.body.len())
}
