//! A receiver on AWS Lambda, behind a Function URL, an HTTP API, a REST API or an ALB.
//!
//! Keys come from `QSTASH_CURRENT_SIGNING_KEY` and `QSTASH_NEXT_SIGNING_KEY`. Messages are published
//! to the domain name and path in the request context, or joined to `PUBLIC_URL` if that is set.

use std::env;

use lambda_http::{Body, Error, Request, Response, service_fn, tower::ServiceBuilder};
use tower_qstash::{Claims, PublicUrl, QStashVerifyLayer, SigningKeys};

async fn webhook(request: Request) -> Result<Response<Body>, Error> {
    // An error, and not an open door, if the layer is forgotten.
    let claims = Claims::from_request(&request)?;
    let kind = match request.body() {
        Body::Empty => "empty",
        Body::Text(_) => "text",
        _ => "binary",
    };
    let bytes = request.body().len();
    tracing::info!(jti = claims.jwt_id(), kind, bytes, "running the job");
    Ok(Response::builder()
        .header("content-type", "application/json")
        .body(r#"{"message":"ok"}"#.into())?)
}

fn layer() -> Result<QStashVerifyLayer, Error> {
    let public_url = match env::var("PUBLIC_URL") {
        Ok(url) => PublicUrl::base(&url).map_err(|error| format!("PUBLIC_URL: {error}"))?,
        Err(env::VarError::NotPresent) => PublicUrl::from_lambda_context(),
        Err(error) => return Err(format!("PUBLIC_URL: {error}").into()),
    };
    Ok(QStashVerifyLayer::new(SigningKeys::from_env()?, public_url))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    let layer = layer().unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(1);
    });
    lambda_http::run(ServiceBuilder::new().layer(layer).service(service_fn(webhook))).await
}
