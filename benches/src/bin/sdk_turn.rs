//! The turns of `scripts/bench-sdks`.
//!
//! - `write FILE` writes the deliveries.
//! - `run FILE` verifies each of them for a while and prints a line with the size of the body and the
//!   nanoseconds for one verification.
//! - `alternate FILE PYTHON TURN.py TURN.mjs` runs that, and the same of the SDKs, in alternating turns,
//!   and prints the ratios.

use std::{
    env,
    error::Error,
    fs,
    hint::black_box,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tower_qstash_bench::{CURRENT, NEXT, Pair, SIZES, URL, now, sign, verifier};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", file] => Ok(fs::write(file, deliveries().to_string())?),
        ["run", file] => run(&serde_json::from_str(&fs::read_to_string(file)?)?),
        ["alternate", file, python, on_python, on_node] => {
            alternate(file, &[python, "-W", "ignore", on_python], &["node", on_node])
        }
        _ => Err("usage: write FILE | run FILE | alternate FILE PYTHON TURN.py TURN.mjs".into()),
    }
}

const ROUNDS: usize = 5;

fn alternate(file: &str, python: &[&str], node: &[&str]) -> Result<(), Box<dyn Error>> {
    let this = env::current_exe()?;
    let this = this.to_str().ok_or("a path in UTF-8")?;
    let sides = [("node / core", node), ("python / core", python)];
    let mut pairs = [(); 2].map(|()| SIZES.map(|_| Pair::default()));
    for _ in 0..ROUNDS {
        let ours = turn(&[this, "run"], file)?;
        for ((_, command), pairs) in sides.iter().zip(&mut pairs) {
            let theirs = turn(command, file)?;
            for (index, pair) in pairs.iter_mut().enumerate() {
                pair.nanos[0].push(theirs[index]);
                pair.nanos[1].push(ours[index]);
            }
        }
    }
    Pair::print_header();
    for ((what, _), pairs) in sides.iter().zip(&pairs) {
        for (size, pair) in SIZES.iter().zip(pairs) {
            pair.print(what, *size);
        }
    }
    Ok(())
}

/// Runs one turn and returns the nanoseconds for each of [`SIZES`].
fn turn(command: &[&str], file: &str) -> Result<Vec<f64>, Box<dyn Error>> {
    let output =
        Command::new(command[0]).args(&command[1..]).arg(file).stderr(Stdio::inherit()).output()?;
    let mut nanos = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let (size, time) = line.split_once(' ').ok_or("a size and a time")?;
        if size.parse().ok().as_ref() != SIZES.get(nanos.len()) {
            return Err(format!("{command:?} prints another size: {line}").into());
        }
        nanos.push(time.parse()?);
    }
    if !output.status.success() || nanos.len() != SIZES.len() {
        return Err(format!("{command:?} failed: {}", output.status).into());
    }
    Ok(nanos)
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
