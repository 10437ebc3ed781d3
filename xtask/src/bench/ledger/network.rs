//! A ledger to be measured, with as many accounts as asked for, and transactions of those accounts.
//!
//! Keys follow from the account's number, so the measuring side holds nothing per account and the
//! resident memory of the process is that of the ledger. Signatures are zeros, accepted unseen:
//! what they cost is measured elsewhere ([`super::signed`]), with real ones.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};
use ledger::{BlockInfo, State, TxOutcome};
use types::{
    Address, ChainId, ChannelId, Lane, Nonce, Nusd, Ppm, PublicKey, Signature, TimeMs, Watt,
    channel::{ChannelTerms, Voucher},
    genesis::{Genesis, GenesisAccount, GenesisValidator},
    params::Params,
    sign::{Signed, VerifySignature},
    stake::{CommissionTerms, OperatorId},
    state::ProviderProfile,
    tx::{Action, CreditPurchase, SignedTx, Tx, VerifiedTx, VoucherClaim},
};

use super::clock::Stopwatch;

/// Between two blocks.
pub(super) const BLOCK_MS: u64 = 1_000;
/// A claim is settled so many blocks later. In production a day; here short, so that what is
/// measured includes settlements.
pub(super) const HOLDBACK_BLOCKS: u64 = 5;
/// As many as the parameters allow by default: rewards are divided among them in every block.
pub(super) const VALIDATORS: usize = 100;
/// One million of these is half of the largest supply.
const BALANCE: Watt = Watt::whole(500);
/// Half a WATT: more than any transaction here costs.
const FEE_MAX: Watt = Watt(500_000_000);

/// The state and who acts on it.
pub(super) struct Network {
    pub(super) state: State,
    chain_id: ChainId,
    /// Transactions made for the block that is being filled, by account.
    waiting: BTreeMap<Address, u64>,
}

/// A test double, for measuring everything but signatures.
pub(super) struct AcceptAll;

impl VerifySignature for AcceptAll {
    fn verify(&self, _: &PublicKey, _: &[u8], _: &Signature) -> bool {
        true
    }
}

/// The key of the account with this number. Nobody has its secret half.
pub(super) fn key(number: usize) -> PublicKey {
    numbered_key(1, number)
}

