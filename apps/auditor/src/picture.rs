//! The evidence over the tokens of an answer as a picture: an SVG of a line for each level and the thresholds.

use std::fmt::Write as _;

use types::audit::{ALONE, ESCALATE, MilliNats};

use crate::judge::Step;

const WIDTH: i64 = 640;
const HEIGHT: i64 = 320;
const MARGIN: i64 = 40;

/// `ln E` of L1, L2 and, if there are any, of projections after each token, with what escalates and what is enough alone; `l1_only`: answers of which only the
/// log-probabilities were compared.
pub fn svg(trace: &[Step], l1_only: u32) -> String {
    let last = trace.last().map_or(1, |step| i64::from(step.token)).max(1);
    let values = trace.iter().flat_map(|step| [step.l1.0, step.l2.0, step.projections.0]);
    let low = values.clone().min().unwrap_or(0).min(-5_000);
    let high = values.max().unwrap_or(0).max(ALONE.0.saturating_add(3_000));
    let span = high.saturating_sub(low).max(1);
    let x = |token: i64| MARGIN + (WIDTH - 2 * MARGIN).saturating_mul(token) / last;
    let y = |milli: i64| {
        let up = (HEIGHT - 2 * MARGIN).saturating_mul(milli.saturating_sub(low)) / span;
        HEIGHT - MARGIN - up
    };
    let line = |of: fn(&Step) -> MilliNats| {
        let mut points = String::new();
        for step in trace {
            // Writing to a string cannot fail.
            let _ = write!(points, "{},{} ", x(step.token.into()), y(of(step).0));
        }
        points
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"11\"><title>Evidence over tokens</title>\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n"
    );
    for (milli, name, colour) in [
        (0, "ln E = 0", "#999"),
        (ESCALATE.0, "looked at closer: 9.2", "#c80"),
        (ALONE.0, "enough alone: 20.7", "#c00"),
    ] {
        let (at, end) = (y(milli), WIDTH - MARGIN);
        let _ = writeln!(
            out,
            "<line x1=\"{MARGIN}\" x2=\"{end}\" y1=\"{at}\" y2=\"{at}\" stroke=\"{colour}\" \
             stroke-dasharray=\"4 3\"/><text x=\"{MARGIN}\" y=\"{}\" fill=\"{colour}\">{name}</text>",
            at - 4
        );
    }
    let is_projected = trace.iter().any(|step| step.projections != MilliNats(0));
    let mut levels = vec![(line(|step| step.l1), "#06c"), (line(|step| step.l2), "#083")];
    if is_projected {
        levels.push((line(|step| step.projections), "#a0c"));
    }
    for (points, colour) in levels {
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{points}\"/>"
        );
    }
    let foot = HEIGHT - 12;
    let projected = match is_projected {
        true => format!("<text x=\"290\" y=\"{foot}\" fill=\"#a0c\">by projections</text>"),
        false => String::new(),
    };
    if l1_only > 0 {
        let _ = writeln!(
            out,
            "<text x=\"{MARGIN}\" y=\"20\" fill=\"#333\">answers by log-probabilities alone: {l1_only}</text>"
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{MARGIN}\" y=\"{foot}\" fill=\"#06c\">by log-probabilities (L1)</text>\
         <text x=\"190\" y=\"{foot}\" fill=\"#083\">by draws (L2)</text>\
         {}<text x=\"{}\" y=\"{foot}\" text-anchor=\"end\">{last} tokens</text></svg>",
        projected,
        WIDTH - MARGIN
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_a_point_for_each_step() {
        let step = |token: u32| Step {
            token,
            l1: MilliNats(i64::from(token) * -40),
            l2: MilliNats(i64::from(token) * 400),
            projections: MilliNats(0),
        };
        let trace: Vec<Step> = (1..=100).map(step).collect();
        let picture = svg(&trace, 0);
        assert_eq!(picture.matches("<polyline").count(), 2);
        assert_eq!(picture.matches(',').count(), 200);
        assert!(picture.contains("100 tokens") && picture.ends_with("</svg>\n"));
        assert!(!picture.contains("log-probabilities alone"));
        assert!(svg(&trace, 3).contains("log-probabilities alone: 3<"));
        assert!(svg(&[], 0).ends_with("</svg>\n"));
        assert!(!picture.contains("by projections"));
        let projected: Vec<Step> =
            trace.iter().map(|step| Step { projections: step.l2, ..*step }).collect();
        let picture = svg(&projected, 0);
        assert!(picture.contains("by projections") && picture.matches("<polyline").count() == 3);
    }
}
