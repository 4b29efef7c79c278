//! The store in this process's memory.

#[expect(clippy::as_conversions, reason = "indices of 32 bits, and hashes that are cut to fit")]
mod shard;
#[expect(clippy::as_conversions, reason = "indices of 32 bits, and hashes that are cut to fit")]
mod table;

use std::num::NonZeroU128;

use self::table::{Table, Taken};
use super::{
    store::{BoxError, Holder, Lifetime, ReplayKey, ReplayStore, Reserve},
    trace,
};
use crate::verify::NumericDate;

/// What `table.rs` locks with. `tests/interleavings.rs` has another.
mod sync {
    pub(super) use std::sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    };
}

/// A [`ReplayStore`] in the memory of this process, for a service that runs as one process.
///
/// Entries are removed when their time is over, a few with each call; there is no background task.
/// If more tokens than its capacity are live at once, the one nearest its end is forgotten, with a
/// warning, and could be used again. Only tokens with a valid signature take a place. Messages
/// ([`remember_messages`](super::ReplayGuard::remember_messages)) have as many places of their own.
///
/// An entry takes about 70 bytes in a full store of 100,000, and up to 93 in a smaller one; an empty store
/// takes almost none.
///
/// Give each party with signing keys of its own a guard of its own: the owner of a key can fill the
/// store, and yours is then forgotten first ([Replays and repeats](crate::guides::replays#one-guard-for-each-party)).
///
/// ```
/// use std::sync::Arc;
/// use tower_qstash::{MemoryStore, ReplayGuard};
///
/// let store = Arc::new(MemoryStore::with_capacity(1_000_000));
/// let guard = ReplayGuard::in_memory_with(Arc::clone(&store));
/// assert!(store.is_empty());
/// // Later, for metrics:
/// assert_eq!((store.len(), store.forgotten()), (0, 0));
/// # drop(guard);
/// ```
#[derive(Debug)]
pub struct MemoryStore {
    tokens: Table,
    messages: Table,
}

impl MemoryStore {
    /// How many tokens [`new`](Self::new) has places for: 277 deliveries a second, each remembered
    /// for six minutes, in 8 MB.
    pub const DEFAULT_CAPACITY: usize = 100_000;

    /// Creates a store for [`DEFAULT_CAPACITY`](Self::DEFAULT_CAPACITY) tokens.
    pub fn new() -> Self {
        Self::with_capacity(Self::DEFAULT_CAPACITY)
    }

