//! Curves of what audits tell apart, as an SVG: a row of panels for each level, a column for each number of tokens.
//!
//! It has no ground, and no colour so light or dark that it is lost on white or on black.

use std::fmt::Write as _;

use serde_json::Value;

use super::{list, number, text};

/// Whose curves are drawn, and how: the other providers are in the tables.
const CURVES: [(&str, &str, &str); 8] = [
    ("F16 (dearer)", "#8a8f98", "2 3"),
    ("cache Q8_0", "#8a8f98", ""),
    ("cache Q4_0", "#c2791b", "6 2"),
    ("Q6_K", "#3b82d6", ""),
    ("Q4_K", "#2f9e5b", ""),
    ("temperature .7", "#9b6de0", "6 2"),
    ("prefill spoof", "#d64a5c", "2 2"),
    ("other model", "#1799a8", "8 3"),
];
const INK: &str = "#7d848e";
/// The draws that are shown, and levels and buckets of them.
const SAMPLER: &str = "llama.cpp";
const COLUMNS: usize = 4;
const ROWS: usize = 2;
/// Of a panel, and what is between two.
const SIDE: f64 = 160.0;
const GAP: f64 = 42.0;
const LEFT: f64 = 62.0;
const TOP: f64 = 58.0;
/// Below the panels: numbers, what they are, and two lines that name the curves.
const FOOT: f64 = 92.0;
/// Powers of ten from the left to the right end.
const DECADES: f64 = 3.0;

/// Writing to a string cannot fail.
macro_rules! line {
    ($text:expr, $($rest:tt)*) => { let _ = writeln!($text, $($rest)*); };
}

pub(super) fn svg(figures: &Value) -> String {
    let width = LEFT + COLUMNS as f64 * (SIDE + GAP) - GAP + 18.0;
    let height = TOP + ROWS as f64 * (SIDE + GAP) - GAP + FOOT;
    let mut out = String::new();
    line!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"{INK}\">\
         <title>How well audits tell providers apart</title>"
    );
    let middle = LEFT + (width - LEFT) / 2.0;
    line!(
        out,
        "<text x=\"{middle}\" y=\"20\" text-anchor=\"middle\" font-size=\"13\">Providers found, of honest ones accused: \
         Q8_0 claimed, draws as {SAMPLER}</text>"
    );
    let sampler = list(&figures["samplers"]).find(|it| text(&it["sampler"]) == SAMPLER);
    let levels = sampler.map(|sampler| list(&sampler["levels"])).into_iter().flatten();
    for (row, level) in levels.take(ROWS).enumerate() {
        for column in 0..COLUMNS {
            let at = |n: usize, from: f64| from + n as f64 * (SIDE + GAP);
            panel(&mut out, level, (row, column), (at(column, LEFT), at(row, TOP)));
        }
    }
    line!(
        out,
        "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">share of honest buckets above the threshold (FPR)</text>",
        height - FOOT + 34.0
    );
    legend(&mut out, height - 36.0);
    out += "</svg>\n";
    out
}

fn panel(out: &mut String, level: &Value, (row, column): (usize, usize), (left, top): (f64, f64)) {
    let (right, bottom) = (left + SIDE, top + SIDE);
    line!(
        out,
        "<text x=\"{left}\" y=\"{}\">{}, {} tokens</text>\
         <path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"{INK}\"/>",
        top - 8.0,
        text(&level["level"]),
        level["bucket_tokens"][column]
    );
    for (n, name) in ["0", ".5", "1"].into_iter().enumerate().filter(|_| column == 0) {
        let y = bottom - n as f64 * SIDE / 2.0 + 4.0;
        line!(out, "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{name}</text>", left - 6.0);
    }
    if column == 0 {
        let (x, y) = (left - 34.0, top + SIDE / 2.0);
        line!(
            out,
            "<text transform=\"rotate(-90 {x} {y})\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">share found (TPR)</text>"
        );
    }
    for (n, name) in [".001", ".01", ".1", "1"].into_iter().enumerate().filter(|_| row + 1 == ROWS)
    {
        let x = left + n as f64 * SIDE / DECADES;
        line!(out, "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{name}</text>", bottom + 15.0);
    }
    for (provider, colour, dashes) in CURVES {
        let of = list(&level["rows"]).find(|it| text(&it["provider"]) == provider);
        let curve = of.map(|it| list(&it["curves"][column])).into_iter().flatten();
        let point = |it: &Value| {
            let x = left + (number(&it[0]).log10() / DECADES + 1.0) * SIDE;
            format!("{x:.1},{:.1}", bottom - number(&it[1]) * SIDE)
        };
        let points: Vec<String> = curve.map(point).collect();
        if !points.is_empty() {
            line!(
                out,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\" stroke-dasharray=\"{dashes}\" points=\"{}\"/>",
                points.join(" ")
            );
        }
    }
}

fn legend(out: &mut String, top: f64) {
    for (n, (provider, colour, dashes)) in CURVES.into_iter().enumerate() {
        let x = LEFT + (n % COLUMNS) as f64 * (SIDE + GAP);
        let y = top + (n / COLUMNS) as f64 * 20.0;
        line!(
            out,
            "<path d=\"M{x} {}h28\" stroke=\"{colour}\" stroke-width=\"1.8\" stroke-dasharray=\"{dashes}\"/>\
             <text x=\"{}\" y=\"{y}\">{provider}</text>",
            y - 4.0,
            x + 36.0
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::bench::verify::tests::figures;

    #[test]
    fn a_curve_is_drawn_where_there_are_figures() {
        let picture = super::svg(&figures());
        assert_eq!(picture.matches("<polyline").count(), 4);
        // All that are found at one in a thousand is at the left, four fifths up.
        assert!(picture.contains("points=\"264.0,90.0 424.0,58.0\""), "{picture}");
        assert!(picture.ends_with("</svg>\n"));
    }
}
