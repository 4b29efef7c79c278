//! What needs no framework: the core, URLs, properties. Small, so that it builds fast.

mod core;
mod properties;
#[path = "../support/mod.rs"]
mod support;
mod url;
