//! The vectors of an answer: each travels as one piece of little-endian 32-bit floats. What claims to be one is
//! checked here by its bytes, on either side, before anything is done with it.

use crate::{
    inference::{Inputs, Span, TokenPiece},
    limits,
};

/// Bytes of one number.
const NUMBER_BYTES: usize = 4;
/// The exponent of a 32-bit float. All ones: infinite, or not a number.
const EXPONENT: u32 = 0x7f80_0000;

/// The vectors that a request asks for, and how many of them have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vectors {
    /// One of each input, in their order.
    wanted: usize,
    taken: usize,
    /// Numbers of each: as was asked for, else those of the first one.
    dimensions: Option<usize>,
}

/// What is wrong with a vector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadVector {
    #[error("something that is no vector, or a vector that nobody asked for")]
    Span,
    #[error("a vector of {bytes} bytes")]
    Bytes { bytes: usize },
    #[error("a vector of {dimensions} numbers among those of {expected}")]
    Dimensions { dimensions: usize, expected: usize },
    #[error("a number that is not finite")]
    NotFinite,
    #[error("more vectors than there are inputs")]
    TooMany,
    #[error(
        "vectors of more than {} bytes together; send fewer inputs at once",
        limits::VECTORS_BYTES_MAX
    )]
    TooLong,
    #[error("{taken} vectors of {wanted} inputs")]
    TooFew { taken: usize, wanted: usize },
}

impl Vectors {
    pub fn of(inputs: &Inputs) -> Vectors {
        let dimensions = inputs.dimensions.and_then(|count| usize::try_from(count).ok());
        Vectors { wanted: inputs.texts.len(), taken: 0, dimensions }
    }

    /// Takes the next piece of the answer.
    pub fn take(&mut self, piece: &TokenPiece) -> Result<(), BadVector> {
        if piece.span != Span::Vector || piece.id.is_some() || !piece.alternatives.is_empty() {
            return Err(BadVector::Span);
        }
        if self.taken >= self.wanted {
            return Err(BadVector::TooMany);
        }
        let dimensions = dimensions(&piece.bytes)?;
        let expected = *self.dimensions.get_or_insert(dimensions);
        if dimensions != expected {
            return Err(BadVector::Dimensions { dimensions, expected });
        }
        // Known with the first one, so nobody makes the rest in vain.
        if piece.bytes.len().saturating_mul(self.wanted) > limits::VECTORS_BYTES_MAX {
            return Err(BadVector::TooLong);
        }
        self.taken = self.taken.saturating_add(1);
        Ok(())
    }

    /// Whether all have come.
    pub fn whole(&self) -> Result<(), BadVector> {
        let Vectors { wanted, taken, .. } = *self;
        if taken == wanted { Ok(()) } else { Err(BadVector::TooFew { taken, wanted }) }
    }
}

/// How many numbers the bytes of a vector are, if they are one.
fn dimensions(bytes: &[u8]) -> Result<usize, BadVector> {
    let (numbers, rest) = bytes.as_chunks::<NUMBER_BYTES>();
    let fits = (1..=limits::VECTOR_DIMENSIONS_MAX).contains(&numbers.len());
    if !rest.is_empty() || !fits {
        return Err(BadVector::Bytes { bytes: bytes.len() });
    }
    let is_finite =
        |number: &[u8; NUMBER_BYTES]| u32::from_le_bytes(*number) & EXPONENT != EXPONENT;
    if !numbers.iter().all(is_finite) {
        return Err(BadVector::NotFinite);
    }
    Ok(numbers.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bits of a float, of which `core/` has none.
    const ONE: u32 = 0x3f80_0000;

    fn piece(numbers: &[u32]) -> TokenPiece {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        TokenPiece { span: Span::Vector, bytes, ..TokenPiece::default() }
    }

    fn wanted(count: usize, dimensions: Option<u32>) -> Vectors {
        let texts = vec!["a".to_owned(); count];
        Vectors::of(&Inputs { texts, dimensions, truncate: false })
    }

    #[test]
    fn what_is_no_vector_is_refused() {
        let check = |piece: &TokenPiece, expected: Result<(), BadVector>| {
            assert_eq!(wanted(2, None).take(piece), expected, "{piece:?}");
        };
        // Zeros, the smallest number and the largest ones.
        check(&piece(&[0, 0x8000_0000, 1, ONE, 0x7f7f_ffff, 0xff7f_ffff]), Ok(()));
        check(&piece(&[ONE, 0x7fc0_0000]), Err(BadVector::NotFinite));
        check(&piece(&[0xff80_0000]), Err(BadVector::NotFinite));
        check(&piece(&[]), Err(BadVector::Bytes { bytes: 0 }));
        let odd = TokenPiece { bytes: vec![0; 7], ..piece(&[]) };
        check(&odd, Err(BadVector::Bytes { bytes: 7 }));
        check(&piece(&[ONE; limits::VECTOR_DIMENSIONS_MAX]), Ok(()));
        let long = 4 * (limits::VECTOR_DIMENSIONS_MAX + 1);
        check(
            &piece(&[ONE; limits::VECTOR_DIMENSIONS_MAX + 1]),
            Err(BadVector::Bytes { bytes: long }),
        );
        check(&TokenPiece { span: Span::Text, ..piece(&[ONE]) }, Err(BadVector::Span));
        check(&TokenPiece { id: Some(1), ..piece(&[ONE]) }, Err(BadVector::Span));
    }

    #[test]
    fn vectors_are_alike_and_as_many_as_inputs() {
        let mut vectors = wanted(2, None);
        assert_eq!(vectors.take(&piece(&[ONE, 0])), Ok(()));
        assert_eq!(vectors.whole(), Err(BadVector::TooFew { taken: 1, wanted: 2 }));
        let other = vectors.take(&piece(&[ONE]));
        assert_eq!(other, Err(BadVector::Dimensions { dimensions: 1, expected: 2 }));
        assert_eq!(vectors.take(&piece(&[0, ONE])), Ok(()));
        assert_eq!(vectors.whole(), Ok(()));
        assert_eq!(vectors.take(&piece(&[ONE, ONE])), Err(BadVector::TooMany));
        let asked = wanted(1, Some(3)).take(&piece(&[ONE]));
        assert_eq!(asked, Err(BadVector::Dimensions { dimensions: 1, expected: 3 }));
    }

    #[test]
    fn many_long_vectors_are_too_much() {
        let long = piece(&[ONE; limits::VECTOR_DIMENSIONS_MAX]);
        let count = limits::VECTORS_BYTES_MAX / long.bytes.len();
        assert_eq!(wanted(count, None).take(&long), Ok(()));
        assert_eq!(wanted(count + 1, None).take(&long), Err(BadVector::TooLong));
    }
}
