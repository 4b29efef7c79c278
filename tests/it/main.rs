//! What uses a framework, a socket or a process, in one binary: it links once.

mod operation;
mod process;
mod public_url;
mod stacks;
#[path = "../support/mod.rs"]
mod support;

mod axum_tcp;
mod bad_input;
mod contract;
mod examples;
mod lambda_events;
mod lambda_runtime;
mod lambda_service;
mod manifest;
