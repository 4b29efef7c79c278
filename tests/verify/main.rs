//! What needs no socket and no process: the core, URLs, properties. Small, so that it builds fast.

mod callbacks;
mod core;
mod properties;
mod url;

#[path = "../support/lambda_events.rs"]
mod lambda_events;
#[path = "../support/mod.rs"]
mod support;
