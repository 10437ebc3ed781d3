//! Transactions: what an account may ask of the ledger, signed, and the type of what was checked.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    amount::{Nusd, Ppm, Watt},
    audit::{Backend, Calibration, CommitmentId, ReceiptsCommitment, Verdict},
    channel::{ChannelTerms, Voucher},
    genesis::Bucket,
    hash::{Hash32, sha256},
    id::{Address, ChainId, ChannelId, ModelId, Nonce, PublicKey, TimeMs, TxId},
    limits::{self, DecodeError},
    receipt::{Acknowledgement, ServiceReport},
    sign::{BadSignature, Signable, Signed, VerifySignature},
    stake::{CommissionTerms, Evidence, OperatorId, Role},
    state::ProviderProfile,
};

/// A transaction before it is signed.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Tx {
    pub chain_id: ChainId,
    /// Must be the number of transactions that the sender's account has made.
    pub nonce: Nonce,
    /// The most the sender will pay for inclusion; what is taken is the fee of the parameters and
    /// the tip.
    pub fee_max: Watt,
    /// Paid on top of the fee, to come before those who pay less for the bytes they take.
    pub tip: Watt,
    /// Not included in a block later than this. `None`: no end.
    pub valid_until: Option<TimeMs>,
    pub action: Action,
}

impl Signable for Tx {
    const DOMAIN: &'static str = "transaction/1";
}

/// What a transaction does. The signer's account is the one that acts.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Action {
    /// Moves WATT to another account.
    Transfer { to: Address, amount: Watt },
    /// Pays WATT and receives credits at the price in force.
    BuyCredits(CreditPurchase),
    /// Gives free credits back for WATT, after the delay of the parameters.
    RefundCredits { credits: Nusd },
    /// Makes the signer a provider, or replaces what its entry says. `bond` is its own stake
    /// afterwards at least; it may be zero: then a share of its income is withheld until the bond
    /// is full. `commission` is for good, but for its rate. `None`: what it declared before, or
    /// [`CommissionTerms::ALL`] if this is its first registration.
    RegisterProvider {
        node_key: PublicKey,
        profile: ProviderProfile,
        commission: Option<CommissionTerms>,
        bond: Watt,
    },
    /// Begins to leave: no new channels, and the bond is paid back after the unbonding time.
    UnbondProvider,
    /// The provider says that it is there.
    Heartbeat,
    /// Makes the signer a gateway that providers dial, or replaces what its entry says.
    RegisterGateway { node_key: PublicKey, moniker: String, addrs: Vec<String> },
    /// Opens a channel from the signer to `terms.receiver`. `terms.payer` must be the signer.
    OpenChannel { terms: ChannelTerms, deposit: Nusd },
    /// Adds to a channel's deposit.
    TopUpChannel { channel: ChannelId, amount: Nusd },
    /// The receiver claims what vouchers promise, one entry per lane.
    RedeemVouchers { claims: Vec<VoucherClaim> },
    /// The receiver gives a part of the unused rest back to the payer; the channel stays open.
    ReturnDeposit { channel: ChannelId, amount: Nusd },
    /// The payer asks for the unused rest; the withdraw delay begins.
    RequestWithdraw { channel: ChannelId },
    /// The payer takes the unused rest after the delay; the channel closes.
    FinalizeWithdraw { channel: ChannelId },
    /// The receiver gives the unused rest back to the payer at once; the channel closes.
    CloseChannel { channel: ChannelId },
    /// Makes the signer a candidate for the validator set, or replaces what its entry says.
    /// `commission` must be what it has, if it is registered; `stake` is its own stake afterwards at
    /// least.
    RegisterValidator {
        consensus_key: PublicKey,
        moniker: String,
        commission: CommissionTerms,
        stake: Watt,
    },
    /// Changes the rate that the signer keeps of its delegators' rewards, within its own terms.
    SetCommission { role: Role, rate: Ppm },
    /// Stakes behind an operator.
    Delegate { operator: OperatorId, amount: Watt },
    /// Takes stake back; it is paid after the unbonding time and can be slashed until then.
    Undelegate { operator: OperatorId, amount: Watt },
    /// Moves stake from one operator to another of the same role at once.
    Redelegate { from: OperatorId, to: OperatorId, amount: Watt },
    /// Takes what the signer's stake behind this operator has earned.
    WithdrawRewards { operator: OperatorId },
    /// Takes what the signer earned as an operator in this role.
    WithdrawCommission { role: Role },
    /// Comes back from jail.
    Unjail { role: Role },
    /// Reports a fault. The reporter receives a share of what is slashed.
    SubmitEvidence { evidence: Evidence },
    /// A validator commits to its vote on the price: see [`crate::stake::price_commitment`].
    CommitPrice { commitment: Hash32 },
    /// Reveals the vote that was committed to in the period before.
    RevealPrice { nusd_per_watt: Nusd, salt: Hash32 },
    /// Mints what has vested of a budget and pays it to its beneficiary. Anybody may.
    ClaimVested { bucket: Bucket },
    /// A provider commits to receipts that it can be asked to open, and, sealed, to whether they are of faults that
    /// it planted: see [`crate::audit::seal`].
    CommitReceipts { receipts: ReceiptsCommitment, seal: Hash32 },
    /// A verifier of a round commits to its verdict: see [`crate::audit::verdict_commitment`].
    CommitVerdict { commitment: CommitmentId, hash: Hash32 },
    /// Reveals it, once the round's other verifiers cannot copy it any more.
    RevealVerdict { commitment: CommitmentId, verdict: Box<Verdict>, salt: Hash32 },
    /// A validator says what honest providers of a model score on a kind of machine. It replaces what it said
    /// before.
    PublishCalibration { model: ModelId, backend: Backend, calibration: Calibration },
    /// A validator says where providers and others reach its auditor. No addresses: nowhere any more, and no
    /// round draws it.
    RegisterAuditor { node_key: PublicKey, addrs: Vec<String> },
    /// A provider breaks the seal of a commitment of planted faults, once its verifiers have committed.
    RevealPlanted { commitment: CommitmentId, salt: Hash32 },
    /// A provider has a failed round done again by other verifiers, over all receipts, for a deposit.
    Appeal { commitment: CommitmentId },
    /// An auditor says what a request of its own found, which it made as any consumer does.
    ReportCanary { provider: Address, verdict: Box<Verdict> },
    /// A payer has one answer audited, for a deposit that it has back unless the answer passes.
    DemandAudit {
        report: Box<Signed<ServiceReport>>,
        acknowledgement: Box<Signed<Acknowledgement>>,
    },
}

