//! The canonical bytes of everything that is hashed or signed, as fixtures.
//!
//! A failure here means that the protocol changed: nodes and wallets of before and after no longer
//! understand each other's signatures. Layouts are described in `docs/spec/transactions.md`.

use std::fmt::Debug;

use borsh::{BorshDeserialize, BorshSerialize};
use expect_test::{Expect, expect};
use types::{
    Address, ChannelId, Hash32, Height, Lane, ModelId, Nonce, Nusd, Ppm, PublicKey, RequestId,
    Signature, TimeMs, Watt,
    block::BlockHeader,
    channel::{ChannelTerms, Voucher},
    consensus::{
        Certificate, CommitSignature, ConsensusProposal, ConsensusVote, ValidatorPower,
        ValidatorSet, VoteKind,
    },
    genesis::Bucket,
    hash::to_hex,
    inference::{CountMethod, FinishReason},
    params::Params,
    payment::Payment,
    price::Price,
    receipt::{Acknowledgement, ServiceReport},
    sign::{Signable, Signed, signing_bytes},
    stake::{CommissionTerms, Evidence, OperatorId, Role, price_commitment},
    state::{
        Account, Channel, Gateway, Heartbeats, Operator, Provider, ProviderProfile, RewardIndex,
        Shares, Stage, StateKey,
    },
    tx::{Action, CreditPurchase, SignedTx, Tx, VoucherClaim},
};

/// The bytes must be as expected, read back as the same value, and take no byte more or less.
fn check<T: BorshSerialize + BorshDeserialize + PartialEq + Debug>(value: &T, expected: Expect) {
    let bytes = borsh::to_vec(value).unwrap();
    expected.assert_eq(&to_hex(&bytes));
    assert_eq!(borsh::from_slice::<T>(&bytes).unwrap(), *value);
    assert!(borsh::from_slice::<T>(&bytes[..bytes.len() - 1]).is_err());
    assert!(borsh::from_slice::<T>(&[&bytes[..], &[0]].concat()).is_err());
}

/// What a signature covers.
fn check_signed<T: Signable>(value: &T, expected: Expect) {
    let chain_id = "peerwatt-1".parse().unwrap();
    let bytes = signing_bytes(&chain_id, value);
    let canonical = borsh::to_vec(value).unwrap();
    let frame = bytes.strip_suffix(&canonical[..]).expect("the value stands at the end");
    expected.assert_eq(&to_hex(frame));
}

const ADDRESS: Address = Address([0xa1; 20]);
const OTHER: Address = Address([0xa2; 20]);
const KEY: PublicKey = PublicKey([0xb1; 32]);
const CHANNEL: ChannelId = ChannelId([0xc1; 32]);

fn tx(action: Action) -> Tx {
    Tx {
        chain_id: "peerwatt-1".parse().unwrap(),
        nonce: Nonce(7),
        fee_max: Watt(2_000_000),
        tip: Watt::ZERO,
        valid_until: Some(TimeMs(1_700_000_000_000)),
        action,
    }
}

fn voucher() -> Voucher {
    Voucher { channel: CHANNEL, lane: Lane(3), sequence: 9, total: Nusd(1_234_567) }
}

fn terms() -> ChannelTerms {
    ChannelTerms {
        payer: ADDRESS,
        payer_key: KEY,
        receiver: OTHER,
        salt: 5,
        withdraw_delay_ms: 900_000,
    }
}

fn profile() -> ProviderProfile {
    ProviderProfile {
        moniker: "p".to_owned(),
        region: "eu".to_owned(),
        class: "cpu".to_owned(),
        models: vec![ModelId([0xf1; 32])],
        price_max: Some(price()),
    }
}

fn price() -> Price {
    Price {
        request_nusd: Nusd(10),
        prompt_nusd_per_mtok: Nusd(50_000_000),
        completion_nusd_per_mtok: Nusd(100_000_000),
    }
}

#[test]
fn transactions() {
    check(
        &tx(Action::Transfer { to: OTHER, amount: Watt(1) }),
        expect![
            "0a00000070656572776174742d31070000000000000080841e0000000000000000000000000000000000000000000000000000000000010068e5cf8b01000000a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a201000000000000000000000000000000"
        ],
    );
    check(
        &Tx {
            valid_until: None,
            ..tx(Action::WithdrawRewards { operator: OperatorId::provider(OTHER) })
        },
        expect![
            "0a00000070656572776174742d31070000000000000080841e0000000000000000000000000000000000000000000000000000000000001301a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2"
        ],
    );
    check_signed(
        &tx(Action::UnbondProvider),
        expect!["70656572776174742f7472616e73616374696f6e2f31000a00000070656572776174742d31"],
    );
}

