//! Pages that go from nothing to a running receiver, and then further.
//!
//! | guide | |
//! |---|---|
//! | [`lambda`] | from an empty folder to a verified delivery on AWS Lambda |
//! | [`axum`] | from an empty folder to a container behind nginx or Caddy |
//! | [`development_server`] | QStash on your own machine |
//! | [`handlers`] | delivery data, responses that QStash understands, callbacks |
//! | [`testing`] | tests of a handler, without QStash |
//! | [`troubleshooting`] | why a delivery was rejected, and what to do |
//! | [`replays`] | how to handle each delivery once |
//! | [`stacks`] | which layers go outside and inside this one |
//! | [`operating`] | keys, limits, logs, metrics |
//! | [`threat_model`] | who attacks, what is protected, and what is not |
//! | [`where_it_runs`] | axum, Lambda, Workers, Vercel, hyper, warp, salvo, poem and others |
//! | [`without_tower`] | actix-web and other frameworks that have no Tower |
//! | [`performance`] | how fast it is, and how that was measured |

// In each page, the links to the others are references. Their definitions in links.md come first,
// so rustdoc takes these; on GitHub, those at the end of the page count.

pub mod axum {
    #![doc = include_str!("links.md")]
    #![doc = include_str!("../../docs/axum.md")]
}

pub mod development_server {
    #![doc = include_str!("links.md")]
    #![doc = include_str!("../../docs/development-server.md")]
}

pub mod handlers {
    #![doc = include_str!("links.md")]
    #![doc = include_str!("../../docs/handlers.md")]
}

pub mod lambda {
    #![doc = include_str!("links.md")]
    #![doc = include_str!("../../docs/lambda.md")]
}

pub mod operating {
    #![doc = include_str!("links.md")]
    #![doc = include_str!("../../docs/operating.md")]
}

pub mod performance {
    #![doc = include_str!("links.md")]
    #![doc = include_str!("chart.md")]
    #![doc = include_str!("../../docs/performance.md")]
}

// Its examples need Redis's client: `scripts/check` compiles them.
#[cfg(any(not(doctest), feature = "redis-tls"))]
pub mod replays {
    #![doc = include_str!("links.md")]
    #![doc = include_str!("../../docs/replays.md")]
}

pub mod stacks {
    #![doc = include_str!("links.md")]
    #![doc = include_str!("../../docs/stacks.md")]
}

pub mod testing {
    #![doc = include_str!("links.md")]
    #![doc = include_str!("../../docs/testing.md")]
}

pub mod threat_model {
    #![doc = include_str!("links.md")]
    #![doc = include_str!("../../docs/threat-model.md")]
}

pub mod troubleshooting {
    #![doc = include_str!("links.md")]
    #![doc = include_str!("../../docs/troubleshooting.md")]
}

// The examples of these two need other frameworks: compat/src/lib.rs compiles them.
#[cfg(all(doc, not(doctest)))]
pub mod where_it_runs {
    #![doc = include_str!("links.md")]
    #![doc = include_str!("../../docs/where-it-runs.md")]
}

#[cfg(all(doc, not(doctest)))]
pub mod without_tower {
    #![doc = include_str!("links.md")]
    #![doc = include_str!("../../docs/without-tower.md")]
}
