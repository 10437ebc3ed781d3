//! Bodies in, bodies out: whole, as a client sends and sees them.

use expect_test::{Expect, expect};
use proptest::prelude::*;
use types::{inference::Prompt, limits};

use super::*;
use crate::api::{
    BadRequest,
    testing::{BILLING, check_json, head},
};

/// What was understood, or what is wrong.
fn shown(endpoint: Endpoint, body: &str) -> String {
    match parse(endpoint, body.as_bytes()) {
        Ok(Asked::Loading { model }) => format!("load {model}"),
        Ok(Asked::Embeddings(asked)) => {
            let EmbeddingRequest { model, request, encoding, context_tokens_min } = *asked;
            let Prompt::Inputs(inputs) = &request.prompt else { panic!("{request:?}") };
            assert_eq!(request, types::inference::InferenceRequest::of(request.prompt.clone()));
            let context = context_tokens_min.map(|tokens| format!(" in {tokens}"));
            format!("{model} {encoding:?} {inputs:?}{}", context.unwrap_or_default())
        }
        Err(BadRequest { param, message }) => {
            format!("{}: {message}", param.as_deref().unwrap_or("-"))
        }
    }
}

fn check(endpoint: Endpoint, bodies: &[&str], expect: Expect) {
    let lines = bodies.iter().map(|body| shown(endpoint, body) + "\n");
    expect.assert_eq(&lines.collect::<String>());
}

