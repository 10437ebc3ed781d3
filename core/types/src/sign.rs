//! Signed objects: what bytes a signature covers, and the type of what was checked.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::id::{ChainId, PublicKey, Signature};

/// Something that can be signed. The domain keeps a signature over one type of object from being
/// read as one over another, the chain id from being replayed on another network.
pub trait Signable: BorshSerialize {
    /// Name and version of the object, unique in the project.
    const DOMAIN: &'static str;
}

/// The bytes that a signature over `value` covers: `peerwatt/DOMAIN\0`, the chain id, the canonical form.
pub fn signing_bytes<T: Signable>(chain_id: &ChainId, value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(b"peerwatt/");
    bytes.extend_from_slice(T::DOMAIN.as_bytes());
    bytes.push(0);
    // Writing to memory cannot fail; an object that did fail would verify as nothing.
    let written = borsh::to_writer(&mut bytes, &(chain_id, value));
    debug_assert!(written.is_ok());
    bytes
}

/// Checks signatures. Implemented over `ed25519-zebra` in `edge/keys`, by a table in tests.
pub trait VerifySignature {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool;
}

/// Makes signatures with one key; the seam for a remote signer.
pub trait Sign: Send + Sync {
    fn public_key(&self) -> PublicKey;
    fn sign(&self, message: &[u8]) -> Signature;
}

/// A value with a signature that nobody has checked yet.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Signed<T> {
    pub value: T,
    pub signer: PublicKey,
    pub signature: Signature,
}

impl<T: Signable> Signed<T> {
    /// Signs `value` for the network `chain_id`.
    pub fn new(value: T, chain_id: &ChainId, signer: &dyn Sign) -> Signed<T> {
        let signature = signer.sign(&signing_bytes(chain_id, &value));
        Signed { signer: signer.public_key(), value, signature }
    }

    /// Checks the signature against the key that the object names. Whether that key is the one
    /// that should have signed is the caller's question.
    pub fn verify(
        self,
        chain_id: &ChainId,
        check: &dyn VerifySignature,
    ) -> Result<Verified<T>, BadSignature> {
        let message = signing_bytes(chain_id, &self.value);
        if !check.verify(&self.signer, &message, &self.signature) {
            return Err(BadSignature { domain: T::DOMAIN, signer: self.signer });
        }
        Ok(Verified(self))
    }
}

/// A signed value whose signature was checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified<T>(Signed<T>);

impl<T> Verified<T> {
    pub fn value(&self) -> &T {
        &self.0.value
    }

    pub fn signer(&self) -> PublicKey {
        self.0.signer
    }

    pub fn signed(&self) -> &Signed<T> {
        &self.0
    }

    pub fn into_signed(self) -> Signed<T> {
        self.0
    }
}

/// A signature does not cover its object, on this network, by that key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature of {signer} over `{domain}` is not valid on this network")]
pub struct BadSignature {
    pub domain: &'static str,
    pub signer: PublicKey,
}