impl Action {
    /// As in the JSON form.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Transfer { .. } => "transfer",
            Action::BuyCredits(_) => "buy_credits",
            Action::RefundCredits { .. } => "refund_credits",
            Action::RegisterProvider { .. } => "register_provider",
            Action::UnbondProvider => "unbond_provider",
            Action::Heartbeat => "heartbeat",
            Action::RegisterGateway { .. } => "register_gateway",
            Action::OpenChannel { .. } => "open_channel",
            Action::TopUpChannel { .. } => "top_up_channel",
            Action::RedeemVouchers { .. } => "redeem_vouchers",
            Action::ReturnDeposit { .. } => "return_deposit",
            Action::RequestWithdraw { .. } => "request_withdraw",
            Action::FinalizeWithdraw { .. } => "finalize_withdraw",
            Action::CloseChannel { .. } => "close_channel",
            Action::RegisterValidator { .. } => "register_validator",
            Action::SetCommission { .. } => "set_commission",
            Action::Delegate { .. } => "delegate",
            Action::Undelegate { .. } => "undelegate",
            Action::Redelegate { .. } => "redelegate",
            Action::WithdrawRewards { .. } => "withdraw_rewards",
            Action::WithdrawCommission { .. } => "withdraw_commission",
            Action::Unjail { .. } => "unjail",
            Action::SubmitEvidence { .. } => "submit_evidence",
            Action::CommitPrice { .. } => "commit_price",
            Action::RevealPrice { .. } => "reveal_price",
            Action::ClaimVested { .. } => "claim_vested",
            Action::CommitReceipts { .. } => "commit_receipts",
            Action::CommitVerdict { .. } => "commit_verdict",
            Action::RevealVerdict { .. } => "reveal_verdict",
            Action::PublishCalibration { .. } => "publish_calibration",
            Action::RegisterAuditor { .. } => "register_auditor",
            Action::RevealPlanted { .. } => "reveal_planted",
            Action::Appeal { .. } => "appeal",
            Action::ReportCanary { .. } => "report_canary",
            Action::DemandAudit { .. } => "demand_audit",
        }
    }
}

