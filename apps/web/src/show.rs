//! Numbers as people read them. The exact value in base units stands in the `title` of each.
//!
//! Digits are grouped with a narrow no-break space, so that a number neither breaks nor is taken
//! for another one where commas and points change places.

use maud::{Markup, html};
use types::{Address, Nusd, TimeMs, Watt, audit::MilliNats};

/// Between groups of three digits.
const GROUP: char = '\u{202f}';
/// Between a number and its unit.
const GAP: char = '\u{a0}';
/// Digits after the point that either denomination has.
const PLACES: usize = 9;

/// US dollars: at least cents, three significant digits below a dollar, four places above.
pub(crate) fn usd(amount: Nusd) -> Markup {
    let title = format!("{} nano-USD", group(&amount.0.to_string()));
    html! { data.amount value=(amount.0) title=(title) { (usd_text(amount)) } }
}

pub(crate) fn usd_text(amount: Nusd) -> String {
    let places = match amount.0 {
        0 => return "$0".to_owned(),
        1..1_000_000_000 => significant_places(amount.0, 3),
        1_000_000_000..100_000_000_000 => 4,
        _ => 2,
    };
    format!("${}", decimal(amount.0, places, 2))
}

/// WATT: at least one decimal where there are any, three significant digits below one.
pub(crate) fn watt(amount: Watt) -> Markup {
    let title = format!("{} × 10⁻⁹ WATT", group(&amount.0.to_string()));
    html! { data.amount value=(amount.0) title=(title) { (watt_text(amount)) } }
}

/// To the last digit where it is less than one, for columns whose digits stand below each other.
pub(crate) fn usd_exact(amount: Nusd) -> Markup {
    if amount.0 >= types::amount::UNIT {
        return usd(amount);
    }
    let title = format!("{} nano-USD", group(&amount.0.to_string()));
    html! { data.amount value=(amount.0) title=(title) { "$" (all_places(amount.0)) } }
}

/// As [`usd_exact`].
pub(crate) fn watt_exact(amount: Watt) -> Markup {
    if amount.0 >= types::amount::UNIT {
        return watt(amount);
    }
    let title = format!("{} × 10⁻⁹ WATT", group(&amount.0.to_string()));
    html! { data.amount value=(amount.0) title=(title) { (all_places(amount.0)) } }
}

fn all_places(base_units: u128) -> String {
    match base_units {
        0 => "0".to_owned(),
        _ => decimal(base_units, PLACES, PLACES),
    }
}

/// With the unit after it.
pub(crate) fn watt_unit(amount: Watt) -> Markup {
    html! { (watt(amount)) (GAP) span.unit { "WATT" } }
}

fn watt_text(amount: Watt) -> String {
    let places = match amount.0 {
        0..1_000_000_000 => significant_places(amount.0, 3),
        1_000_000_000..1_000_000_000_000 => 4,
        _ => 2,
    };
    decimal(amount.0, places, 0)
}

/// Places after the point that `count` significant digits of a value below one need.
fn significant_places(base_units: u128, count: usize) -> usize {
    let digits = base_units.to_string().len();
    PLACES.saturating_sub(digits).saturating_add(count).min(PLACES)
}

/// `base_units` of 10⁻⁹ rounded half up to `places` and written with at least `places_min`.
fn decimal(base_units: u128, places: usize, places_min: usize) -> String {
    let dropped = u32::try_from(PLACES.saturating_sub(places)).unwrap_or(0);
    let step = 10_u128.pow(dropped);
    let rounded = base_units.saturating_add(step / 2) / step * step;
    let (whole, rest) = (rounded / types::amount::UNIT, rounded % types::amount::UNIT);
    let rest = format!("{rest:09}");
    let mut shown = rest.trim_end_matches('0').to_owned();
    while shown.len() < places_min {
        shown.push('0');
    }
    if shown.is_empty() {
        return group(&whole.to_string());
    }
    format!("{}.{}", group(&whole.to_string()), group_after_point(&shown))
}

/// A count with its digits grouped.
pub(crate) fn count(number: impl Into<u128>) -> String {
    group(&number.into().to_string())
}

fn group(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(GROUP);
        }
        text.push(digit);
    }
    text
}

fn group_after_point(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && index.is_multiple_of(3) {
            text.push(GROUP);
        }
        text.push(digit);
    }
    text
}

