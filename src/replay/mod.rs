//! The replay guard: lets each token through once, on one machine or on many.
//!
//! Nothing here knows of HTTP or Tower: bytes and times go in, a [`Verdict`] comes out.
//!
//! ```text
//!             reserve                                     2xx: confirm
//!   unknown ───────────────────────────────▶ in flight ──────────────▶ done ──▶ (lifetime over) gone
//!      ▲                                        │ anything else: release
//!      └────────────────────────────────────────┘
//!   dropped, process died, store's reply lost: stays in flight until gone
//! ```
//!
//! - `guard.rs`: [`ReplayGuard`], the setting of the layer, and what the middleware calls.
//! - `store.rs`: [`ReplayStore`], for other databases, and the values it deals in.
//! - `memory/`: [`MemoryStore`], called directly.
//! - `redis.rs`: [`RedisStore`] (feature `redis`).
//! - `conformance.rs`: what every store has to do, as a test (feature `testing`).

pub(crate) mod guard;
mod memory;
mod store;
mod trace;

#[cfg(feature = "testing")]
pub(crate) mod conformance;
#[cfg(feature = "replay-store")]
mod foreign;
#[cfg(feature = "redis")]
mod redis;

#[cfg(feature = "redis")]
pub use self::redis::{InvalidRedisUrl, RedisStore};
pub use self::{
    guard::ReplayGuard,
    memory::MemoryStore,
    store::{BoxError, Holder, Lifetime, ReplayKey, ReplayStore, Reserve},
};
