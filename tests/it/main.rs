//! All integration tests in one binary: it links once.

mod operation;
mod public_url;
mod stacks;
mod support;
mod url;

mod bad_input;
mod contract;
mod core;
mod manifest;
