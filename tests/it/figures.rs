//! The figures in README.md and docs/performance.md are those that were measured last.

/// The columns of benches/figures.tsv, as the pages name them. Each may be left out, but the first.
const COLUMNS: [(&str, &str); 5] = [
    ("body", "body"),
    ("core/floor", "tower-qstash ÷ floor"),
    ("qstash-rs/core", "qstash-rs ÷ tower-qstash"),
    ("node/core", "@upstash/qstash on Node ÷ tower-qstash"),
    ("python/core", "qstash for Python ÷ tower-qstash"),
];

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

    /// Returns the table whose header begins as that of the figures does.
    fn in_page(page: &'a str) -> Option<Self> {
        let cells = |line: &'a str| -> Option<Vec<&'a str>> {
            let row = line.strip_prefix("| ")?.strip_suffix(" |")?;
            Some(row.split(" | ").map(str::trim).collect())
        };
        let mut lines = page.lines().skip_while(|line| !line.starts_with("| body | tower-qstash ÷"));
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
    let [shown, measured]: [f64; 2] =
        [shown, measured].map(|text| text.parse().expect("a number"));
    let half_a_step = 0.5 / 10_f64.powi(i32::try_from(decimals).expect("a small number"));
    // A measured figure is rounded itself, and may lie in the middle.
    (shown - measured).abs() <= half_a_step * 1.000_001
}

#[test]
fn pages_show_the_figures_that_were_measured() {
    let measured = Table::measured(include_str!("../../benches/figures.tsv"));
    let names: Vec<_> = COLUMNS.iter().map(|(name, _)| *name).collect();
    assert_eq!(measured.columns, names);
    let pages = [
        ("README.md", include_str!("../../README.md")),
        ("docs/performance.md", include_str!("../../docs/performance.md")),
    ];
    let mut compared = 0;
    for (page, text) in pages {
        let Some(table) = Table::in_page(text) else { continue };
        assert!(table.rows.len() >= 3, "{page} has rows");
        for shown in &table.columns[1..] {
            let (name, _) =
                COLUMNS.iter().find(|(_, title)| title == shown).expect("a column of the figures");
            for row in &table.rows {
                let shown_value = table.value(row[0], shown);
                let measured_value = measured.value(&bytes(row[0]), name);
                assert!(
                    is_rounded(shown_value, measured_value),
                    "{page} says {shown_value} for {shown} at {}, measured was {measured_value}",
                    row[0]
                );
                compared += 1;
            }
        }
    }
    assert!(compared >= 12, "only {compared} figures were compared");
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
