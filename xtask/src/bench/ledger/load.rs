//! What the ledger is loaded with: redemptions, a large state with mixed blocks, and transfers on
//! states of growing size. All without signatures.

use std::time::Duration;

use anyhow::ensure;
use types::{
    Nusd, Watt,
    limits::{LANES_MAX, VOUCHERS_PER_REDEEM_MAX},
    tx::{Action, VerifiedTx},
};

use super::{
    Sizes,
    network::{self, HOLDBACK_BLOCKS, Network, Numbers, VALIDATORS},
};
use crate::bench::process;

/// Each claim adds this to its lane.
const CLAIM: Nusd = Nusd(1_000);
/// Vouchers in one redemption of a mixed block: the lanes of one channel that were in use.
pub(super) const CLAIMS_MIXED: u32 = 10;
/// Channels of one payer in the large state.
const CHANNELS_PER_PAYER: usize = 10;

/// Blocks of one transfer for each block of many: they are short.
const ALONE_PER_ROUND: usize = 200;

/// Times of one redemption, by how its vouchers are spread.
pub(super) struct Redemption {
    pub(super) channels: usize,
    pub(super) vouchers: usize,
    /// Of the block with the redemption in it.
    pub(super) redeemed: Vec<Duration>,
    /// Of the block that settles it.
    pub(super) settled: Vec<Duration>,
}

/// A large state, and mixed blocks on it.
pub(super) struct Large {
    pub(super) accounts: usize,
    pub(super) channels: usize,
    pub(super) block_txs: usize,
    pub(super) blocks: Vec<Duration>,
    /// Of this process, with the state in it.
    pub(super) resident_kib: u64,
}

/// Transfers on a state with so many accounts.
pub(super) struct Growth {
    pub(super) accounts: usize,
    /// Blocks of one transfer.
    pub(super) alone: Vec<Duration>,
    /// Blocks of as many as in a mixed one, of which there are so many.
    pub(super) together: Vec<Duration>,
    pub(super) block_txs: usize,
}

/// One provider redeems vouchers of all its channels at once, some lanes of each.
pub(super) fn redemption(sizes: &Sizes, channels: usize) -> anyhow::Result<Redemption> {
    let lanes = u32::try_from(sizes.vouchers / channels)?;
    ensure!(lanes <= LANES_MAX && sizes.vouchers <= VOUCHERS_PER_REDEEM_MAX, "too many vouchers");
    eprintln!("redemptions: {channels} channels of {lanes} lanes");
    let mut network = Network::new(sizes.signers.max(channels + 1), VALIDATORS)?;
    let (provider, payers) = (channels, 0..channels);
    open_channels(&mut network, payers.clone(), &[provider])?;
    let (mut redeemed, mut settled) = (Vec::new(), Vec::new());
    for round in 0..=sizes.rounds as u128 {
        let total = Nusd(CLAIM.0 * (round + 1));
        let claim = |(payer, lane)| network.claim(payer, provider, lane, total);
        let places = payers.clone().flat_map(|payer| (0..lanes).map(move |lane| (payer, lane)));
        let claims = places.map(claim).collect();
        let tx = network.tx(provider, Action::RedeemVouchers { claims })?;
        redeemed.push(network.run(&[tx])?);
        for _ in 1..HOLDBACK_BLOCKS {
            network.run(&[])?;
        }
        settled.push(network.run(&[])?);
    }
    // Lanes come into being in the first round; later ones find them.
    let vouchers = channels * lanes as usize;
    Ok(Redemption { channels, vouchers, redeemed, settled })
}

/// Makes `providers` providers, lets every payer buy credits and open a channel to each.
fn open_channels(
    network: &mut Network,
    payers: std::ops::Range<usize>,
    providers: &[usize],
) -> anyhow::Result<()> {
    let registrations = providers.iter().map(|it| network.registration(*it));
    let registrations: Vec<VerifiedTx> = registrations.collect::<anyhow::Result<_>>()?;
    network.run(&registrations)?;
    let all: Vec<usize> = payers.collect();
    for payers in all.chunks(1_000) {
        let purchases = payers.iter().map(|payer| network.purchase(*payer, Watt::whole(100)));
        let purchases: Vec<VerifiedTx> = purchases.collect::<anyhow::Result<_>>()?;
        network.run(&purchases)?;
        for provider in providers {
            let openings = payers.iter().map(|payer| network.opening(*payer, *provider));
            let openings: Vec<VerifiedTx> = openings.collect::<anyhow::Result<_>>()?;
            network.run(&openings)?;
        }
    }
    Ok(())
}