/// How much is paid for credits.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum CreditPurchase {
    /// Pay exactly this; credits round down.
    Pay { watt: Watt },
    /// Receive exactly these credits; the payment rounds up and must not exceed `watt_max`.
    Receive { credits: Nusd, watt_max: Watt },
}

/// A voucher and how much of it was earned. Claiming less than the voucher allows is the rule:
/// vouchers run ahead of delivery by one window.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct VoucherClaim {
    pub voucher: Signed<Voucher>,
    /// Cumulative for the lane, at most the voucher's total.
    pub total: Nusd,
}

impl TxId {
    /// The id of the transaction with these canonical bytes, if they are one.
    pub fn of_bytes(bytes: &[u8]) -> TxId {
        TxId(sha256(&[b"peerwatt/tx\0", bytes]).0)
    }
}

/// A signed transaction that nobody has checked.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct SignedTx(pub Signed<Tx>);

impl SignedTx {
    /// From the bytes of a peer: at most [`limits::TX_BYTES_MAX`], canonical, nothing left over.
    pub fn decode(bytes: &[u8]) -> Result<SignedTx, DecodeError> {
        limits::decode(bytes, limits::TX_BYTES_MAX)
    }

    pub fn encode(&self) -> Vec<u8> {
        borsh::to_vec(self).unwrap_or_default()
    }

    pub fn id(&self) -> TxId {
        TxId::of_bytes(&self.encode())
    }

    /// The stateless phase: the signatures of the transaction and of everything signed in it.
    pub fn verify(self, check: &dyn VerifySignature) -> Result<VerifiedTx, BadSignature> {
        let bytes = self.encode();
        let id = TxId::of_bytes(&bytes);
        let chain_id = self.0.value.chain_id.clone();
        let signed = self.0.verify(&chain_id, check)?;
        match &signed.value().action {
            Action::RedeemVouchers { claims } => {
                claims.iter().try_for_each(|claim| {
                    claim.voucher.clone().verify(&chain_id, check).map(drop)
                })?;
            }
            Action::SubmitEvidence { evidence } => evidence.verify(&chain_id, check)?,
            Action::DemandAudit { report, acknowledgement } => {
                report.clone().verify(&chain_id, check)?;
                acknowledgement.clone().verify(&chain_id, check)?;
            }
            Action::Transfer { .. }
            | Action::BuyCredits(_)
            | Action::RefundCredits { .. }
            | Action::RegisterProvider { .. }
            | Action::UnbondProvider
            | Action::Heartbeat
            | Action::RegisterGateway { .. }
            | Action::OpenChannel { .. }
            | Action::TopUpChannel { .. }
            | Action::ReturnDeposit { .. }
            | Action::RequestWithdraw { .. }
            | Action::FinalizeWithdraw { .. }
            | Action::CloseChannel { .. }
            | Action::RegisterValidator { .. }
            | Action::SetCommission { .. }
            | Action::Delegate { .. }
            | Action::Undelegate { .. }
            | Action::Redelegate { .. }
            | Action::WithdrawRewards { .. }
            | Action::WithdrawCommission { .. }
            | Action::Unjail { .. }
            | Action::CommitPrice { .. }
            | Action::RevealPrice { .. }
            | Action::ClaimVested { .. }
            | Action::CommitReceipts { .. }
            | Action::CommitVerdict { .. }
            | Action::RevealVerdict { .. }
            | Action::PublishCalibration { .. }
            | Action::RegisterAuditor { .. }
            | Action::RevealPlanted { .. }
            | Action::Appeal { .. }
            | Action::ReportCanary { .. } => {}
        }
        let sender = Address::of_key(&signed.signer());
        Ok(VerifiedTx { id, bytes_len: bytes.len(), sender, tx: signed.into_signed() })
    }
}

/// A transaction whose signatures, those of everything signed in it included, were checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedTx {
    id: TxId,
    bytes_len: usize,
    sender: Address,
    tx: Signed<Tx>,
}

impl VerifiedTx {
    pub fn id(&self) -> TxId {
        self.id
    }

    /// Length of its canonical bytes.
    pub fn bytes_len(&self) -> usize {
        self.bytes_len
    }

    pub fn sender(&self) -> Address {
        self.sender
    }

    pub fn sender_key(&self) -> PublicKey {
        self.tx.signer
    }

    pub fn tx(&self) -> &Tx {
        &self.tx.value
    }
}