#[test]
fn a_transaction_is_named_by_its_signed_bytes() {
    let value = tx(Action::UnbondProvider);
    let signed = SignedTx(Signed { value, signer: KEY, signature: Signature([0xd1; 64]) });
    expect!["0a00000070656572776174742d31070000000000000080841e0000000000000000000000000000000000000000000000000000000000010068e5cf8b01000004b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1"].assert_eq(&to_hex(&signed.encode()));
    expect!["1b1b39ffef350a9c4dbe732320b4d2b3943ce774ba1b05789c61e2d2856183ce"]
        .assert_eq(&signed.id().to_string());
    assert_eq!(SignedTx::decode(&signed.encode()).unwrap(), signed);
}

#[test]
fn actions() {
    check(
        &Action::Transfer { to: OTHER, amount: Watt(1) },
        expect!["00a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a201000000000000000000000000000000"],
    );
    check(
        &Action::BuyCredits(CreditPurchase::Pay { watt: Watt(2) }),
        expect!["010002000000000000000000000000000000"],
    );
    check(
        &Action::BuyCredits(CreditPurchase::Receive { credits: Nusd(3), watt_max: Watt(4) }),
        expect!["01010300000000000000000000000000000004000000000000000000000000000000"],
    );
    check(
        &Action::RegisterProvider {
            node_key: KEY,
            profile: profile(),
            commission: Some(CommissionTerms::ALL),
            bond: Watt(5),
        },
        expect![
            "03b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b101000000700200000065750300000063707501000000f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1010a00000000000000000000000000000080f0fa0200000000000000000000000000e1f5050000000000000000000000000140420f0040420f001027000005000000000000000000000000000000"
        ],
    );
    check(
        &Action::RefundCredits { credits: Nusd(6) },
        expect!["0206000000000000000000000000000000"],
    );
    check(&Action::UnbondProvider, expect!["04"]);
    check(&Action::Heartbeat, expect!["05"]);
    check(
        &Action::RegisterGateway {
            node_key: KEY,
            moniker: "g".to_owned(),
            addrs: vec!["127.0.0.1:1".to_owned()],
        },
        expect![
            "06b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b10100000067010000000b0000003132372e302e302e313a31"
        ],
    );
    check(
        &Action::OpenChannel { terms: terms(), deposit: Nusd(7) },
        expect![
            "07a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a20500000000000000a0bb0d000000000007000000000000000000000000000000"
        ],
    );
    check(
        &Action::TopUpChannel { channel: CHANNEL, amount: Nusd(8) },
        expect![
            "08c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c108000000000000000000000000000000"
        ],
    );
    let voucher = Signed { value: voucher(), signer: KEY, signature: Signature([0xd1; 64]) };
    check(
        &Action::RedeemVouchers { claims: vec![VoucherClaim { voucher, total: Nusd(9) }] },
        expect![
            "0901000000c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c103000000090000000000000087d61200000000000000000000000000b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d109000000000000000000000000000000"
        ],
    );
    check(
        &Action::RequestWithdraw { channel: CHANNEL },
        expect!["0bc1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1"],
    );
    check(
        &Action::FinalizeWithdraw { channel: CHANNEL },
        expect!["0cc1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1"],
    );
    check(
        &Action::CloseChannel { channel: CHANNEL },
        expect!["0dc1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1"],
    );
    check(
        &Action::ReturnDeposit { channel: CHANNEL, amount: Nusd(8) },
        expect![
            "0ac1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c108000000000000000000000000000000"
        ],
    );
}

