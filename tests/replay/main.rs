//! The replay guard's stores in Redis and Valkey, with real servers: `scripts/servers` installs them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod proxy;
mod redis;
mod server;
mod tls;
