//! Serves the pages over fixed values, to look at them without a network:
//! `cargo run -p web --example preview -- [busy|empty|broken|enforced]`, then open the address it logs.

#[path = "../tests/web/fixture.rs"]
mod fixture;

use std::{error::Error, io::Write, sync::Arc};

use web::HostPolicy;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut source = match std::env::args().nth(1).as_deref() {
        None | Some("busy" | "broken") => fixture::busy(),
        Some("empty") => fixture::empty(),
        Some("enforced") => fixture::audits::enforced(),
        Some(other) => {
            return Err(format!("`{other}` is none of busy, empty, broken, enforced").into());
        }
    };
    if std::env::args().nth(1).as_deref() == Some("broken") {
        source.ledger = None;
        source.account.problem =
            Some("the chain API at http://127.0.0.1:8401 does not answer".into());
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    writeln!(std::io::stdout(), "http://{address}/")?;
    axum::serve(listener, web::router(Arc::new(source), HostPolicy::of_listener(address))).await?;
    Ok(())
}
