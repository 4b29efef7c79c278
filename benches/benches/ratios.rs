//! The figures in the README. Each is the ratio of two measurements that alternate in one run, so
//! that a slower machine slows down both. With the argument `guard`, only the replay guard is measured.

use std::{
    cell::{Cell, RefCell},
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body_util::Full;
use tower::Layer;
use tower_qstash::{MemoryStore, PublicUrl, QStashVerifyLayer, ReplayGuard, Signer, SigningKeys};
use tower_qstash_bench::{
    Bare, CURRENT, Floor, Frames, NEXT, Pair, SIZES, UNKNOWN, URL, body, call, now, request,
    service, service_for, sign, verifier,
};

/// How long to measure one side before switching to the other.
const TURN: Duration = Duration::from_millis(4);
const ROUNDS: usize = 151;

/// Compares the time of `a` with that of `b`.
fn pair(a: impl FnMut(), b: impl FnMut()) -> Pair {
    prepared_pair(|_| {}, a, b)
}

/// Compares the time of `a` with that of `b`. `prepare` is called before each turn with its number of
/// runs, and isn't measured.
fn prepared_pair(mut prepare: impl FnMut(u32), mut a: impl FnMut(), mut b: impl FnMut()) -> Pair {
    let turns = [turns(&mut prepare, &mut a), turns(&mut prepare, &mut b)];
    let mut pair = Pair::default();
    for _ in 0..ROUNDS {
        prepare(turns[0]);
        pair.nanos[0].push(measure(&mut a, turns[0]));
        prepare(turns[1]);
        pair.nanos[1].push(measure(&mut b, turns[1]));
    }
    pair
}

/// Returns the number of runs that take at least a turn.
fn turns(prepare: &mut impl FnMut(u32), run: &mut impl FnMut()) -> u32 {
    let mut count = 1;
    loop {
        prepare(count);
        if measure(run, count) * f64::from(count) > TURN.as_nanos() as f64 {
            return count;
        }
        count *= 2;
    }
}

/// Returns the nanoseconds for one of `count` runs.
fn measure(run: &mut impl FnMut(), count: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..count {
        run();
    }
    start.elapsed().as_nanos() as f64 / f64::from(count)
}

fn main() {
    Pair::print_header();
    if std::env::args().any(|argument| argument == "guard") {
        return print_guard();
    }
    let (verifier, floor) = (verifier(), Floor::default());
    let now = now();
    let core = |token: &str, body: &[u8]| {
        drop(black_box(verifier.verify(black_box(token), URL, black_box(body), now)));
    };
    for size in SIZES {
        let body = body(size);
        let token = sign(CURRENT, &body);
        let pair = pair(|| core(&token, &body), || floor.run(&token, &body));
        pair.print("core / floor", size);
    }

    let receiver = tower_qstash_bench::qstash_rs_receiver();
    for size in SIZES {
        let body = body(size);
        let token = sign(CURRENT, &body);
        let token_for_qstash_rs = tower_qstash_bench::sign_for_qstash_rs(&body);
        let pair = pair(
            || tower_qstash_bench::verify_with_qstash_rs(&receiver, &token_for_qstash_rs, &body),
            || core(&token, &body),
        );
        pair.print("qstash-rs / core", size);
    }

    let (mut service, mut bare) = (service(), Bare);
    for size in SIZES {
        let body = body(size);
        let token = sign(CURRENT, &body);
        let layered = || {
            let response = call(&mut service, request(&token, Full::new(body.clone())));
            assert!(response.status().is_success());
        };
        let pair = pair(layered, || {
            drop(call(&mut bare, request(&token, Full::new(body.clone()))));
            core(&token, &body);
        });
        pair.print("layer / (bare service + core), one frame", size);
        let [layered, unlayered] = pair.medians();
        println!("{:44} {:>8} {:>7.0} ns", "  the layer adds", size, layered - unlayered);
    }
    let small = body(256);
    let token = sign(CURRENT, &small);
    let mut unchecked = service_for(PublicUrl::dangerous_unchecked());
    let url = pair(
        || drop(call(&mut service, request(&token, Full::new(small.clone())))),
        || drop(call(&mut unchecked, request(&token, Full::new(small.clone())))),
    );
    let [checked, unchecked] = url.medians();
    println!("{:44} {:>8} {:>7.0} ns", "  matching the URL takes", 256, checked - unchecked);
    for size in SIZES {
        let body = body(size);
        let token = sign(CURRENT, &body);
        let pair = pair(
            || drop(call(&mut service, request(&token, Frames::boxed(body.clone())))),
            || {
                drop(call(&mut bare, request(&token, Frames::boxed(body.clone()))));
                core(&token, &body);
            },
        );
        pair.print("layer / (bare service + core), 16 KiB frames", size);
    }

    print_guard();

    let (current, next) = (sign(CURRENT, &small), sign(NEXT, &small));
    let next_key = pair(
        || core(&next, &small),
        || {
            core(&current, &small);
            floor.mac(&next);
        },
    );
    next_key.print("next key / (current key + one MAC)", 256);

    let large = body(1024 * 1024);
    let rejections = [
        ("forged", sign(UNKNOWN, &large)),
        ("expired", tower_qstash_bench::signed_with_claim("exp", 1.into(), &large)),
        (
            "wrong URL",
            tower_qstash_bench::signed_with_claim(
                "sub",
                "https://api.example.com/other".into(),
                &large,
            ),
        ),
    ];
    for (what, token) in rejections {
        let mut reject = |body| {
            let response = call(&mut service, request(&token, Full::new(body)));
            assert!(response.status().is_client_error());
        };
        let [with, without] = [large.clone(), body(0)];
        let mut other = tower_qstash_bench::service();
        let pair = pair(
            || reject(with.clone()),
            || {
                drop(call(&mut other, request(&token, Full::new(without.clone()))));
            },
        );
        pair.print(&format!("{what}, body of 1 MiB / no body"), 1024 * 1024);
    }
}

fn print_guard() {
    guard(&body(256)).print("layer with guard / layer, 100,000 live", 256);
}

/// Compares the layer with a replay guard in memory to the layer without. Each delivery has a token of
/// its own, and as many tokens end as arrive.
fn guard(body: &Bytes) -> Pair {
    const LIVE: u64 = 100_000;
    /// Five minutes, and the minute that the guard adds.
    const LIFETIME: u64 = 360;
    static SECONDS: AtomicU64 = AtomicU64::new(1_700_000_000);
    let clock = || UNIX_EPOCH + Duration::from_secs(SECONDS.load(Ordering::Relaxed));
    let layer = || {
        let keys = SigningKeys::new(CURRENT, NEXT).expect("valid keys");
        let base = PublicUrl::base("https://api.example.com").expect("a valid base");
        QStashVerifyLayer::new(keys, base).clock(clock)
    };
    let store = Arc::new(MemoryStore::with_capacity(2 * LIVE as usize));
    let mut guarded =
        layer().replay_guard(ReplayGuard::in_memory_with(Arc::clone(&store))).layer(Bare);
    let mut unguarded = layer().layer(Bare);

    let signer = Signer::new(CURRENT).expect("a valid key");
    let (tokens, signed, reserved) = (RefCell::new(Vec::new()), Cell::new(0_u64), Cell::new(0));
    let prepare = |count: u32| {
        SECONDS.store(1_700_000_000 + reserved.get() * LIFETIME / LIVE, Ordering::Relaxed);
        let now = clock();
        let sign = |_| {
            signed.set(signed.get() + 1);
            let jti = format!("jwt_{:028}", signed.get());
            signer.delivery(URL, body, now).claim("jti", jti).token()
        };
        tokens.replace((0..count).map(sign).collect());
    };
    let next = || {
        let token: String = tokens.borrow_mut().pop().expect("one for each run");
        request(&token, Full::new(body.clone()))
    };
    let mut with_guard = || {
        reserved.set(reserved.get() + 1);
        let response = call(&mut guarded, next());
        assert!(response.status().is_success());
    };
    for _ in 0..LIVE / 1000 {
        prepare(1000);
        (0..1000).for_each(|_| with_guard());
    }
    let pair = prepared_pair(prepare, with_guard, || {
        let response = call(&mut unguarded, next());
        assert!(response.status().is_success());
    });
    assert!((store.len() as u64).abs_diff(LIVE) < LIVE / 20, "{} live", store.len());
    // A token that was known, and so not handled, would have been cheaper.
    assert_eq!(store.forgotten(), 0);
    pair
}