/// A count with the word for what is counted.
pub(crate) fn counted(number: usize, one: &str, many: &str) -> String {
    let number = u128::try_from(number).unwrap_or(u128::MAX);
    format!("{}{GAP}{}", count(number), if number == 1 { one } else { many })
}

/// `840 ms`, `12.3 s`, `1 min 5 s`, `3 h 20 min`, `21 d`.
pub(crate) fn duration(ms: u64) -> String {
    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let two = |large: u64, large_name: &str, small: u64, small_name: &str| match small {
        0 => format!("{large}{GAP}{large_name}"),
        small => format!("{large}{GAP}{large_name} {small}{GAP}{small_name}"),
    };
    match ms {
        0..1_000 => format!("{ms}{GAP}ms"),
        1_000..MINUTE => format!("{}.{}{GAP}s", ms / 1_000, ms % 1_000 / 100),
        MINUTE..HOUR => two(ms / MINUTE, "min", ms % MINUTE / 1_000, "s"),
        HOUR..DAY => two(ms / HOUR, "h", ms % HOUR / MINUTE, "min"),
        _ => two(ms / DAY, "d", ms % DAY / HOUR, "h"),
    }
}

/// Tokens a second over the whole request; nothing for an answer without tokens or time.
pub(crate) fn speed(tokens: u32, ms: u64) -> Option<String> {
    if tokens == 0 {
        return None;
    }
    let tenths = u64::from(tokens).saturating_mul(10_000).checked_div(ms)?;
    if tenths >= 1_000 {
        return Some(format!("{}{GAP}tok/s", count(tenths / 10)));
    }
    Some(format!("{}.{}{GAP}tok/s", tenths / 10, tenths % 10))
}

/// A share in parts per million as per cent.
pub(crate) fn percent(share: types::Ppm) -> String {
    let hundredths = share.get() / 100;
    match hundredths % 100 {
        0 => format!("{}{GAP}%", hundredths / 100),
        rest => format!("{}.{rest:02}{GAP}%", hundredths / 100),
    }
}

/// A moment in UTC; the script of the page shows how long ago that is.
pub(crate) fn time(at: TimeMs) -> Markup {
    let utc = Utc::of(at);
    html! {
        time datetime=(utc.iso()) title=(utc.long()) data-ms=(at.0) { (utc.long()) }
    }
}

/// A moment that lies ahead, mostly; the script shows how far.
pub(crate) fn due(at: TimeMs) -> Markup {
    let utc = Utc::of(at);
    html! {
        time datetime=(utc.iso()) title=(utc.long()) data-due-ms=(at.0) { (utc.long()) }
    }
}

/// The logarithm of evidence in nats, exactly: `−12.345`.
pub(crate) fn nats(evidence: MilliNats) -> String {
    let sign = if evidence.0 < 0 { "\u{2212}" } else { "" };
    let milli = evidence.0.unsigned_abs();
    format!("{sign}{}.{:03}", count(milli / 1_000), milli % 1_000)
}

/// To one place, towards zero, as a picture has room for.
pub(crate) fn nats_short(evidence: MilliNats) -> String {
    let sign = if evidence.0 <= -100 { "\u{2212}" } else { "" };
    let milli = evidence.0.unsigned_abs();
    format!("{sign}{}.{}", count(milli / 1_000), milli % 1_000 / 100)
}

/// A moment as `2026-11-21 04:00:00 UTC`; the command line writes times like the pages.
pub fn utc(at: TimeMs) -> String {
    Utc::of(at).long()
}

/// The civil date and time of a moment.
struct Utc {
    year: u64,
    month: u64,
    day: u64,
    second_of_day: u64,
}

impl Utc {
    /// Days to a date by Howard Hinnant's `civil_from_days`, for days since 1970 or later.
    fn of(at: TimeMs) -> Utc {
        let seconds = at.0 / 1_000;
        let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
        let shifted = days.saturating_add(719_468);
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        Utc { year, month, day, second_of_day }
    }

    fn clock(&self) -> String {
        let second = self.second_of_day;
        format!("{:02}:{:02}:{:02}", second / 3_600, second % 3_600 / 60, second % 60)
    }

    fn iso(&self) -> String {
        format!("{:04}-{:02}-{:02}T{}Z", self.year, self.month, self.day, self.clock())
    }

