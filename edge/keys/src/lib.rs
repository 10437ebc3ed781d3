//! Keys: made from the system's randomness, kept on disk (0600, encrypted when a passphrase is
//! given), used to sign and to verify. Ed25519 by ZIP-215, so that batch and single checks agree.

mod batch;
mod file;

use ed25519_zebra::{SigningKey, VerificationKey};
use types::{
    Address, PublicKey, Signature,
    sign::{Sign, VerifySignature},
};

pub use batch::Batch;
pub use file::{KeyFileError, load, load_or_create, save};

/// A secret key. Never shown: `Debug` prints the public half.
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// A new key from the system's randomness.
    pub fn generate() -> Result<SecretKey, getrandom::Error> {
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed)?;
        Ok(SecretKey::from_seed(*seed))
    }

    pub fn from_seed(seed: [u8; 32]) -> SecretKey {
        SecretKey(SigningKey::from(seed))
    }

    /// The 32 secret bytes, for the file and for the transport that shares the curve.
    pub fn seed(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }

    pub fn address(&self) -> Address {
        Address::of_key(&self.public_key())
    }
}

impl Sign for SecretKey {
    fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verification_key().into())
    }

    fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey(of {})", self.public_key())
    }
}

/// Checks signatures of one key, which is read once: reading it takes a tenth of a check.
#[derive(Clone, Copy, Debug)]
pub struct KnownKey {
    key: PublicKey,
    /// `None`: the bytes are no key, and nothing is signed by it.
    read: Option<VerificationKey>,
}

impl KnownKey {
    pub fn new(key: PublicKey) -> KnownKey {
        KnownKey { key, read: VerificationKey::try_from(key.0).ok() }
    }

    pub fn key(&self) -> &PublicKey {
        &self.key
    }
}

impl VerifySignature for KnownKey {
    /// `false` for every other key.
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_zebra::Signature::from_bytes(&signature.0);
        let read = self.read.filter(|_| *key == self.key);
        read.is_some_and(|read| read.verify(&signature, message).is_ok())
    }
}

/// Checks ed25519 signatures.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ed25519;

impl VerifySignature for Ed25519 {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_zebra::Signature::from_bytes(&signature.0);
        VerificationKey::try_from(key.0).is_ok_and(|key| key.verify(&signature, message).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_key_checks_as_any_key_and_no_other_key() {
        let (secret, other) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let known = KnownKey::new(secret.public_key());
        let cases = [
            (&secret, &b"told"[..], true),
            (&secret, b"other words", false),
            (&other, b"told", false),
        ];
        for (signer, message, expected) in cases {
            let (key, signature) = (signer.public_key(), signer.sign(b"told"));
            assert_eq!(known.verify(&key, message, &signature), expected, "{signer:?} {message:?}");
        }
        let signature = secret.sign(b"told");
        // y = 2 is on no point of the curve.
        let mut bytes = [0; 32];
        bytes[0] = 2;
        let none = PublicKey(bytes);
        assert!(!KnownKey::new(none).verify(&none, b"told", &signature));
    }
}