#[test]
fn actions_of_stake_and_votes() {
    let operator = OperatorId::validator(ADDRESS);
    let to = OperatorId::provider(OTHER);
    let amount = Watt(9);
    check(
        &Action::RegisterValidator {
            consensus_key: KEY,
            moniker: "v".to_owned(),
            commission: CommissionTerms::ALL,
            stake: amount,
        },
        expect![
            "0eb1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1010000007640420f0040420f001027000009000000000000000000000000000000"
        ],
    );
    let rate = Ppm::new(100_000).unwrap();
    check(&Action::SetCommission { role: Role::Validator, rate }, expect!["0f00a0860100"]);
    check(
        &Action::Delegate { operator, amount },
        expect!["1000a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a109000000000000000000000000000000"],
    );
    check(
        &Action::Undelegate { operator, amount },
        expect!["1100a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a109000000000000000000000000000000"],
    );
    check(
        &Action::Redelegate { from: operator, to, amount },
        expect![
            "1200a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a101a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a209000000000000000000000000000000"
        ],
    );
    check(
        &Action::WithdrawRewards { operator },
        expect!["1300a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"],
    );
    check(&Action::WithdrawCommission { role: Role::Provider }, expect!["1401"]);
    check(&Action::Unjail { role: Role::Validator }, expect!["1500"]);
    let commit = |block| Signed {
        value: ConsensusVote {
            kind: VoteKind::Precommit,
            height: Height(8),
            round: 2,
            block: Some(Hash32([block; 32])),
        },
        signer: KEY,
        signature: Signature([0xd1; 64]),
    };
    let evidence = Evidence::DoubleVote { first: commit(1), second: commit(2) };
    check(
        &Action::SubmitEvidence { evidence },
        expect![
            "160001080000000000000002000000010101010101010101010101010101010101010101010101010101010101010101b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d101080000000000000002000000010202020202020202020202020202020202020202020202020202020202020202b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1"
        ],
    );
    check(
        &Action::CommitPrice { commitment: Hash32([1; 32]) },
        expect!["170101010101010101010101010101010101010101010101010101010101010101"],
    );
    let salt = Hash32([2; 32]);
    check(
        &Action::RevealPrice { nusd_per_watt: Nusd(3), salt },
        expect![
            "18030000000000000000000000000000000202020202020202020202020202020202020202020202020202020202020202"
        ],
    );
    check(&Action::ClaimVested { bucket: Bucket::Treasury }, expect!["1905"]);
    let chain_id: types::ChainId = "peerwatt-1".parse().unwrap();
    let commitment = price_commitment(&chain_id, &ADDRESS, &salt.0, Nusd(3));
    expect!["5336fcbcd682d3060107841ee265e417e774909baea8c6190777ea20f95e9b01"]
        .assert_eq(&commitment.to_string());
}

/// Two reports of one attempt, as evidence.
#[test]
fn evidence_of_a_double_claim() {
    let signed = |lane_total| Signed {
        value: ServiceReport { lane_total: Nusd(lane_total), ..report() },
        signer: KEY,
        signature: Signature([0xd1; 64]),
    };
    let [first, second] = [200, 300].map(|total| Box::new(signed(total)));
    check(
        &Evidence::DoubleClaim { first, second },
        expect![
            "02e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e10100a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f10e000000656d62656464656420302e312e300400000066726565012a000000000000000101010101010101010101010101010101010101010101010101010101010101020202020202020202020202020202020202020202020202020202020202020203030303030303030303030303030303030303030303030303030303030303030b00000016000000000a00000000000000000000000000000080f0fa0200000000000000000000000000e1f505000000000000000000000000c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c10300000064000000000000000000000000000000c8000000000000000000000000000000000068e5cf8b010000e86be5cf8b010000b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e10100a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f10e000000656d62656464656420302e312e300400000066726565012a000000000000000101010101010101010101010101010101010101010101010101010101010101020202020202020202020202020202020202020202020202020202020202020203030303030303030303030303030303030303030303030303030303030303030b00000016000000000a00000000000000000000000000000080f0fa0200000000000000000000000000e1f505000000000000000000000000c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c103000000640000000000000000000000000000002c010000000000000000000000000000000068e5cf8b010000e86be5cf8b010000b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1"
        ],
    );
}

