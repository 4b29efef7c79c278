//! The figures of README.md and docs/performance.md, and the chart. `scripts/figures` runs it.
//!
//! - `collect` reads the output of the benchmarks, writes `benches/figures.tsv`.
//! - `draw` writes the chart, once for GitHub and once for rustdoc.
//! - `check` fails if these two aren't up to date.

use std::{env, error::Error, fmt::Write as _, fs, io};

use tower_qstash_bench::SIZES;

const FIGURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/figures.tsv");
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/chart.svg");
const DEFINITION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../src/guides/chart.md");

/// The columns, how a benchmark names each ratio, and the sizes of body that it is measured with.
const COLUMNS: [(&str, &str, &[usize]); 5] = [
    ("core/floor", "core / floor", &SIZES),
    ("qstash-rs/core", "qstash-rs / core", &SIZES),
    ("node/core", "node / core", &SIZES),
    ("python/core", "python / core", &SIZES),
    ("guard/layer", "layer with guard / layer, 100,000 live", &[256]),
];

/// The edges of the plot, in pixels.
const LEFT: f64 = 60.0;
const RIGHT: f64 = 560.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 310.0;
/// The top of the vertical axis, which is logarithmic and starts at 1.
const MOST: f64 = 500.0;

struct Line {
    name: &'static str,
    class: &'static str,
    /// Multiples of the floor, one for each size of body.
    values: Vec<f64>,
}

