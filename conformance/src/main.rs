//! Holds this crate's verdicts against those of QStash's official SDKs; `scripts/conformance` runs it.
//!
//! `generate VECTORS` writes the vectors, `corpus DIRECTORY` makes them a corpus for the fuzzers.
//! `callback FILE` writes a callback that the SDK for Node must read.
//! `compare DIRECTORY TABLE DIFFERENCES` reads them back with
//! the verdicts and tokens of the SDKs, writes the table, and fails where a difference is not listed
//! or has no reason, where a listed one is gone, and where the vectors are too few or not told apart
//! by their names.

mod vectors;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    error::Error,
    fmt::Write,
    fs,
    time::{Duration, UNIX_EPOCH},
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use http::{HeaderName, HeaderValue};
use serde::de::DeserializeOwned;
use serde_json::json;
use tower_qstash::{CallbackBuilder, Signer, SigningKeys, Verifier};
use vectors::Vector;

const SDKS: [&str; 2] = ["node", "python"];

/// With fewer, a part of them was lost: to agree on nothing is no agreement.
const FEWEST_VECTORS: usize = 300;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["generate", file] => {
            Ok(fs::write(file, serde_json::to_string_pretty(&vectors::generate())?)?)
        }
        ["corpus", directory] => corpus(directory),
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

/// The vectors as the fuzz targets read their input.
fn corpus(directory: &str) -> Result<(), Box<dyn Error>> {
    for (index, vector) in vectors::generate().iter().enumerate() {
        let write = |target: &str, kind: &str, input: &[u8]| -> Result<(), Box<dyn Error>> {
            fs::create_dir_all(format!("{directory}/{target}"))?;
            Ok(fs::write(format!("{directory}/{target}/vector-{index:03}-{kind}"), input)?)
        };
        write("token", "token", vector.token.as_bytes())?;
        let decoded: Vec<_> = vector
            .token
            .split('.')
            .map_while(|segment| BASE64_URL_SAFE_NO_PAD.decode(segment).ok())
            .collect();
        let [header, claims, ..] = &decoded[..] else { continue };
        write("token", "claims", &[header, &b"|"[..], claims].concat())?;
        write(
            "request",
            "claims",
            &[b"\x02/hooks/resize|", &claims[..], b"|{\"image\": 7}"].concat(),
        )?;
        let json: serde_json::Value = serde_json::from_slice(claims).unwrap_or_default();
        if let Some(subject) = json["sub"].as_str() {
            write("url", "pair", format!("{subject}|{}", vector.url).as_bytes())?;
        }
    }
    Ok(())
}

/// Whether this crate accepts a delivery, or why not.
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
    let verdicts =
        SDKS.map(|sdk| read::<BTreeMap<String, bool>>(directory, &format!("{sdk}-verdicts")));
    let [node, python] = verdicts;
    let verdicts = [node?, python?];
    let mut faults = Vec::new();

    // Tokens of the SDKs' own JWT libraries.
    for sdk in SDKS {
        let signed: Vec<Vector> = read(directory, &format!("{sdk}-tokens"))?;
        if signed.is_empty() {
            faults.push(format!("{sdk} signed nothing"));
        }
        for vector in signed {
            if let Err(error) = judge(&vector) {
                faults.push(format!("{}, signed by {sdk}, is refused here: {error}", vector.name));
            }
        }
    }

    if vectors.len() < FEWEST_VECTORS {
        faults.push(format!("{} vectors; it takes {FEWEST_VECTORS}", vectors.len()));
    }
    // Verdicts go by name: of two vectors with one name, only the last would be judged.
    let mut names = BTreeSet::new();
    for Vector { name, .. } in &vectors {
        if !names.insert(name) {
            faults.push(format!("{name}: two vectors of that name"));
        }
    }

    let listed = Difference::read(&fs::read_to_string(differences)?);
    let mut used = vec![false; listed.len()];
    let mut text = String::from(
        "# Verdicts\n\nWritten by `scripts/conformance`. What differs is explained in [differences.md](differences.md).\n\n\
         | vector | here | @upstash/qstash | qstash (PyPI) |\n|---|---|---|---|\n",
    );
    for vector in &vectors {
        let name = &vector.name;
        let here = judge(vector).is_ok();
        write!(text, "| {} | {}", name.replace('|', "\\|"), word(here))?;
        for (sdk, verdicts) in SDKS.iter().zip(&verdicts) {
            let there = *verdicts.get(name).ok_or(format!("{sdk} has no verdict on {name}"))?;
            let differs = here != there;
            write!(
                text,
                " | {}",
                if differs { format!("**{}**", word(there)) } else { word(there).into() }
            )?;
            let mut rows =
                (0..listed.len()).filter(|&row| listed[row].covers(name, sdk)).peekable();
            if differs && rows.peek().is_none() {
                faults.push(format!(
                    "{name}: {} here, {} by {sdk}, and not listed",
                    word(here),
                    word(there)
                ));
            }
            for row in rows {
                used[row] = true;
                if !differs {
                    faults.push(format!("{name}: listed as different for {sdk}, and it is not"));
                }
            }
        }
        text.push_str(" |\n");
    }
    for (row, used) in listed.iter().zip(used) {
        if !used {
            faults.push(format!("the listed {} names no vector", row.vector));
        }
        if row.reason.is_empty() {
            faults.push(format!("{}: listed without a reason", row.vector));
        }
    }
    if fs::read_to_string(table).unwrap_or_default() != text {
        faults
            .push(format!("{table} was out of date; it is written anew, look at it and commit it"));
        fs::write(table, &text)?;
    }

    let different = text.lines().filter(|line| line.contains("**")).count();
    println!(
        "{} vectors, {different} with a difference, each listed: {}",
        vectors.len(),
        faults.is_empty()
    );
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}

fn word(accepted: bool) -> &'static str {
    if accepted { "in" } else { "out" }
}

fn read<T: DeserializeOwned>(directory: &str, name: &str) -> Result<T, Box<dyn Error>> {
    let file = format!("{directory}/{name}.json");
    let text = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    Ok(serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?)
}

/// A row of the list of differences.
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
