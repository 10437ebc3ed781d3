//! Amounts of money on the command line: decimal numbers of whole units.

use types::{Address, Nusd, Watt};

/// `0.10` as USD.
pub(super) fn parse_usd(text: &str) -> Result<Nusd, String> {
    Nusd::from_decimal(text).ok_or_else(|| expected("USD"))
}

/// `12.5` as WATT.
pub(super) fn parse_watt(text: &str) -> Result<Watt, String> {
    Watt::from_decimal(text).ok_or_else(|| expected("WATT"))
}

/// `watt1…=1000` as an account and WATT.
pub(super) fn parse_grant(text: &str) -> Result<(Address, Watt), String> {
    let (address, amount) = text.split_once('=').ok_or("write ADDRESS=WATT")?;
    let address = address.parse().map_err(|error| format!("{error}"))?;
    Ok((address, parse_watt(amount)?))
}

fn expected(unit: &str) -> String {
    format!("a number of {unit} with up to 9 decimal places, such as 0.25")
}
