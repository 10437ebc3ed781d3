//! Limits on what a peer may send, and bounded reading of variable-length borsh values.
//!
//! Borsh's own `Vec` and `String` readers grow with what actually arrives, so a length prefix alone
//! allocates little; these limits bound what a message may hold after it was read.

use borsh::{BorshDeserialize, io};

/// Characters of a chain id. Long enough for a readable name, short enough to sit in every signature.
pub const CHAIN_ID_BYTES_MAX: usize = 48;
/// Bytes of one transaction. A redemption of 1 024 vouchers is about 176 KiB.
pub const TX_BYTES_MAX: usize = 192 * 1024;
/// Transactions in one block; bounds the time a block takes to execute.
pub const BLOCK_TXS_MAX: usize = 2_000;
/// Validators of one height; at most as many as its parameter may say.
pub const VALIDATORS_MAX: usize = 256;
/// Bytes of all transactions of one block.
pub const BLOCK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Vouchers in one redemption.
pub const VOUCHERS_PER_REDEEM_MAX: usize = 1_024;
/// Lanes of one channel: requests in flight from one payer to one provider.
pub const LANES_MAX: u32 = 256;
/// Receipts of one commitment for audits: an opening's proof has at most 12 nodes, and 1 % of them are 41.
pub const AUDIT_RECEIPTS_MAX: u32 = 4_096;
/// Responses that one piece of evidence is about: more tokens than any threshold needs.
pub const EVIDENCE_RESPONSES_MAX: usize = 64;
/// Addresses under which a gateway can be dialled.
pub const GATEWAY_ADDRS_MAX: usize = 8;
/// Characters of a provider's region and class.
pub const PROFILE_TAG_BYTES_MAX: usize = 32;
/// Characters of a human-readable name (alias of a model, moniker, region).
pub const NAME_BYTES_MAX: usize = 96;
/// Models in one provider's offer and in its registration.
pub const OFFER_MODELS_MAX: usize = 64;
/// Messages of one chat. Long agent sessions reach hundreds.
pub const CHAT_MESSAGES_MAX: usize = 2_048;
/// Bytes of all text of one request. One million tokens are about four million bytes.
pub const PROMPT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Stop sequences of one request (OpenAI allows 4, llama.cpp more) and bytes of each.
pub const STOP_SEQUENCES_MAX: usize = 16;
pub const STOP_BYTES_MAX: usize = 256;
/// Bytes of the JSON Schema that an answer must fit. Those of large tools reach 20 KiB.
pub const SCHEMA_BYTES_MAX: usize = 64 * 1024;
/// Tools of one request (OpenAI allows 128), and bytes of the name of each and of a call's id.
pub const TOOLS_MAX: usize = 128;
pub const TOOL_NAME_BYTES_MAX: usize = 128;
/// Calls in one message.
pub const TOOL_CALLS_MAX: usize = 128;
/// Completion tokens of one request.
pub const COMPLETION_TOKENS_MAX: u32 = 131_072;
/// Bytes of one delivered token. Real vocabularies stay below 200.
pub const TOKEN_BYTES_MAX: usize = 1_024;
/// Texts of one request for vectors (OpenAI: 2 048).
pub const INPUTS_MAX: usize = 2_048;
/// Numbers of one vector. The largest models of today make 4 096.
pub const VECTOR_DIMENSIONS_MAX: usize = 8_192;
/// Bytes of all vectors of one answer, which are held until the last one is there: 2 048 of 2 048 numbers.
pub const VECTORS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most that `top_k` may say; more than any vocabulary.
pub const TOP_K_MAX: u32 = 1_000_000;
/// Alternatives reported with a token (OpenAI: `top_logprobs` up to 20).
pub const TOP_LOGPROBS_MAX: u8 = 20;
/// Bytes of one p2p frame: the largest prompt, a schema, and the ids of the
/// longest answer that may be gone on with.
pub const FRAME_BYTES_MAX: usize = PROMPT_BYTES_MAX + 1024 * 1024;

/// Reads a borsh string of at most `bytes_max` bytes without trusting its length prefix.
pub fn read_string<R: io::Read>(reader: &mut R, bytes_max: usize) -> io::Result<String> {
    let len = usize::try_from(u32::deserialize_reader(reader)?)
        .map_err(|_| invalid("a string is longer than memory"))?;
    if len > bytes_max {
        return Err(invalid("a string is longer than its limit"));
    }
    let mut bytes = vec![0; len];
    reader.read_exact(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| invalid("a string is not UTF-8"))
}

/// Reads a borsh string of at most [`NAME_BYTES_MAX`] bytes.
pub fn read_name<R: io::Read>(reader: &mut R) -> io::Result<String> {
    read_string(reader, NAME_BYTES_MAX)
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// A value from the canonical bytes of a peer: at most `bytes_max` long, nothing left over.
pub fn decode<T: BorshDeserialize>(bytes: &[u8], bytes_max: usize) -> Result<T, DecodeError> {
    if bytes.len() > bytes_max {
        return Err(DecodeError::TooLong { bytes: bytes.len(), bytes_max });
    }
    borsh::from_slice(bytes).map_err(|source| DecodeError::Malformed { reason: source.to_string() })
}

/// Why bytes are not a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("{bytes} bytes are more than the {bytes_max} allowed")]
    TooLong { bytes: usize, bytes_max: usize },
    #[error("the bytes are not in canonical form: {reason}")]
    Malformed { reason: String },
}
