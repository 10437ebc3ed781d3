//! A small network in which something of everything has happened, and one transaction of each kind
//! that fits it. Signatures are zeros: what is fuzzed lies behind them.

use std::sync::LazyLock;

use ::ledger::{BlockInfo, BlockOutcome, State, TxOutcome};
use types::{
    Address, ChainId, ChannelId, Hash32, Lane, ModelId, Nonce, Nusd, Ppm, PublicKey, Signature,
    TimeMs, Watt,
    audit::{
        self, AuditOutcome, Backend, Calibration, CommitmentId, Identified, MilliNats,
        ReceiptsCommitment, ReplayCounts, Responses, Verdict, Worth,
    },
    channel::{ChannelTerms, Voucher},
    consensus::{ConsensusVote, VoteKind},
    genesis::{Bucket, Genesis, GenesisAccount, GenesisValidator, GenesisVesting},
    params::Params,
    price::Price,
    receipt::{ServiceReport, report_hash},
    sign::{Signed, VerifySignature},
    stake::{CommissionTerms, Evidence, OperatorId, Role, price_commitment},
    state::ProviderProfile,
    tx::{Action, CreditPurchase, SignedTx, Tx, VoucherClaim},
};

use crate::statements;

/// A test double: a fuzzer cannot make signatures, and what lies behind them is to be reached.
pub(crate) struct AcceptAll;

impl VerifySignature for AcceptAll {
    fn verify(&self, _: &PublicKey, _: &[u8], _: &Signature) -> bool {
        true
    }
}

pub(crate) const BLOCK_MS: u64 = 1_000;
const GENESIS_MS: u64 = 1_700_000_000_000;
const DAY_MS: u64 = 86_400_000;

/// Accounts of the network by their keys: two validators, a payer, a provider and somebody else.
pub(crate) const KEYS: [PublicKey; 5] =
    [PublicKey([1; 32]), PublicKey([2; 32]), PAYER, PROVIDER, PublicKey([5; 32])];
pub(crate) const PAYER: PublicKey = PublicKey([3; 32]);
pub(crate) const PROVIDER: PublicKey = PublicKey([4; 32]);
pub(crate) const VALIDATORS: [PublicKey; 2] = [KEYS[0], KEYS[1]];

pub(crate) fn address(key: PublicKey) -> Address {
    Address::of_key(&key)
}

/// As if signed.
pub(crate) fn signed<T>(value: T, signer: PublicKey) -> Signed<T> {
    Signed { value, signer, signature: Signature([0; 64]) }
}

fn ppm(ppm: u32) -> Ppm {
    Ppm::new(ppm).unwrap_or_default()
}

pub(crate) static GENESIS: LazyLock<Genesis> = LazyLock::new(|| Genesis {
    chain_id: "fuzz".parse().expect("a chain id"),
    time: TimeMs(GENESIS_MS),
    params: Params::standard(),
    nusd_per_watt: Nusd(50_000_000),
    accounts: KEYS
        .map(|key| GenesisAccount { address: address(key), balance: Watt::whole(1_000_000) })
        .to_vec(),
    vesting: vec![GenesisVesting {
        bucket: Bucket::Team,
        beneficiary: Some(address(KEYS[4])),
        total: Watt::whole(1_000),
        start: TimeMs(GENESIS_MS),
        cliff: TimeMs(GENESIS_MS),
        end: TimeMs(GENESIS_MS + 100 * DAY_MS),
    }],
    validators: VALIDATORS
        .map(|key| GenesisValidator {
            consensus_key: key,
            operator: address(key),
            moniker: "seat".to_owned(),
            stake: Watt::whole(20_000),
            commission: CommissionTerms {
                rate: ppm(50_000),
                rate_max: ppm(200_000),
                change_max: ppm(10_000),
            },
        })
        .to_vec(),
});

/// The state on which transactions are tried.
pub(crate) static STATE: LazyLock<State> = LazyLock::new(|| {
    let mut state = State::from_genesis(&GENESIS).expect("a genesis document");
    for (signer, action) in history() {
        let outcome = execute(&mut state, BLOCK_MS, tx(signer, action)).expect("a block");
        let applied =
            outcome.results.iter().all(|it| matches!(it.outcome, TxOutcome::Applied { .. }));
        assert!(applied, "{:?}", outcome.results);
    }
    state
});

/// Executes one transaction in a block of its own, so much later, with the nonce that it needs, and
/// keeps the block.
pub(crate) fn execute(
    state: &mut State,
    later_ms: u64,
    SignedTx(mut signed): SignedTx,
) -> Option<BlockOutcome> {
    signed.value.nonce = state.account(&address(signed.signer)).nonce;
    let tx = SignedTx(signed).verify(&AcceptAll).ok()?;
    let block = BlockInfo {
        height: state.height().next(),
        time: state.time().plus_ms(later_ms),
        absent: &[],
    };
    let outcome = state.execute_block(block, &[tx]).ok()?;
    state.commit();
    Some(outcome)
}

