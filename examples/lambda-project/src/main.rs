//! A QStash receiver on AWS Lambda, behind a function URL.

use lambda_http::{Body, Error, Request, Response, service_fn, tower::ServiceBuilder, tracing};
use tower_qstash::{Claims, PublicUrl, QStashVerifyLayer, SigningKeys};

/// Runs the job. Only verified messages get here.
async fn webhook(request: Request) -> Result<Response<Body>, Error> {
    // An error, and not an open door, should the layer ever be removed.
    let claims = Claims::from_request(&request)?;
    tracing::info!(jti = claims.jwt_id(), bytes = request.body().len(), "running the job");

    let response = Response::builder().header("content-type", "application/json");
    Ok(response.body(r#"{"message":"ok"}"#.into())?)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    // Logs what is rejected, and why. `RUST_LOG=info,tower_qstash=debug` also logs what is accepted.
    tracing::init_default_subscriber();

    let verify = QStashVerifyLayer::new(SigningKeys::from_env()?, PublicUrl::from_lambda_context());
    lambda_http::run(ServiceBuilder::new().layer(verify).service(service_fn(webhook))).await
}
