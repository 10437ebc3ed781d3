//! Many signatures at once, at about half the cost of one after the other.

use std::cell::RefCell;

use ed25519_zebra::{VerificationKeyBytes, batch};
use types::{PublicKey, Signature, sign::VerifySignature};

/// Gathers signatures and checks them together. Whatever it was given to verify counts as verified
/// only after [`Batch::is_valid`] said so.
///
/// Equation: Bernstein, Duif, Lange, Schwabe, Yang, "High-speed high-security signatures" (2011), section 5,
/// with random coefficients of 128 bits. By ZIP-215 it accepts exactly what the check of each
/// signature accepts, but for a chance of 2⁻¹²⁸.
#[derive(Default)]
pub struct Batch(RefCell<batch::Verifier>);

impl Batch {
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Whether every signature is valid. Which one is not, it does not say.
    pub fn is_valid(self) -> bool {
        self.0.into_inner().verify(rand::rng()).is_ok()
    }
}

impl VerifySignature for Batch {
    /// Takes it down and answers yes.
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_zebra::Signature::from_bytes(&signature.0);
        self.0.borrow_mut().queue((VerificationKeyBytes::from(key.0), signature, message));
        true
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::sign::Sign;

    use super::*;
    use crate::{Ed25519, SecretKey};

    #[test]
    fn an_empty_batch_is_valid() {
        assert!(Batch::new().is_valid());
    }

    proptest! {
        #[test]
        fn a_batch_is_valid_if_each_signature_is(
            signed in prop::collection::vec((any::<[u8; 32]>(), any::<Vec<u8>>()), 1..12),
            broken in prop::option::of((any::<usize>(), 0usize..64, 1u8..)),
            wrong_key in prop::option::of(any::<[u8; 32]>()),
        ) {
            let mut signed: Vec<(PublicKey, Vec<u8>, Signature)> = signed
                .into_iter()
                .map(|(seed, message)| {
                    let key = SecretKey::from_seed(seed);
                    let signature = key.sign(&message);
                    (key.public_key(), message, signature)
                })
                .collect();
            if let Some((which, byte, flip)) = broken {
                let which = which % signed.len();
                signed[which].2.0[byte] ^= flip;
            }
            if let Some(bytes) = wrong_key {
                // Most are no point of the curve.
                signed[0].0 = PublicKey(bytes);
            }
            let batch = Batch::new();
            for (key, message, signature) in &signed {
                prop_assert!(batch.verify(key, message, signature));
            }
            let each = signed
                .iter()
                .all(|(key, message, signature)| Ed25519.verify(key, message, signature));
            prop_assert_eq!(batch.is_valid(), each);
        }
    }
}