pub(crate) fn chain_id() -> &'static ChainId {
    &GENESIS.chain_id
}

pub(crate) fn tx(signer: PublicKey, action: Action) -> SignedTx {
    let (chain_id, fee_max) = (chain_id().clone(), Watt::whole(1));
    let value =
        Tx { chain_id, nonce: Nonce(0), fee_max, tip: Watt::ZERO, valid_until: None, action };
    SignedTx(signed(value, signer))
}

fn terms(salt: u64) -> ChannelTerms {
    ChannelTerms {
        payer: address(PAYER),
        payer_key: PAYER,
        receiver: address(PROVIDER),
        salt,
        withdraw_delay_ms: 3_600_000,
    }
}

pub(crate) fn channel() -> ChannelId {
    terms(0).id(chain_id())
}

fn claim(total: u128) -> VoucherClaim {
    let voucher = Voucher { channel: channel(), lane: Lane(1), sequence: 1, total: Nusd(total) };
    VoucherClaim { voucher: signed(voucher, PAYER), total: Nusd(total) }
}

fn registration(bond: Watt) -> Action {
    let price = Price {
        request_nusd: Nusd(1),
        prompt_nusd_per_mtok: Nusd(2),
        completion_nusd_per_mtok: Nusd(3),
    };
    let profile = ProviderProfile {
        moniker: "desk".to_owned(),
        region: "eu".to_owned(),
        class: "cpu".to_owned(),
        models: vec![ModelId([1; 32]), ModelId([2; 32])],
        price_max: Some(price),
    };
    let commission = Some(CommissionTerms::ALL);
    Action::RegisterProvider { node_key: PublicKey([40; 32]), profile, commission, bond }
}

/// What has happened before the fuzzer's transaction.
fn history() -> Vec<(PublicKey, Action)> {
    let validator = |at: usize| OperatorId::validator(address(VALIDATORS[at]));
    let whole = Watt::whole;
    vec![
        (PROVIDER, registration(whole(500))),
        (PAYER, Action::BuyCredits(CreditPurchase::Pay { watt: whole(1_000) })),
        (PAYER, Action::OpenChannel { terms: terms(0), deposit: Nusd::whole(20) }),
        (PROVIDER, Action::RedeemVouchers { claims: vec![claim(1_000_000_000)] }),
        (KEYS[4], Action::Delegate { operator: validator(0), amount: whole(700) }),
        (KEYS[4], Action::Undelegate { operator: validator(0), amount: whole(100) }),
        (KEYS[4], Action::Redelegate { from: validator(0), to: validator(1), amount: whole(200) }),
        (PAYER, Action::RefundCredits { credits: Nusd::whole(1) }),
        (PROVIDER, commit_receipts()),
    ]
}

