//! An auditor: it recounts what is owed from what consumers saw arrive, and compares receipts and
//! the ledger with that. It never asks a gateway or provider what they think they are owed.

use types::{Nusd, price::Price, receipt::Receipt};

use super::stream::{Consumer, Seen};

/// What the bill of one kind of request depends on, read off a receipt that both sides signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    pub price: Price,
    pub prompt_tokens: u32,
}

impl Terms {
    /// What `tokens` that arrived cost.
    pub fn charge(&self, tokens: u32) -> Nusd {
        self.price.charge(self.prompt_tokens, tokens)
    }
}

/// The receipt of a request; checked, and agreed on by both sides.
pub async fn agreed_receipt(consumer: &Consumer, request_id: &str) -> Receipt {
    let stored = consumer.get(&format!("receipts/{request_id}")).await;
    let stored = stored.unwrap_or_else(|| panic!("there is no receipt of {request_id}"));
    let receipt: Receipt = serde_json::from_value(stored["receipt"].clone()).unwrap();
    receipt.verify(&keys::Ed25519).unwrap();
    assert!(receipt.agrees(), "the two sides differ: {receipt:?}");
    receipt
}

/// Compares the receipt of a whole stream with what arrived, and returns its terms.
pub async fn terms_of(consumer: &Consumer, seen: &Seen) -> Terms {
    let id = seen.request_id.as_ref().expect("an answered request has an id");
    let receipt = agreed_receipt(consumer, id).await;
    let ack = &receipt.acknowledgement.value;
    let terms = Terms { price: ack.price, prompt_tokens: ack.prompt_tokens };
    assert_eq!(ack.delivered_tokens, seen.tokens, "delivered and seen tokens of {id}");
    assert_eq!(receipt.cost(), terms.charge(seen.tokens), "cost of {id}");
    terms
}

/// Sum of what `seen` cost, at `terms`.
pub fn owed<'a>(terms: &Terms, seen: impl IntoIterator<Item = &'a Seen>) -> Nusd {
    let charges = seen.into_iter().map(|it| terms.charge(it.tokens));
    charges.fold(Nusd::ZERO, Nusd::saturating_add)
}
