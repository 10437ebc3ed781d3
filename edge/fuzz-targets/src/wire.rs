//! The frames between gateway and provider, and the JSON of clients and engines.

use ::wire::{
    api::{
        Dialect,
        embeddings::{self, Endpoint},
        ollama as ollama_api, openai,
    },
    frame,
    serve::{
        self, Accepted, LaneState, Open, Opening, Order, Refusal, Refused, Tally, ToGateway,
        ToGatewayControl, ToProvider, ToProviderControl,
    },
    upstream::{ollama, openai as openai_server},
};
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::BytesMut;
use keys::Ed25519;
use serde::de::DeserializeOwned;
use types::{
    Hash32, Lane, ModelId, Nusd, RequestId, TimeMs,
    ability::{Abilities, ToolAbility},
    channel::Voucher,
    inference::{
        Alternative, AnswerForm, Begun, ChatMessage, InferenceRequest, Inputs, Projection, Prompt,
        Role, Sampling, Span, TokenPiece,
    },
    offer::{EngineKind, ModelOffer, Offer},
    price::Price,
    sign::Signed,
    tools::{Tool, ToolCall, ToolChoice, Tools},
};

use crate::{
    network::{self, PAYER, PROVIDER, address, signed},
    statements,
};

/// Takes frames of `T` off `bytes` until one is not whole or not well-formed. A message that is let
/// through has no second form.
fn frames<T: BorshDeserialize + BorshSerialize>(
    bytes: &[u8],
    bytes_max: usize,
    mut each: impl FnMut(&T),
) -> bool {
    let mut buffer = BytesMut::from(bytes);
    let mut any = false;
    loop {
        let before = buffer.clone();
        let Ok(Some(message)) = frame::take::<T>(&mut buffer, bytes_max) else { return any };
        let taken = before.len() - buffer.len();
        let encoded = frame::encode(&message).unwrap_or_default();
        assert_eq!(before.get(..taken), Some(encoded.as_slice()), "a second form of a message");
        each(&message);
        any = true;
    }
}

/// What a provider sends a gateway.
pub(crate) fn to_gateway(bytes: &[u8]) -> bool {
    let control = frames(bytes, serve::CONTROL_FRAME_BYTES_MAX, |message| match message {
        ToGatewayControl::Hello { offer, .. } | ToGatewayControl::Offer(offer) => check(offer),
        ToGatewayControl::Leaving => {}
    });
    let request = frames(bytes, serve::TO_GATEWAY_FRAME_BYTES_MAX, |message| match message {
        ToGateway::Delta { pieces, .. } => {
            let _: Vec<Hash32> = pieces.iter().map(TokenPiece::transcript_leaf).collect();
            let Some(mut vectors) = inputs().vectors() else { return };
            let taken = pieces.iter().filter(|piece| vectors.take(piece).is_ok()).count();
            assert!(taken <= 2, "more vectors than inputs");
        }
        ToGateway::Opening { part, .. } => {
            if let Ok(opening) = Opening::decode(part) {
                assert_eq!(opening.encode(), *part);
            }
        }
        ToGateway::Accepted(_)
        | ToGateway::Refused(_)
        | ToGateway::Final(_)
        | ToGateway::Lanes(_) => {}
    });
    control || request
}

fn check(offer: &Signed<Offer>) {
    let _ = (offer.value.check(), offer.clone().verify(network::chain_id(), &Ed25519));
}

/// What a gateway sends a provider.
pub(crate) fn to_provider(bytes: &[u8]) -> bool {
    let control = frames::<ToProviderControl>(bytes, serve::CONTROL_FRAME_BYTES_MAX, |_| {});
    let request = frames(bytes, serve::TO_PROVIDER_FRAME_BYTES_MAX, |message| match message {
        ToProvider::Open(open) => {
            let request = &open.request;
            let _ = request.check();
            assert!(request.prompt.tokens_max() > 0);
            let _ = (serve::request_hash(request, &open.salt), open.order.value.hash());
        }
        ToProvider::Voucher(_)
        | ToProvider::Cancel
        | ToProvider::Acknowledge(_)
        | ToProvider::Sync { .. }
        | ToProvider::Disclose { .. } => {}
    });
    control || request
}

