//! The README's comparison, held against what `scripts/conformance` and `scripts/figures` wrote.

use std::{fs, path::Path};

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the cells of the only line that begins with `start`, which the separator follows.
fn row(text: &str, start: &str, separator: char) -> Vec<String> {
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with(start)).collect();
    let [row] = rows[..] else { panic!("{} lines begin with {start}", rows.len()) };
    row.trim_matches(separator).split(separator).map(|cell| cell.trim().to_owned()).collect()
}

#[test]
fn readme_has_the_verdicts_of_the_conformance_tests() {
    let (readme, verdicts) = (read("README.md"), read("conformance/verdicts.md"));
    for (ours, theirs) in [
        ("| valid deliveries accepted, of ", "| valid ones (`valid/`) "),
        ("| invalid deliveries accepted, of ", "| ones that tower-qstash rejects "),
    ] {
        let cells = row(&readme, ours, '|');
        let total = cells[0].rsplit_once(' ').expect("the number of deliveries").1;
        // No verdicts of qstash-rs, whose clock can't be set.
        let shown = [total, &cells[1], &cells[2], &cells[3], &cells[5]];
        assert_eq!(shown[..], row(&verdicts, theirs, '|')[1..]);
    }
}

#[test]
fn readme_has_the_measured_times() {
    let shown = row(&read("README.md"), "| time for a body of 256 B", '|');
    let measured = row(&read("benches/figures.tsv"), "256\t", '\t');
    let header = row(&read("benches/figures.tsv"), "body\t", '\t');
    for (cell, name) in [(2, "node/core"), (3, "python/core"), (4, "qstash-rs/core")] {
        let column = header.iter().position(|column| column == name).expect("a column");
        let measured: f64 = measured[column].parse().expect("a number");
        let decimals = usize::from(measured < 10.0);
        assert_eq!(shown[cell], format!("{measured:.decimals$}"), "{name}");
    }
}
