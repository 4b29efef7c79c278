//! One shard: a hash table whose entries are also linked in the order of their ends.
//!
//! ```text
//! index (open addressing)      entries (or vacant)             ends (by second)
//! ┌─────────────┐              ┌────────────────────────┐    ┌────────────────────────┐
//! │ tag, slot ──┼────────────▶ │ key, holder, until     │ ◀──┼─ 1700000360: oldest … │
//! │ empty       │              │ previous ◀──▶ next     │    │              … newest  │
//! └─────────────┘              └────────────────────────┘    └────────────────────────┘
//! ```
//! Every operation takes constant time but for the search in `ends`, which has one element for each
//! second in which something ends: some hundreds, and what arrives belongs to the last, or nearly so.
//!
//! What a second processor costs is the cache lines that it has to fetch from the first, so as few as
//! possible are touched, and no list of free slots or ends is kept in places of its own. What grows
//! does so in small steps, since doubling leaves up to half of the memory unused.

use std::{collections::VecDeque, num::NonZeroU128};

/// The most entries that are removed because their time is over, in one call.
const EXPIRED_PER_CALL: usize = 2;
/// No slot.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Shard {
    /// Each stays in its slot.
    entries: Vec<Entry>,
    /// The first slot without an entry; its `next` is the second, and so on.
    vacant: u32,
    len: usize,
    /// At most three quarters of the places are taken. Any length will do: see [`home`](Self::home).
    index: Vec<Place>,
    /// For each second in which entries end, these, sorted. Not a `BTreeMap`: both of its ends are some
    /// cache lines deep.
    ends: VecDeque<Queue>,
    last_holder: u64,
}

/// 48 bytes.
#[derive(Debug)]
struct Entry {
    key: u128,
    /// `None` if the token is done.
    holder: Option<NonZeroU128>,
    until: i64,
    /// In the same queue. Of its oldest entry, this is whatever it was.
    previous: u32,
    next: u32,
}

/// Where an entry is. The tag is a hash of the key, so that most of a search, and every move, does
/// without the entries.
#[derive(Clone, Copy, Debug)]
struct Place {
    tag: u32,
    slot: u32,
}

const EMPTY: Place = Place { tag: 0, slot: NONE };

/// The entries of one second, first come first.
#[derive(Debug)]
struct Queue {
    until: i64,
    oldest: u32,
    newest: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Unknown,
    InFlight(NonZeroU128),
    Done,
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            vacant: NONE,
            len: 0,
            index: Vec::new(),
            ends: VecDeque::new(),
            last_holder: 0,
        }
    }
}

