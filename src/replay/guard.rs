//! [`ReplayGuard`], the setting of the layer, and what the middleware calls for each delivery.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::memory::MemoryStore;
use super::store::{BoxError, Holder, Lifetime, ReplayKey, Reserve};
#[cfg(feature = "replay-store")]
use super::{foreign::DynStore, store::ReplayStore};
use crate::verify::NumericDate;

/// What an entry outlives its token by, beside three times the clocks' tolerance.
const MARGIN: Duration = Duration::from_secs(60);

/// Lets each token through once.
///
/// A QStash token stays valid for five minutes, however often it is presented, and proxies and
/// clients repeat requests by themselves. With a guard, a delivery that was handled is not handled
/// again: a second arrival of its token gets a 2xx response at once if the first was handled, and is
/// told to come again while the first is being handled. If the handler fails, the token can be used
/// again.
///
/// The guard never loses a delivery. When in doubt, because its store can't be reached or the
/// outcome of the first arrival is unknown, it makes QStash try again later.
///
/// [Replays and repeats](crate::guides::replays) says what it does in each case, and how to choose
/// among its settings.
///
/// # Which store
///
/// | store | for | what it forgets |
/// |---|---|---|
/// | [`in_memory`](Self::in_memory) | a service that runs as one process | everything, when the process ends |
#[cfg_attr(
    feature = "redis",
    doc = "| [`redis`](Self::redis) | several processes, AWS Lambda | what Redis forgets: see [`RedisStore`](super::RedisStore) |"
)]
#[cfg_attr(
    feature = "replay-store",
    doc = "| [`new`](Self::new) | any other database | what that forgets |"
)]
///
/// # What it does not do
///
/// A token whose handler *fails* can be used again until it expires, by anyone who has it. And a
/// message is handled twice if its handler succeeds and QStash doesn't get the response: QStash
/// retries with a new token. [`remember_messages`](Self::remember_messages) prevents that.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_qstash::ReplayGuard;
///
/// let guard = ReplayGuard::in_memory()
///     .remember_messages(Duration::from_secs(24 * 60 * 60))
///     .namespace("orders");
/// # drop(guard);
/// ```
#[derive(Clone)]
pub struct ReplayGuard {
    store: Store,
    open_when_down: bool,
    messages: Option<Duration>,
    namespace: u128,
}

/// Clones share what they remember.
#[derive(Clone)]
enum Store {
    /// Called directly: a box and a virtual call would cost as much as the store itself.
    Memory(Arc<MemoryStore>),
    #[cfg(feature = "replay-store")]
    Foreign(Arc<dyn DynStore>),
}

impl ReplayGuard {
    /// Creates a guard that remembers 100,000 tokens in the memory of this process. In a Cloudflare
    /// Worker, that is the memory of one isolate of many.
    ///
    /// For another number, see [`in_memory_with`](Self::in_memory_with). Where requests are spread
    /// over several processes, or over the instances of an AWS Lambda function, each would know its
    /// own tokens only.
    pub fn in_memory() -> Self {
        Self::in_memory_with(MemoryStore::new())
    }

    /// Creates a guard with a [`MemoryStore`], or an `Arc` of one that you keep to read its figures.
    ///
    /// ```
    /// use tower_qstash::{MemoryStore, ReplayGuard};
    ///
    /// let guard = ReplayGuard::in_memory_with(MemoryStore::with_capacity(10_000));
    /// # drop(guard);
    /// ```
    pub fn in_memory_with(store: impl Into<Arc<MemoryStore>>) -> Self {
        Self::with(Store::Memory(store.into()))
    }

    /// Creates a guard with a store of your own. [`ReplayStore`] has an example of one.
    #[cfg(feature = "replay-store")]
    pub fn new(store: impl ReplayStore) -> Self {
        Self::with(Store::Foreign(Arc::new(store)))
    }