const TITLE: &str = "Time of one verification, as a multiple of the hashing it cannot do without";
/// The chart has a background of its own, because rustdoc's theme may differ from the system's.
const STYLE: &str = "<style>
svg { color: #1f2328; font: 13px sans-serif; }
rect { fill: #ffffff; } path { stroke: #d1d9e0; }
text { fill: currentColor; } polyline { fill: none; stroke: currentColor; stroke-width: 2.5; }
.ours { color: #0969da; } .peer { color: #8250df; } .node { color: #3a7d44; } .python { color: #a15c00; }
@media (prefers-color-scheme: dark) {
  svg { color: #e6edf3; } rect { fill: #0d1117; } path { stroke: #30363d; }
  .ours { color: #58a6ff; } .peer { color: #bc8cff; } .node { color: #56d364; } .python { color: #e3a04f; }
}
</style>";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["collect"] => fs::write(FIGURES, collect(&io::read_to_string(io::stdin())?)?)?,
        ["draw"] => {
            for (file, content) in drawn()? {
                fs::write(file, content)?;
            }
        }
        ["check"] => {
            for (file, content) in drawn()? {
                if fs::read_to_string(file)? != content {
                    return Err(format!("{file} is out of date: scripts/figures --draw").into());
                }
            }
        }
        _ => return Err("usage: collect | draw | check".into()),
    }
    Ok(())
}

/// Returns the table of the figures in the output of the benchmarks.
fn collect(output: &str) -> Result<String, Box<dyn Error>> {
    let mut table = String::from("body");
    for (column, ..) in COLUMNS {
        write!(table, "\t{column}")?;
    }
    for size in SIZES {
        write!(table, "\n{size}")?;
        for (column, what, sizes) in COLUMNS {
            let ratios = output.lines().filter_map(|line| {
                let mut cells = line.strip_prefix(what)?.strip_prefix(' ')?.split_whitespace();
                (cells.next()?.parse() == Ok(size)).then(|| cells.next())?
            });
            match (&ratios.collect::<Vec<_>>()[..], sizes.contains(&size)) {
                ([ratio], true) => write!(table, "\t{}", ratio.parse::<f64>()?)?,
                ([], false) => table.push('\t'),
                (found, _) => return Err(format!("{column} at {size} B: {found:?}").into()),
            }
        }
    }
    Ok(table + "\n")
}

/// Returns the files that show the chart, and their content.
fn drawn() -> Result<[(&'static str, String); 2], Box<dyn Error>> {
    let table = fs::read_to_string(FIGURES)?;
    let mut rows = table.lines().map(|row| row.split('\t').collect::<Vec<_>>());
    let columns = rows.next().ok_or("no header")?;
    let rows: Vec<_> = rows.collect();
    let column = |name| -> Result<Vec<f64>, Box<dyn Error>> {
        let index = columns.iter().position(|column| *column == name).ok_or("no such column")?;
        Ok(rows.iter().map(|row| row[index].parse()).collect::<Result<_, _>>()?)
    };
    let core = column("core/floor")?;
    let times =
        |ratios: Vec<f64>| core.iter().zip(ratios).map(|(core, ratio)| core * ratio).collect();
    let lines = [
        Line {
            name: "@upstash/qstash on Node",
            class: "node",
            values: times(column("node/core")?),
        },
        Line { name: "qstash for Python", class: "python", values: times(column("python/core")?) },
        Line { name: "qstash-rs", class: "peer", values: times(column("qstash-rs/core")?) },
        Line { name: "tower-qstash", class: "ours", values: core.clone() },
    ];
    if lines.iter().flat_map(|line| &line.values).any(|value| *value > MOST) {
        return Err("a figure is above the axis".into());
    }
    let svg = draw(&column("body")?, &lines)?;
    let definition = link_definition(&svg)?;
    Ok([(CHART, svg), (DEFINITION, definition)])
}

/// Returns the definition of the link `[chart]` for rustdoc, which can't show files of the repository.
fn link_definition(svg: &str) -> Result<String, Box<dyn Error>> {
    let mut definition = String::from("[chart]: <data:image/svg+xml,");
    for byte in svg.trim_end().replace('\n', " ").replace('"', "'").bytes() {
        if byte.is_ascii_alphanumeric() || b" -_./:;=,'(){}".contains(&byte) {
            definition.push(byte.into());
        } else {
            write!(definition, "%{byte:02X}")?;
        }
    }
    Ok(definition + ">\n")
}

fn draw(sizes: &[f64], lines: &[Line]) -> Result<String, Box<dyn Error>> {
    let x = |index: usize| LEFT + (RIGHT - LEFT) * index as f64 / (sizes.len() - 1) as f64;
    let y = |value: f64| BOTTOM - (BOTTOM - TOP) * value.max(1.0).ln() / MOST.ln();
    let mut svg = String::new();
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 350" role="img" aria-label="{TITLE}">
{STYLE}
<rect width="760" height="350"/>
<text x="20" y="26" font-size="15">{TITLE}</text>"##
    )?;
    for tick in [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0] {
        let (y, text) = (y(tick), y(tick) + 4.0);
        writeln!(svg, r#"<path d="M{LEFT} {y:.1}H{RIGHT}"/>"#)?;
        writeln!(svg, r#"<text x="52" y="{text:.1}" text-anchor="end">{tick} ×</text>"#)?;
    }
    for (index, size) in sizes.iter().enumerate() {
        let size = match *size as u64 {
            size if size < 1024 => format!("{size} B"),
            size if size < 1024 * 1024 => format!("{} KiB", size / 1024),
            size => format!("{} MiB", size / (1024 * 1024)),
        };
        writeln!(svg, r#"<text x="{:.1}" y="332" text-anchor="middle">{size}</text>"#, x(index))?;
    }
    let mut lowest = TOP - 24.0;
    for Line { name, class, values } in lines {
        let points: String = values
            .iter()
            .enumerate()
            .map(|(index, value)| format!("{:.1},{:.1} ", x(index), y(*value)))
            .collect();
        let points = points.trim_end();
        writeln!(svg, r#"<polyline class="{class}" points="{points}"/>"#)?;
        lowest += 24.0;
        writeln!(
            svg,
            r#"<text x="{}" y="{lowest:.1}" class="{class}">{name}</text>"#,
            RIGHT + 16.0
        )?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}
