//! All integration tests in one binary: it links once.

mod operation;
mod properties;
mod public_url;
mod stacks;
mod support;
mod url;

mod axum_tcp;
mod bad_input;
mod contract;
mod core;
mod examples;
mod lambda_events;
mod lambda_runtime;
mod lambda_service;
mod manifest;