#[test]
fn openais_requests() {
    check(
        Endpoint::OpenAi,
        &[
            r#"{"model": "m", "input": "a \"ü\""}"#,
            r#"{"model": "m", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 256, "user": "u1"}"#,
            r#"{"model": "m", "input": ["a"], "encoding_format": "float", "dimensions": null, "user": null}"#,
        ],
        expect![[r#"
            m Float Inputs { texts: ["a \"ü\""], dimensions: None, truncate: false }
            m Base64 Inputs { texts: ["a", "b"], dimensions: Some(256), truncate: false }
            m Float Inputs { texts: ["a"], dimensions: None, truncate: false }
        "#]],
    );
}

#[test]
fn openais_requests_that_are_refused() {
    check(
        Endpoint::OpenAi,
        &[
            r#"{"input": "a"}"#,
            r#"{"model": "m"}"#,
            r#"{"model": "m", "input": []}"#,
            r#"{"model": "m", "input": ""}"#,
            r#"{"model": "m", "input": ["a", ""]}"#,
            r#"{"model": "m", "input": [15, 16]}"#,
            r#"{"model": "m", "input": ["a", [15, 16]]}"#,
            r#"{"model": "m", "input": ["a", null]}"#,
            r#"{"model": "m", "input": {"text": "a"}}"#,
            r#"{"model": "m", "input": "a", "dimensions": 0}"#,
            r#"{"model": "m", "input": "a", "dimensions": 8193}"#,
            r#"{"model": "m", "input": "a", "dimensions": -1}"#,
            r#"{"model": "m", "input": "a", "encoding_format": "int8"}"#,
            r#"{"model": "m", "input": "a", "input_type": "query"}"#,
            r#"{"model": "m", "input": "a"} x"#,
        ],
        expect![[r#"
            model: model: give the name of a model; GET /v1/models lists them
            input: input: give a text, or a list of texts
            input: input: 1 to 2048 texts
            input: input: an empty text has no vector
            input: input: an empty text has no vector
            input[0]: input[0]: token ids are of the vocabulary that they were made with; send text
            input[1]: input[1]: token ids are of the vocabulary that they were made with; send text
            input[1]: input[1]: invalid type: null, expected a text
            input: input: invalid type: map, expected a text or a list of texts
            dimensions: dimensions: 1 to 8192
            dimensions: dimensions: 1 to 8192
            dimensions: dimensions: invalid value: integer `-1`, expected u32
            encoding_format: encoding_format: unknown variant `int8`, expected `float` or `base64`
            input_type: input_type: unknown field `input_type`
            -: the body is not valid JSON: trailing characters at line 1 column 30
        "#]],
    );
    let many = format!(r#"{{"model": "m", "input": {:?}}}"#, vec!["a"; limits::INPUTS_MAX + 1]);
    expect!["input: input: 1 to 2048 texts"].assert_eq(&shown(Endpoint::OpenAi, &many));
    let long = "a".repeat(limits::PROMPT_BYTES_MAX / 2 + 1);
    let long = format!(r#"{{"model": "m", "input": ["{long}", "{long}"]}}"#);
    expect!["input: input: at most 4194304 bytes of text"]
        .assert_eq(&shown(Endpoint::OpenAi, &long));
}

#[test]
fn ollamas_requests() {
    check(
        Endpoint::Ollama,
        &[
            r#"{"model": "m", "input": "a"}"#,
            r#"{"model": "m", "input": ["a", "b"], "truncate": true, "dimensions": 4, "keep_alive": "5m",
                "options": {"num_ctx": 512, "temperature": 0, "seed": null, "use_mmap": true}}"#,
            r#"{"model": "m", "input": "a", "truncate": false, "dimensions": 0, "keep_alive": -1}"#,
            r#"{"model": "m"}"#,
            r#"{"model": "m", "input": []}"#,
            r#"{"model": "m", "input": "", "options": null}"#,
            r#"{"input": "a"}"#,
            r#"{"model": "m", "input": ["a", ""]}"#,
            r#"{"model": "m", "input": "a", "options": {"speed": 9}}"#,
            r#"{"model": "m", "input": "a", "prompt": "b"}"#,
        ],
        expect![[r#"
            m Float Inputs { texts: ["a"], dimensions: None, truncate: false }
            m Float Inputs { texts: ["a", "b"], dimensions: Some(4), truncate: true } in 512
            m Float Inputs { texts: ["a"], dimensions: None, truncate: false }
            load m
            load m
            load m
            model: model: give the name of a model; GET /v1/models lists them
            input: input: an empty text has no vector
            options: options: unknown field `speed`
            prompt: prompt: unknown field `prompt`
        "#]],
    );
    check(
        Endpoint::OllamaSingle,
        &[
            r#"{"model": "m", "prompt": "a", "options": {"num_ctx": 512}, "keep_alive": 0}"#,
            r#"{"model": "m", "prompt": ""}"#,
            r#"{"model": "m", "prompt": ["a"]}"#,
            r#"{"model": "m", "input": "a"}"#,
        ],
        expect![[r#"
            m Float Inputs { texts: ["a"], dimensions: None, truncate: false } in 512
            load m
            prompt: prompt: invalid type: sequence, expected a string
            input: input: unknown field `input`
        "#]],
    );
}

fn body(endpoint: Endpoint, encoding: Encoding, vectors: &[&[f32]]) -> Vec<u8> {
    let bytes = |vector: &&[f32]| vector.iter().flat_map(|it| it.to_le_bytes()).collect();
    let answer = Answer { encoding, prompt_tokens: 12, billing: &BILLING, total_ms: 150 };
    let vectors = vectors.iter().map(bytes).collect();
    Body::new(endpoint, head(), &answer, vectors).flatten().collect()
}

#[test]
fn answers() {
    let vectors: [&[f32]; 2] = [&[0.1, -1.0, 1e-40], &[16_777_216.0, f32::MAX, -0.0]];
    let of = |endpoint, encoding| body(endpoint, encoding, &vectors);
    check_json(
        &of(Endpoint::OpenAi, Encoding::Float),
        expect![[
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1,-1.0,1e-40]},{"object":"embedding","index":1,"embedding":[16777216.0,3.4028235e38,-0.0]}],"model":"llama \"8b\"","usage":{"prompt_tokens":12,"total_tokens":12}}"#
        ]],
    );
    check_json(
        &of(Endpoint::OpenAi, Encoding::Base64),
        expect![[
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":"zczMPQAAgL/CFgEA"},{"object":"embedding","index":1,"embedding":"AACAS///f38AAACA"}],"model":"llama \"8b\"","usage":{"prompt_tokens":12,"total_tokens":12}}"#
        ]],
    );
    check_json(
        &of(Endpoint::Ollama, Encoding::Float),
        expect![[
            r#"{"model":"llama \"8b\"","embeddings":[[0.1,-1.0,1e-40],[16777216.0,3.4028235e38,-0.0]],"total_duration":150000000,"load_duration":0,"prompt_eval_count":12,"peerwatt":{"request_id":"abababababababababababababababab","cost_nusd":"1234","provider":"watt1qyqszqgpqyqszqgpqyqszqgpqyqszqgpmvwvrw","model_id":"0202020202020202020202020202020202020202020202020202020202020202","receipt":"/v1/receipts/abababababababababababababababab"}}"#
        ]],
    );
    let single = body(Endpoint::OllamaSingle, Encoding::Float, &vectors[..1]);
    check_json(
        &single,
        expect![[
            r#"{"embedding":[0.1,-1.0,1e-40],"peerwatt":{"request_id":"abababababababababababababababab","cost_nusd":"1234","provider":"watt1qyqszqgpqyqszqgpqyqszqgpqyqszqgpmvwvrw","model_id":"0202020202020202020202020202020202020202020202020202020202020202","receipt":"/v1/receipts/abababababababababababababababab"}}"#
        ]],
    );
    check_json(
        &loaded(Endpoint::Ollama, head()),
        expect![[r#"{"model":"llama \"8b\"","embeddings":[]}"#]],
    );
    check_json(&loaded(Endpoint::OllamaSingle, head()), expect![[r#"{"embedding":[]}"#]]);
}

proptest! {
    /// Either way a client has the numbers that the provider made, bit by bit.
    #[test]
    fn numbers_survive(numbers in proptest::collection::vec(any::<u32>(), 1..40)) {
        let numbers: Vec<f32> = numbers.into_iter().map(f32::from_bits).collect();
        prop_assume!(numbers.iter().all(|number| number.is_finite()));
        let plain = body(Endpoint::OpenAi, Encoding::Float, &[&numbers]);
        let plain: crate::upstream::openai::Embeddings = serde_json::from_slice(&plain).unwrap();
        let base64 = body(Endpoint::OpenAi, Encoding::Base64, &[&numbers]);
        let base64: crate::upstream::openai::Embeddings = serde_json::from_slice(&base64).unwrap();
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        for answer in [plain, base64] {
            let read = answer.data[0].embedding.clone().into_bytes();
            prop_assert_eq!(read.as_deref(), Some(bytes.as_slice()));
        }
    }
}
