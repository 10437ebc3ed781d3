//! Transactions: what an account may ask of the ledger, signed, and the type of what was checked.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    amount::{Nusd, Watt},
    channel::{ChannelTerms, Voucher},
    hash::sha256,
    id::{Address, ChainId, ChannelId, Nonce, PublicKey, TimeMs, TxId},
    limits::{self, DecodeError},
    sign::{BadSignature, Signable, Signed, VerifySignature},
};

/// A transaction before it is signed.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Tx {
    pub chain_id: ChainId,
    /// Must be the number of transactions that the sender's account has made.
    pub nonce: Nonce,
    /// The most the sender will pay for inclusion; what is taken is the fee of the parameters.
    pub fee_max: Watt,
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
    /// Pays WATT into the vault and receives credits at the price in force.
    BuyCredits(CreditPurchase),
    /// Makes the signer a provider, or replaces what its entry says. `bond` may be zero: then a
    /// share of its income is withheld until the bond is full.
    RegisterProvider { node_key: PublicKey, moniker: String, bond: Watt },
    /// Adds to the signer's bond.
    BondProvider { amount: Watt },
    /// Begins to leave: no new channels, and the bond is paid back after the unbonding time.
    UnbondProvider,
    /// Makes the signer a gateway that providers dial, or replaces what its entry says.
    RegisterGateway { node_key: PublicKey, moniker: String, addrs: Vec<String> },
    /// Opens a channel from the signer to `terms.receiver`. `terms.payer` must be the signer.
    OpenChannel { terms: ChannelTerms, deposit: Nusd },
    /// Adds to a channel's deposit.
    TopUpChannel { channel: ChannelId, amount: Nusd },
    /// The receiver claims what vouchers promise, one entry per lane.
    RedeemVouchers { claims: Vec<VoucherClaim> },
    /// The payer asks for the unused rest; the withdraw delay begins.
    RequestWithdraw { channel: ChannelId },
    /// The payer takes the unused rest after the delay; the channel closes.
    FinalizeWithdraw { channel: ChannelId },
    /// The receiver gives the unused rest back to the payer at once; the channel closes.
    CloseChannel { channel: ChannelId },
    /// A validator takes what it has earned.
    WithdrawRewards,
    /// The governor sets the price of one WATT in nano-USD, within the step of the parameters.
    SetPrice { nusd_per_watt: Nusd },
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
        TxId(sha256(&[b"peerwatt/tx\0", &self.encode()]).0)
    }

    /// The stateless phase: the signatures of the transaction and of every voucher in it.
    pub fn verify(self, check: &dyn VerifySignature) -> Result<VerifiedTx, BadSignature> {
        let id = self.id();
        let chain_id = self.0.value.chain_id.clone();
        let bytes_len = self.encode().len();
        let signed = self.0.verify(&chain_id, check)?;
        if let Action::RedeemVouchers { claims } = &signed.value().action {
            for claim in claims {
                claim.voucher.clone().verify(&chain_id, check)?;
            }
        }
        Ok(VerifiedTx { id, bytes_len, tx: signed.into_signed() })
    }
}

/// A transaction whose signatures, those of its vouchers included, were checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedTx {
    id: TxId,
    bytes_len: usize,
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
        Address::of_key(&self.tx.signer)
    }

    pub fn sender_key(&self) -> PublicKey {
        self.tx.signer
    }

    pub fn tx(&self) -> &Tx {
        &self.tx.value
    }
}
