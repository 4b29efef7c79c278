//! Behind a guard whose store is not in memory: the store's boxed twin, and its holders' numbers.

use std::{
    future::poll_fn,
    num::NonZeroU128,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use super::{
    guard::{Order, Verdict},
    store::{BoxError, Holder, Lifetime, ReplayKey, ReplayStore},
};

/// A [`ReplayStore`] of any type. One box for each step of a delivery, not for each call of the store.
pub(super) trait DynStore: Send + Sync {
    fn reserve_boxed(self: Arc<Self>, order: Order) -> BoxFuture<Verdict>;

    fn confirm_boxed(
        self: Arc<Self>,
        token: ReplayKey,
        lifetime: Lifetime,
        message: Option<(ReplayKey, Lifetime)>,
    ) -> BoxFuture<Result<(), BoxError>>;

    fn release_boxed(
        self: Arc<Self>,
        token: ReplayKey,
        holder: Holder,
    ) -> BoxFuture<Result<(), BoxError>>;

    fn release_in_background_dyn(self: Arc<Self>, token: ReplayKey, holder: Holder);

    /// The type's name.
    fn name(&self) -> &'static str;
}

impl<S: ReplayStore> DynStore for S {
    fn reserve_boxed(self: Arc<Self>, order: Order) -> BoxFuture<Verdict> {
        BoxFuture::new(order.place(self))
    }

    fn confirm_boxed(
        self: Arc<Self>,
        token: ReplayKey,
        lifetime: Lifetime,
        message: Option<(ReplayKey, Lifetime)>,
    ) -> BoxFuture<Result<(), BoxError>> {
        BoxFuture::new(async move {
            let confirm = self.confirm(token, lifetime);
            match message {
                None => confirm.await,
                // At the same time, so that remembering costs no further round trip.
                Some((message, lifetime)) => {
                    let (confirmed, remembered) =
                        join(confirm, self.remember(message, lifetime)).await;
                    confirmed.and(remembered)
                }
            }
        })
    }

    fn release_boxed(
        self: Arc<Self>,
        token: ReplayKey,
        holder: Holder,
    ) -> BoxFuture<Result<(), BoxError>> {
        BoxFuture::new(async move {
            let released = self.release(token, holder).await;
            if released.is_err() {
                // The attempt that failed must be repeatable with this token.
                self.release_in_background(token, holder);
            }
            released
        })
    }

    fn release_in_background_dyn(self: Arc<Self>, token: ReplayKey, holder: Holder) {
        self.release_in_background(token, holder);
    }

    fn name(&self) -> &'static str {
        std::any::type_name::<S>()
    }
}

/// A random holder.
///
/// The randomness is the operating system's, and taken for each reservation. A seed that is kept in
/// the process, such as the one of `RandomState`, is the same in every process that was resumed from
/// one snapshot, as AWS Lambda may do.
pub(super) fn random_holder() -> Result<Holder, BoxError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    // Zero comes up about as often as another holder's number.
    Ok(Holder::new(NonZeroU128::new(u128::from_be_bytes(bytes)).unwrap_or(NonZeroU128::MIN)))
}

/// A boxed future that is `Sync`, whatever the store's future is, so that the layer's response
/// future is as `Sync` as the inner one.
pub(super) struct BoxFuture<T>(Mutex<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T> BoxFuture<T> {
    fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Mutex::new(Box::pin(future)))
    }
}

impl<T> Future for BoxFuture<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // Never locked: a future that is polled is borrowed mutably.
        let future = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        future.as_mut().poll(context)
    }
}

/// Polls two futures until both are ready.
async fn join<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut from_a, mut from_b) = (None, None);
    poll_fn(|context| {
        if from_a.is_none()
            && let Poll::Ready(output) = a.as_mut().poll(context)
        {
            from_a = Some(output);
        }
        if from_b.is_none()
            && let Poll::Ready(output) = b.as_mut().poll(context)
        {
            from_b = Some(output);
        }
        match (from_a.take(), from_b.take()) {
            (Some(from_a), Some(from_b)) => Poll::Ready((from_a, from_b)),
            (a, b) => {
                (from_a, from_b) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}