/// What third parties have proven: leaves of the state tree and where they stand.
#[test]
fn entries_of_the_state() {
    check(
        &Account { watt: Watt(1), credits: Nusd(2), nonce: Nonce(3), fee_debt: Watt(4) },
        expect![
            "0100000000000000000000000000000002000000000000000000000000000000030000000000000004000000000000000000000000000000"
        ],
    );
    check(
        &Channel {
            terms: terms(),
            deposit: Nusd(1),
            claimed: Nusd(2),
            settled: Nusd(3),
            refunded: Nusd(7),
            returned: Nusd(4),
            opened_at: Height(5),
            withdraw_at: Some(TimeMs(6)),
            open: true,
        },
        expect![
            "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a20500000000000000a0bb0d00000000000100000000000000000000000000000002000000000000000000000000000000030000000000000000000000000000000700000000000000000000000000000004000000000000000000000000000000050000000000000001060000000000000001"
        ],
    );
    check(
        &Provider {
            node_key: KEY,
            profile: profile(),
            bonded: true,
            earned: Watt(1),
            pending: Nusd(2),
            registered_at: TimeMs(3),
            active_at: TimeMs(4),
            stage: Stage::Unbonding { matures_at: TimeMs(5) },
            channels_open: 6,
            heartbeats: Heartbeats { period: 7, bits: 8 },
        },
        expect![
            "b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b101000000700200000065750300000063707501000000f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1010a00000000000000000000000000000080f0fa0200000000000000000000000000e1f50500000000000000000000000001010000000000000000000000000000000200000000000000000000000000000003000000000000000400000000000000010500000000000000060000000000000007000000000000000800000000000000"
        ],
    );
    check(
        &Operator {
            tokens: Watt(1),
            shares: Shares(2),
            commission: CommissionTerms::ALL,
            commission_changed_at: TimeMs(3),
            reward_index: RewardIndex(4),
            outstanding: Watt(5),
            commission_due: Watt(6),
            jailed_until: Some(TimeMs(7)),
            tombstoned: true,
        },
        expect![
            "010000000000000000000000000000000200000000000000000000000000000040420f0040420f0010270000030000000000000004000000000000000000000000000000050000000000000000000000000000000600000000000000000000000000000001070000000000000001"
        ],
    );
    check(
        &Gateway {
            node_key: KEY,
            moniker: "door".to_owned(),
            addrs: vec!["127.0.0.1".to_owned()],
            registered_at: TimeMs(7),
        },
        expect![
            "b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b104000000646f6f7201000000090000003132372e302e302e310700000000000000"
        ],
    );
    let id = OperatorId::provider(OTHER);
    for (key, expected) in [
        (
            StateKey::Account { address: ADDRESS },
            expect![
                "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1 a5546e8ca9dfe0de00a1b3f82c5f7b2c03fd91f2452a47dd2ece08ce525455d7"
            ],
        ),
        (
            StateKey::Channel { id: CHANNEL },
            expect![
                "c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 47d21f577bcad6e7504a643102383412aaa69682ed26a406184166419816eb0a"
            ],
        ),
        (
            StateKey::Lane { channel: CHANNEL, lane: Lane(3) },
            expect![
                "c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c103000000 b24ae33df816b5dfb355570be87fb2c10a077cfcd1ba3a171efccee2eae8e82d"
            ],
        ),
        (
            StateKey::Provider { operator: OTHER },
            expect![
                "a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2 d6c55f8379d59ecdb09d16855fc1aba22924cb97fa6b1f633274ea0e867be48e"
            ],
        ),
        (
            StateKey::Operator { id },
            expect![
                "01a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2 e5242b2d3b94cf8dfd1e762526ca18c498fec7c024dc38d1722db08431e384ae"
            ],
        ),
        (
            StateKey::Gateway { operator: OTHER },
            expect![
                "a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2 b35a5cb29dcf7d9105301dc4815ace4ac7e738f9ef23a80191e9b3f25d652a4d"
            ],
        ),
    ] {
        expected.assert_eq(&format!("{} {}", to_hex(&key.key()), key.path()));
    }
}

#[test]
fn parameters() {
    check(
        &Params::standard(),
        expect![
            "c0270900f0490200f0490200a0860100000064a7b3b6e00d000000000000000000008a5d7845630100000000000000000000000000000000000000000000000040420f00000000000000000000000000e803000000000000000000000000000002c40900000000c16ff286230000000000000000000180ee360000000000f07e0e00a0bb0d00d0300e0080ee360000000000005c26050000000000000000000000000000000000000000da02000000000000102700005001000000000000a0bb0d000000000000c87e9a00000000005c26050000000000f2052a01000000000000000000000040420f00400d0300e803000000c87e9a0000000000c87e9a0000000080ee360000000000008c256c00000000070000006400000000a0724e180900000000000000000000005c26050000000000081948000000001027000020a1070064000000c02709000000000050c3000020a1070050c300001027000064000000c02709000000000064000000e803000020a1070050c3000060ea0000000000002b2c0a00204e000048e8010080ee36000000000040771b0000000000e803000050c3000001000000000200000020000000c027090000000000c0270900000000003075000000000000400d03001027000014000000301b0f0005000000005c2605000000000014730f0000000000c87e9a00000000f07e0e0010cd0e00307500008096980000000000000000000000000000f2052a01000000000000000000000080f0fa02000000000000000000000000002e93020000000080969800000000000000000000000000a0bb0d0000000000"
        ],
    );
}

