//! actix-web has no Tower: an extractor around `Verifier`.

use std::{future::Future, net::TcpListener, pin::Pin, time::SystemTime};

use actix_web::{
    App, FromRequest, HttpRequest, HttpServer,
    dev::Payload,
    error::{ErrorBadRequest, ErrorInternalServerError},
    web,
};
use tower_qstash::{Claims, Verifier};

use crate::ORIGIN;

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
        // Up to the limit of `web::PayloadConfig`, 256 KiB if it is not set. Nothing is read before it
        // is awaited.
        let body = web::Bytes::from_request(request, payload);
        let request = request.clone();
        Box::pin(async move {
            let verifier = request
                .app_data::<Verifier>()
                .ok_or_else(|| ErrorInternalServerError("the app has no Verifier"))?;
            let mut tokens = request.headers().get_all("upstash-signature");
            let token = match (tokens.next(), tokens.next()) {
                (Some(token), None) => token.to_str().map_err(ErrorBadRequest)?,
                _ => return Err(ErrorBadRequest("there is not one Upstash-Signature header")),
            };
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            let url = format!("{ORIGIN}{path}");
            let mut verified =
                verifier.verify_token(token, &url, SystemTime::now()).map_err(ErrorBadRequest)?;
            let body = body.await?;
            verified.update(&body);
            let claims = verified.finish().map_err(ErrorBadRequest)?;
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