    fn long(&self) -> String {
        format!("{:04}-{:02}-{:02} {} UTC", self.year, self.month, self.day, self.clock())
    }
}

/// A long id by its ends, whole in the title.
pub(crate) fn id(text: &str) -> Markup {
    html! { code.id title=(text) { (short(text)) } }
}

pub(crate) fn address(address: Address) -> Markup {
    id(&address.to_string())
}

/// The first ten and the last four characters of an id. Ids are ASCII; others stay whole.
pub(crate) fn short(text: &str) -> String {
    const HEAD: usize = 10;
    const TAIL: usize = 4;
    let middle = text.len().saturating_sub(TAIL);
    match (text.get(..HEAD), text.get(middle..)) {
        (Some(head), Some(tail)) if middle > HEAD => format!("{head}…{tail}"),
        _ => text.to_owned(),
    }
}

/// Text that others chose: isolated, so that its direction marks turn nothing around it.
pub(crate) fn foreign(text: &str) -> Markup {
    html! { bdi { (text) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the separators made visible.
    fn check(shown: &str, expected: &str) {
        assert_eq!(shown.replace(GROUP, "_").replace(GAP, "~"), expected);
    }

    #[test]
    fn dollars_show_three_digits_of_a_small_cost_and_cents_of_a_large_sum() {
        for (nusd, expected) in [
            (0, "$0"),
            (7, "$0.000_000_007"),
            (12_400, "$0.000_012_4"),
            (12_449, "$0.000_012_4"),
            (12_450, "$0.000_012_5"),
            (100_000_000, "$0.10"),
            (999_999_999, "$1.00"),
            (4_999_987_600, "$5.00"),
            (4_998_760_000, "$4.998_8"),
            (1_234_567_891_000_000, "$1_234_567.89"),
        ] {
            check(&usd_text(Nusd(nusd)), expected);
        }
    }

    #[test]
    fn columns_show_every_digit_of_what_is_below_one() {
        check(&all_places(0), "0");
        check(&all_places(46_000), "0.000_046_000");
    }

    #[test]
    fn watt_is_grouped() {
        for (base, expected) in [
            (0, "0"),
            (3_596, "0.000_003_6"),
            (2_500_000_000, "2.5"),
            (Watt::whole(1_000_000_000).0, "1_000_000_000"),
            (u128::MAX - Watt::whole(1).0, "340_282_366_920_938_463_463_374_607_430.77"),
        ] {
            check(&watt_text(Watt(base)), expected);
        }
    }

    #[test]
    fn durations_and_speeds() {
        for (ms, expected) in [
            (0, "0~ms"),
            (840, "840~ms"),
            (12_345, "12.3~s"),
            (65_000, "1~min 5~s"),
            (7_200_000, "2~h"),
            (21 * 86_400_000, "21~d"),
        ] {
            check(&duration(ms), expected);
        }
        assert_eq!(speed(10, 0), None);
        assert_eq!(speed(0, 10), None);
        check(&speed(48, 1_000).unwrap(), "48.0~tok/s");
        check(&speed(12_345, 1_000).unwrap(), "12_345~tok/s");
    }

    #[test]
    fn evidence_is_exact_in_a_table_and_short_in_a_picture() {
        for (milli, exact, short) in [
            (0, "0.000", "0.0"),
            (20_724, "20.724", "20.7"),
            (-99, "−0.099", "0.0"),
            (-1_234_567, "−1_234.567", "−1_234.5"),
            (i64::MIN, "−9_223_372_036_854_775.808", "−9_223_372_036_854_775.8"),
        ] {
            check(&nats(MilliNats(milli)), exact);
            check(&nats_short(MilliNats(milli)), short);
        }
    }

    #[test]
    fn dates_of_leap_years_and_centuries() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_794_974_400, "2026-11-18T04:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Utc::of(TimeMs(seconds * 1_000)).iso(), expected);
        }
        // The largest time that can be written does not overflow.
        assert!(!Utc::of(TimeMs(u64::MAX)).long().is_empty());
    }

    #[test]
    fn ids_are_cut_in_the_middle() {
        check(&short("watt1qqqqqqqqqqqqqqqqqqqqqqqqqxyz"), "watt1qqqqq…qxyz");
        check(&short("short"), "short");
        check(&short("ööööööööööö"), "ööööö…öö");
    }
}
