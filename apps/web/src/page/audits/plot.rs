//! Evidence as a picture: nats of each piece over the tokens that were scored, piece after piece, with what
//! justifies a sanction as lines. Its colours come from the style sheet. The same figures stand in a table beside it.

use maud::{Markup, html};
use types::audit::{ALONE, ESCALATE, Evidence, KeptEvidence, MilliNats, PAIRED};

use crate::show;

const WIDTH: i64 = 640;
const HEIGHT: i64 = 300;
const LEFT: i64 = 52;
const RIGHT: i64 = 14;
const TOP: i64 = 14;
const BOTTOM: i64 = 34;
const PLOT_HEIGHT: i64 = HEIGHT - TOP - BOTTOM;
const PLOT_WIDTH: i64 = WIDTH - LEFT - RIGHT;

/// The window is at least and at most this, in milli-nats: what lies beyond stands at its edge, or the
/// thresholds would be one line. The most is 90 nats, at which their labels still have room.
const LOW: (i64, i64) = (-30_000, -5_000);
const HIGH: (i64, i64) = (26_000, 60_000);
/// Around the outermost values.
const AIR: i64 = 3_000;
/// Between marks on the axis.
const TICK: i64 = 10_000;
/// Half of a mark.
const MARK: i64 = 5;

/// Where things are.
struct Scale {
    low: i64,
    high: i64,
    tokens: i64,
}

impl Scale {
    fn of(evidence: &[KeptEvidence]) -> Scale {
        let values = || evidence.iter().flat_map(|it| levels(&it.evidence)).filter_map(|it| it.2);
        let low = values().map(|it| it.0.saturating_sub(AIR)).min().unwrap_or(0);
        let high = values().map(|it| it.0.saturating_add(AIR)).max().unwrap_or(0);
        let tokens = evidence.iter().map(|it| i64::from(it.evidence.tokens)).sum();
        Scale {
            low: low.clamp(LOW.0, LOW.1),
            high: high.clamp(HIGH.0, HIGH.1),
            tokens: i64::max(tokens, 1),
        }
    }

    fn x(&self, tokens: i64) -> i64 {
        LEFT + PLOT_WIDTH * tokens / self.tokens
    }

    fn y(&self, value: MilliNats) -> i64 {
        let value = value.0.clamp(self.low, self.high);
        TOP + PLOT_HEIGHT * (self.high - value) / (self.high - self.low)
    }
}

/// The picture, under `id`. Pieces come in the order in which they were found.
pub(super) fn svg(id: &str, evidence: &[KeptEvidence]) -> Markup {
    let scale = Scale::of(evidence);
    html! {
        svg.evidence viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-labelledby=(id) {
            title id=(id) {
                "Evidence in nats over " (show::count(scale.tokens.unsigned_abs()))
                " scored tokens, in " (show::counted(evidence.len(), "piece", "pieces"))
                "; the table has the figures."
            }
            (axes(&scale))
            (threshold(&scale, "escalate", ESCALATE, Side::Left))
            (threshold(&scale, "paired", PAIRED, Side::Right))
            (threshold(&scale, "alone", ALONE, Side::Left))
            (pieces(&scale, evidence))
        }
    }
}

fn axes(scale: &Scale) -> Markup {
    let ticks = (scale.low / TICK..=scale.high / TICK).map(|tick| tick * TICK);
    let right = WIDTH - RIGHT;
    let foot = HEIGHT - BOTTOM + 18;
    html! {
        @for tick in ticks {
            @let y = scale.y(MilliNats(tick));
            line.grid .zero[tick == 0] x1=(LEFT) x2=(right) y1=(y) y2=(y) {}
            text.tick x=(LEFT - 8) y=(y + 4) text-anchor="end" {
                @if tick < 0 { "\u{2212}" } (tick.unsigned_abs() / 1_000)
            }
        }
        text.tick x=(LEFT) y=(foot) { "0" }
        text.tick x=(right) y=(foot) text-anchor="end" {
            (show::count(scale.tokens.unsigned_abs())) " tokens"
        }
    }
}

