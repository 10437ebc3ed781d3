//! A gateway, and nothing that it does not need: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    peerwatt_cli::gateway_alone()
}
