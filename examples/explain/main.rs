//! Explains why a delivery was rejected, rule by rule, and what to do about it.
//!
//! Run with:
//!
//! ```sh
//! cargo run --example explain -- [--url URL] [--body TEXT|@FILE] [--at TIME]
//!     [--keys-from-env|--dev-server] [TOKEN]
//! ```
//!
//! `TOKEN` is the value of the header `Upstash-Signature`. Without it, standard input is read: a
//! token, or anything that contains the header, such as the output of `curl -v`, a raw HTTP request
//! or an event of AWS Lambda. `--at` is in Unix seconds or RFC 3339 and defaults to the current time.
//!
//! The exit status is 0 if every rule passed, 1 if one failed or was not checked, and 2 for invalid
//! arguments.

mod advice;
mod input;
mod print;
mod rules;
mod time;

use std::{env, error::Error, io::IsTerminal, process::ExitCode};

fn main() -> ExitCode {
    match explain() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Prints the explanation and returns whether every rule passed.
fn explain() -> Result<bool, Box<dyn Error>> {
    let input = input::Input::read(env::args().skip(1))?;
    let report = rules::check(&input)?;
    let colored = std::io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none();
    print::print(&input, &report, colored);
    Ok(report.all_passed())
}
