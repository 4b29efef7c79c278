//! All integration tests in one binary: it links once.

mod support;

mod contract;
mod core;