/// Two texts.
fn inputs() -> Prompt {
    let texts = vec!["one".to_owned(), "two".to_owned()];
    Prompt::Inputs(Inputs { texts, dimensions: None, truncate: false })
}

fn framed<T: BorshSerialize>(messages: &[T]) -> Vec<Vec<u8>> {
    messages.iter().filter_map(|message| frame::encode(message).ok()).collect()
}

const PRICE: Price = Price {
    request_nusd: Nusd(1),
    prompt_nusd_per_mtok: Nusd(2),
    completion_nusd_per_mtok: Nusd(3),
};

pub(crate) fn to_gateway_seeds() -> Vec<Vec<u8>> {
    let model = ModelOffer {
        model: ModelId([1; 32]),
        alias: "tiny".to_owned(),
        price: PRICE,
        context_tokens: 2_048,
        engine: EngineKind::Dummy,
        engine_version: "dummy 1".to_owned(),
        abilities: Abilities { tools: ToolAbility::Forced, ..Abilities::default() },
    };
    let offer = Offer {
        operator: address(PROVIDER),
        node_key: PROVIDER,
        models: vec![model.clone(), model],
        slots: 2,
        active: 1,
        sequence: 3,
        issued_at: TimeMs(4),
    };
    let offer = signed(offer, PROVIDER);
    let mut seeds = framed(&[
        ToGatewayControl::Hello { chain_id: network::chain_id().clone(), offer: offer.clone() },
        ToGatewayControl::Offer(offer),
        ToGatewayControl::Leaving,
    ]);
    let order = Hash32([5; 32]);
    let lane = LaneState { lane: Lane(1), charged: Nusd(5), voucher: Some(voucher()) };
    let alternative = Alternative { id: Some(9), bytes: b"x".to_vec(), logprob_micros: -2 };
    let piece = TokenPiece {
        span: Span::CallArguments,
        id: Some(8),
        bytes: b"word".to_vec(),
        logprob_micros: Some(-1),
        alternatives: vec![alternative],
        projection: Some(Projection([1, -2, 3, -4, 5, -6, 7, -8])),
    };
    let bytes = [0, 0, 0x80, 0x3f].repeat(3);
    let vector = TokenPiece { span: Span::Vector, bytes, ..TokenPiece::default() };
    let accepted = Accepted { order, prompt_tokens: Some(3), at: TimeMs(5) };
    let refused = Refused { order, reason: Refusal::LaneDiffers(lane.clone()), at: TimeMs(5) };
    seeds.extend(framed(&[
        ToGateway::Accepted(signed(accepted, PROVIDER)),
        ToGateway::Refused(signed(refused, PROVIDER)),
        ToGateway::Delta { pieces: vec![piece.clone(), piece], prompt_tokens: Some(3) },
        ToGateway::Delta { pieces: vec![vector.clone(), vector], prompt_tokens: None },
        ToGateway::Final(Box::new(signed(statements::report(5), PROVIDER))),
        ToGateway::Lanes(vec![lane]),
    ]));
    seeds
}

fn voucher() -> Signed<Voucher> {
    let channel = network::channel();
    signed(Voucher { channel, lane: Lane(1), sequence: 2, total: Nusd(50) }, PAYER)
}

