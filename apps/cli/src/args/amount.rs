//! Amounts, shares and tags on the command line: decimal numbers of whole units, never base units.

use types::{Address, Nusd, Ppm, Watt, limits::PROFILE_TAG_BYTES_MAX};

/// `0.10` as USD.
pub(super) fn parse_usd(text: &str) -> Result<Nusd, String> {
    Nusd::from_decimal(text).ok_or_else(|| expected("USD"))
}

/// `12.5` as WATT.
pub(super) fn parse_watt(text: &str) -> Result<Watt, String> {
    Watt::from_decimal(text).ok_or_else(|| expected("WATT"))
}

/// `12.5` as per cent.
pub(super) fn parse_percent(text: &str) -> Result<Ppm, String> {
    /// Of the nine decimal places that are read, a share has four: a ten-thousandth of a per cent.
    const STEP: u128 = 100_000;
    let share = Nusd::from_decimal(text).filter(|read| read.0 % STEP == 0);
    let ppm = share.and_then(|read| u32::try_from(read.0 / STEP).ok());
    ppm.and_then(Ppm::new)
        .ok_or_else(|| "0 to 100 per cent with up to 4 decimal places, such as 12.5".to_owned())
}

/// `watt1…=1000` as an account and WATT.
pub(super) fn parse_grant(text: &str) -> Result<(Address, Watt), String> {
    let (address, amount) = text.split_once('=').ok_or("write ADDRESS=WATT")?;
    let address = address.parse().map_err(|error| format!("{error}"))?;
    Ok((address, parse_watt(amount)?))
}

/// A provider's region or class: what the ledger takes.
pub(super) fn parse_tag(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.len() <= PROFILE_TAG_BYTES_MAX && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err(format!("up to {PROFILE_TAG_BYTES_MAX} lowercase letters, digits and hyphens"))
}

fn expected(unit: &str) -> String {
    format!("a number of {unit} with up to 9 decimal places, such as 0.25")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn per_cents_are_exact_or_refused() {
        let check = |text: &str, ppm: Option<u32>| {
            assert_eq!(parse_percent(text).ok().map(Ppm::get), ppm, "{text}");
        };
        check("0", Some(0));
        check("12.5", Some(125_000));
        check("0.0001", Some(1));
        check("100", Some(1_000_000));
        check("0.00001", None);
        check("100.0001", None);
        check("-1", None);
        check("10%", None);
    }

    #[test]
    fn tags_are_those_that_the_ledger_takes() {
        for (text, taken) in
            [("", true), ("eu-west", true), ("rtx-4090", true), ("EU", false), ("a b", false)]
        {
            assert_eq!(parse_tag(text).is_ok(), taken, "{text}");
        }
        assert!(parse_tag(&"a".repeat(PROFILE_TAG_BYTES_MAX + 1)).is_err());
    }
}
