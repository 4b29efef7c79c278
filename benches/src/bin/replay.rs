//! What the replay guard's store in memory costs: `cargo run --release -p tower-qstash-bench --bin replay`.
//!
//! Tokens arrive at an even pace and live for six minutes, so that as many end as arrive.

use std::{
    future::Future,
    hint::black_box,
    num::NonZeroU128,
    pin::pin,
    task::{Context, Poll, Waker},
    thread,
    time::Instant,
};

use peak_alloc::PeakAlloc;
use sha2::{Digest, Sha256};
use tower_qstash::{Holder, Lifetime, MemoryStore, NumericDate, ReplayKey, ReplayStore, Reserve};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const LIVE: u64 = 100_000;
const LIFE: u64 = 360;
const CYCLES: u64 = 200_000;
const RUNS: usize = 30;
const BODY: [u8; 1024] = [7; 1024];
const HOLDER: Holder = Holder::new(NonZeroU128::MIN);

/// The token that arrives as this one, and its lifetime, in a store where this many are live.
fn token(number: u64, live: u64) -> Token {
    // Spread like a MAC: the finalizer of SplitMix64, twice.
    let half = |seed: u64| {
        let mut bits =
            number.wrapping_mul(2).wrapping_add(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ bits >> 31
    };
    let key = u128::from(half(0)) << 64 | u128::from(half(1));
    let seconds = 1_700_000_000 + number * LIFE / live;
    let date = |seconds| {
        NumericDate::from(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
    };
    (ReplayKey::from_bytes(key.to_be_bytes()), Lifetime::new(date(seconds), date(seconds + LIFE)))
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("the store in memory never waits"),
    }
}

type Token = (ReplayKey, Lifetime);

fn tokens(numbers: impl Iterator<Item = u64>) -> Vec<Token> {
    numbers.map(|number| token(number, LIVE)).collect()
}

fn reserve(store: &MemoryStore, (key, life): Token) {
    let reserved = ready(store.reserve(key, HOLDER, life)).expect("memory is never down");
    assert_eq!(black_box(reserved), Reserve::Reserved);
}

fn confirm(store: &MemoryStore, (key, life): Token) {
    ready(store.confirm(key, life)).expect("memory is never down");
}

fn filled() -> MemoryStore {
    let store = MemoryStore::with_capacity(2 * LIVE as usize);
    tokens(0..LIVE).into_iter().for_each(|token| reserve(&store, token));
    store
}

/// Nanoseconds that this thread has run: on a machine that others use as well, time on the clock says
/// little.
fn processor_time() -> u64 {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let run = statistics.split(' ').next().expect("three numbers");
    run.parse().expect("a number")
}

/// Nanoseconds for each token that is reserved, and confirmed when so many others have been.
fn time(behind: u64) -> f64 {
    let store = filled();
    let new = tokens(LIVE..LIVE + CYCLES);
    let old = tokens(LIVE - behind..LIVE + CYCLES - behind);
    let start = processor_time();
    for (&new, &old) in new.iter().zip(&old) {
        reserve(&store, new);
        confirm(&store, old);
    }
    let nanoseconds = (processor_time() - start) as f64 / CYCLES as f64;
    assert!((store.len() as u64).abs_diff(LIVE) < LIVE / 20, "{} live", store.len());
    assert_eq!(store.forgotten(), 0);
    nanoseconds
}

/// Nanoseconds for each token, with so many threads that take every so-many-th token: on the clock, and
/// as long as the busiest thread has run, which is the same where each has a processor to itself.
fn threads(count: u64, hashed: usize) -> [f64; 2] {
    let store = filled();
    let shares: Vec<_> = (0..count)
        .map(|thread| tokens((LIVE + thread..LIVE + CYCLES).step_by(count as usize)))
        .collect();
    let work = |share: &[Token]| {
        let start = processor_time();
        for &token in share {
            reserve(&store, token);
            if hashed > 0 {
                black_box(Sha256::digest(black_box(&BODY[..hashed])));
            }
            confirm(&store, token);
        }
        processor_time() - start
    };
    let start = Instant::now();
    let busiest = thread::scope(|scope| {
        let threads: Vec<_> = shares.iter().map(|share| scope.spawn(|| work(share))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).max()
    });
    let clock = start.elapsed().as_nanos();
    [clock, busiest.expect("a thread").into()].map(|time| time as f64 / CYCLES as f64)
}

/// The fewest and the most bytes for each live entry, over stores of about this size.
fn bytes(about: u64) -> (f64, f64) {
    let (mut fewest, mut most) = (f64::INFINITY, 0_f64);
    for percent in 70..=110 {
        let live = about * percent / 100;
        let before = MEMORY.current_usage();
        let store = MemoryStore::with_capacity(LIVE as usize * 2);
        for number in 0..live * 2 {
            let (key, life) = token(number, live);
            reserve(&store, (key, life));
        }
        let each = (MEMORY.current_usage() - before) as f64 / store.len() as f64;
        (fewest, most) = (fewest.min(each), most.max(each));
    }
    (fewest, most)
}

fn best<const N: usize>(measure: impl Fn() -> [f64; N]) -> [f64; N] {
    (0..RUNS).fold([f64::INFINITY; N], |best, _| {
        let next = measure();
        std::array::from_fn(|index| best[index].min(next[index]))
    })
}

fn main() {
    println!("{LIVE} live tokens, best of {RUNS} runs");
    for behind in [0, 10_000] {
        let [time] = best(|| [time(behind)]);
        println!("reserve + confirm, {behind} tokens later: {time:.0} ns of the processor");
    }
    // A delivery of 256 B hashes about 1 KiB: body, token, and HMAC's two blocks.
    for (hashed, index, how) in [
        (0, 0, "on the clock"),
        (0, 1, "of the processors"),
        (1024, 0, "on the clock, hashing 1 KiB"),
        (1024, 1, "of the processors, hashing 1 KiB"),
    ] {
        let [one, two] = [1, 2].map(|count| best(|| threads(count, hashed))[index]);
        println!(
            "two threads, {how}: {one:.0} ns by one, {two:.0} ns by two, {:.2} times as fast",
            one / two
        );
    }
    for live in [10_000, 30_000, LIVE] {
        let (fewest, most) = bytes(live);
        println!("bytes for each of about {live} entries: {fewest:.1} to {most:.1}");
    }
}
