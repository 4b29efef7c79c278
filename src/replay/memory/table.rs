//! Shards under locks. Numbers in, numbers out: `tests/interleavings.rs` compiles this file with
//! loom's locks instead of the standard library's.

use std::num::NonZeroU128;

use super::{
    shard::{Shard, State},
    sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError},
};

/// Many more than there are processors, so that two threads seldom meet in one.
const MOST_SHARDS: usize = 64;
/// Fewer entries than this are not worth a shard: small tables forget exactly.
const SHARD_SIZE: usize = 2048;

#[derive(Debug)]
pub(super) struct Table {
    /// As many as a power of two.
    shards: Box<[Padded]>,
    /// For each shard.
    capacity: usize,
    forgotten: AtomicU64,
}

/// Alone in its cache lines; some processors fetch two at a time.
#[derive(Debug)]
#[repr(align(128))]
struct Padded(Mutex<Shard>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    By(NonZeroU128),
    InFlight,
    Done,
}

impl Table {
    pub(super) fn new(capacity: usize) -> Self {
        let shards = (capacity / SHARD_SIZE).clamp(1, MOST_SHARDS);
        // Rounded down to a power of two.
        let shards = 1 << shards.ilog2();
        Self {
            shards: (0..shards).map(|_| Padded(Mutex::new(Shard::default()))).collect(),
            // Slots are `u32`s.
            capacity: capacity.div_ceil(shards).clamp(1, u32::MAX as usize - 1),
            forgotten: AtomicU64::new(0),
        }
    }

    /// Reserves a key for this holder, or for a new one.
    pub(super) fn reserve(
        &self,
        key: u128,
        holder: Option<NonZeroU128>,
        until: i64,
        now: i64,
    ) -> Taken {
        let mut shard = self.shard(key);
        match shard.state(key, now) {
            State::Done => return Taken::Done,
            State::InFlight(current) if holder != Some(current) => return Taken::InFlight,
            State::InFlight(current) => return Taken::By(current),
            State::Unknown => {}
        }
        let holder = holder.unwrap_or_else(|| shard.next_holder());
        let forgotten = shard.set(key, Some(holder), until, now, self.capacity);
        drop(shard);
        self.count(forgotten);
        Taken::By(holder)
    }

    pub(super) fn confirm(&self, key: u128, until: i64, now: i64) {
        let forgotten = self.shard(key).set(key, None, until, now, self.capacity);
        self.count(forgotten);
    }

    pub(super) fn release(&self, key: u128, holder: NonZeroU128) {
        self.shard(key).release(key, holder);
    }

    pub(super) fn is_done(&self, key: u128, now: i64) -> bool {
        self.shard(key).state(key, now) == State::Done
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// Locks the shard that has this key.
    pub(super) fn shard(&self, key: u128) -> MutexGuard<'_, Shard> {
        // Other bits than those that find the place in the shard.
        let shard = (key >> 64) as usize & (self.shards.len() - 1);
        lock(&self.shards[shard])
    }

    fn count(&self, forgotten: bool) {
        if forgotten {
            let before = self.forgotten.fetch_add(1, Ordering::Relaxed);
            // At 1, 2, 4, 8 and so on, or a flood would fill the log as well.
            if (before + 1).is_power_of_two() {
                super::trace::memory_full(before + 1);
            }
        }
    }
}

/// A panic while a shard is locked can only be a bug in `shard.rs`. It must not take every later
/// delivery with it.
fn lock(shard: &Padded) -> MutexGuard<'_, Shard> {
    shard.0.lock().unwrap_or_else(PoisonError::into_inner)
}
