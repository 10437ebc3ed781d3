//! Which headers are needed to come from one that is trusted to a later one: as few as the changes of
//! the validator set allow. A pure planner; whoever runs it fetches.
//!
//! The blocks that could not be reached yet stand on a stack, the next to try on top. The way from
//! what is trusted to the top is halved until a step is small enough; a step to the very next block
//! needs no overlap, so there always is such a step.

use types::{Height, TimeMs, sign::VerifySignature};

use crate::client::{LightBlock, LightError, Rules, TrustedState};

/// Headers that are looked at for one target. About two for each time that a third of the power
/// changed; whoever needs more goes on from where it came to.
pub const BLOCKS_MAX: usize = 1_024;

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    Fetch(Height),
    /// The target is trusted.
    Reached(TrustedState),
}

/// The way to one target.
#[derive(Clone, Debug)]
pub struct Bisection {
    trusted: TrustedState,
    target: Height,
    now: TimeMs,
    rules: Rules,
    /// Asked for and not there yet.
    wanted: Height,
    /// Descending; at most one for each halving of 2⁶⁴.
    open: Vec<LightBlock>,
    supplied: usize,
}

impl Bisection {
    /// Begins by wanting `target` itself.
    pub fn new(trusted: TrustedState, target: Height, now: TimeMs, rules: Rules) -> Bisection {
        Bisection { trusted, target, now, rules, wanted: target, open: Vec::new(), supplied: 0 }
    }

    /// The height whose block [`Bisection::supply`] takes next.
    pub fn wanted(&self) -> Height {
        self.wanted
    }

    /// How far it came, also after an error.
    pub fn trusted(&self) -> &TrustedState {
        &self.trusted
    }

    /// Takes the block that was wanted.
    pub fn supply(
        &mut self,
        block: LightBlock,
        check: &dyn VerifySignature,
    ) -> Result<Next, LightError> {
        let (wanted, given) = (self.wanted, block.height());
        if given != wanted {
            return Err(LightError::NotWanted { wanted, given });
        }
        if self.supplied >= BLOCKS_MAX {
            let (reached, target) = (self.trusted.height(), self.target);
            return Err(LightError::TooMany { reached, target, max: BLOCKS_MAX });
        }
        self.supplied = self.supplied.saturating_add(1);
        self.open.push(block);
        while let Some(top) = self.open.last() {
            match self.trusted.advance(top, self.now, &self.rules, check) {
                Ok(trusted) => {
                    self.trusted = trusted;
                    self.open.pop();
                }
                Err(LightError::TooFar { trusted, height, .. }) => {
                    self.wanted = Height(u64::midpoint(trusted.0, height.0));
                    return Ok(Next::Fetch(self.wanted));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Next::Reached(self.trusted.clone()))
    }
}

#[cfg(test)]
mod tests;
