//! Repeats one operation, for a profiler or an instruction count: `work WHAT BODY COUNT`.
//! `scripts/instructions` runs it.

use std::{env, error::Error, hint::black_box};

use http_body_util::Full;
use tower_qstash_bench::{
    Bare, CURRENT, Floor, NEXT, UNKNOWN, URL, body, call, now, request, service, sign, verifier,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [what, size, count] = &arguments[..] else {
        return Err("usage: work floor|core|next|bare|layer|forged BODY COUNT".into());
    };
    let (body, count): (_, usize) = (body(size.parse()?), count.parse()?);
    let sign = |key| sign(key, &body);
    let [current, next, forged] = [sign(CURRENT), sign(NEXT), sign(UNKNOWN)];
    let (floor, verifier, mut service) = (Floor::default(), verifier(), service());
    let core = |token: &str| {
        assert!(verifier.verify(black_box(token), URL, black_box(&body), now()).is_ok());
    };
    let mut run: Box<dyn FnMut()> = match what.as_str() {
        "floor" => Box::new(|| floor.run(&current, &body)),
        "core" => Box::new(|| core(&current)),
        "next" => Box::new(|| core(&next)),
        "bare" => Box::new(|| drop(call(&mut Bare, request(&current, Full::new(body.clone()))))),
        "layer" | "forged" => {
            let token = if what == "layer" { &current } else { &forged };
            Box::new(|| drop(call(&mut service, request(token, Full::new(body.clone())))))
        }
        _ => return Err("unknown operation".into()),
    };
    for _ in 0..count {
        run();
    }
    Ok(())
}