pub(crate) fn to_provider_seeds() -> Vec<Vec<u8>> {
    let message = |role| ChatMessage::text(role, "say it".to_owned());
    let call =
        ToolCall { id: "a".to_owned(), name: "weather".to_owned(), arguments: "{}".to_owned() };
    let called = ChatMessage { calls: vec![call], ..message(Role::Assistant) };
    let result = ChatMessage { call_id: Some("a".to_owned()), ..message(Role::Tool) };
    let request = InferenceRequest {
        prompt: Prompt::Chat(vec![message(Role::System), message(Role::User), called, result]),
        sampling: Sampling {
            temperature_micros: Some(700_000),
            seed: Some(1),
            ..Sampling::default()
        },
        tokens_max: Some(16),
        stop: vec!["end".to_owned()],
        logprobs: Some(2),
        form: Some(AnswerForm::Schema("{}".to_owned())),
        begun: Some(Begun { text: "so far".to_owned(), ids: vec![1, 2] }),
        tools: Some(Tools {
            list: vec![Tool {
                name: "weather".to_owned(),
                description: Some("Tells it.".to_owned()),
                parameters: Some("{}".to_owned()),
                strict: true,
            }],
            choice: ToolChoice::Named("weather".to_owned()),
            parallel: false,
        }),
    };
    let salt = [6; 16];
    let order = Order {
        request_id: RequestId([1; 16]),
        attempt: 0,
        provider: address(PROVIDER),
        model: ModelId([1; 32]),
        prompt_hash: request.prompt.hash(&salt),
        request_hash: serve::request_hash(&request, &salt),
        price: PRICE,
        channel: network::channel(),
        lane: Lane(1),
        lane_total_before: Nusd(1),
        issued_at: TimeMs(1),
        timeout_ms: 60_000,
    };
    let order = signed(order, PAYER);
    let embed = Open {
        order: order.clone(),
        salt,
        request: InferenceRequest::of(inputs()),
        discloses: false,
        voucher: voucher(),
    };
    let acknowledgement = signed(statements::acknowledgement(5, None), PAYER);
    let mut seeds = framed(&[
        ToProvider::Open(Box::new(Open {
            order,
            salt,
            request,
            discloses: true,
            voucher: voucher(),
        })),
        ToProvider::Open(Box::new(embed)),
        ToProvider::Voucher(voucher()),
        ToProvider::Cancel,
        ToProvider::Acknowledge(acknowledgement),
        ToProvider::Sync { channel: network::channel() },
    ]);
    seeds.extend(framed(&[
        ToProviderControl::Welcome { payer: address(PAYER), payer_key: PAYER },
        ToProviderControl::Rejected { reason: "another network".to_owned() },
        ToProviderControl::Tallies(vec![Tally::new(ModelId([1; 32])); 2]),
    ]));
    seeds
}

/// Every endpoint that generates.
const DIALECTS: [Dialect; 6] = [
    Dialect::OpenAi(openai::Kind::Chat),
    Dialect::OpenAi(openai::Kind::Text),
    Dialect::Responses,
    Dialect::Ollama(ollama_api::Kind::Chat),
    Dialect::Ollama(ollama_api::Kind::Generate),
    Dialect::Anthropic,
];

/// The body of a request, after one byte that chooses the endpoint. What is let through is within
/// every limit.
pub(crate) fn api(bytes: &[u8]) -> bool {
    let Some((first, body)) = bytes.split_first() else { return false };
    let dialect = DIALECTS[usize::from(*first) % DIALECTS.len()];
    let _ = ollama_api::show_name(body);
    let embeds = embeds(body);
    let Ok(request) = dialect.parse(body) else { return embeds };
    assert_eq!(request.request.check(), Ok(()));
    assert!(!request.model.is_empty());
    true
}

/// Whether it is a request for vectors at some endpoint.
fn embeds(body: &[u8]) -> bool {
    let endpoints = [Endpoint::OpenAi, Endpoint::Ollama, Endpoint::OllamaSingle];
    let asked = endpoints.map(|endpoint| embeddings::parse(endpoint, body));
    for asked in asked.iter().flatten() {
        if let embeddings::Asked::Embeddings(asked) = asked {
            assert_eq!(asked.request.check(), Ok(()));
            assert!(asked.request.prompt.vectors().is_some());
        }
    }
    asked.iter().any(Result::is_ok)
}

