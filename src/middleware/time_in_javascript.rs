//! `time.rs` on `wasm32-unknown-unknown`, where `SystemTime::now` panics and tokio has no timer.

use std::{
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

/// The JavaScript around the module has a clock.
pub(super) fn system_clock() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs_f64(js_sys::Date::now() / 1e3)
}

/// There is no timer, and no body is ever ready at once: each frame is a promise of JavaScript's. So the
/// time is up at once or never. A Worker's request takes no place that another one waits for, and
/// workerd closes the connection of a body that was not read, on which the next request then fails.
pub(super) struct Timer {
    is_up: bool,
}

impl Timer {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { is_up: timeout.is_zero() }
    }

    pub(super) fn poll(&mut self, _: &mut Context<'_>) -> Poll<()> {
        if self.is_up { Poll::Ready(()) } else { Poll::Pending }
    }
}
