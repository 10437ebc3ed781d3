//! What a provider reported of up to 32 tokens, as the bytes whose hash stands in the transcript.
//!
//! A leaf is the count of its tokens (one byte), then of each token its id (three bytes), the count of
//! its candidates (one byte), its projection if the highest bit of that count is set (eight times two bytes), and of each
//! candidate its id (three bytes) and its log-probability (two bytes, see [`Logprob`]). All numbers are little-endian. That is
//! 104 bytes for a token with 20 candidates, and 120 with a projection.

use types::inference::{PROJECTION_SUMS, Projection, TokenPiece};

use crate::logits::{CANDIDATES_MAX, Candidates};

/// Tokens of a leaf; only the last leaf of a transcript may have fewer.
pub const LEAF_TOKENS_MAX: usize = 32;
/// Bytes of the longest leaf.
pub const LEAF_BYTES_MAX: usize =
    1 + LEAF_TOKENS_MAX * (4 + PROJECTION_SUMS * 2 + CANDIDATES_MAX * 5);
/// Set in the count of candidates of a token that has a projection.
const PROJECTED: u8 = 0x80;
/// Ids are below this: real vocabularies stay below 300 000.
pub const ID_END: u32 = 1 << 24;
/// Stands for a token whose id was not told, or is none. No candidate has it, so it is never drawn.
pub const ID_UNTOLD: u32 = ID_END - 1;

/// A log-probability in 16 bits: steps of 0.000 1 nat where it is above −1.638 4, of 0.000 2 above −4.915 2,
/// of 0.001 above −21.299 2, of 0.008 down to −152.363 2, below which all are that. So the probability is
/// within 5 · 10⁻⁵ of itself where it matters for a draw. (A fixed step would be too coarse there or end
/// too early: replayed from three decimals, 6.5 · 10⁻⁴ of honest tokens mismatch, from four none.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Logprob(pub u16);

/// Where each quarter of the codes begins and its step, in millionths of a nat below zero.
const QUARTERS: [(u32, u32); 4] =
    [(0, 100), (1_638_400, 200), (4_915_200, 1_000), (21_299_200, 8_000)];
/// Bits of a code that count the steps within its quarter.
const QUARTER_BITS: u32 = 14;

impl Logprob {
    /// The nearest, the less likely of two equally near. What is above zero is taken for zero.
    pub fn of_micros(micros: i32) -> Logprob {
        let below = micros.min(0).unsigned_abs();
        let quarters = QUARTERS.iter().zip(0u32..);
        let of = quarters.filter(|((start, _), _)| *start <= below).last();
        let ((start, step), quarter) = of.unwrap_or((&(0, 100), 0));
        let steps = below.saturating_sub(*start).saturating_add(step / 2).checked_div(*step);
        // A step beyond the quarter is the next one's first: the same number.
        let code = (quarter << QUARTER_BITS).saturating_add(steps.unwrap_or(0));
        Logprob(u16::try_from(code).unwrap_or(u16::MAX))
    }

    /// In millionths of a nat, zero or below.
    pub fn micros(self) -> i32 {
        let (quarter, steps) = (self.0 >> QUARTER_BITS, u32::from(self.0 & 0x3fff));
        let (start, step) = QUARTERS.get(usize::from(quarter)).copied().unwrap_or((0, 0));
        let below = start.saturating_add(steps.saturating_mul(step));
        i32::try_from(below).unwrap_or(i32::MAX).saturating_neg()
    }
}

/// A candidate of one token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeafCandidate {
    pub id: u32,
    pub logprob: Logprob,
}

/// A token and what else was likely. Invariant: ids are below [`ID_END`], candidates at most
/// [`CANDIDATES_MAX`], the likeliest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeafToken {
    id: u32,
    candidates: Vec<LeafCandidate>,
    projection: Option<Projection>,
}

/// Why something is no leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LeafError {
    #[error("token id {id} takes more than 24 bits")]
    Id { id: u32 },
    #[error("{count} tokens, a leaf has 1 to {LEAF_TOKENS_MAX}")]
    Tokens { count: usize },
    #[error("{count} candidates of a token, at most {CANDIDATES_MAX}")]
    Candidates { count: usize },
    #[error("the candidates are not sorted, the likeliest first")]
    Unsorted,
    #[error("the bytes end too early")]
    Short,
    #[error("{count} bytes are left over")]
    Long { count: usize },
}

impl LeafToken {
    /// From what an engine reported, `(id, log-probability in millionths of a nat)`, in any order. Those that
    /// are equally likely keep theirs.
    pub fn new(id: u32, reported: &[(u32, i32)]) -> Result<LeafToken, LeafError> {
        let count = reported.len();
        if count > CANDIDATES_MAX {
            return Err(LeafError::Candidates { count });
        }
        let ids = std::iter::once(&id).chain(reported.iter().map(|(id, _)| id));
        if let Some(&id) = ids.into_iter().find(|id| **id >= ID_END) {
            return Err(LeafError::Id { id });
        }
        let mut reported: Vec<(u32, i32)> = reported.to_vec();
        reported.sort_by_key(|(_, micros)| std::cmp::Reverse(*micros));
        let coded = |(id, micros)| LeafCandidate { id, logprob: Logprob::of_micros(micros) };
        let candidates = reported.into_iter().map(coded).collect();
        Ok(LeafToken { id, candidates, projection: None })
    }

