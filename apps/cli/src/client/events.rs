//! `peerwatt events`: what happened on the ledger, in order, and what happens.

use std::time::Duration;

use futures::{StreamExt, pin_mut};
use types::Height;
use wire::chain::{ChainError, EventPage, EventView, HttpChain};

use super::actor::{connect, describe};
use crate::{
    args::{Common, EventsArgs},
    home::Home,
    output::{Output, utc},
};

/// Events that are asked for at once.
const PAGE_EVENTS: u64 = 1_000;
/// Between two attempts to take up a stream that broke off.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) async fn run(common: Common, args: EventsArgs, output: Output) -> anyhow::Result<()> {
    let chain = connect(&Home::open(&common)?, &args.at)?;
    let show = Show { kind: args.kind, output };
    match (args.follow, args.from) {
        (true, from) => follow(&chain, from, &show).await,
        (false, from) => past(&chain, from.unwrap_or(Height(1)), &show).await,
    }
}

/// What is printed, and how.
struct Show {
    kind: String,
    output: Output,
}

impl Show {
    fn page(&self, page: &EventPage) -> anyhow::Result<()> {
        let wanted = |view: &&EventView| view.event.kind.starts_with(&self.kind);
        for view in page.events.iter().filter(wanted) {
            let EventView { height, time, tx: _, event } = view;
            let text = format!("{height:>8}  {}  {}", utc(*time), describe(event));
            self.output.result(view, text)?;
        }
        Ok(())
    }
}

/// Everything up to the newest block.
async fn past(chain: &HttpChain, from: Height, show: &Show) -> anyhow::Result<()> {
    let mut from = from;
    loop {
        let page = chain.events(from, PAGE_EVENTS).await?;
        show.page(&page)?;
        if page.next_height <= from {
            return Ok(());
        }
        from = page.next_height;
    }
}

/// As it happens, without a gap when the connection breaks off. Ends only with an error that asking
/// again does not cure.
async fn follow(chain: &HttpChain, from: Option<Height>, show: &Show) -> anyhow::Result<()> {
    let mut from = from;
    loop {
        match stream(chain, &mut from, show).await {
            Ok(()) => {}
            Err(Broken::Chain(error)) if error.leaves_outcome_open() => {
                show.output.progress(format_args!("{error}; trying again"));
            }
            Err(Broken::Chain(error)) => return Err(error.into()),
            Err(Broken::Output(error)) => return Err(error),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Why following stopped.
enum Broken {
    Chain(ChainError),
    Output(anyhow::Error),
}

/// One connection; `from` is where the next one goes on.
async fn stream(chain: &HttpChain, from: &mut Option<Height>, show: &Show) -> Result<(), Broken> {
    let pages = chain.follow_events(*from).await.map_err(Broken::Chain)?;
    pin_mut!(pages);
    while let Some(page) = pages.next().await {
        let page = page.map_err(Broken::Chain)?;
        show.page(&page).map_err(Broken::Output)?;
        *from = Some(page.next_height);
    }
    Ok(())
}