    /// Creates a guard with a Redis or Valkey server, shared between processes. It connects when the
    /// first delivery arrives.
    ///
    /// The settings of [`RedisStore`](super::RedisStore) have their defaults. For others, use
    /// [`new`](Self::new) with one.
    ///
    /// # Errors
    ///
    /// A URL that is not `redis://…` or `unix://…`, or `rediss://…` without the feature `redis-tls`.
    #[cfg(feature = "redis")]
    pub fn redis(url: &str) -> Result<Self, super::InvalidRedisUrl> {
        super::RedisStore::new(url).map(Self::new)
    }

    /// Whether the guard looks at the id of a message.
    pub(crate) fn remembers_messages(&self) -> bool {
        self.messages.is_some()
    }

    fn with(store: Store) -> Self {
        Self { store, open_when_down: false, messages: None, namespace: 0 }
    }

    /// Lets deliveries through while the store can't be reached, with a warning for each. By default
    /// they get a 503 response, and QStash tries again later. [Replays and repeats](crate::guides::replays)
    /// says what gets through then.
    pub fn open_when_down(self) -> Self {
        Self { open_when_down: true, ..self }
    }

    /// Also remembers each handled *message* for this long, so that it isn't handled again when
    /// QStash delivers it once more with another token. Off by default; Upstash advises a day.
    ///
    /// A message is known by a hash of its `Upstash-Message-Id`, which is not signed, and of its
    /// destination and body, which are. A delivery without that header is guarded by its token alone.
    /// A message that failed is not remembered, and two deliveries of one message at the same time
    /// are both handled.
    pub fn remember_messages(self, duration: Duration) -> Self {
        Self { messages: Some(duration), ..self }
    }

    /// Tells this guard's tokens and messages apart from those of other guards with the same store.
    /// Empty by default.
    ///
    /// Two guards that one request passes through need different namespaces: to the second, the
    /// token would be in flight already.
    pub fn namespace(self, namespace: &str) -> Self {
        let namespace = match namespace {
            "" => 0,
            name => first_half(Sha256::digest(name)),
        };
        Self { namespace, ..self }
    }

    /// Reserves a delivery's token, after every check. The future owns all it needs.
    pub(crate) fn reserve(&self, delivery: &Delivery<'_>) -> Reserving {
        let token = ReplayKey(u128::from_be_bytes(delivery.mac) ^ self.namespace);
        let messages = self.messages.zip(delivery.message_id);
        let message =
            messages.map(|(duration, id)| (delivery.message_key(id, self.namespace), duration));
        let lifetime = delivery.lifetime();
        match &self.store {
            Store::Memory(memory) => {
                let verdict = match message {
                    Some((message, _)) if memory.remembers(message, delivery.now) => {
                        Verdict::Done(Known::Message)
                    }
                    _ => match memory.reserve_new(token, lifetime) {
                        Ok(holder) => Verdict::Reserved(Reservation {
                            store: self.store.clone(),
                            token,
                            holder,
                            lifetime,
                            message,
                        }),
                        Err(Reserve::Done) => Verdict::Done(Known::Token),
                        Err(_) => Verdict::InFlight { retry_after: delivery.retry_after() },
                    },
                };
                Reserving(Step::Ready(Some(verdict)))
            }
            #[cfg(feature = "replay-store")]
            Store::Foreign(store) => {
                Reserving(Step::Boxed(Arc::clone(store).reserve_boxed(Order {
                    token,
                    message,
                    lifetime,
                    retry_after: delivery.retry_after(),
                    open_when_down: self.open_when_down,
                })))
            }
        }
    }
}

impl fmt::Debug for ReplayGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = match &self.store {
            Store::Memory(_) => "memory",
            #[cfg(feature = "replay-store")]
            Store::Foreign(store) => store.name(),
        };
        f.debug_struct("ReplayGuard")
            .field("store", &format_args!("{store}"))
            .field("open_when_down", &self.open_when_down)
            .field("remember_messages", &self.messages)
            .finish_non_exhaustive()
    }
}