impl Shard {
    /// Returns how many entries there are. Some may be over, but are not removed yet.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn state(&self, key: u128, now: i64) -> State {
        match self.find(key).map(|place| self.entry(self.index[place].slot)) {
            Some(entry) if entry.until > now => entry.holder.map_or(State::Done, State::InFlight),
            _ => State::Unknown,
        }
    }

    /// Returns a holder that this shard never returned before.
    pub(super) fn next_holder(&mut self) -> NonZeroU128 {
        self.last_holder += 1;
        NonZeroU128::new(self.last_holder.into())
            .expect("a u64 counts no further than one can wait")
    }

    /// Sets the state of a key, and returns whether an entry was forgotten that was not over yet.
    pub(super) fn set(
        &mut self,
        key: u128,
        holder: Option<NonZeroU128>,
        until: i64,
        now: i64,
        capacity: usize,
    ) -> bool {
        if let Some(place) = self.find(key) {
            let slot = self.index[place].slot;
            if self.entry(slot).until == until {
                self.entry_mut(slot).holder = holder;
                return false;
            }
            self.remove(place);
        }
        let forgotten = self.make_room(now, capacity);
        self.insert(key, holder, until);
        forgotten
    }

    /// Removes a key if this holder has it.
    pub(super) fn release(&mut self, key: u128, holder: NonZeroU128) {
        if let Some(place) = self.find(key)
            && self.entry(self.index[place].slot).holder == Some(holder)
        {
            self.remove(place);
        }
    }

    /// Removes what is over, and if that leaves no room, the entry nearest its end.
    fn make_room(&mut self, now: i64, capacity: usize) -> bool {
        for _ in 0..EXPIRED_PER_CALL {
            match self.nearest_end() {
                Some((until, slot)) if until <= now => self.remove(self.place_of(slot)),
                _ => break,
            }
        }
        // As many as were removed are missing, so a full shard has nothing that is over.
        match self.nearest_end() {
            Some((_, slot)) if self.len() >= capacity => {
                self.remove(self.place_of(slot));
                true
            }
            _ => false,
        }
    }

    fn nearest_end(&self) -> Option<(i64, u32)> {
        self.ends.front().map(|queue| (queue.until, queue.oldest))
    }

    fn insert(&mut self, key: u128, holder: Option<NonZeroU128>, until: i64) {
        if (self.len + 1) * 4 > self.index.len() * 3 {
            self.grow_index();
        }
        let slot = match self.vacant {
            NONE => self.entries.len() as u32,
            vacant => vacant,
        };
        let place = self.search(tag(key), NONE);
        self.index[place] = Place { tag: tag(key), slot };
        let previous = match self.queue(until) {
            Ok(queue) => std::mem::replace(&mut self.ends[queue].newest, slot),
            Err(queue) => {
                self.ends.insert(queue, Queue { until, oldest: slot, newest: slot });
                NONE
            }
        };
        if previous != NONE {
            self.entry_mut(previous).next = slot;
        }
        let entry = Entry { key, holder, until, previous, next: NONE };
        if self.vacant == NONE {
            if self.entries.len() == self.entries.capacity() {
                self.entries.reserve_exact(self.entries.len() / 16 + 4);
            }
            self.entries.push(entry);
        } else {
            let vacant = std::mem::replace(self.entry_mut(slot), entry);
            self.vacant = vacant.next;
        }
        self.len += 1;
    }

    fn remove(&mut self, place: usize) {
        let slot = self.index[place].slot;
        self.unlink(slot);
        self.vacate(place);
        self.entry_mut(slot).next = std::mem::replace(&mut self.vacant, slot);
        self.len -= 1;
    }

    /// Takes an entry out of its second's queue.
    fn unlink(&mut self, slot: u32) {
        let &Entry { until, previous, next, .. } = self.entry(slot);
        let position = self.queue(until).expect("a second in which an entry ends has a queue");
        let queue = &mut self.ends[position];
        match (queue.oldest == slot, queue.newest == slot) {
            (true, true) => {
                self.ends.remove(position);
            }
            (true, false) => queue.oldest = next,
            (false, true) => {
                queue.newest = previous;
                self.entry_mut(previous).next = NONE;
            }
            (false, false) => {
                self.entry_mut(previous).next = next;
                self.entry_mut(next).previous = previous;
            }
        }
    }

    /// Returns where the queue of a second is, or where it should be.
    fn queue(&self, until: i64) -> Result<usize, usize> {
        match (self.ends.front(), self.ends.back()) {
            (Some(first), _) if first.until == until => Ok(0),
            (_, Some(last)) if last.until == until => Ok(self.ends.len() - 1),
            (_, Some(last)) if last.until < until => Err(self.ends.len()),
            _ => self.ends.binary_search_by_key(&until, |queue| queue.until),
        }
    }

    fn entry(&self, slot: u32) -> &Entry {
        &self.entries[slot as usize]
    }

    fn entry_mut(&mut self, slot: u32) -> &mut Entry {
        &mut self.entries[slot as usize]
    }

    fn find(&self, key: u128) -> Option<usize> {
        if self.index.is_empty() {
            return None;
        }
        let tag = tag(key);
        let mut place = self.home(tag);
        loop {
            let Place { tag: found, slot } = self.index[place];
            if slot == NONE {
                return None;
            }
            if found == tag && self.entry(slot).key == key {
                return Some(place);
            }
            place = self.next(place);
        }
    }

    fn place_of(&self, slot: u32) -> usize {
        self.search(tag(self.entry(slot).key), slot)
    }

    /// Returns the first place for a tag that holds this slot, or none.
    fn search(&self, tag: u32, slot: u32) -> usize {
        let mut place = self.home(tag);
        while self.index[place].slot != slot {
            place = self.next(place);
        }
        place
    }

    /// Empties a place, and moves what stands behind it forward, so that every search still finds
    /// its entry before an empty place.
    fn vacate(&mut self, mut hole: usize) {
        let mut place = hole;
        loop {
            place = self.next(place);
            let Place { tag, slot } = self.index[place];
            if slot == NONE {
                break;
            }
            // It may move to the hole unless its home lies behind the hole.
            if self.distance(self.home(tag), place) >= self.distance(hole, place) {
                self.index[hole] = self.index[place];
                hole = place;
            }
        }
        self.index[hole] = EMPTY;
    }

    fn grow_index(&mut self) {
        let places = self.index.len() + self.index.len() / 4 + 8;
        let old = std::mem::replace(&mut self.index, vec![EMPTY; places]);
        for place in old.into_iter().filter(|place| place.slot != NONE) {
            let vacancy = self.search(place.tag, NONE);
            self.index[vacancy] = place;
        }
    }

    /// Returns where the search for a tag begins: as far into the index as the tag is into the `u32`s.
    fn home(&self, tag: u32) -> usize {
        ((u64::from(tag) * self.index.len() as u64) >> 32) as usize
    }

    fn next(&self, place: usize) -> usize {
        if place + 1 == self.index.len() { 0 } else { place + 1 }
    }

    /// Returns how many steps it is from one place to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        if from <= to { to - from } else { to + self.index.len() - from }
    }
}

/// Keys are parts of MACs and hashes, and spread by themselves. The multiplication (Knuth's) is for
/// those of a test that counts.
fn tag(key: u128) -> u32 {
    (key as u32).wrapping_mul(0x9E37_79B9)
}

#[cfg(test)]
// For tests/interleavings.rs, where this file is a module of another crate.
#[path = "shard/tests.rs"]
mod tests;
