//! Tests with a framework, a socket or a process, in one binary so that they link once.

mod axum_tcp;
mod callbacks;
mod contract;
mod examples;
mod explain;
mod figures;
mod house;
mod invalid_signatures;
mod lambda_runtime;
mod lambda_service;
mod manifest;
mod operation;
mod pages;
mod process;
mod public_url;
mod replay;
mod replay_states;
mod repository;
mod rotation;
mod scripted_store;
mod service;
mod stacks;
mod stalled;
mod telemetry;
mod threats;

#[path = "../support/lambda_events.rs"]
mod lambda_events;
#[path = "../support/mod.rs"]
mod support;
