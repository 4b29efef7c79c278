//! One shard against maps and lists without any cleverness.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn holder(number: u128) -> NonZeroU128 {
    NonZeroU128::new(number).unwrap()
}

impl Shard {
    /// Every reference from one part to another is right, both ways.
    fn check(&self) {
        assert_eq!(self.index.iter().filter(|place| place.slot != NONE).count(), self.len());
        let (mut vacant, mut slot) = (0, self.vacant);
        while slot != NONE {
            vacant += 1;
            slot = self.entry(slot).next;
        }
        assert_eq!(vacant + self.len(), self.entries.len());
        let mut seen = 0;
        assert!(self.ends.iter().is_sorted_by(|one, next| one.until < next.until));
        for queue in &self.ends {
            let (mut slot, mut previous) = (queue.oldest, NONE);
            while slot != NONE {
                let entry = self.entry(slot);
                assert_eq!(entry.until, queue.until);
                assert!(slot == queue.oldest || entry.previous == previous);
                let place = self.find(entry.key).expect("an entry can be found");
                assert_eq!(self.index[place].slot, slot);
                seen += 1;
                (previous, slot) = (slot, entry.next);
            }
            assert_eq!(queue.newest, previous);
        }
        assert_eq!(seen, self.len());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set { key: u128, done: bool, life: i64 },
    Release { key: u128, right: bool },
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    // Keys with the same tag, with tags that begin at one place, and at the index's last.
    let inverse = 0x144C_BC89_u32;
    let key = (0..4_u128, 0..6_u32, any::<bool>()).prop_map(move |(high, low, last)| {
        let tag = if last { u32::MAX - low } else { low };
        high << 64 | u128::from(tag.wrapping_mul(inverse))
    });
    prop_oneof![
        4 => (key.clone(), any::<bool>(), 1..20_i64)
            .prop_map(|(key, done, life)| Step::Set { key, done, life }),
        2 => (key, any::<bool>()).prop_map(|(key, right)| Step::Release { key, right }),
        1 => (0..10_i64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// A map without any cleverness says the same, as long as nothing has to be forgotten.
    #[test]
    fn a_shard_agrees_with_a_map(steps in proptest::collection::vec(step(), 1..200)) {
        let (mut shard, mut model) = (Shard::default(), HashMap::new());
        let mut now = 0;
        for step in steps {
            match step {
                Step::Set { key, done, life } => {
                    let holder = (!done).then_some(holder(key + 1));
                    prop_assert!(!shard.set(key, holder, now + life, now, 1000));
                    model.insert(key, (holder, now + life));
                }
                Step::Release { key, right } => {
                    let holder = holder(key + if right { 1 } else { 2 });
                    shard.release(key, holder);
                    if model.get(&key).is_some_and(|entry| entry.0 == Some(holder)) {
                        model.remove(&key);
                    }
                }
                Step::Wait(seconds) => now += seconds,
            }
            shard.check();
            for (&key, &(holder, until)) in &model {
                let expected = match holder {
                    _ if until <= now => State::Unknown,
                    Some(holder) => State::InFlight(holder),
                    None => State::Done,
                };
                prop_assert_eq!(shard.state(key, now), expected);
            }
        }
    }

    /// A full shard forgets the entry nearest its end, the oldest of several, and nothing else.
    #[test]
    fn a_full_shard_forgets_the_nearest_end(
        lives in proptest::collection::vec(1..6_i64, 1..80),
        capacity in 1..20_usize,
    ) {
        let (mut shard, mut model) = (Shard::default(), Vec::new());
        for (key, life) in lives.into_iter().enumerate() {
            let forgotten = shard.set(key as u128, None, life, 0, capacity);
            prop_assert_eq!(forgotten, model.len() == capacity);
            if forgotten {
                let nearest = model.iter().enumerate().min_by_key(|&(_, &(_, life))| life);
                let nearest = nearest.unwrap().0;
                model.remove(nearest);
            }
            model.push((key as u128, life));
            shard.check();
            prop_assert_eq!(shard.len(), model.len());
            prop_assert!(model.iter().all(|&(key, _)| shard.state(key, 0) == State::Done));
        }
    }
}

#[test]
fn at_most_two_expired_entries_are_taken_per_call() {
    let mut shard = Shard::default();
    for key in 0..10 {
        shard.set(key, None, 100, 0, 1000);
    }
    shard.set(10, None, 300, 200, 1000);
    assert_eq!(shard.len(), 9);
    shard.set(11, None, 300, 200, 1000);
    assert_eq!(shard.len(), 8);
}

#[test]
fn expired_entries_do_not_make_a_shard_full() {
    let mut shard = Shard::default();
    for key in 0..10 {
        shard.set(key, None, 100, 0, 10);
    }
    for key in 10..20 {
        assert!(!shard.set(key, None, 300, 200, 10), "room by expiry, nothing is forgotten");
    }
    assert!((10..20).all(|key| shard.state(key, 200) == State::Done));
    assert!(shard.set(20, None, 300, 200, 10));
}

#[test]
fn an_entry_has_48_bytes() {
    assert_eq!(tag(0x144C_BC89), 1);
    assert_eq!(size_of::<Entry>(), 48);
    assert_eq!(size_of::<Place>(), 8);
}

/// Doubling would leave up to half of the memory unused.
#[test]
fn a_shard_grows_in_small_steps() {
    let mut shard = Shard::default();
    let mut steps = Vec::new();
    for key in 0..32 {
        shard.set(key, None, 100, 0, 1000);
        let sizes = (shard.entries.capacity(), shard.index.len());
        if steps.last().is_none_or(|&(_, last)| last != sizes) {
            steps.push((shard.len(), sizes));
        }
    }
    let expected = [
        (1, (4, 8)),
        (5, (8, 8)),
        // More than three quarters of the index would be taken.
        (7, (8, 18)),
        (9, (12, 18)),
        (13, (16, 18)),
        (14, (16, 30)),
        // From here on a sixteenth more.
        (17, (21, 30)),
        (22, (26, 30)),
        (23, (26, 45)),
        (27, (31, 45)),
        (32, (36, 45)),
    ];
    assert_eq!(steps, expected);
}

#[test]
fn no_two_holders_of_a_shard_are_the_same() {
    let mut shard = Shard::default();
    let holders: Vec<_> = (0..4).map(|_| shard.next_holder().get()).collect();
    assert_eq!(holders, [1, 2, 3, 4]);
}

/// Or every search would walk through half of the index.
#[test]
fn entries_are_near_their_home() {
    let mut shard = Shard::default();
    for key in 0..10_000 {
        shard.set(key, None, 100, 0, 10_000);
    }
    let places = (0..shard.index.len()).filter(|&place| shard.index[place].slot != NONE);
    let distances = places.map(|place| shard.distance(shard.home(shard.index[place].tag), place));
    assert!(distances.sum::<usize>() < 10_000 * 8);
}