/// The large state: every payer has a channel to each of ten providers.
pub(super) fn large(sizes: &Sizes) -> anyhow::Result<Large> {
    eprintln!("a large state: {} accounts, {} channels", sizes.accounts, sizes.channels);
    let payers = sizes.channels / CHANNELS_PER_PAYER;
    let mut mix = Mix { sizes, payers, numbers: Numbers(2), claimed: 0, opened: 0 };
    let mut network = Network::new(sizes.accounts, VALIDATORS)?;
    // Payers in groups, each with ten providers of its own.
    let groups = payers.div_ceil(mix.group());
    for group in 0..groups {
        let first = group * mix.group();
        let providers: Vec<usize> =
            (0..CHANNELS_PER_PAYER).map(|nth| mix.provider(first, nth)).collect();
        open_channels(&mut network, first..payers.min(first + mix.group()), &providers)?;
    }
    let channels = network.state.channels().count();
    ensure!(channels == sizes.channels, "{channels} channels were opened");
    let mut blocks = Vec::new();
    // The first blocks fill the queue of settlements; from then on each block settles one.
    for _ in 0..HOLDBACK_BLOCKS as usize + sizes.rounds {
        let txs = mix.block(&mut network)?;
        blocks.push(network.run(&txs)?);
    }
    let blocks = blocks.split_off(HOLDBACK_BLOCKS as usize);
    let resident_kib = process::memory_kib(&[std::process::id()]);
    let (accounts, block_txs) = (sizes.accounts, sizes.mixed_txs);
    Ok(Large { accounts, channels, block_txs, blocks, resident_kib })
}

/// Who does what in a mixed block.
struct Mix<'a> {
    sizes: &'a Sizes,
    payers: usize,
    numbers: Numbers,
    /// Redemptions and openings so far.
    claimed: usize,
    opened: usize,
}

impl Mix<'_> {
    /// Payers that share their providers.
    fn group(&self) -> usize {
        self.payers.div_ceil(100)
    }

    /// The `nth` provider of a payer's group.
    fn provider(&self, payer: usize, nth: usize) -> usize {
        self.payers + payer / self.group() * CHANNELS_PER_PAYER + nth
    }

    /// Transfers, purchases, redemptions, openings and delegations, as many of each.
    fn block(&mut self, network: &mut Network) -> anyhow::Result<Vec<VerifiedTx>> {
        let accounts = self.sizes.accounts;
        let mut txs = Vec::new();
        for _ in 0..self.sizes.mixed_txs / 5 {
            let mut anybody = || self.numbers.below(accounts);
            let (from, to, buyer, delegator) = (anybody(), anybody(), anybody(), anybody());
            txs.push(network.transfer(from, to)?);
            txs.push(network.purchase(buyer, Watt::whole(1))?);
            let operator = network::validator(self.numbers.below(VALIDATORS));
            txs.push(network.tx(delegator, Action::Delegate { operator, amount: Watt::whole(1) })?);
            txs.push(self.redemption(network)?);
            // To the first provider of the next group, to which this payer has none.
            let payer = self.opened % self.payers;
            let next = (payer + self.group()) % self.payers;
            let provider = self.provider(next, self.opened / self.payers);
            self.opened += 1;
            txs.push(network.opening(payer, provider)?);
        }
        Ok(txs)
    }

    fn redemption(&mut self, network: &mut Network) -> anyhow::Result<VerifiedTx> {
        // A stride that has no factor in common with the number of payers visits all of them.
        let (payer, round) = (self.claimed * 7 % self.payers, self.claimed / self.payers);
        self.claimed += 1;
        let provider = self.provider(payer, 0);
        let total = Nusd(CLAIM.0 * (round as u128 + 1));
        let claims = (0..CLAIMS_MIXED).map(|lane| network.claim(payer, provider, lane, total));
        let claims = claims.collect();
        network.tx(provider, Action::RedeemVouchers { claims })
    }
}

/// Transfers between random accounts of a state with so many. One validator, so that what a block
/// costs for each seat does not hide what a transfer costs.
pub(super) fn growth(sizes: &Sizes, accounts: usize) -> anyhow::Result<Growth> {
    eprintln!("transfers among {accounts} accounts");
    let mut network = Network::new(accounts, 1)?;
    let mut numbers = Numbers(3);
    let mut measure = |block_txs: usize, rounds: usize| {
        // The first blocks are for the caches.
        let mut blocks = Vec::new();
        for _ in 0..=rounds {
            let mut any = || numbers.below(accounts);
            let pairs: Vec<(usize, usize)> = (0..block_txs).map(|_| (any(), any())).collect();
            let txs = pairs.into_iter().map(|(from, to)| network.transfer(from, to));
            let txs: Vec<VerifiedTx> = txs.collect::<anyhow::Result<_>>()?;
            blocks.push(network.run(&txs)?);
        }
        anyhow::Ok(blocks.split_off(1))
    };
    let together = measure(sizes.mixed_txs, sizes.rounds)?;
    let alone = measure(1, sizes.rounds * ALONE_PER_ROUND)?;
    Ok(Growth { accounts, alone, together, block_txs: sizes.mixed_txs })
}
