//! The canonical bytes of everything that is hashed or signed, as fixtures.
//!
//! A failure here means that the protocol changed: nodes and wallets of before and after no longer
//! understand each other's signatures. Layouts are described in `docs/spec/transactions.md`.

use std::fmt::Debug;

use borsh::{BorshDeserialize, BorshSerialize};
use expect_test::{Expect, expect};
use types::{
    Address, ChannelId, Hash32, Height, Lane, ModelId, Nonce, Nusd, PublicKey, RequestId,
    Signature, TimeMs, Watt,
    block::{BlockHeader, Commit},
    channel::{ChannelTerms, Voucher},
    hash::to_hex,
    inference::{CountMethod, FinishReason},
    price::Price,
    receipt::{Acknowledgement, ServiceReport},
    sign::{Signable, Signed, signing_bytes},
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
            "0a00000070656572776174742d31070000000000000080841e00000000000000000000000000010068e5cf8b01000000a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a201000000000000000000000000000000"
        ],
    );
    check(
        &Tx { valid_until: None, ..tx(Action::WithdrawRewards) },
        expect!["0a00000070656572776174742d31070000000000000080841e00000000000000000000000000000c"],
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
    expect!["0a00000070656572776174742d31070000000000000080841e00000000000000000000000000010068e5cf8b01000004b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1"].assert_eq(&to_hex(&signed.encode()));
    expect!["72b069828a116bfdbdd229267f6f4828bb5cba24f27581590508c75ad62b1d9b"]
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
        &Action::RegisterProvider { node_key: KEY, moniker: "p".to_owned(), bond: Watt(5) },
        expect![
            "02b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1010000007005000000000000000000000000000000"
        ],
    );
    check(&Action::BondProvider { amount: Watt(6) }, expect!["0306000000000000000000000000000000"]);
    check(&Action::UnbondProvider, expect!["04"]);
    check(
        &Action::RegisterGateway {
            node_key: KEY,
            moniker: "g".to_owned(),
            addrs: vec!["127.0.0.1:1".to_owned()],
        },
        expect![
            "05b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b10100000067010000000b0000003132372e302e302e313a31"
        ],
    );
    check(
        &Action::OpenChannel { terms: terms(), deposit: Nusd(7) },
        expect![
            "06a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a20500000000000000a0bb0d000000000007000000000000000000000000000000"
        ],
    );
    check(
        &Action::TopUpChannel { channel: CHANNEL, amount: Nusd(8) },
        expect![
            "07c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c108000000000000000000000000000000"
        ],
    );
    let voucher = Signed { value: voucher(), signer: KEY, signature: Signature([0xd1; 64]) };
    check(
        &Action::RedeemVouchers { claims: vec![VoucherClaim { voucher, total: Nusd(9) }] },
        expect![
            "0801000000c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c103000000090000000000000087d61200000000000000000000000000b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d109000000000000000000000000000000"
        ],
    );
    check(
        &Action::RequestWithdraw { channel: CHANNEL },
        expect!["09c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1"],
    );
    check(
        &Action::FinalizeWithdraw { channel: CHANNEL },
        expect!["0ac1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1"],
    );
    check(
        &Action::CloseChannel { channel: CHANNEL },
        expect!["0bc1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1"],
    );
    check(&Action::WithdrawRewards, expect!["0c"]);
    check(
        &Action::SetPrice { nusd_per_watt: Nusd(10) },
        expect!["0d0a000000000000000000000000000000"],
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

#[test]
fn both_sides_of_a_receipt() {
    let report = ServiceReport {
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
    };
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
fn block_headers_and_commits() {
    let header = BlockHeader {
        height: Height(8),
        time: TimeMs(1_700_000_000_000),
        parent: Hash32([1; 32]),
        txs_root: Hash32([2; 32]),
        app_hash: Hash32([3; 32]),
        proposer: KEY,
    };
    check(
        &header,
        expect![
            "08000000000000000068e5cf8b010000010101010101010101010101010101010101010101010101010101010101010102020202020202020202020202020202020202020202020202020202020202020303030303030303030303030303030303030303030303030303030303030303b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1"
        ],
    );
    expect!["5881297f0f9c5715557552607c0da4bb28dfd82bb908b7c3628542f4ceef7f07"]
        .assert_eq(&header.hash().to_string());
    let commit = Commit { height: Height(8), block: Hash32([1; 32]) };
    check(
        &commit,
        expect!["08000000000000000101010101010101010101010101010101010101010101010101010101010101"],
    );
    check_signed(
        &commit,
        expect!["70656572776174742f636f6d6d69742f31000a00000070656572776174742d31"],
    );
}
