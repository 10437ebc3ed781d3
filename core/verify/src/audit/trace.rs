//! How evidence grew, for a picture: bounded, whatever is audited.

use crate::eprocess::MilliNats;

/// Points that are kept. Wider than any picture.
pub const TRACE_MAX: usize = 2_048;

/// The evidence after so many tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Point {
    pub token: u32,
    pub l1: MilliNats,
    pub l2: MilliNats,
    pub projections: MilliNats,
}

/// Invariant: at most [`TRACE_MAX`] points, of tokens that are multiples of `stride`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Trace {
    points: Vec<Point>,
    stride: u32,
}

impl Default for Trace {
    fn default() -> Trace {
        Trace { points: Vec::new(), stride: 1 }
    }
}

impl Trace {
    pub(super) fn push(&mut self, point: Point) {
        if !point.token.is_multiple_of(self.stride) {
            return;
        }
        if self.points.len() >= TRACE_MAX {
            self.stride = self.stride.saturating_mul(2);
            let stride = self.stride;
            self.points.retain(|kept| kept.token.is_multiple_of(stride));
            if !point.token.is_multiple_of(stride) {
                return;
            }
        }
        self.points.push(point);
    }

    pub(super) fn points(&self) -> &[Point] {
        &self.points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_trace_is_thinned_out() {
        let mut trace = Trace::default();
        for token in 1..=10_000 {
            let none = MilliNats(0);
            trace.push(Point { token, l1: none, l2: none, projections: none });
        }
        let tokens: Vec<u32> = trace.points().iter().map(|point| point.token).collect();
        assert!(tokens.len() <= TRACE_MAX && tokens.len() > TRACE_MAX / 2);
        assert_eq!(tokens, (1..=10_000).filter(|n| n % 8 == 0).collect::<Vec<u32>>());
    }
}
