//! What a provider offers: models by content, at a price, with the room it has.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    ability::Abilities,
    id::{Address, ModelId, PublicKey, TimeMs},
    limits,
    price::Price,
    sign::Signable,
};

/// The engine family that runs a model; part of what an auditor must reproduce.
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
pub enum EngineKind {
    Embedded,
    Ollama,
    OpenAi,
    Dummy,
    /// Another service, paid by whoever offers it: nobody here knows what runs there.
    Resold,
}

/// One model of an offer.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ModelOffer {
    pub model: ModelId,
    /// The name that people use; 1 to [`limits::NAME_BYTES_MAX`] bytes.
    pub alias: String,
    pub price: Price,
    /// Tokens that prompt and completion may fill together.
    pub context_tokens: u32,
    pub engine: EngineKind,
    /// Name and version of the engine; at most [`limits::NAME_BYTES_MAX`] bytes.
    pub engine_version: String,
    pub abilities: Abilities,
}

/// All that a provider offers now. Sent on its standing connection to a gateway when it changes.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Offer {
    /// The account that redeems and is bonded.
    pub operator: Address,
    /// The key of the connection this came on.
    pub node_key: PublicKey,
    pub models: Vec<ModelOffer>,
    /// Requests it runs at once.
    pub slots: u32,
    /// Requests it runs now.
    pub active: u32,
    /// Rises with every offer; an older one is ignored.
    pub sequence: u64,
    pub issued_at: TimeMs,
}

impl Signable for Offer {
    const DOMAIN: &'static str = "offer/1";
}

impl Offer {
    /// Whether it is within limits: what a peer sent passes here first.
    pub fn check(&self) -> Result<(), OfferError> {
        if self.models.len() > limits::OFFER_MODELS_MAX {
            return Err(OfferError::TooManyModels { count: self.models.len() });
        }
        for model in &self.models {
            // They are shown in terminals.
            let is_plain = |text: &str| !text.chars().any(char::is_control);
            let name =
                |text: &str| (1..=limits::NAME_BYTES_MAX).contains(&text.len()) && is_plain(text);
            if !name(&model.alias) || !name(&model.engine_version) {
                return Err(OfferError::Name { model: model.model });
            }
        }
        Ok(())
    }
}

/// Why an offer is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    #[error("{count} models are more than an offer may hold")]
    TooManyModels { count: usize },
    #[error(
        "model {model} has an alias or engine name that is empty, too long or has control characters"
    )]
    Name { model: ModelId },
}
