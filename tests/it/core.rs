//! The verifying core.
