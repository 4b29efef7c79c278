//! One turn of `scripts/bench-sdks`. `write FILE` writes the deliveries. `run FILE` verifies each
//! of them for a while and prints a line with the size of the body and the nanoseconds for one
//! verification.

use std::{
    env,
    error::Error,
    fs,
    hint::black_box,
    time::{Duration, Instant},
};

use tower_qstash_bench::{CURRENT, NEXT, SIZES, URL, now, sign, verifier};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", file] => Ok(fs::write(file, deliveries().to_string())?),
        ["run", file] => run(&serde_json::from_str(&fs::read_to_string(file)?)?),
        _ => Err("usage: write FILE | run FILE".into()),
    }
}

/// Returns deliveries with text bodies, since the SDKs don't take bytes.
fn deliveries() -> serde_json::Value {
    let delivery = |size| {
        let body = "x".repeat(size);
        let token = sign(CURRENT, body.as_bytes());
        serde_json::json!({ "token": token, "body": body, "url": URL, "current": CURRENT, "next": NEXT, "time": 1_700_000_000 })
    };
    SIZES.map(delivery).to_vec().into()
}

fn run(deliveries: &serde_json::Value) -> Result<(), Box<dyn Error>> {
    let verifier = verifier();
    for delivery in deliveries.as_array().ok_or("a list of deliveries")? {
        let text = |name| delivery[name].as_str().ok_or("a text");
        let (token, body) = (text("token")?, text("body")?);
        let verify =
            || verifier.verify(black_box(token), URL, black_box(body.as_bytes()), now()).is_ok();
        assert!(verify());
        let (start, mut count) = (Instant::now(), 0_u32);
        while start.elapsed() < Duration::from_millis(300) {
            for _ in 0..16 {
                black_box(verify());
            }
            count += 16;
        }
        println!("{} {:.0}", body.len(), start.elapsed().as_nanos() as f64 / f64::from(count));
    }
    Ok(())
}
