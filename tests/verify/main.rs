//! Tests that need neither a socket nor a process: the verifier, URLs and properties. A binary of
//! its own, so that it builds quickly.

mod callbacks;
mod core;
mod properties;
mod url;

#[path = "../support/lambda_events.rs"]
mod lambda_events;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "shared with the other test targets")]
mod support;
#[path = "../support/url_pairs.rs"]
mod url_pairs;
