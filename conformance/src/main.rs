//! Compares this crate's verdicts with those of QStash's official SDKs, for `scripts/conformance`.
//!
//! - `generate VECTORS` writes the vectors.
//! - `compare DIRECTORY TABLE DIFFERENCES` reads the vectors back, with the verdicts and tokens of
//!   the SDKs, and writes the table. It fails if a difference is not listed or has no reason, if a
//!   listed one no longer applies, and if vectors are missing or share a name.
//! - `corpus DIRECTORY` writes the seeds of the fuzz targets, for `scripts/fuzz`.
//! - `callback FILE` writes a callback that the SDK for Node must read.

mod corpus;
#[path = "../../tests/support/url_pairs.rs"]
mod url_pairs;
mod vectors;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    error::Error,
    fmt::Write,
    fs,
    time::{Duration, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderName, HeaderValue};
use serde::de::DeserializeOwned;
use serde_json::json;
use tower_qstash::{CallbackBuilder, Signer, SigningKeys, Verifier};
use vectors::Vector;

const SDKS: [&str; 2] = ["node", "python"];

/// The judges beside this crate, in the order of the table's columns. The last one is no SDK, so what
/// it does differently needs no reason.
const JUDGES: [&str; 3] = ["node", "python", "by-hand"];

/// Fails if vectors were lost, since too few of them would agree on little.
const FEWEST_VECTORS: usize = 300;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["generate", file] => {
            Ok(fs::write(file, serde_json::to_string_pretty(&vectors::generate())?)?)
        }
        ["corpus", directory] => corpus::write(directory.as_ref()),
        ["callback", file] => callback(file),
        ["compare", directory, table, differences] => compare(directory, table, differences),
        _ => {
            Err("usage: generate VECTORS | corpus DIRECTORY | callback FILE | compare DIRECTORY TABLE DIFFERENCES"
                .into())
        }
    }
}

/// Writes a signed failure callback of a workflow, and what the SDK must read in it.
fn callback(file: &str) -> Result<(), Box<dyn Error>> {
    let (key, url, time) = ("sig_current", "https://api.example.com/workflow", 1_700_000_000);
    let now = UNIX_EPOCH + Duration::from_secs(time);
    // A workflow's message is the list of its steps. The first holds the payload that started it.
    let payload = "[]+/ é";
    let steps = json!([{ "body": BASE64_STANDARD.encode(payload) }]).to_string();
    let failure = CallbackBuilder::new(500)
        .body(json!({ "message": "out of paper é" }).to_string())
        .header(HeaderName::from_static("x-printer"), HeaderValue::from_static("7"))
        .url(url)
        .source_body(steps)
        .source_header(HeaderName::from_static("x-order"), HeaderValue::from_static("8"))
        .workflow_run("wfr_1", now)
        .build_failure("dlq-1")
        .to_vec();
    let vector = json!({
        "key": key,
        "url": url,
        "time": time,
        "token": Signer::new(key)?.delivery(url, &failure, now).token(),
        "body": String::from_utf8(failure)?,
        "expected": {
            "status": 500,
            "message": "out of paper é",
            "header": { "x-printer": ["7"] },
            "url": url,
            "workflow_run_id": "wfr_1",
            "payload": payload,
            "source_header": "8",
        },
    });
    Ok(fs::write(file, vector.to_string())?)
}

/// Verifies a vector with this crate.
fn judge(vector: &Vector) -> Result<(), String> {
    let verify = || -> Result<(), Box<dyn Error>> {
        let keys = SigningKeys::new(&vector.current_key, &vector.next_key)?;
        let verifier = Verifier::new(keys).clock_tolerance(Duration::from_secs(vector.tolerance));
        let body = (0..vector.body.len()).step_by(2);
        let body: Vec<u8> = body
            .map(|index| u8::from_str_radix(&vector.body[index..index + 2], 16))
            .collect::<Result<_, _>>()?;
        let now = UNIX_EPOCH + Duration::from_secs(vector.time);
        verifier.verify(&vector.token, &vector.url, &body, now)?;
        Ok(())
    };
    verify().map_err(|error| error.to_string())
}

