//! The figures in README.md and docs/performance.md, and the chart, are those that were measured last.

/// The columns of benches/figures.tsv, as the pages name them.
const COLUMNS: [(&str, &str); 4] = [
    ("core/floor", "tower-qstash ÷ floor"),
    ("qstash-rs/core", "qstash-rs ÷ tower-qstash"),
    ("node/core", "@upstash/qstash on Node ÷ tower-qstash"),
    ("python/core", "qstash for Python ÷ tower-qstash"),
];

/// The column for the replay guard in memory.
const GUARD: [(&str, &str); 1] = [("guard/layer", "layer with a replay guard ÷ layer")];

const PERFORMANCE: &str = include_str!("../../docs/performance.md");

/// A table: the names of its columns, and its rows.
struct Table<'a> {
    columns: Vec<&'a str>,
    rows: Vec<Vec<&'a str>>,
}

impl<'a> Table<'a> {
    fn measured(text: &'a str) -> Self {
        let mut rows = text.lines().map(|line| line.split('\t').collect());
        Self { columns: rows.next().expect("a header"), rows: rows.collect() }
    }

    /// Returns the table whose header begins like this.
    fn in_page(page: &'a str, header: &str) -> Option<Self> {
        let cells = |line: &'a str| -> Option<Vec<&'a str>> {
            let row = line.strip_prefix("| ")?.strip_suffix(" |")?;
            Some(row.split(" | ").map(str::trim).collect())
        };
        let mut lines = page.lines().skip_while(|line| !line.starts_with(header));
        let columns = cells(lines.next()?)?;
        // Below the header there is a rule.
        Some(Self { columns, rows: lines.skip(1).map_while(cells).collect() })
    }

    fn value(&self, row: &str, column: &str) -> &'a str {
        let index = self.columns.iter().position(|name| *name == column).expect("the column");
        self.rows.iter().find(|cells| cells[0] == row).expect("the row")[index]
    }
}

/// Returns the number of bytes in `64 KiB`.
fn bytes(size: &str) -> String {
    let (number, unit) = size.split_once(' ').expect("a number and a unit");
    let number: usize = number.parse().expect("a whole number");
    let unit = match unit {
        "B" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        _ => panic!("{size}"),
    };
    (number * unit).to_string()
}

/// Whether `shown` is `measured`, rounded to as many decimals as are shown.
fn is_rounded(shown: &str, measured: &str) -> bool {
    let decimals = shown.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let [shown, measured]: [f64; 2] = [shown, measured].map(|text| text.parse().expect("a number"));
    let half_a_step = 0.5 / 10_f64.powi(i32::try_from(decimals).expect("a small number"));
    // A measured figure is rounded itself, and may lie in the middle.
    (shown - measured).abs() <= half_a_step * 1.000_001
}

/// Compares a table with what was measured, and returns how many figures it shows.
fn compare(page: &str, table: &Table<'_>, columns: &[(&str, &str)], measured: &Table<'_>) -> usize {
    let mut compared = 0;
    for title in &table.columns[1..] {
        let (name, _) =
            columns.iter().find(|(_, known)| known == title).expect("a column of the figures");
        for row in &table.rows {
            let size = row[0];
            let shown = table.value(size, title);
            let value = measured.value(&bytes(size), name);
            assert!(
                is_rounded(shown, value),
                "{page} says {shown} for {title} at {size}, measured was {value}"
            );
            compared += 1;
        }
    }
    compared
}

#[test]
fn pages_show_the_figures_that_were_measured() {
    let measured = Table::measured(include_str!("../../benches/figures.tsv"));
    let pages =
        [("README.md", include_str!("../../README.md")), ("docs/performance.md", PERFORMANCE)];
    let mut compared = 0;
    for (page, text) in pages {
        let Some(table) = Table::in_page(text, "| body | tower-qstash ÷") else { continue };
        assert!(table.rows.len() >= 3, "{page} has rows");
        compared += compare(page, &table, &COLUMNS, &measured);
    }
    assert!(compared >= 12, "only {compared} figures were compared");
}