    /// Creates a store for about this many tokens, and as many messages. Memory is taken as they
    /// come. Zero is taken as one.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { tokens: Table::new(capacity), messages: Table::new(capacity) }
    }

    /// Returns how many entries there are, with those whose time is over and that are not removed
    /// yet.
    pub fn len(&self) -> usize {
        self.tokens.len() + self.messages.len()
    }

    /// Returns whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many entries were forgotten before their time, for want of places.
    pub fn forgotten(&self) -> u64 {
        self.tokens.forgotten() + self.messages.forgotten()
    }

    /// Reserves for a new holder. The number is unique in this store, which is all that a store
    /// needs that isn't shared between processes.
    pub(super) fn reserve_new(
        &self,
        key: ReplayKey,
        lifetime: Lifetime,
    ) -> Result<Holder, Reserve> {
        match self.take(key, None, lifetime) {
            Taken::By(holder) => Ok(Holder::new(holder)),
            Taken::InFlight => Err(Reserve::InFlight),
            Taken::Done => Err(Reserve::Done),
        }
    }

    pub(super) fn confirm_now(&self, key: ReplayKey, lifetime: Lifetime) {
        self.tokens.confirm(key.0, lifetime.until, lifetime.now);
    }

    pub(super) fn release_now(&self, key: ReplayKey, holder: Holder) {
        self.tokens.release(key.0, holder.get());
    }

    pub(super) fn remember_now(&self, message: ReplayKey, lifetime: Lifetime) {
        self.messages.confirm(message.0, lifetime.until, lifetime.now);
    }

    pub(super) fn remembers(&self, message: ReplayKey, now: NumericDate) -> bool {
        self.messages.is_done(message.0, now.as_secs())
    }

    fn take(&self, key: ReplayKey, holder: Option<NonZeroU128>, lifetime: Lifetime) -> Taken {
        self.tokens.reserve(key.0, holder, lifetime.until, lifetime.now)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplayStore for MemoryStore {
    async fn reserve(
        &self,
        key: ReplayKey,
        holder: Holder,
        lifetime: Lifetime,
    ) -> Result<Reserve, BoxError> {
        Ok(match self.take(key, Some(holder.get()), lifetime) {
            Taken::By(_) => Reserve::Reserved,
            Taken::InFlight => Reserve::InFlight,
            Taken::Done => Reserve::Done,
        })
    }

    async fn confirm(&self, key: ReplayKey, lifetime: Lifetime) -> Result<(), BoxError> {
        self.confirm_now(key, lifetime);
        Ok(())
    }

    async fn release(&self, key: ReplayKey, holder: Holder) -> Result<(), BoxError> {
        self.release_now(key, holder);
        Ok(())
    }

    async fn remember(&self, message: ReplayKey, lifetime: Lifetime) -> Result<(), BoxError> {
        self.remember_now(message, lifetime);
        Ok(())
    }

    async fn is_remembered(&self, message: ReplayKey, now: NumericDate) -> Result<bool, BoxError> {
        Ok(self.remembers(message, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(now: i64, until: i64) -> Lifetime {
        Lifetime::new(NumericDate::from_secs(now), NumericDate::from_secs(until))
    }

    fn key(number: u128) -> ReplayKey {
        // Spread as MACs are, and reversibly.
        let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        ReplayKey::from_bytes((spread ^ spread >> 64).to_be_bytes())
    }

    #[test]
    fn a_poisoned_lock_is_no_abort() {
        let store = MemoryStore::with_capacity(10);
        store.confirm_now(key(1), life(0, 360));
        std::thread::scope(|scope| {
            let panicked = scope.spawn(|| {
                let _locked = store.tokens.shard(key(1).0);
                panic!("while locked");
            });
            panicked.join().unwrap_err();
        });
        assert_eq!(store.reserve_new(key(1), life(0, 360)), Err(Reserve::Done));
        assert!(store.reserve_new(key(2), life(0, 360)).is_ok());
    }

    #[test]
    fn failures_take_no_places() {
        let store = MemoryStore::with_capacity(1_000);
        for number in 0..500 {
            store.confirm_now(key(number), life(0, 360));
        }
        for number in 500..50_500 {
            let holder = store.reserve_new(key(number), life(0, 360)).unwrap();
            store.release_now(key(number), holder);
        }
        for number in 0..500 {
            assert_eq!(store.reserve_new(key(number), life(1, 360)), Err(Reserve::Done));
        }
        assert_eq!((store.len(), store.forgotten()), (500, 0));
    }

    #[test]
    fn a_store_filled_twice_over_knows_the_newest() {
        let store = MemoryStore::with_capacity(20_000);
        for number in 0..40_000_u32 {
            store.confirm_now(key(number.into()), life(0, 360 + i64::from(number / 200)));
        }
        for number in 22_000..40_000 {
            assert_eq!(
                store.reserve_new(key(number), life(0, 600)),
                Err(Reserve::Done),
                "{number}"
            );
        }
        assert!(store.len() <= 20_000 + 64 && store.forgotten() >= 19_000);
    }

    #[test]
    fn messages_do_not_displace_tokens() {
        let store = MemoryStore::with_capacity(10);
        store.confirm_now(key(1), life(0, 360));
        for number in 0..100 {
            store.remember_now(key(number), life(0, 86_400));
        }
        assert_eq!(store.reserve_new(key(1), life(0, 360)), Err(Reserve::Done));
        assert_eq!((store.len(), store.forgotten()), (11, 90));
        assert!(!store.is_empty() && MemoryStore::with_capacity(0).is_empty());
    }

    /// A second ends, and what ended in it makes room for what comes: nothing grows.
    #[test]
    fn expiry_keeps_pace_without_a_background_task() {
        let store = MemoryStore::with_capacity(100_000);
        for number in 0..100_000 {
            let now = i64::try_from(number / 100).expect("a small number");
            store.confirm_now(key(number), life(now, now + 60));
        }
        assert!((6_000..7_000).contains(&store.len()), "{}", store.len());
        assert_eq!(store.forgotten(), 0);
    }

    #[cfg(feature = "testing")]
    #[test]
    fn the_store_in_memory_conforms() {
        let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        for capacity in [1_000, 100_000] {
            let store = MemoryStore::with_capacity(capacity);
            let mut checks = std::pin::pin!(crate::replay::conformance::check_replay_store(
                store,
                now,
                async |_| {}
            ));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(checks.as_mut().poll(&mut context).is_ready(), "it never waits");
        }
    }

    #[test]
    fn once_grown_nothing_is_allocated() {
        let store = MemoryStore::with_capacity(1_000);
        let cycle = |number| {
            let holder = store.reserve_new(key(number), life(0, 360)).unwrap();
            store.confirm_now(key(number), life(1, 360));
            store.release_now(key(number), holder);
        };
        (0..100).for_each(cycle);
        let grown = allocation_counter::measure(|| (100..1_000).for_each(cycle));
        assert!(grown.count_total < 100, "a few steps of growth: {grown:?}");
        let full = allocation_counter::measure(|| (1_000..2_000).for_each(cycle));
        assert_eq!(full.count_total, 0);
    }
}