fn compare(directory: &str, table: &str, differences: &str) -> Result<(), Box<dyn Error>> {
    let vectors: Vec<Vector> = read(directory, "vectors")?;
    let mut verdicts: Vec<BTreeMap<String, bool>> = Vec::new();
    for judge in JUDGES {
        verdicts.push(read(directory, &format!("{judge}-verdicts"))?);
    }
    let mut errors = Vec::new();

    // Tokens signed by the SDKs' own JWT libraries.
    for sdk in SDKS {
        let signed: Vec<Vector> = read(directory, &format!("{sdk}-tokens"))?;
        if signed.is_empty() {
            errors.push(format!("{sdk} signed no token"));
        }
        for vector in signed {
            if let Err(error) = judge(&vector) {
                errors.push(format!(
                    "{}, signed by {sdk}, is rejected by this crate: {error}",
                    vector.name
                ));
            }
        }
    }

    if vectors.len() < FEWEST_VECTORS {
        errors
            .push(format!("{} vectors, but at least {FEWEST_VECTORS} are expected", vectors.len()));
    }
    // The SDKs' verdicts are keyed by name, so a repeated name would hide a vector.
    let mut names = BTreeSet::new();
    for Vector { name, .. } in &vectors {
        if !names.insert(name) {
            errors.push(format!("{name}: two vectors have this name"));
        }
    }

    let listed = Difference::read(&fs::read_to_string(differences)?);
    let mut used = vec![false; listed.len()];
    let mut text = format!(
        "# Verdicts\n\nWritten by `scripts/conformance`. The last column is a verifier such as one writes by hand after QStash's\n\
         guide, `conformance/python/by_hand.py`. Each difference from an SDK, in bold, is explained in\n\
         [differences.md](differences.md).\n\n{}\n\
         | vector | tower-qstash | @upstash/qstash | qstash (PyPI) | by hand |\n|---|---|---|---|---|\n",
        summary(&vectors, &verdicts)
    );
    for vector in &vectors {
        let name = &vector.name;
        let here = judge(vector).is_ok();
        write!(text, "| {} | {}", name.replace('|', "\\|"), word(here))?;
        for (sdk, verdicts) in JUDGES.iter().zip(&verdicts) {
            let there = *verdicts.get(name).ok_or(format!("{sdk} has no verdict on {name}"))?;
            let differs = here != there && SDKS.contains(sdk);
            write!(
                text,
                " | {}",
                if differs { format!("**{}**", word(there)) } else { word(there).into() }
            )?;
            let mut rows =
                (0..listed.len()).filter(|&row| listed[row].covers(name, sdk)).peekable();
            if differs && rows.peek().is_none() {
                errors.push(format!(
                    "{name}: {} here and {} by {sdk}, which is not listed",
                    word(here),
                    word(there)
                ));
            }
            for row in rows {
                used[row] = true;
                if !differs {
                    errors.push(format!(
                        "{name}: listed as a difference from {sdk}, but the verdicts agree"
                    ));
                }
            }
        }
        text.push_str(" |\n");
    }
    for (row, used) in listed.iter().zip(used) {
        if !used {
            errors.push(format!("{}: listed, but there is no such vector", row.vector));
        }
        if row.reason.is_empty() {
            errors.push(format!("{}: listed without a reason", row.vector));
        }
    }
    if fs::read_to_string(table).unwrap_or_default() != text {
        errors
            .push(format!("{table} was out of date and has been rewritten; review and commit it"));
        fs::write(table, &text)?;
    }

    let different = text.lines().filter(|line| line.contains("**")).count();
    println!(
        "{} vectors, {different} with a difference, all listed: {}",
        vectors.len(),
        errors.is_empty()
    );
    if errors.is_empty() { Ok(()) } else { Err(errors.join("\n").into()) }
}

/// Returns the table of how many vectors of each kind each judge accepts.
fn summary(vectors: &[Vector], verdicts: &[BTreeMap<String, bool>]) -> String {
    let accepts = |name: &str| {
        verdicts.iter().map(|judge| usize::from(judge.get(name) == Some(&true))).collect()
    };
    let mut genuine = [0; JUDGES.len() + 2];
    let mut rejected = [0; JUDGES.len() + 2];
    for vector in vectors {
        let here = judge(vector).is_ok();
        let row = match (vector.name.starts_with("valid/"), here) {
            (true, _) => &mut genuine,
            (false, false) => &mut rejected,
            (false, true) => continue,
        };
        row[0] += 1;
        row[1] += usize::from(here);
        let accepted: Vec<usize> = accepts(&vector.name);
        for (cell, accepted) in row[2..].iter_mut().zip(accepted) {
            *cell += accepted;
        }
    }
    let mut text = String::from(
        "| accepted of the | vectors | tower-qstash | @upstash/qstash | qstash (PyPI) | by hand |\n|---|---|---|---|---|---|\n",
    );
    for (name, row) in
        [("valid ones (`valid/`)", genuine), ("ones that tower-qstash rejects", rejected)]
    {
        let cells = row.map(|count| count.to_string()).join(" | ");
        text.push_str(&format!("| {name} | {cells} |\n"));
    }
    text
}

fn word(accepted: bool) -> &'static str {
    if accepted { "accepted" } else { "rejected" }
}

fn read<T: DeserializeOwned>(directory: &str, name: &str) -> Result<T, Box<dyn Error>> {
    let file = format!("{directory}/{name}.json");
    let text = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    Ok(serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?)
}

/// A row of `differences.md`.
struct Difference {
    vector: String,
    sdks: String,
    reason: String,
}

impl Difference {
    fn read(list: &str) -> Vec<Self> {
        let rows = list.lines().filter(|line| line.starts_with("| `"));
        rows.map(|row| {
            let mut cells = row.split('|').map(str::trim).skip(1);
            let mut cell = || cells.next().unwrap_or_default().to_owned();
            let vector = cell().trim_matches('`').to_owned();
            Self { vector, sdks: cell(), reason: cell() }
        })
        .collect()
    }

    fn covers(&self, name: &str, sdk: &str) -> bool {
        self.vector == name && self.sdks.contains(sdk)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use qstash_rs::{Receiver, ReceiverConfig, VerifyRequest};

    use super::*;

    #[test]
    fn qstash_rs_rejects_the_claims_that_qstash_sends() {
        let (key, url, body) = (vectors::CURRENT, vectors::URL, "Hello");
        let signer = Signer::new(key).expect("a valid key");
        let delivery = || signer.delivery(url, body, SystemTime::now());
        let accepts = |signature: String| {
            let receiver = Receiver::new(ReceiverConfig {
                current_signing_key: key.into(),
                next_signing_key: key.into(),
            });
            let request = VerifyRequest {
                signature: &signature,
                body: body.as_bytes(),
                url: Some(url),
                clock_tolerance_seconds: 0,
            };
            receiver.verify(request).is_ok()
        };

        // As QStash sends it: `aud` is empty, and `nbf` is the year 1.
        assert!(!accepts(delivery().token()));
        assert!(!accepts(delivery().without_claim("aud").token()));
        assert!(!accepts(delivery().without_claim("nbf").token()));
        assert!(accepts(delivery().without_claim("aud").claim("nbf", 0).token()));
    }
}