/// The guard is measured at one size.
#[test]
fn page_shows_what_a_replay_guard_costs() {
    let measured = Table::measured(include_str!("../../benches/figures.tsv"));
    let table = Table::in_page(PERFORMANCE, "| body | layer with").expect("a table");
    assert_eq!((table.rows.len(), table.columns[1]), (1, GUARD[0].1));
    assert_eq!(compare("docs/performance.md", &table, &GUARD, &measured), 1);
}

#[test]
fn page_shows_the_sizes_that_are_tested() {
    let tested = include_str!("../allocations.rs");
    let size = |future: &str| {
        let assertion = format!("assert_eq!(size_of::<ResponseFuture<{future}>>(), ");
        let (_, rest) = tested.split_once(&assertion).expect("the assertion");
        rest.split(')').next().expect("a number")
    };
    let bare = size("Bare, Full<Bytes>");
    let axum = size("axum::Router, axum::body::Body");
    let text = format!(
        "{bare} bytes around a service that is ready at once, and {axum} around `axum::Router`"
    );
    let page: Vec<_> = PERFORMANCE.split_whitespace().collect();
    assert!(page.join(" ").contains(&text), "{text}");
}

/// `scripts/check` compares both with benches/figures.tsv.
#[test]
fn page_shows_the_chart_on_github_and_in_rustdoc() {
    assert!(PERFORMANCE.contains("][chart]\n"));
    assert!(PERFORMANCE.ends_with("\n[chart]: chart.svg\n"));
    assert!(include_str!("../../docs/chart.svg").starts_with("<svg "));
    // The first definition of a link wins, so this one precedes the page.
    assert!(include_str!("../../src/guides/chart.md").starts_with("[chart]: <data:image/svg+xml,"));
    let included = include_str!("../../src/guides/mod.rs").lines().map(str::trim);
    let included: Vec<_> = included.skip_while(|line| *line != "pub mod performance {").collect();
    assert_eq!(included[2], "#![doc = include_str!(\"chart.md\")]");
    assert_eq!(included[3], "#![doc = include_str!(\"../../docs/performance.md\")]");
}

#[test]
fn figures_are_rounded_and_not_merely_near() {
    for (shown, measured, is_rounding) in [
        ("1.55", "1.549", true),
        ("1.5", "1.549", true),
        ("1.6", "1.549", false),
        ("1.55", "1.556", false),
        ("112", "112.2", true),
        ("113", "112.2", false),
        ("65", "64.9", true),
        ("1.0", "1.002", true),
    ] {
        assert_eq!(is_rounded(shown, measured), is_rounding, "{shown} for {measured}");
    }
}

/// Returns the cells of the only line that begins with `start`.
fn row<'a>(page: &'a str, start: &str) -> Vec<&'a str> {
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with(start)).collect();
    let [row] = rows[..] else { panic!("{} lines begin with {start}", rows.len()) };
    row.trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn readme_compares_the_verdicts_that_were_taken() {
    let readme = include_str!("../../README.md");
    let verdicts = include_str!("../../conformance/verdicts.md");
    for (ours, theirs) in [
        ("| valid deliveries accepted, of ", "| valid ones (`valid/`) "),
        ("| invalid deliveries accepted, of ", "| ones that tower-qstash rejects "),
    ] {
        let cells = row(readme, ours);
        let total = cells[0].rsplit_once(' ').expect("the number of deliveries").1;
        // There are no verdicts of qstash-rs, whose clock can't be set.
        let shown = [total, cells[1], cells[2], cells[3], cells[5]];
        assert_eq!(shown[..], row(verdicts, theirs)[1..]);
    }
}

#[test]
fn readme_compares_the_times_that_were_measured() {
    let measured = Table::measured(include_str!("../../benches/figures.tsv"));
    let cells = row(include_str!("../../README.md"), "| time for a body of 256 B");
    for (cell, column) in [(2, "node/core"), (3, "python/core"), (4, "qstash-rs/core")] {
        let value = measured.value("256", column);
        assert!(is_rounded(cells[cell], value), "README.md says {}, {value}", cells[cell]);
    }
}
