//! The only clock, and the timer of tokio.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

#[expect(clippy::disallowed_methods, reason = "nothing else reads the clock")]
pub(super) fn system_clock() -> SystemTime {
    SystemTime::now()
}

/// Where there is no runtime for the timer, the time is always up.
pub(super) struct Timer(Option<Pin<Box<tokio::time::Sleep>>>);

impl Timer {
    pub(super) fn new(timeout: Duration) -> Self {
        if timeout.is_zero() || tokio::runtime::Handle::try_current().is_err() {
            return Self(None);
        }
        // A runtime that was built without `enable_time` panics here, and can't be asked before.
        Self(std::panic::catch_unwind(|| Box::pin(tokio::time::sleep(timeout))).ok())
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().map_or(Poll::Ready(()), |sleep| sleep.as_mut().poll(cx))
    }
}
