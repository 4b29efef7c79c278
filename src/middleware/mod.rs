//! One request, top to bottom.
//!
//! ```text
//! Request<B>
//!    │  service.rs    QStashVerify::call takes the inner service that was polled ready
//!    │  config.rs     runs every check that needs no body: header, MAC, claims, URL, clock
//!    ▼
//! ┌ future.rs ─────────────────────────────────────────────────────────────────┐
//! │                                                                            │
//! │  valid ──▶ Reading ── valid ──▶ Calling ──▶ the inner service's response   │
//! │            body_buffer.rs: read up to the limit, hash                      │
//! │               │          └────▶ with a replay guard: guarded.rs             │
//! │               │                 Reserving ──▶ Calling ──▶ Settling          │
//! │               │ invalid                                                    │
//! │               ▼                                                            │
//! │  invalid ─▶ Rejecting ────────────────────▶ rejection.rs: the response     │
//! │            body_buffer.rs: discard up to a limit and a time                │
//! │                                                                            │
//! └────────────────────────────────────────────────────────────────────────────┘
//!    │  response_body.rs   one type for both kinds of response
//!    ▼
//! Response<ResponseBody<_>>
//! ```
//!
//! `layer.rs` is where it is configured, `time.rs` has its clock and timer, and `trace.rs` has what it
//! logs on the way. Whatever else a request meets lives in the other modules of the crate, none of which
//! imports from here.

mod body_buffer;
mod config;
mod future;
mod guarded;
mod layer;
mod rejection;
mod replay_response;
mod response_body;
mod service;
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
mod time;
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
#[path = "time_in_javascript.rs"]
mod time;
mod trace;

pub use self::{
    future::ResponseFuture, layer::QStashVerifyLayer, rejection::Rejection,
    replay_response::ReplayResponse, response_body::ResponseBody, service::QStashVerify,
};
