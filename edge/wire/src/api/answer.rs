//! What every dialect says of an answer.

use types::{
    Address, ModelId, Nusd, RequestId, TimeMs,
    inference::{FinishReason, TokenPiece},
    tools::ToolCall,
};

/// What every part of an answer repeats.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    pub id: RequestId,
    pub created: TimeMs,
    /// The name that the client asked for.
    pub model: &'a str,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
}

/// How an answer went.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// All of its text; of a stream, that of its end is empty.
    pub text: &'a str,
    /// Given where log-probabilities were asked for.
    pub pieces: Option<&'a [TokenPiece]>,
    /// What it asks to be called, after its text. Of a stream, those of its end are none.
    pub calls: &'a [ToolCall],
    pub finish: FinishReason,
    pub usage: Usage,
    pub billing: &'a Billing,
    /// From the request to the first text, and to the end.
    pub first_token_ms: u64,
    pub total_ms: u64,
}

/// What the answer cost and where its receipt is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Billing {
    pub request_id: RequestId,
    pub cost: Nusd,
    /// Who gave the answer, or its end.
    pub provider: Address,
    /// The service outside the network that it was, by a name of letters, digits, `-`, `_` and `.`; its answer is not verified.
    pub upstream: Option<String>,
    /// Those that gave what came before, and failed.
    pub earlier: Vec<Address>,
    pub model: ModelId,
}

impl Billing {
    /// As one JSON object on one line.
    pub fn to_json(&self) -> String {
        let Billing { request_id, cost, provider, upstream, earlier, model } = self;
        let quoted: Vec<String> = earlier.iter().map(|earlier| format!(r#""{earlier}""#)).collect();
        let earlier = match quoted.is_empty() {
            true => String::new(),
            false => format!(r#","earlier_providers":[{}]"#, quoted.join(",")),
        };
        let upstream = upstream
            .as_ref()
            .map_or_else(String::new, |name| format!(r#","upstream":"{name}","verified":false"#));
        format!(
            r#"{{"request_id":"{request_id}","cost_nusd":"{cost}","provider":"{provider}"{upstream}{earlier},"model_id":"{model}","receipt":"/v1/receipts/{request_id}"}}"#
        )
    }
}
