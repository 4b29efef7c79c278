//! All integration tests in one binary: it links once.

mod support;

mod bad_input;
mod contract;
mod core;
mod manifest;