    /// What an engine said of a token. Whatever a peer sends has such a form: what has no place in a leaf is left out,
    /// which makes the token one that was reported in part.
    pub fn of_piece(piece: &TokenPiece) -> LeafToken {
        let sound = |id: Option<u32>| id.filter(|id| *id < ID_UNTOLD);
        let told =
            piece.alternatives.iter().filter_map(|it| Some((sound(it.id)?, it.logprob_micros)));
        let told: Vec<(u32, i32)> = told.take(CANDIDATES_MAX).collect();
        let id = sound(piece.id).unwrap_or(ID_UNTOLD);
        let token = LeafToken::new(id, &told);
        let bare = LeafToken { id, candidates: Vec::new(), projection: None };
        LeafToken { projection: piece.projection, ..token.unwrap_or(bare) }
    }

    /// The same with a projection of all logits of its step.
    pub fn projected(self, projection: Option<Projection>) -> LeafToken {
        LeafToken { projection, ..self }
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    pub fn candidates(&self) -> &[LeafCandidate] {
        &self.candidates
    }

    pub fn projection(&self) -> Option<&Projection> {
        self.projection.as_ref()
    }

    /// What it is drawn from.
    pub fn reported(&self) -> Candidates {
        Candidates::reported(self.candidates.iter().map(|it| (it.id, it.logprob.micros())))
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        write_id(self.id, bytes);
        let count = u8::try_from(self.candidates.len()).unwrap_or(u8::MAX);
        bytes.push(count | if self.projection.is_some() { PROJECTED } else { 0 });
        bytes.extend(self.projection.iter().flat_map(|it| it.0).flat_map(i16::to_le_bytes));
        for candidate in &self.candidates {
            write_id(candidate.id, bytes);
            bytes.extend(candidate.logprob.0.to_le_bytes());
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<LeafToken, LeafError> {
        let id = reader.id()?;
        let [count] = reader.take()?;
        let is_projected = count & PROJECTED != 0;
        let count = usize::from(count & !PROJECTED);
        if count > CANDIDATES_MAX {
            return Err(LeafError::Candidates { count });
        }
        let projection = if is_projected { Some(reader.projection()?) } else { None };
        let mut candidates = Vec::with_capacity(count);
        for _ in 0..count {
            let id = reader.id()?;
            candidates
                .push(LeafCandidate { id, logprob: Logprob(u16::from_le_bytes(reader.take()?)) });
        }
        if !candidates.is_sorted_by_key(|candidate| candidate.logprob) {
            return Err(LeafError::Unsorted);
        }
        Ok(LeafToken { id, candidates, projection })
    }
}

/// The canonical bytes of a leaf.
pub fn encode(tokens: &[LeafToken]) -> Result<Vec<u8>, LeafError> {
    let count = u8::try_from(tokens.len()).unwrap_or(u8::MAX);
    check_count(usize::from(count))?;
    let mut bytes = vec![count];
    for token in tokens {
        token.write(&mut bytes);
    }
    Ok(bytes)
}

/// The tokens of a leaf. What it accepts, [`encode`] turns into the same bytes.
pub fn decode(bytes: &[u8]) -> Result<Vec<LeafToken>, LeafError> {
    let mut reader = Reader(bytes);
    let [count] = reader.take()?;
    check_count(usize::from(count))?;
    let tokens = (0..count).map(|_| LeafToken::read(&mut reader)).collect::<Result<_, _>>()?;
    match reader.0.len() {
        0 => Ok(tokens),
        count => Err(LeafError::Long { count }),
    }
}

fn check_count(count: usize) -> Result<(), LeafError> {
    if (1..=LEAF_TOKENS_MAX).contains(&count) { Ok(()) } else { Err(LeafError::Tokens { count }) }
}

fn write_id(id: u32, bytes: &mut Vec<u8>) {
    let [low, middle, high, _] = id.to_le_bytes();
    bytes.extend([low, middle, high]);
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], LeafError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(LeafError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn id(&mut self) -> Result<u32, LeafError> {
        let [low, middle, high] = self.take()?;
        Ok(u32::from_le_bytes([low, middle, high, 0]))
    }

    fn projection(&mut self) -> Result<Projection, LeafError> {
        let mut projection = Projection::default();
        for sum in &mut projection.0 {
            *sum = i16::from_le_bytes(self.take()?);
        }
        Ok(projection)
    }
}

#[cfg(test)]
mod tests;
