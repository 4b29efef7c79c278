//! Draws `benches/figures.tsv`: `chart FIGURES` prints an SVG. `scripts/figures` runs it.

use std::{env, error::Error, fmt::Write as _, fs};

/// The edges of the plot, in pixels.
const LEFT: f64 = 60.0;
const RIGHT: f64 = 560.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 310.0;
/// The top of the vertical axis, which is logarithmic and starts at 1.
const MOST: f64 = 500.0;

struct Line {
    name: &'static str,
    color: &'static str,
    /// Multiples of the floor, one for each size of body.
    values: Vec<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let file = env::args().nth(1).ok_or("usage: chart FIGURES")?;
    let mut sizes = Vec::new();
    let mut lines = [
        ("qstash for Python", "#a15c00"),
        ("@upstash/qstash on Node", "#3a7d44"),
        ("qstash-rs", "#8250df"),
        ("tower-qstash", "#0969da"),
    ]
    .map(|(name, color)| Line { name, color, values: Vec::new() });
    for row in fs::read_to_string(file)?.lines().skip(1) {
        let cells = row.split('\t').map(str::parse).collect::<Result<Vec<f64>, _>>()?;
        let [size, core, peer, node, python] = cells[..] else {
            return Err(format!("not five figures: {row}").into());
        };
        sizes.push(size);
        for (line, ratio) in lines.iter_mut().zip([python, node, peer, 1.0]) {
            line.values.push(core * ratio);
        }
    }
    if lines.iter().flat_map(|line| &line.values).any(|value| *value > MOST) {
        return Err("a figure is above the axis".into());
    }
    print!("{}", draw(&sizes, &lines)?);
    Ok(())
}

fn draw(sizes: &[f64], lines: &[Line]) -> Result<String, Box<dyn Error>> {
    let x = |index: usize| LEFT + (RIGHT - LEFT) * index as f64 / (sizes.len() - 1) as f64;
    let y = |value: f64| BOTTOM - (BOTTOM - TOP) * value.max(1.0).ln() / MOST.ln();
    let mut svg = String::new();
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 350" font-family="sans-serif" font-size="13" fill="#1f2328">
<rect width="760" height="350" fill="#ffffff"/>
<text x="20" y="26" font-size="15">Time of one verification, as a multiple of the hashing it cannot do without</text>"##
    )?;
    for tick in [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0] {
        let (y, text) = (y(tick), y(tick) + 4.0);
        writeln!(svg, r##"<path d="M{LEFT} {y:.1}H{RIGHT}" stroke="#d1d9e0"/>"##)?;
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
    for Line { name, color, values } in lines {
        let points: String = values
            .iter()
            .enumerate()
            .map(|(index, value)| format!("{:.1},{:.1} ", x(index), y(*value)))
            .collect();
        let points = points.trim_end();
        writeln!(
            svg,
            r#"<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2.5"/>"#
        )?;
        lowest += 24.0;
        writeln!(
            svg,
            r#"<text x="{}" y="{lowest:.1}" fill="{color}">{name}</text>"#,
            RIGHT + 16.0
        )?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}