/// What the guard has to know about a verified delivery.
#[derive(Clone, Copy)]
pub(crate) struct Delivery<'a> {
    /// The first 16 bytes of the token's MAC, as verified.
    pub(crate) mac: [u8; 16],
    pub(crate) now: NumericDate,
    pub(crate) expires_at: NumericDate,
    pub(crate) issued_at: Option<NumericDate>,
    /// The layer's clock tolerance.
    pub(crate) tolerance: Duration,
    /// The header `Upstash-Message-Id`.
    pub(crate) message_id: Option<&'a [u8]>,
    /// The label of the key that signed: another party's message is another message.
    pub(crate) key_label: &'a str,
    /// The claim `sub`.
    pub(crate) subject: &'a str,
    /// The SHA-256 of the body.
    pub(crate) body_hash: &'a [u8; 32],
}

impl Delivery<'_> {
    /// One lifetime, whatever the handler takes. A machine whose clock is behind by the tolerance
    /// accepts the token until `exp` + twice that by this machine's clock, if this one's is ahead by
    /// as much; and the store may be a third.
    fn lifetime(&self) -> Lifetime {
        let margin = self.tolerance.saturating_mul(3).saturating_add(MARGIN);
        let lifetime = Lifetime::new(self.now, self.expires_at.saturating_add(margin));
        match self.issued_at {
            Some(issued_at) => lifetime.with_issued_at(issued_at.saturating_sub(self.tolerance)),
            None => lifetime,
        }
    }

    /// Seconds until the token is no longer accepted, so that QStash comes again with a new one.
    fn retry_after(&self) -> u64 {
        let end = self.expires_at.saturating_add(self.tolerance);
        // Rounded up, as `Lifetime` does; its cap does no harm.
        Lifetime::new(self.now, end).remaining().as_secs()
    }

    /// No two different messages have the same key: each part says how long it is.
    fn message_key(&self, id: &[u8], namespace: u128) -> ReplayKey {
        let mut hasher = Sha256::new();
        hasher.update(namespace.to_be_bytes());
        for part in [id, self.key_label.as_bytes(), self.subject.as_bytes(), self.body_hash] {
            hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(part);
        }
        ReplayKey(first_half(hasher.finalize()))
    }
}

fn first_half(hash: impl Into<[u8; 32]>) -> u128 {
    let hash: [u8; 32] = hash.into();
    u128::from_be_bytes(std::array::from_fn(|index| hash[index]))
}

/// What to do with a delivery.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Call the handler, then confirm or release.
    Reserved(Reservation),
    /// The store can't be reached, and the guard is `open_when_down`: call the handler, with a warning.
    #[cfg_attr(
        not(feature = "replay-store"),
        expect(dead_code, reason = "the store in memory is never down")
    )]
    Unguarded(Reservation, BoxError),
    /// An earlier arrival is being handled, or its outcome is unknown. The token is no longer
    /// accepted after so many seconds.
    InFlight { retry_after: u64 },
    /// Already handled.
    Done(Known),
    /// The store can't be reached, or can't know.
    #[cfg_attr(
        not(feature = "replay-store"),
        expect(dead_code, reason = "the store in memory is never down")
    )]
    Unavailable(BoxError),
}

/// What was known already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Token,
    Message,
}

/// A token that is in flight because of this arrival. Dropping it changes nothing: the outcome is
/// unknown then.
#[must_use = "confirm or release it; dropped, the token stays in flight until the end of its lifetime"]
pub(crate) struct Reservation {
    store: Store,
    token: ReplayKey,
    holder: Holder,
    lifetime: Lifetime,
    /// The message, and how long to remember it.
    message: Option<(ReplayKey, Duration)>,
}

impl Reservation {
    /// The handler succeeded: the token is done.
    pub(crate) fn confirm(self, now: NumericDate) -> Settling {
        let lifetime = self.lifetime.at(now);
        let message = self
            .message
            .map(|(message, duration)| (message, Lifetime::new(now, now.saturating_add(duration))));
        match self.store {
            Store::Memory(memory) => {
                memory.confirm_now(self.token, lifetime);
                if let Some((message, lifetime)) = message {
                    memory.remember_now(message, lifetime);
                }
                Settling(Step::Ready(Some(Ok(()))))
            }
            #[cfg(feature = "replay-store")]
            Store::Foreign(store) => {
                Settling(Step::Boxed(store.confirm_boxed(self.token, lifetime, message)))
            }
        }
    }

