//! Whose stake: operators by role, commissions, and evidence of faults.

use std::{fmt, str::FromStr};

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    amount::Ppm,
    consensus::{ConsensusProposal, ConsensusVote},
    hash::{Hash32, serde_as_text, sha256},
    id::{Address, ChainId, ParseIdError, PublicKey, RequestId},
    receipt::ServiceReport,
    sign::{BadSignature, Signed, VerifySignature},
};

/// What an operator is trusted with.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Debug,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Validator,
    Provider,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::Validator => "validator",
            Role::Provider => "provider",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One pool of stake: an account in a role. One account may be both, with separate stakes.
/// Shown as `validator/watt1…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct OperatorId {
    pub role: Role,
    pub account: Address,
}

impl OperatorId {
    pub fn validator(account: Address) -> OperatorId {
        OperatorId { role: Role::Validator, account }
    }

    pub fn provider(account: Address) -> OperatorId {
        OperatorId { role: Role::Provider, account }
    }
}

impl fmt::Display for OperatorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role, self.account)
    }
}

impl fmt::Debug for OperatorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperatorId({self})")
    }
}

impl FromStr for OperatorId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<OperatorId, ParseIdError> {
        let (role, account) = text.split_once('/').ok_or(ParseIdError::Operator)?;
        let role = match role {
            "validator" => Role::Validator,
            "provider" => Role::Provider,
            _ => return Err(ParseIdError::Operator),
        };
        Ok(OperatorId { role, account: account.parse()? })
    }
}
serde_as_text!(OperatorId);

/// What an operator keeps of the rewards of those who delegate to it.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct CommissionTerms {
    pub rate: Ppm,
    /// It will never be more.
    pub rate_max: Ppm,
    /// Nor move by more than this between two periods of the parameters.
    pub change_max: Ppm,
}

impl CommissionTerms {
    /// Everything for the operator: nobody is invited to delegate. Once it invites somebody, it takes
    /// that back in small steps only.
    pub const ALL: CommissionTerms =
        CommissionTerms { rate: Ppm::ONE, rate_max: Ppm::ONE, change_max: Ppm::ONE_PERCENT };

    /// Whether the three agree with each other.
    pub fn is_consistent(&self) -> bool {
        self.rate <= self.rate_max && self.change_max <= self.rate_max
    }
}

/// Something that proves a fault by itself: two statements that one key must never both sign.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Evidence {
    /// A validator voted twice in one round, for different blocks.
    DoubleVote { first: Signed<ConsensusVote>, second: Signed<ConsensusVote> },
    /// A validator proposed two blocks in one round.
    DoubleProposal { first: Signed<ConsensusProposal>, second: Signed<ConsensusProposal> },
    /// A provider charged two totals for one attempt at one request.
    DoubleClaim { first: Box<Signed<ServiceReport>>, second: Box<Signed<ServiceReport>> },
}

/// What is punished at most once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, BorshSerialize, BorshDeserialize)]
pub enum FaultSubject {
    Height(u64),
    Attempt(RequestId, u16),
    /// Of faults that are not proven by evidence: counted by the ledger itself.
    Window(u64),
}

impl Evidence {
    /// Checks both signatures. That they contradict each other is the ledger's question.
    pub fn verify(
        &self,
        chain_id: &ChainId,
        check: &dyn VerifySignature,
    ) -> Result<(), BadSignature> {
        match self {
            Evidence::DoubleVote { first, second } => {
                first.clone().verify(chain_id, check)?;
                second.clone().verify(chain_id, check)?;
            }
            Evidence::DoubleProposal { first, second } => {
                first.clone().verify(chain_id, check)?;
                second.clone().verify(chain_id, check)?;
            }
            Evidence::DoubleClaim { first, second } => {
                (**first).clone().verify(chain_id, check)?;
                (**second).clone().verify(chain_id, check)?;
            }
        }
        Ok(())
    }

    pub fn signers(&self) -> [PublicKey; 2] {
        match self {
            Evidence::DoubleVote { first, second } => [first.signer, second.signer],
            Evidence::DoubleProposal { first, second } => [first.signer, second.signer],
            Evidence::DoubleClaim { first, second } => [first.signer, second.signer],
        }
    }
}

/// What a validator commits to before it reveals its vote on the price: a digest that tells nothing
/// about the price without the salt, and is worth nothing to another validator.
pub fn price_commitment(
    chain_id: &ChainId,
    voter: &Address,
    salt: &[u8; 32],
    nusd_per_watt: crate::Nusd,
) -> Hash32 {
    let fields = borsh::to_vec(&(chain_id, voter, salt, nusd_per_watt)).unwrap_or_default();
    sha256(&[b"peerwatt/price-vote\0", &fields])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_round_trips_as_text() {
        let account = Address::of_key(&PublicKey([7; 32]));
        for id in [OperatorId::validator(account), OperatorId::provider(account)] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        let text = account.to_string();
        for bad in [text.clone(), format!("gateway/{text}"), "validator/".to_owned()] {
            assert!(bad.parse::<OperatorId>().is_err(), "{bad}");
        }
    }
}