fn numbered_key(kind: u8, number: usize) -> PublicKey {
    let mut bytes = [kind; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    PublicKey(bytes)
}

pub(super) fn address(number: usize) -> Address {
    Address::of_key(&key(number))
}

/// The validator with this number.
pub(super) fn validator(number: usize) -> OperatorId {
    OperatorId::validator(Address::of_key(&numbered_key(2, number)))
}

/// The genesis of a network whose accounts have these keys.
pub(super) fn genesis(
    keys: impl Iterator<Item = PublicKey>,
    validators: usize,
) -> anyhow::Result<Genesis> {
    let mut params = Params::standard();
    params.channels.holdback_ms = HOLDBACK_BLOCKS * BLOCK_MS;
    let commission = CommissionTerms {
        rate: Ppm::new(50_000).context("a rate")?,
        rate_max: Ppm::new(200_000).context("a rate")?,
        change_max: Ppm::new(10_000).context("a rate")?,
    };
    let validators = (0..validators).map(|number| GenesisValidator {
        consensus_key: numbered_key(3, number),
        operator: validator(number).account,
        moniker: format!("validator {number}"),
        stake: Watt::whole(20_000 + number as u64),
        commission,
    });
    let account = |key| GenesisAccount { address: Address::of_key(&key), balance: BALANCE };
    Ok(Genesis {
        chain_id: "peerwatt-bench".parse()?,
        time: TimeMs(1_700_000_000_000),
        params,
        nusd_per_watt: Nusd(50_000_000),
        accounts: keys.map(account).collect(),
        vesting: Vec::new(),
        validators: validators.collect(),
    })
}

/// Executes and keeps the next block. Every transaction of it must be applied.
pub(super) fn run_block(state: &mut State, txs: &[VerifiedTx]) -> anyhow::Result<Duration> {
    let height = state.height().next();
    let block = BlockInfo { height, time: state.time().plus_ms(BLOCK_MS), absent: &[] };
    let started = Stopwatch::start();
    let outcome = state.execute_block(block, txs).context("execute a block")?;
    state.commit();
    let took = started.elapsed();
    for result in &outcome.results {
        let applied = matches!(result.outcome, TxOutcome::Applied { .. });
        ensure!(applied, "a transaction of block {height} was not applied: {:?}", result.outcome);
    }
    Ok(took)
}

impl Network {
    pub(super) fn new(accounts: usize, validators: usize) -> anyhow::Result<Network> {
        let genesis = genesis((0..accounts).map(key), validators)?;
        let state = State::from_genesis(&genesis).context("make the first state")?;
        Ok(Network { state, chain_id: genesis.chain_id, waiting: BTreeMap::new() })
    }

    /// The next transaction of an account.
    pub(super) fn tx(&mut self, number: usize, action: Action) -> anyhow::Result<VerifiedTx> {
        let signer = key(number);
        let sender = Address::of_key(&signer);
        let waiting = self.waiting.entry(sender).or_insert(0);
        let nonce = Nonce(self.state.account(&sender).nonce.0 + *waiting);
        *waiting += 1;
        let value = Tx {
            chain_id: self.chain_id.clone(),
            nonce,
            fee_max: FEE_MAX,
            tip: Watt::ZERO,
            valid_until: None,
            action,
        };
        let signed = SignedTx(Signed { value, signer, signature: Signature([0; 64]) });
        signed.verify(&AcceptAll).context("make a transaction")
    }

    /// Executes and keeps a block of the transactions made since the last one.
    pub(super) fn run(&mut self, txs: &[VerifiedTx]) -> anyhow::Result<Duration> {
        self.waiting.clear();
        run_block(&mut self.state, txs)
    }

    /// The terms of the first channel from one account to another.
    fn terms(&self, payer: usize, provider: usize) -> ChannelTerms {
        ChannelTerms {
            payer: address(payer),
            payer_key: key(payer),
            receiver: address(provider),
            salt: 0,
            withdraw_delay_ms: self.state.params().channels.withdraw_delay_ms_min,
        }
    }

    pub(super) fn channel(&self, payer: usize, provider: usize) -> ChannelId {
        self.terms(payer, provider).id(&self.chain_id)
    }

    /// A claim of everything that a voucher of this total promises.
    pub(super) fn claim(
        &self,
        payer: usize,
        provider: usize,
        lane: u32,
        total: Nusd,
    ) -> VoucherClaim {
        let channel = self.channel(payer, provider);
        let value = Voucher { channel, lane: Lane(lane), sequence: 1, total };
        let voucher = Signed { value, signer: key(payer), signature: Signature([0; 64]) };
        VoucherClaim { voucher, total }
    }

    pub(super) fn transfer(&mut self, from: usize, to: usize) -> anyhow::Result<VerifiedTx> {
        self.tx(from, Action::Transfer { to: address(to), amount: Watt(1_000) })
    }

    pub(super) fn purchase(&mut self, buyer: usize, watt: Watt) -> anyhow::Result<VerifiedTx> {
        self.tx(buyer, Action::BuyCredits(CreditPurchase::Pay { watt }))
    }

    pub(super) fn registration(&mut self, provider: usize) -> anyhow::Result<VerifiedTx> {
        let profile = ProviderProfile {
            moniker: format!("provider {provider}"),
            region: "eu-west".to_owned(),
            class: "cpu".to_owned(),
            models: Vec::new(),
            price_max: None,
        };
        let (node_key, bond) = (numbered_key(4, provider), Watt::whole(200));
        let commission = None;
        self.tx(provider, Action::RegisterProvider { node_key, profile, commission, bond })
    }

    pub(super) fn opening(&mut self, payer: usize, provider: usize) -> anyhow::Result<VerifiedTx> {
        let terms = self.terms(payer, provider);
        self.tx(payer, Action::OpenChannel { terms, deposit: Nusd(100_000_000) })
    }
}

/// Numbers that look random and are the same in every run (SplitMix64).
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    /// Below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    }
}