    /// The handler failed: the token may be used again.
    pub(crate) fn release(self) -> Settling {
        match self.store {
            Store::Memory(memory) => {
                memory.release_now(self.token, self.holder);
                Settling(Step::Ready(Some(Ok(()))))
            }
            #[cfg(feature = "replay-store")]
            Store::Foreign(store) => {
                Settling(Step::Boxed(store.release_boxed(self.token, self.holder)))
            }
        }
    }

    /// The handler panicked: [`release`](Self::release), as far as that goes without waiting.
    pub(crate) fn release_in_background(self) {
        match self.store {
            Store::Memory(memory) => memory.release_now(self.token, self.holder),
            #[cfg(feature = "replay-store")]
            Store::Foreign(store) => store.release_in_background_dyn(self.token, self.holder),
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

/// Everything that reserving needs, for a future that owns it.
#[cfg(feature = "replay-store")]
pub(super) struct Order {
    token: ReplayKey,
    message: Option<(ReplayKey, Duration)>,
    lifetime: Lifetime,
    retry_after: u64,
    open_when_down: bool,
}

#[cfg(feature = "replay-store")]
impl Order {
    pub(super) async fn place<S: ReplayStore>(self, store: Arc<S>) -> Verdict {
        let holder = match super::foreign::random_holder() {
            Ok(holder) => holder,
            Err(error) => return Verdict::Unavailable(error),
        };
        // Before the token is reserved, so that a known message leaves nothing to be settled.
        if let Some((message, _)) = self.message {
            match store.is_remembered(message, self.lifetime.now()).await {
                Ok(true) => return Verdict::Done(Known::Message),
                Ok(false) => {}
                Err(error) if self.open_when_down => {
                    return Verdict::Unguarded(self.reservation(store, holder), error);
                }
                Err(error) => return Verdict::Unavailable(error),
            }
        }
        match store.reserve(self.token, holder, self.lifetime).await {
            Ok(Reserve::Reserved) => Verdict::Reserved(self.reservation(store, holder)),
            Ok(Reserve::InFlight) => Verdict::InFlight { retry_after: self.retry_after },
            Ok(Reserve::Done) => Verdict::Done(Known::Token),
            // Also if the guard is open when the store is down, since it is not down.
            Ok(Reserve::Unknowable) => Verdict::Unavailable(
                "the replay guard's store has lost what it knew when this token was issued".into(),
            ),
            Err(error) if self.open_when_down => {
                Verdict::Unguarded(self.reservation(store, holder), error)
            }
            Err(error) => {
                // The token may have been reserved all the same, and nobody is handling it.
                store.release_in_background(self.token, holder);
                Verdict::Unavailable(error)
            }
        }
    }

    fn reservation<S: ReplayStore>(self, store: Arc<S>, holder: Holder) -> Reservation {
        let Self { token, message, lifetime, .. } = self;
        Reservation { store: Store::Foreign(store), token, holder, lifetime, message }
    }
}

/// The future of [`ReplayGuard::reserve`]. With a store in memory it is ready at once.
pub(crate) struct Reserving(Step<Verdict>);

/// The future of [`Reservation::confirm`] and [`Reservation::release`]. With a store in memory it is
/// ready at once.
pub(crate) struct Settling(Step<Result<(), BoxError>>);

enum Step<T> {
    Ready(Option<T>),
    #[cfg(feature = "replay-store")]
    Boxed(super::foreign::BoxFuture<T>),
}

impl<T: Unpin> Step<T> {
    #[cfg_attr(
        not(feature = "replay-store"),
        expect(unused_variables, reason = "the store in memory wakes nobody")
    )]
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<T> {
        match self {
            Self::Ready(ready) => Poll::Ready(ready.take().expect("polled after completion")),
            #[cfg(feature = "replay-store")]
            Self::Boxed(future) => Pin::new(future).poll(context),
        }
    }
}

impl Future for Reserving {
    type Output = Verdict;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Verdict> {
        self.0.poll(context)
    }
}

impl Future for Settling {
    type Output = Result<(), BoxError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context)
    }
}

#[cfg(test)]
mod tests;
