//! The request body of the tests: it plays back a script of frames, errors and delays.

use std::{
    error::Error,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use tokio::time::{Sleep, sleep};

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;
pub(crate) type Boxed = BoxBody<Bytes, BoxError>;

/// The poll count of a body that was read to its end or to an error.
pub(crate) const ENDED: usize = usize::MAX;

/// What a body does next.
pub(crate) enum Step {
    Frame(Frame<Bytes>),
    /// Fails. The body must not be polled again.
    Fail(BoxError),
    /// Is pending once, and wakes the task.
    Yield,
    Sleep(Duration),
    /// Is pending from here on, and never wakes the task.
    Stall,
}

impl Step {
    pub(crate) fn data(bytes: impl Into<Bytes>) -> Self {
        Self::Frame(Frame::data(bytes.into()))
    }
}

/// A body that performs one step after another and counts how often it is polled.
///
/// Panics if it is polled after its end or an error.
pub(crate) struct Frames {
    steps: Box<dyn Iterator<Item = Step> + Send + Sync>,
    sleep: Option<Pin<Box<Sleep>>>,
    is_stalled: bool,
    size_hint: SizeHint,
    polls: Arc<AtomicUsize>,
}

impl Frames {
    /// Creates a body without a declared length. Steps are taken from the iterator as they are
    /// polled.
    pub(crate) fn new<I>(steps: I) -> Self
    where
        I: IntoIterator<Item = Step, IntoIter: Send + Sync + 'static>,
    {
        Self {
            steps: Box::new(steps.into_iter()),
            sleep: None,
            is_stalled: false,
            size_hint: SizeHint::default(),
            polls: Arc::default(),
        }
    }

    /// Creates a body of these data frames.
    pub(crate) fn of<I>(data: I) -> Self
    where
        I: IntoIterator<Item: Into<Bytes> + 'static, IntoIter: Send + Sync + 'static>,
    {
        Self::new(data.into_iter().map(Step::data))
    }

    /// Declares the exact length, which decreases as frames are read, as for a `Content-Length`.
    pub(crate) fn with_exact_length(mut self, length: usize) -> Self {
        self.size_hint = SizeHint::with_exact(length as u64);
        self
    }

    /// Declares a minimum length, true or not, which stays the same as frames are read.
    pub(crate) fn with_lower_bound(mut self, length: u64) -> Self {
        self.size_hint = SizeHint::default();
        self.size_hint.set_lower(length);
        self
    }

    /// Boxes the body. The count of its polls becomes [`ENDED`] with its end or an error.
    pub(crate) fn boxed_with_polls(self) -> (Boxed, Arc<AtomicUsize>) {
        let polls = Arc::clone(&self.polls);
        (BoxBody::new(self), polls)
    }

    fn end(&self) {
        self.polls.store(ENDED, Ordering::Relaxed);
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        assert_ne!(self.polls.load(Ordering::Relaxed), ENDED, "polled after its end or an error");
        self.polls.fetch_add(1, Ordering::Relaxed);
        loop {
            if self.is_stalled {
                return Poll::Pending;
            }
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            match self.steps.next() {
                Some(Step::Frame(frame)) => {
                    if let (Some(length), Some(data)) = (self.size_hint.exact(), frame.data_ref()) {
                        self.size_hint.set_exact(length - data.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Step::Fail(error)) => {
                    self.end();
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Step::Yield) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Step::Sleep(duration)) => self.sleep = Some(Box::pin(sleep(duration))),
                Some(Step::Stall) => self.is_stalled = true,
                None => {
                    self.end();
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        // `SizeHint` is `Copy` only since http-body 1.1.
        Clone::clone(&self.size_hint)
    }
}
