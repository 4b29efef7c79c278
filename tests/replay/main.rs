//! The replay guard's stores in Redis and Valkey, with real servers: `scripts/servers` installs them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod abuse;
mod http;
mod proxy;
mod redis;
mod server;
mod tls;

#[path = "../support/crowd.rs"]
mod crowd;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "shared with the other test targets")]
mod support;
