//! See the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    peerwatt_cli::whole()
}