pub(crate) fn api_seeds() -> Vec<Vec<u8>> {
    let chat = br#"{"model":"tiny","messages":[{"role":"system","content":"short"},{"role":"user",
        "content":[{"type":"text","text":"hi \u00e9"}]}],"stream":true,"stream_options":
        {"include_usage":true},"temperature":0.7,"top_p":1,"seed":7,"stop":["a","b"],
        "max_completion_tokens":16,"logprobs":true,"top_logprobs":2}"#;
    let text = br#"{"model":"tiny","prompt":"once","max_tokens":5,"logprobs":1,"stop":"x",
        "presence_penalty":-1.5,"frequency_penalty":2e0,"stream":false}"#;
    let response = br#"{"model":"tiny","instructions":"short","input":[{"type":"message","role":
        "user","content":[{"type":"input_text","text":"hi"}]}],"max_output_tokens":9,"stream":true,
        "text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[]}"#;
    let ollama_chat =
        br#"{"model":"tiny","messages":[{"role":"user","content":"hi"}],"think":false,
        "options":{"num_ctx":2048,"temperature":0.5,"num_predict":-1,"stop":"x","seed":-1},
        "keep_alive":"5m","format":""}"#;
    let generate = br#"{"model":"tiny","prompt":"once","raw":true,"stream":false,"logprobs":true}"#;
    let messages = br#"{"model":"tiny","max_tokens":16,"system":[{"type":"text","text":"short"}],
        "messages":[{"role":"user","content":"hi"}],"stop_sequences":["x"],"thinking":
        {"type":"disabled"},"metadata":{"user_id":"u"}}"#;
    let embeddings =
        br#"{"model":"tiny","input":["a","b"],"encoding_format":"base64","dimensions":3}"#;
    let embed = br#"{"model":"tiny","input":"a","truncate":true,"options":{"num_ctx":64}}"#;
    let bodies: [&[u8]; 8] =
        [chat, text, response, ollama_chat, generate, messages, embeddings, embed];
    (0u8..).zip(bodies).map(|(dialect, body)| [&[dialect], body].concat()).collect()
}

/// What an Ollama server answers, which is not ours and may be anything.
pub(crate) fn ollama(bytes: &[u8]) -> bool {
    let show = serde_json::from_slice::<ollama::Show>(bytes);
    if let Ok(show) = &show {
        let digest = show.weights_sha256();
        assert!(digest.is_none_or(|digest| digest.len() == 64));
        let _ = show.context_tokens();
    }
    show.is_ok()
        | parses::<ollama::Chunk>(bytes)
        | parses::<ollama::Tags>(bytes)
        | parses::<ollama::Version>(bytes)
        | parses::<ollama::Embeddings>(bytes)
        | vectors(bytes)
}

/// The same of servers with OpenAI's API.
fn vectors(bytes: &[u8]) -> bool {
    let answer = serde_json::from_slice::<openai_server::Embeddings>(bytes);
    for one in answer.iter().flat_map(|answer| &answer.data) {
        let _ = one.embedding.clone().into_bytes();
    }
    answer.is_ok()
}

fn parses<T: DeserializeOwned>(bytes: &[u8]) -> bool {
    serde_json::from_slice::<T>(bytes).is_ok()
}

pub(crate) fn ollama_seeds() -> Vec<Vec<u8>> {
    let digest = "ab".repeat(32);
    let show = format!(
        r#"{{"modelfile":"FROM /blobs/sha256-{digest}\n","template":"{{}}","renderer":"",
        "model_info":{{"llama.context_length":2048}},"capabilities":["completion"]}}"#
    );
    let chunk = r#"{"message":{"content":"hi"},"done":true,"done_reason":"stop","eval_count":2,
        "logprobs":[{"token":"hi","logprob":-0.1,"bytes":[104,105],"top_logprobs":[]}]}"#;
    let tags = r#"{"models":[{"name":"tiny:latest","digest":"ab","remote_host":null}]}"#;
    let embeddings = r#"{"embeddings":[[0.5,-1e-9]],"prompt_eval_count":2}"#;
    let vectors = r#"{"data":[{"index":0,"embedding":"AACAPw=="}],"usage":{"prompt_tokens":2}}"#;
    let version = r#"{"version":"0.12.6"}"#;
    [show.as_str(), chunk, tags, version, embeddings, vectors].map(Vec::from).to_vec()
}