#[test]
fn vouchers_and_the_channels_they_name() {
    check(
        &voucher(),
        expect![
            "c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c103000000090000000000000087d61200000000000000000000000000"
        ],
    );
    check_signed(
        &voucher(),
        expect!["70656572776174742f766f75636865722f31000a00000070656572776174742d31"],
    );
    check(
        &terms(),
        expect![
            "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a20500000000000000a0bb0d0000000000"
        ],
    );
    let id = |chain: &str| terms().id(&chain.parse().unwrap()).to_string();
    expect!["44464bcad3d88343fbe5d17319999dd6ad4dd36a6d2a4a1e5135f13df1aad384"]
        .assert_eq(&id("peerwatt-1"));
    assert_ne!(id("peerwatt-1"), id("peerwatt-2"));
}

fn report() -> ServiceReport {
    ServiceReport {
        request_id: RequestId([0xe1; 16]),
        attempt: 1,
        provider: OTHER,
        model: ModelId([0xf1; 32]),
        engine_version: "embedded 0.1.0".to_owned(),
        profile: "free".to_owned(),
        seed: Some(42),
        prompt_hash: Hash32([1; 32]),
        response_hash: Hash32([2; 32]),
        transcript_root: Hash32([3; 32]),
        prompt_tokens: 11,
        completion_tokens: 22,
        counted: CountMethod::TokenIds,
        price: price(),
        channel: CHANNEL,
        lane: Lane(3),
        lane_total_before: Nusd(100),
        lane_total: Nusd(200),
        finish: FinishReason::Stop,
        started_at: TimeMs(1_700_000_000_000),
        ended_at: TimeMs(1_700_000_001_000),
    }
}

#[test]
fn both_sides_of_a_receipt() {
    let report = report();
    check(
        &report,
        expect![
            "e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e10100a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f10e000000656d62656464656420302e312e300400000066726565012a000000000000000101010101010101010101010101010101010101010101010101010101010101020202020202020202020202020202020202020202020202020202020202020203030303030303030303030303030303030303030303030303030303030303030b00000016000000000a00000000000000000000000000000080f0fa0200000000000000000000000000e1f505000000000000000000000000c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c10300000064000000000000000000000000000000c8000000000000000000000000000000000068e5cf8b010000e86be5cf8b010000"
        ],
    );
    check_signed(
        &report,
        expect!["70656572776174742f736572766963652d7265706f72742f31000a00000070656572776174742d31"],
    );
    let acknowledgement = Acknowledgement {
        request_id: RequestId([0xe1; 16]),
        attempt: 1,
        provider: OTHER,
        model: ModelId([0xf1; 32]),
        prompt_hash: Hash32([1; 32]),
        response_hash: Hash32([2; 32]),
        transcript_root: Hash32([3; 32]),
        prompt_tokens: 11,
        delivered_tokens: 22,
        counted: CountMethod::Chunks,
        price: price(),
        channel: CHANNEL,
        lane: Lane(3),
        lane_total_before: Nusd(100),
        lane_total: Nusd(200),
        report_hash: Some(Hash32([4; 32])),
        finish: FinishReason::Cancelled,
        ended_at: TimeMs(1_700_000_001_000),
    };
    check(
        &acknowledgement,
        expect![
            "e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e10100a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f10101010101010101010101010101010101010101010101010101010101010101020202020202020202020202020202020202020202020202020202020202020203030303030303030303030303030303030303030303030303030303030303030b00000016000000010a00000000000000000000000000000080f0fa0200000000000000000000000000e1f505000000000000000000000000c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c10300000064000000000000000000000000000000c800000000000000000000000000000001040404040404040404040404040404040404040404040404040404040404040402e86be5cf8b010000"
        ],
    );
    check_signed(
        &acknowledgement,
        expect![
            "70656572776174742f61636b6e6f776c656467656d656e742f31000a00000070656572776174742d31"
        ],
    );
}

