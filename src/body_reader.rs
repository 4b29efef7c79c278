//! Reading a body: up to a limit and hashing, or only to discard it.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http_body::Body;

use crate::{Rejection, RequestBody, VerifiedToken};

/// Reads a body up to a limit and hashes it as it comes.
pub(crate) struct BodyReader<B> {
    body: B,
    limit: usize,
    collected: Collected,
    progress: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    NotBegun,
    Begun,
    /// The body ended or failed, and must not be polled again.
    Ended,
}

/// What was read so far. A single frame is kept as it came, never copied.
enum Collected {
    Nothing,
    One(Bytes),
    Many(Vec<u8>),
}

impl<B: RequestBody> BodyReader<B> {
    pub(crate) fn new(body: B, limit: usize) -> Self {
        Self { body, limit, collected: Collected::Nothing, progress: Progress::NotBegun }
    }

    /// Feeds the whole body to `token`.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        token: &mut VerifiedToken,
    ) -> Poll<Result<(), Rejection>>
    where
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        if let Some(bytes) = self.body.as_bytes() {
            self.check_limit(bytes.len())?;
            token.update(bytes);
            return Poll::Ready(Ok(()));
        }
        if self.progress == Progress::NotBegun {
            self.check_limit(self.still_to_come())?;
            self.progress = Progress::Begun;
        }
        loop {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(mut data) = frame.into_data() else { continue };
                    self.check_limit(self.len().saturating_add(data.remaining()))?;
                    let data = data.copy_to_bytes(data.remaining());
                    token.update(&data);
                    self.collect(data);
                }
                Some(Err(error)) => {
                    self.progress = Progress::Ended;
                    return Poll::Ready(Err(unreadable(error.into())));
                }
                None => {
                    self.progress = Progress::Ended;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// The body to hand on, after it was read to its end.
    pub(crate) fn into_whole(self) -> B {
        if self.body.as_bytes().is_some() {
            return self.body;
        }
        B::from_bytes(match self.collected {
            Collected::Nothing => Bytes::new(),
            Collected::One(bytes) => bytes,
            Collected::Many(bytes) => bytes.into(),
        })
    }

    /// Returns what is left to discard, if reading stopped early.
    pub(crate) fn into_rest(self) -> Option<B> {
        (self.progress != Progress::Ended).then_some(self.body)
    }

    /// Whether the sender was asked for the body, should it wait to be.
    pub(crate) fn has_begun(&self) -> bool {
        self.progress != Progress::NotBegun
    }

    /// How many bytes were read.
    pub(crate) fn len(&self) -> usize {
        match (&self.collected, self.body.as_bytes()) {
            (_, Some(bytes)) => bytes.len(),
            (Collected::Nothing, None) => 0,
            (Collected::One(bytes), None) => bytes.len(),
            (Collected::Many(bytes), None) => bytes.len(),
        }
    }

    fn check_limit(&self, total: usize) -> Result<(), Rejection> {
        if total > self.limit {
            return Err(Rejection::BodyTooLarge { limit: self.limit });
        }
        Ok(())
    }

    /// What the body declares to have left, as from a `Content-Length`.
    fn still_to_come(&self) -> usize {
        usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX)
    }

    fn collect(&mut self, data: Bytes) {
        let still_to_come = self.still_to_come();
        let start = |data: &Bytes| {
            let mut all = Vec::new();
            // The length is the sender's word: one that is not to be had is not reserved.
            let _ = all.try_reserve_exact(data.len().saturating_add(still_to_come));
            all.extend_from_slice(data);
            all
        };
        match &mut self.collected {
            _ if data.is_empty() => {}
            Collected::Nothing if still_to_come == 0 => self.collected = Collected::One(data),
            Collected::Nothing => self.collected = Collected::Many(start(&data)),
            Collected::One(first) => {
                let mut all = start(first);
                all.extend_from_slice(&data);
                self.collected = Collected::Many(all);
            }
            Collected::Many(all) => all.extend_from_slice(&data),
        }
    }
}

/// A limit that an outer layer set is a limit all the same.
fn unreadable(error: Box<dyn Error + Send + Sync>) -> Rejection {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&*error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return Rejection::BodyTooLargeForOuterLayer;
        }
        cause = error.source();
    }
    Rejection::BodyUnreadable(Arc::from(error))
}

/// Discards what is left of a rejected request's body, up to a number of bytes and up to a time, so
/// that a client that writes its whole body before it reads still receives the response, and one that
/// stalls does not hold its place.
pub(crate) struct Discard<B> {
    body: B,
    bytes_left: usize,
    timeout: Duration,
    timer: Option<Timer>,
}

impl<B: Body + Unpin> Discard<B> {
    pub(crate) fn new(body: B, limit: usize, timeout: Duration) -> Self {
        Self { body, bytes_left: limit, timeout, timer: None }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.bytes_left > 0 && !self.body.is_end_stream() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let length = frame.data_ref().map_or(0, Buf::remaining);
                    // An empty frame counts as one byte, so that a stream of empty frames ends.
                    self.bytes_left = self.bytes_left.saturating_sub(length.max(1));
                }
                Poll::Ready(Some(Err(_)) | None) => break,
                // One timer for the whole body: a client that trickles does not extend it.
                Poll::Pending => {
                    return self.timer.get_or_insert_with(|| Timer::new(self.timeout)).poll(cx);
                }
            }
        }
        Poll::Ready(())
    }
}

/// tokio's timer where there is one; elsewhere the time is always up.
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
struct Timer(Option<Pin<Box<tokio::time::Sleep>>>);

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
impl Timer {
    fn new(timeout: Duration) -> Self {
        if timeout.is_zero() || tokio::runtime::Handle::try_current().is_err() {
            return Self(None);
        }
        // A runtime without `enable_time` can't be told from another, but by tokio's panic.
        Self(std::panic::catch_unwind(|| Box::pin(tokio::time::sleep(timeout))).ok())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().map_or(Poll::Ready(()), |sleep| sleep.as_mut().poll(cx))
    }
}

#[cfg(all(target_family = "wasm", target_os = "unknown"))]
struct Timer;

#[cfg(all(target_family = "wasm", target_os = "unknown"))]
impl Timer {
    fn new(_: Duration) -> Self {
        Self
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}