/// One transaction of every kind.
pub(crate) fn actions() -> Vec<(PublicKey, Action)> {
    let (channel, whole, other) = (channel(), Watt::whole, KEYS[4]);
    let validator = OperatorId::validator(address(VALIDATORS[0]));
    let provider = OperatorId::provider(address(PROVIDER));
    let price = Nusd(60_000_000);
    let salt = Hash32([7; 32]);
    let commit = |block| {
        signed(
            ConsensusVote {
                kind: VoteKind::Precommit,
                height: types::Height(3),
                round: 0,
                block: Some(block),
            },
            VALIDATORS[0],
        )
    };
    let evidence =
        Evidence::DoubleVote { first: commit(Hash32([1; 32])), second: commit(Hash32([2; 32])) };
    let double_claim = Evidence::DoubleClaim {
        first: Box::new(signed(statements::report(5), PROVIDER)),
        second: Box::new(signed(statements::report(6), PROVIDER)),
    };
    let commission =
        CommissionTerms { rate: ppm(10_000), rate_max: ppm(50_000), change_max: ppm(5_000) };
    let mut actions = history();
    actions.extend([
        (other, Action::Transfer { to: address(PAYER), amount: whole(1) }),
        (
            PAYER,
            Action::BuyCredits(CreditPurchase::Receive {
                credits: Nusd::whole(1),
                watt_max: whole(30),
            }),
        ),
        (other, registration(Watt::ZERO)),
        (PROVIDER, Action::UnbondProvider),
        (PROVIDER, Action::Heartbeat),
        (
            PAYER,
            Action::RegisterGateway {
                node_key: PublicKey([41; 32]),
                moniker: "door".to_owned(),
                addrs: vec!["127.0.0.1:4433".to_owned()],
            },
        ),
        (PAYER, Action::OpenChannel { terms: terms(1), deposit: Nusd::whole(1) }),
        (PAYER, Action::TopUpChannel { channel, amount: Nusd::whole(1) }),
        (PROVIDER, Action::RedeemVouchers { claims: vec![claim(1), claim(2_000_000_000)] }),
        (PROVIDER, Action::ReturnDeposit { channel, amount: Nusd::whole(1) }),
        (PAYER, Action::RequestWithdraw { channel }),
        (PAYER, Action::FinalizeWithdraw { channel }),
        (PROVIDER, Action::CloseChannel { channel }),
        (
            other,
            Action::RegisterValidator {
                consensus_key: PublicKey([42; 32]),
                moniker: "third".to_owned(),
                commission,
                stake: whole(30_000),
            },
        ),
        (VALIDATORS[0], Action::SetCommission { role: Role::Validator, rate: ppm(60_000) }),
        (other, Action::Delegate { operator: provider, amount: whole(5) }),
        (other, Action::WithdrawRewards { operator: validator }),
        (VALIDATORS[0], Action::WithdrawCommission { role: Role::Validator }),
        (VALIDATORS[0], Action::Unjail { role: Role::Validator }),
        (other, Action::SubmitEvidence { evidence }),
        (other, Action::SubmitEvidence { evidence: double_claim }),
        (VALIDATORS[0], commit_price(salt, price)),
        (VALIDATORS[0], Action::RevealPrice { nusd_per_watt: price, salt }),
        (other, Action::ClaimVested { bucket: Bucket::Team }),
        (PROVIDER, commit_receipts()),
        (VALIDATORS[0], Action::CommitVerdict { commitment: round(), hash: salt }),
        (VALIDATORS[0], reveal_verdict(salt)),
        (
            VALIDATORS[0],
            Action::PublishCalibration {
                model: ModelId([1; 32]),
                backend: Backend::CpuX86,
                calibration: Calibration {
                    l1: ppm(70_000),
                    l2: ppm(21_000),
                    projections: None,
                    tokens: 9,
                },
            },
        ),
    ]);
    actions.push((VALIDATORS[0], register_auditor("127.0.0.1:4434")));
    actions.push((PROVIDER, Action::Appeal { commitment: round() }));
    let canary = Action::ReportCanary { provider: address(PROVIDER), verdict: Box::new(verdict()) };
    actions.push((VALIDATORS[0], canary));
    actions.push((PAYER, demand_audit()));
    actions.push((PROVIDER, Action::RevealPlanted { commitment: round(), salt: SALT }));
    actions
}

fn demand_audit() -> Action {
    let report = ServiceReport {
        profile: "np1".to_owned(),
        ended_at: TimeMs(u64::MAX),
        ..statements::report(5)
    };
    let report = signed(report, PROVIDER);
    let acknowledgement = statements::acknowledgement(5, Some(report_hash(&report)));
    let acknowledgement = Box::new(signed(acknowledgement, PAYER));
    Action::DemandAudit { report: Box::new(report), acknowledgement }
}

pub(crate) fn register_auditor(addr: &str) -> Action {
    Action::RegisterAuditor { node_key: PublicKey([43; 32]), addrs: vec![addr.to_owned()] }
}

/// Seals what the provider commits to.
const SALT: Hash32 = Hash32([6; 32]);

/// What the provider commits to in its second transaction of the history.
pub(crate) fn round() -> CommitmentId {
    CommitmentId { provider: address(PROVIDER), sequence: 2 }
}

fn commit_receipts() -> Action {
    let receipts = [Hash32([1; 32]), Hash32([2; 32])];
    let receipts = ReceiptsCommitment::of(ModelId([1; 32]), &receipts);
    let receipts = receipts.expect("two receipts");
    Action::CommitReceipts { receipts, seal: audit::seal(&SALT, true) }
}

fn verdict() -> Verdict {
    let evidence = audit::Evidence {
        model: ModelId([1; 32]),
        backend: Backend::CpuX86,
        responses: Responses::of([Hash32([1; 32])]).expect("one response"),
        tokens: 60,
        replay: ReplayCounts { matched: 60, ..ReplayCounts::default() },
        l1: Some(MilliNats(-100)),
        l2: None,
        projections: None,
        identified: Some(Identified {
            model: ModelId([3; 32]),
            worth: Worth::Cheaper,
            ratio: MilliNats(20_000),
        }),
    };
    Verdict { outcome: AuditOutcome::Pass, evidence: Some(evidence) }
}

fn reveal_verdict(salt: Hash32) -> Action {
    Action::RevealVerdict { commitment: round(), verdict: Box::new(verdict()), salt }
}

fn commit_price(salt: Hash32, price: Nusd) -> Action {
    let voter = address(VALIDATORS[0]);
    Action::CommitPrice { commitment: price_commitment(chain_id(), &voter, &salt.0, price) }
}