#[test]
fn block_headers_votes_and_certificates() {
    let header = BlockHeader {
        height: Height(8),
        time: TimeMs(1_700_000_000_000),
        parent: Hash32([1; 32]),
        txs_root: Hash32([2; 32]),
        last_certificate: Hash32([4; 32]),
        validators: Hash32([5; 32]),
        next_validators: Hash32([6; 32]),
        app_hash: Hash32([3; 32]),
        proposer: KEY,
    };
    check(
        &header,
        expect![
            "08000000000000000068e5cf8b010000010101010101010101010101010101010101010101010101010101010101010102020202020202020202020202020202020202020202020202020202020202020404040404040404040404040404040404040404040404040404040404040404050505050505050505050505050505050505050505050505050505050505050506060606060606060606060606060606060606060606060606060606060606060303030303030303030303030303030303030303030303030303030303030303b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1"
        ],
    );
    expect!["1fa6d52b3c6c2cb5ffe5e97d30296b33e80acd4a31a9cb15636b72acacf93ba4"]
        .assert_eq(&header.hash().to_string());
    let vote = ConsensusVote {
        kind: VoteKind::Precommit,
        height: Height(8),
        round: 2,
        block: Some(Hash32([1; 32])),
    };
    check(
        &vote,
        expect![
            "01080000000000000002000000010101010101010101010101010101010101010101010101010101010101010101"
        ],
    );
    check_signed(
        &vote,
        expect!["70656572776174742f636f6e73656e7375732d766f74652f31000a00000070656572776174742d31"],
    );
    check(
        &ConsensusVote { kind: VoteKind::Prevote, block: None, ..vote },
        expect!["0008000000000000000200000000"],
    );
    let block = Hash32([1; 32]);
    let proposal = ConsensusProposal { height: Height(8), round: 2, valid_round: Some(1), block };
    check(
        &proposal,
        expect![
            "08000000000000000200000001010000000101010101010101010101010101010101010101010101010101010101010101"
        ],
    );
    check_signed(
        &proposal,
        expect![
            "70656572776174742f636f6e73656e7375732d70726f706f73616c2f31000a00000070656572776174742d31"
        ],
    );
    let signatures = vec![CommitSignature { signer: KEY, signature: Signature([0xd1; 64]) }];
    let certificate = Certificate { height: Height(8), round: 2, block, signatures };
    check(
        &certificate,
        expect![
            "080000000000000002000000010101010101010101010101010101010101010101010101010101010101010101000000b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1"
        ],
    );
    expect!["0c003a89efffcfd4b2637719e6dee6b29f0cfcc8d8b1a862d14c116f0bc88991"]
        .assert_eq(&certificate.hash().to_string());
    let validators = ValidatorSet::new([ValidatorPower { key: KEY, power: 7 }]);
    check(
        &validators,
        expect![
            "01000000b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b10700000000000000"
        ],
    );
    expect!["bdf2a15ed5f37aa5705d64ac02b01bc9280fc0c64a5b3777258f51a393978713"]
        .assert_eq(&validators.hash().to_string());
}

#[test]
fn payments() {
    let payment = Payment {
        channel: CHANNEL,
        request: Payment::request_hash("/v1/chat/completions", b"{}"),
        nonce: Hash32([0x22; 32]),
        amount_max: Nusd(4_000),
        expires_at: TimeMs(1_700_000_000_000),
    };
    check(
        &payment,
        expect![
            "c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c156701b7c217eabcf34078717ccaac786200c99d258aecc1cd8445a4923b62cc62222222222222222222222222222222222222222222222222222222222222222a00f00000000000000000000000000000068e5cf8b010000"
        ],
    );
    check_signed(
        &payment,
        expect!["70656572776174742f7061796d656e742f31000a00000070656572776174742d31"],
    );
    let signed = Signed { value: payment, signer: KEY, signature: Signature([0xd1; 64]) };
    let other = Signed { signature: Signature([0xd2; 64]), ..signed.clone() };
    assert_eq!(signed.request_id(), other.request_id(), "another signature is no other payment");
    expect!["0103eb50d016c5638cabcc9c342aa222"].assert_eq(&signed.request_id().to_string());
}

#[test]
fn a_reports_names_are_short() {
    let decodes = |bytes: usize| {
        let name = "n".repeat(bytes);
        let long = ServiceReport { engine_version: name.clone(), profile: name, ..report() };
        borsh::from_slice::<ServiceReport>(&borsh::to_vec(&long).unwrap()).is_ok()
    };
    assert!(decodes(types::limits::NAME_BYTES_MAX));
    assert!(!decodes(types::limits::NAME_BYTES_MAX + 1));
}
