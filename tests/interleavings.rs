//! Every interleaving of two threads in the replay guard's memory, explored with loom: the crate's own
//! `table.rs` and `shard.rs`, with loom's locks.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../src/replay/memory/shard.rs"]
mod shard;
#[path = "../src/replay/memory/table.rs"]
mod table;

mod sync {
    pub(super) use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    };
    pub(super) use std::sync::PoisonError;
}

mod trace {
    pub(super) fn memory_full(_forgotten: u64) {}
}

mod interleavings {
    use std::{collections::BTreeSet, num::NonZeroU128, sync::Mutex};

    use loom::{sync::Arc, thread};

    use crate::table::{Table, Taken};

    const KEY: u128 = 7;
    const UNTIL: i64 = 360;

    /// Runs `program` in every interleaving, and returns all that came out.
    fn outcomes<T: Ord + Send + 'static>(
        program: impl Fn() -> T + Send + Sync + 'static,
    ) -> BTreeSet<T> {
        let seen = std::sync::Arc::new(Mutex::new(BTreeSet::new()));
        let all = std::sync::Arc::clone(&seen);
        loom::model(move || {
            let outcome = program();
            all.lock().unwrap().insert(outcome);
        });
        std::mem::take(&mut *seen.lock().unwrap())
    }

    fn word(taken: Taken) -> &'static str {
        match taken {
            Taken::By(_) => "reserved",
            Taken::InFlight => "in flight",
            Taken::Done => "done",
        }
    }

    /// The other thread's part of a program.
    fn beside<T: 'static>(
        table: &Arc<Table>,
        work: impl FnOnce(&Table) -> T + 'static,
    ) -> thread::JoinHandle<T> {
        let table = Arc::clone(table);
        thread::spawn(move || work(&table))
    }

    #[test]
    fn one_of_two_threads_reserves() {
        let seen = outcomes(|| {
            let table = Arc::new(Table::new(4));
            let other = beside(&table, |table| table.reserve(KEY, None, UNTIL, 0));
            let mine = table.reserve(KEY, None, UNTIL, 0);
            [word(mine), word(other.join().unwrap())]
        });
        let expected = [["in flight", "reserved"], ["reserved", "in flight"]];
        assert_eq!(seen, BTreeSet::from(expected));
    }

    #[test]
    fn a_token_is_handled_once_while_the_first_confirms() {
        let seen = outcomes(|| {
            let table = Arc::new(Table::new(4));
            let other = beside(&table, |table| {
                let taken = table.reserve(KEY, None, UNTIL, 0);
                if let Taken::By(_) = taken {
                    table.confirm(KEY, UNTIL, 1);
                }
                word(taken)
            });
            let mine = table.reserve(KEY, None, UNTIL, 0);
            if let Taken::By(_) = mine {
                table.confirm(KEY, UNTIL, 1);
            }
            let others = other.join().unwrap();
            assert!(table.is_done(KEY, 2));
            [word(mine), others]
        });
        let expected = [
            ["done", "reserved"],
            ["in flight", "reserved"],
            ["reserved", "done"],
            ["reserved", "in flight"],
        ];
        assert_eq!(seen, BTreeSet::from(expected));
    }

    #[test]
    fn a_release_beside_an_arrival_leaves_at_most_one_holder() {
        let seen = outcomes(|| {
            let table = Arc::new(Table::new(4));
            let Taken::By(holder) = table.reserve(KEY, None, UNTIL, 0) else { unreachable!() };
            let other = beside(&table, move |table| {
                table.release(KEY, holder);
                // A late second release must not free what the arrival has reserved.
                table.release(KEY, holder);
            });
            let mine = table.reserve(KEY, None, UNTIL, 0);
            other.join().unwrap();
            let after = table.reserve(KEY, None, UNTIL, 0);
            [word(mine), word(after)]
        });
        let expected = [["in flight", "reserved"], ["reserved", "in flight"]];
        assert_eq!(seen, BTreeSet::from(expected));
    }

    /// The holder's own confirmation arrives beside a release by somebody who lost the token.
    #[test]
    fn a_confirmed_token_survives_any_release() {
        let seen = outcomes(|| {
            let table = Arc::new(Table::new(4));
            let holder = NonZeroU128::new(99).unwrap();
            table.reserve(KEY, Some(holder), UNTIL, 0);
            let other = beside(&table, move |table| table.release(KEY, holder));
            table.confirm(KEY, UNTIL, 1);
            other.join().unwrap();
            table.is_done(KEY, 2)
        });
        assert_eq!(seen, BTreeSet::from([true]));
    }

    #[test]
    fn a_full_table_never_exceeds_its_capacity_and_counts_what_it_forgets() {
        let seen = outcomes(|| {
            let table = Arc::new(Table::new(1));
            let other = beside(&table, |table| table.reserve(1, None, UNTIL, 0));
            table.reserve(2, None, UNTIL + 1, 0);
            other.join().unwrap();
            let known = [1, 2].map(|key| word(table.reserve(key, None, UNTIL, 0)));
            (table.len(), table.forgotten() >= 1, known)
        });
        // Whoever came last is known; then the question itself takes the place.
        let expected = [(1, true, ["in flight", "reserved"]), (1, true, ["reserved", "reserved"])];
        assert_eq!(seen, BTreeSet::from(expected));
    }

    #[test]
    fn expiry_beside_an_arrival_reserves_once() {
        let seen = outcomes(|| {
            let table = Arc::new(Table::new(4));
            table.confirm(KEY, 10, 0);
            let other = beside(&table, |table| table.reserve(KEY, None, UNTIL, 20));
            let mine = table.reserve(KEY, None, UNTIL, 20);
            [word(mine), word(other.join().unwrap())]
        });
        let expected = [["in flight", "reserved"], ["reserved", "in flight"]];
        assert_eq!(seen, BTreeSet::from(expected));
    }
}
