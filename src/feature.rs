//! What the compiler says where a feature is missing.

/// Implemented for no type: a method bound by it exists only to name the feature that it needs.
#[diagnostic::on_unimplemented(
    message = "`PublicUrl::from_lambda_context` needs the feature `lambda_http` of tower-qstash",
    label = "the feature `lambda_http` is off",
    note = "turn it on: cargo add tower-qstash --features lambda_http"
)]
#[expect(unnameable_types, reason = "it is only a bound")]
pub trait LambdaHttp {}
