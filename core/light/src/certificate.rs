//! That a block was decided: signatures of more than two thirds of the power of its validators.

use types::{
    ChainId, Hash32, Height, PublicKey,
    consensus::{Certificate, ValidatorSet, is_quorum},
    sign::{VerifySignature, signing_bytes},
};

/// Why a certificate proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error(
        "the certificate is for block {given} of height {given_height}, not {block} of {height}"
    )]
    OtherBlock { height: Height, block: Hash32, given_height: Height, given: Hash32 },
    #[error("the certificate of block {height} names its signers out of order or twice")]
    Order { height: Height },
    #[error("{signer}, who signed block {height}, is not a validator of it")]
    Stranger { height: Height, signer: PublicKey },
    #[error("block {height} is not validly signed by {signer}")]
    Signature { height: Height, signer: PublicKey },
    #[error(
        "block {height} is signed by {signed} of {total} power, more than two thirds are needed"
    )]
    Power { height: Height, signed: u128, total: u128 },
}

/// Checks that `validators`, those of the block's height, decided the block `block`.
pub fn verify_certificate(
    chain_id: &ChainId,
    (height, block): (Height, Hash32),
    certificate: &Certificate,
    validators: &ValidatorSet,
    check: &dyn VerifySignature,
) -> Result<(), CertificateError> {
    let (given_height, given) = (certificate.height, certificate.block);
    if (given_height, given) != (height, block) {
        return Err(CertificateError::OtherBlock { height, block, given_height, given });
    }
    let signed = signed_power(height, certificate, validators)?;
    let total = validators.total();
    // Before the signatures: a certificate that cannot suffice costs us nothing.
    if !is_quorum(signed, total) {
        return Err(CertificateError::Power { height, signed, total });
    }
    verify_signatures(chain_id, certificate, check)
}

/// The power in `validators` behind a certificate whose signatures nobody has checked.
fn signed_power(
    height: Height,
    certificate: &Certificate,
    validators: &ValidatorSet,
) -> Result<u128, CertificateError> {
    let signers = certificate.signatures.iter().map(|signature| signature.signer);
    if !signers.clone().is_sorted_by(|one, other| one < other) {
        return Err(CertificateError::Order { height });
    }
    signers
        .map(|signer| match validators.power(&signer) {
            0 => Err(CertificateError::Stranger { height, signer }),
            power => Ok(u128::from(power)),
        })
        .sum()
}

/// Checks every signature, whoever made it.
pub(crate) fn verify_signatures(
    chain_id: &ChainId,
    certificate: &Certificate,
    check: &dyn VerifySignature,
) -> Result<(), CertificateError> {
    let message = signing_bytes(chain_id, &certificate.vote());
    for commit in &certificate.signatures {
        if !check.verify(&commit.signer, &message, &commit.signature) {
            let (height, signer) = (certificate.height, commit.signer);
            return Err(CertificateError::Signature { height, signer });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use types::{Signature, TimeMs, block::BlockHeader, consensus::VoteKind};

    use super::*;
    use crate::testing::{Digests, certify_as, chain_id, key, set};

    const HEIGHT: Height = Height(9);

    fn header() -> BlockHeader {
        let zeros = Hash32([0; 32]);
        BlockHeader {
            height: HEIGHT,
            time: TimeMs(1),
            parent: zeros,
            txs_root: zeros,
            last_certificate: zeros,
            validators: zeros,
            next_validators: zeros,
            app_hash: zeros,
            proposer: key(1),
        }
    }

    /// What is found about a certificate of `signers` that `change` was done to. The validators are
    /// 1, 2, 3 and 4 with the powers 5, 1, 1, 1.
    fn check(
        signers: &[u8],
        change: impl FnOnce(&mut Certificate),
        expected: Result<(), CertificateError>,
    ) {
        let signers: Vec<PublicKey> = signers.iter().map(|&name| key(name)).collect();
        let mut certificate = certify_as(&chain_id(), VoteKind::Precommit, &header(), &signers);
        change(&mut certificate);
        found(&certificate, expected);
    }

    fn found(certificate: &Certificate, expected: Result<(), CertificateError>) {
        let validators = set(&[(1, 5), (2, 1), (3, 1), (4, 1)]);
        let block = (HEIGHT, header().hash());
        let found = verify_certificate(&chain_id(), block, certificate, &validators, &Digests);
        assert_eq!(found, expected);
    }

    fn too_little(signed: u128) -> Result<(), CertificateError> {
        Err(CertificateError::Power { height: HEIGHT, signed, total: 8 })
    }

    #[test]
    fn more_than_two_thirds_of_the_power_suffice_and_heads_do_not_count() {
        let as_it_is = |_: &mut Certificate| {};
        check(&[1, 2], as_it_is, Ok(()));
        check(&[1, 2, 3, 4], as_it_is, Ok(()));
        check(&[1], as_it_is, too_little(5));
        check(&[2, 3, 4], as_it_is, too_little(3));
        check(&[], as_it_is, too_little(0));
    }

    #[test]
    fn a_certificate_of_another_block_proves_nothing() {
        let (height, block) = (HEIGHT, header().hash());
        let other = |given_height, given| {
            Err(CertificateError::OtherBlock { height, block, given_height, given })
        };
        let wrong = Hash32([1; 32]);
        check(&[1, 2], |it| it.height = Height(10), other(Height(10), block));
        check(&[1, 2], |it| it.block = wrong, other(HEIGHT, wrong));
    }

    #[test]
    fn signers_stand_in_order_and_once() {
        let order = || Err(CertificateError::Order { height: HEIGHT });
        check(&[2, 1], |_| {}, order());
        check(&[1, 1], |_| {}, order());
        check(&[1, 2], |it| it.signatures.swap(0, 1), order());
    }

    #[test]
    fn strangers_do_not_count() {
        let signer = key(9);
        let stranger = Err(CertificateError::Stranger { height: HEIGHT, signer });
        check(&[1, 2, 9], |_| {}, stranger);
    }

    #[test]
    fn one_bad_signature_is_too_many() {
        let bad = |name| Err(CertificateError::Signature { height: HEIGHT, signer: key(name) });
        check(&[1, 2, 3], |it| it.signatures[2].signature = Signature([0; 64]), bad(3));
        // Signatures cover the round.
        check(&[1, 2], |it| it.round = 1, bad(1));
    }

    #[test]
    fn other_statements_of_the_same_keys_are_no_precommits() {
        let signers = [key(1), key(2)];
        let signer = key(1);
        let bad = || Err(CertificateError::Signature { height: HEIGHT, signer });
        found(&certify_as(&chain_id(), VoteKind::Prevote, &header(), &signers), bad());
        let elsewhere: ChainId = "elsewhere".parse().unwrap();
        found(&certify_as(&elsewhere, VoteKind::Precommit, &header(), &signers), bad());
    }

    #[test]
    fn a_set_of_nobody_decides_nothing() {
        let certificate = certify_as(&chain_id(), VoteKind::Precommit, &header(), &[]);
        let block = (HEIGHT, header().hash());
        let found = verify_certificate(&chain_id(), block, &certificate, &set(&[]), &Digests);
        assert_eq!(found, Err(CertificateError::Power { height: HEIGHT, signed: 0, total: 0 }));
    }
}
