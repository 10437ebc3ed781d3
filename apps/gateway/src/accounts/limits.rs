//! What a key may use, and its calendar of what it used.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use types::{ModelId, Nusd, TimeMs};

use crate::error::KeyError;

/// Names that a key's list of models may have, and bytes of each.
const MODELS_MAX: usize = 64;
const MODEL_BYTES_MAX: usize = 256;

/// Bounds on what a key may use. What is not there is not bounded.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
#[serde(default, deny_unknown_fields)]
pub struct KeyLimits {
    /// What it may spend in all.
    pub budget: Option<Nusd>,
    /// What it may spend from midnight to midnight, UTC.
    pub budget_day: Option<Nusd>,
    /// What it may spend in a calendar month, UTC.
    pub budget_month: Option<Nusd>,
    pub requests_per_minute: Option<u32>,
    /// Of prompts and answers together.
    pub tokens_per_minute: Option<u32>,
    /// Requests in work at once.
    pub requests_at_once: Option<u32>,
    /// From then on it is refused.
    pub expires_at: Option<TimeMs>,
    /// The models it may use, by name or id; empty: all.
    pub models: Vec<String>,
}

/// One of a key's budgets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Budget {
    Total,
    Day,
    Month,
}

impl Budget {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Budget::Total => "budget",
            Budget::Day => "budget of the day",
            Budget::Month => "budget of the month",
        }
    }

    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Budget::Total => "raise the budget",
            Budget::Day => "wait for midnight, UTC",
            Budget::Month => "wait for the next month, UTC",
        }
    }
}

impl KeyLimits {
    /// A budget in all, and nothing else.
    pub fn budget(budget: Nusd) -> KeyLimits {
        KeyLimits { budget: Some(budget), ..KeyLimits::default() }
    }

    pub(crate) fn check(&self) -> Result<(), KeyError> {
        let rates = [self.requests_per_minute, self.tokens_per_minute, self.requests_at_once];
        if rates.contains(&Some(0)) {
            return Err(KeyError::Rate);
        }
        let fits = |name: &String| !name.is_empty() && name.len() <= MODEL_BYTES_MAX;
        if self.models.len() > MODELS_MAX || !self.models.iter().all(fits) {
            return Err(KeyError::Models { models_max: MODELS_MAX });
        }
        Ok(())
    }

    /// Whether a model may be used under a name.
    pub(crate) fn allows(&self, name: &str, model: &ModelId) -> bool {
        if self.models.is_empty() {
            return true;
        }
        let id = model.to_string();
        self.models.iter().any(|allowed| allowed == name || *allowed == id)
    }

    pub(crate) fn has_expired(&self, now: TimeMs) -> bool {
        self.expires_at.is_some_and(|at| now >= at)
    }
}

/// What was spent in one period of the calendar: days or months, numbered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Spent {
    period: u32,
    amount: Nusd,
}

impl Spent {
    pub(crate) fn in_period(&self, period: u32) -> Nusd {
        // A clock that was set back stays in the later period.
        if period > self.period { Nusd::ZERO } else { self.amount }
    }

    pub(crate) fn add(&mut self, period: u32, cost: Nusd) {
        self.amount = self.in_period(period).saturating_add(cost);
        self.period = self.period.max(period);
    }
}

/// Days since 1970, UTC.
pub(crate) fn day(now: TimeMs) -> u32 {
    u32::try_from(now.0 / 86_400_000).unwrap_or(u32::MAX)
}

/// Months since January of the year 0, UTC.
pub(crate) fn month(now: TimeMs) -> u32 {
    let seconds = i64::try_from(now.0 / 1_000).unwrap_or(i64::MAX);
    // A time after the year 9999 is no time of a clock.
    let date = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let month = i32::from(u8::from(date.month()));
    u32::try_from(date.year() * 12 + month - 1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_months_change_at_midnight() {
        // 2026-02-28 23:59:59.999 and a millisecond later.
        let (last, first) = (TimeMs(1_772_323_199_999), TimeMs(1_772_323_200_000));
        assert_eq!((day(first) - day(last), month(first) - month(last)), (1, 1));
        assert_eq!(month(first), 2026 * 12 + 2);
        // Not so at the end of the 27th.
        let earlier = TimeMs(last.0 - 86_400_000);
        assert_eq!((day(last) - day(earlier), month(last) - month(earlier)), (1, 0));
    }

    #[test]
    fn what_was_spent_counts_in_its_period() {
        let mut spent = Spent::default();
        spent.add(5, Nusd(3));
        spent.add(5, Nusd(4));
        assert_eq!((spent.in_period(5), spent.in_period(6)), (Nusd(7), Nusd::ZERO));
        spent.add(6, Nusd(1));
        assert_eq!(spent.in_period(6), Nusd(1));
        // Set back: what is spent now counts with the later period.
        spent.add(5, Nusd(1));
        assert_eq!((spent.in_period(5), spent.in_period(6)), (Nusd(2), Nusd(2)));
    }

    #[test]
    fn a_model_is_allowed_by_name_or_id() {
        let id = ModelId([7; 32]);
        let limits = |models: &[&str]| KeyLimits {
            models: models.iter().map(|name| (*name).to_owned()).collect(),
            ..KeyLimits::default()
        };
        assert!(limits(&[]).allows("ember", &id));
        assert!(limits(&["other", "ember"]).allows("ember", &id));
        assert!(limits(&[&id.to_string()]).allows("ember", &id));
        assert!(!limits(&["other"]).allows("ember", &id));
    }

    #[test]
    fn limits_that_nothing_could_meet_are_refused() {
        assert!(
            KeyLimits { requests_per_minute: Some(0), ..KeyLimits::default() }.check().is_err()
        );
        assert!(KeyLimits { models: vec![String::new()], ..KeyLimits::default() }.check().is_err());
        assert!(
            KeyLimits { models: vec!["m".into(); 65], ..KeyLimits::default() }.check().is_err()
        );
        assert!(KeyLimits::budget(Nusd::ZERO).check().is_ok());
    }
}