/// On which side its label is: neighbours take turns.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}

fn threshold(scale: &Scale, name: &str, value: MilliNats, side: Side) -> Markup {
    let y = scale.y(value);
    let (x, anchor) = match side {
        Side::Left => (LEFT + 4, "start"),
        Side::Right => (WIDTH - RIGHT - 4, "end"),
    };
    html! {
        g class={ "threshold " (name) } {
            line x1=(LEFT) x2=(WIDTH - RIGHT) y1=(y) y2=(y) {}
            text x=(x) y=(y - 4) text-anchor=(anchor) { (name) " " (show::nats_short(value)) }
        }
    }
}

/// Class in the style sheet, name and value of each level.
fn levels(evidence: &Evidence) -> [(&'static str, &'static str, Option<MilliNats>); 3] {
    let &Evidence { l1, l2, projections, .. } = evidence;
    [("l1", "L1", l1), ("l2", "L2", l2), ("projections", "projections", projections)]
}

/// Of each piece and level a line from nothing at its first token to what it came to at its last, and a mark there.
fn pieces(scale: &Scale, evidence: &[KeptEvidence]) -> Markup {
    let mut first = 0;
    let mut drawn = Vec::new();
    for (index, piece) in evidence.iter().enumerate() {
        let last = first + i64::from(piece.evidence.tokens);
        for (class, name, value) in levels(&piece.evidence) {
            let Some(value) = value else { continue };
            let classes = if piece.counts { class.to_owned() } else { format!("{class} idle") };
            let what = format!("piece {}, {name}: {} nats", index + 1, show::nats(value));
            let (from, to) = (scale.x(first), (scale.x(last), scale.y(value)));
            drawn.push(html! {
                g class=(classes) {
                    title { (what) }
                    line x1=(from) y1=(scale.y(MilliNats(0))) x2=(to.0) y2=(to.1) {}
                    (mark(class, to, (value.0 > scale.high, value.0 < scale.low)))
                }
            });
        }
        first = last;
    }
    html! { @for piece in drawn { (piece) } }
}

/// A circle for L1, a square for L2, a diamond for projections, and an arrow where the value lies beyond the picture.
fn mark(class: &str, (x, y): (i64, i64), (above, below): (bool, bool)) -> Markup {
    let (left, right, up, down) = (x - MARK, x + MARK, y - MARK, y + MARK);
    html! {
        @if above {
            polygon points={ (left) "," (down) " " (right) "," (down) " " (x) "," (up) } {}
        } @else if below {
            polygon points={ (left) "," (up) " " (right) "," (up) " " (x) "," (down) } {}
        } @else if class == "l1" {
            circle cx=(x) cy=(y) r=(MARK) {}
        } @else if class == "projections" {
            polygon points={ (left) "," (y) " " (x) "," (up) " " (right) "," (y) " " (x) "," (down) } {}
        } @else {
            rect x=(left) y=(up) width=(2 * MARK) height=(2 * MARK) {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_holds_the_thresholds_and_never_more_than_has_room() {
        let wide = Scale { low: LOW.0, high: HIGH.1, tokens: 1_000 };
        let y = |it: MilliNats| wide.y(it);
        // Labels of one side are a line of the largest text apart.
        assert!(y(ESCALATE) - y(ALONE) >= 20, "{} {}", y(ESCALATE), y(ALONE));
        assert_eq!((y(MilliNats(i64::MAX)), y(MilliNats(i64::MIN))), (TOP, HEIGHT - BOTTOM));
        let bare = Scale::of(&[]);
        assert_eq!((bare.low, bare.high, bare.tokens), (LOW.1, HIGH.0, 1));
        assert_eq!((wide.x(0), wide.x(1_000)), (LEFT, WIDTH - RIGHT));
    }
}
