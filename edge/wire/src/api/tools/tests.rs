//! The same tools, calls and results in every dialect.

use bytes::BytesMut;
use expect_test::expect;
use types::{
    inference::{ChatMessage, FinishReason, Prompt, Role},
    tools::{Tool, ToolCall, ToolChoice, Tools},
};

use crate::api::{
    Answer, Dialect, GenerationRequest, StreamWriter, ollama, openai,
    testing::{answer, head, refused},
};

const OPENAI: Dialect = Dialect::OpenAi(openai::Kind::Chat);
const OLLAMA: Dialect = Dialect::Ollama(ollama::Kind::Chat);

fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
}

/// A question, two calls, and their results.
fn conversation(ids: [&str; 2]) -> Vec<ChatMessage> {
    let result = |id: &str, text: &str| ChatMessage {
        call_id: Some(id.into()),
        ..ChatMessage::text(Role::Tool, text.into())
    };
    vec![
        ChatMessage::text(Role::User, "Weather?".into()),
        ChatMessage {
            calls: vec![
                call(ids[0], "weather", r#"{"city":"Rome"}"#),
                call(ids[1], "weather", r#"{"city":"Oslo"}"#),
            ],
            ..ChatMessage::text(Role::Assistant, "Let me see.".into())
        },
        result(ids[0], "sun"),
        result(ids[1], "snow"),
    ]
}

fn parsed(dialect: Dialect, body: &str) -> GenerationRequest {
    dialect.parse(body.as_bytes()).unwrap_or_else(|bad| panic!("{}", bad.message))
}

fn check(dialect: Dialect, body: &str, ids: [&str; 2], choice: ToolChoice, parallel: bool) {
    let request = parsed(dialect, body).request;
    assert_eq!(request.prompt, Prompt::Chat(conversation(ids)));
    let list = vec![
        Tool {
            name: "weather".into(),
            description: Some("Tells it.".into()),
            parameters: Some(r#"{"properties":{"city":{"type":"string"}},"type":"object"}"#.into()),
            strict: false,
        },
        Tool { name: "time".into(), description: None, parameters: None, strict: false },
    ];
    assert_eq!(request.tools, Some(Tools { list, choice, parallel }));
}

const SCHEMA: &str = r#"{"type": "object", "properties": {"city": {"type": "string"}}}"#;

#[test]
fn every_dialect_says_the_same() {
    let functions = format!(
        r#"[{{"type": "function", "function": {{"name": "weather", "description": "Tells it.", "parameters": {SCHEMA}}}}},
            {{"type": "function", "function": {{"name": "time"}}}}]"#
    );
    check(
        OPENAI,
        &format!(
            r#"{{"model": "m", "tools": {functions}, "tool_choice": "required", "parallel_tool_calls": false, "messages": [
                {{"role": "user", "content": "Weather?"}},
                {{"role": "assistant", "content": "Let me see.", "refusal": null, "tool_calls": [
                    {{"id": "a", "type": "function", "function": {{"name": "weather", "arguments": "{{\"city\":\"Rome\"}}"}}}},
                    {{"id": "b", "type": "function", "function": {{"name": "weather", "arguments": "{{\"city\":\"Oslo\"}}"}}}}]}},
                {{"role": "tool", "tool_call_id": "a", "name": "weather", "content": "sun"}},
                {{"role": "tool", "tool_call_id": "b", "content": [{{"type": "text", "text": "snow"}}]}}]}}"#
        ),
        ["a", "b"],
        ToolChoice::Required,
        false,
    );
    check(
        Dialect::Responses,
        &format!(
            r#"{{"model": "m", "tools": [{{"type": "function", "name": "weather", "description": "Tells it.", "parameters": {SCHEMA}}},
                {{"type": "function", "name": "time", "strict": false}}],
                "tool_choice": {{"type": "function", "name": "time"}}, "input": [
                {{"role": "user", "content": "Weather?"}},
                {{"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
                  "content": [{{"type": "output_text", "text": "Let me see.", "annotations": []}}]}},
                {{"type": "function_call", "id": "fc_1", "call_id": "a", "name": "weather", "arguments": "{{\"city\":\"Rome\"}}", "status": "completed"}},
                {{"type": "function_call", "call_id": "b", "name": "weather", "arguments": "{{\"city\":\"Oslo\"}}"}},
                {{"type": "function_call_output", "call_id": "a", "output": "sun"}},
                {{"type": "function_call_output", "call_id": "b", "output": [{{"type": "input_text", "text": "snow"}}]}}]}}"#
        ),
        ["a", "b"],
        ToolChoice::Named("time".into()),
        true,
    );
    check(
        Dialect::Anthropic,
        &format!(
            r#"{{"model": "m", "max_tokens": 9, "tools": [{{"name": "weather", "description": "Tells it.", "input_schema": {SCHEMA}}},
                {{"type": "custom", "name": "time", "input_schema": {{}}, "cache_control": {{"type": "ephemeral"}}}}],
                "tool_choice": {{"type": "any", "disable_parallel_tool_use": true}}, "messages": [
                {{"role": "user", "content": "Weather?"}},
                {{"role": "assistant", "content": [{{"type": "text", "text": "Let me see."}},
                    {{"type": "tool_use", "id": "a", "name": "weather", "input": {{"city": "Rome"}}}},
                    {{"type": "tool_use", "id": "b", "name": "weather", "input": {{"city": "Oslo"}}}}]}},
                {{"role": "user", "content": [{{"type": "tool_result", "tool_use_id": "a", "content": "sun"}},
                    {{"type": "tool_result", "tool_use_id": "b", "content": [{{"type": "text", "text": "snow"}}]}}]}}]}}"#
        ),
        ["a", "b"],
        ToolChoice::Required,
        false,
    );
    // Ollama's clients give no ids, and may leave out the names of results.
    check(
        OLLAMA,
        &format!(
            r#"{{"model": "m", "tools": {functions}, "messages": [
                {{"role": "user", "content": "Weather?"}},
                {{"role": "assistant", "content": "Let me see.", "tool_calls": [
                    {{"function": {{"name": "weather", "arguments": {{"city": "Rome"}}}}}},
                    {{"function": {{"name": "weather", "arguments": {{"city": "Oslo"}}}}}}]}},
                {{"role": "tool", "tool_name": "weather", "content": "sun"}},
                {{"role": "tool", "content": "snow"}}]}}"#
        ),
        ["call_0", "call_1"],
        ToolChoice::Auto,
        true,
    );
}

#[test]
fn a_result_without_its_call_is_taken_from_ollamas_clients() {
    let body = r#"{"model": "m", "messages": [{"role": "tool", "tool_name": "f", "content": "x"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "g"}}]},
        {"role": "tool", "tool_name": "f", "content": "y"}, {"role": "tool", "tool_name": "g", "content": "z"}]}"#;
    let Prompt::Chat(messages) = parsed(OLLAMA, body).request.prompt else { panic!("no chat") };
    let ids: Vec<Option<&str>> = messages.iter().map(|it| it.call_id.as_deref()).collect();
    assert_eq!(ids, [Some("call_0"), None, Some("call_2"), Some("call_1")]);
}

#[test]
fn no_tools_are_none() {
    let body = |more: &str| {
        format!(r#"{{"model": "m", "messages": [{{"role": "user", "content": "x"}}]{more}}}"#)
    };
    let tool = r#""tools": [{"type": "function", "function": {"name": "f"}}]"#;
    for more in ["", r#", "tools": []"#, r#", "tools": null, "tool_choice": "auto""#] {
        assert_eq!(parsed(OPENAI, &body(more)).request.tools, None);
    }
    let unwanted = body(&format!(r#", {tool}, "tool_choice": "none""#));
    assert_eq!(parsed(OPENAI, &unwanted).request.tools, None);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let user = r#""messages": [{"role": "user", "content": "x"}]"#;
    let function =
        |name: &str| format!(r#"{{"type": "function", "function": {{"name": "{name}"}}}}"#);
    let f = function("f");
    let bodies = [
        format!(r#"{{"model": "m", {user}, "tool_choice": "required"}}"#),
        format!(r#"{{"model": "m", {user}, "tools": [{f}], "tool_choice": {{"type": "function", "function": {{"name": "g"}}}}}}"#),
        format!(r#"{{"model": "m", {user}, "tools": [{f}], "tool_choice": "any"}}"#),
        format!(r#"{{"model": "m", {user}, "tools": [{f}, {f}]}}"#),
        format!(r#"{{"model": "m", {user}, "tools": [{}]}}"#, function("a b")),
        format!(r#"{{"model": "m", {user}, "tools": [{{"type": "web_search"}}]}}"#),
        format!(r#"{{"model": "m", {user}, "tools": [{{"type": "function", "function": {{"name": "f", "parameters": 7}}}}]}}"#),
        format!(
            r#"{{"model": "m", {user}, "tools": [{{"type": "function", "function": {{"name": "f", "mood": 1}}}}]}}"#
        ),
        format!(r#"{{"model": "m", {user}, "tools": [{f}], "response_format": {{"type": "json_object"}}}}"#),
        r#"{"model": "m", "messages": [{"role": "tool", "content": "x"}]}"#.to_owned(),
        r#"{"model": "m", "messages": [{"role": "user", "content": "x", "tool_call_id": "a"}]}"#.to_owned(),
        r#"{"model": "m", "messages": [{"role": "user", "content": "x", "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]}]}"#.to_owned(),
    ];
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    refused(
        OPENAI,
        &bodies,
        expect![[r#"
            tool_choice: tool_choice: give the tools to choose from
            tool_choice: tool_choice: names none of the tools
            tool_choice: tool_choice: is none, auto, required or a function by its name
            tools: tools: `f` is given twice
            tools: tools: letters, digits, _, -, ., : and / make a tool's name, 128 of them at most
            tools: tools: only functions are supported here
            tools: tools: a JSON Schema is an object
            tools: tools: unknown field `mood`
            tools: tools: cannot be had together with an answer in JSON
            tool_call_id: tool_call_id: name the call whose result it is
            tool_call_id: tool_call_id: belongs to a message of a tool
            tool_calls: tool_calls: belong to a message of the assistant
        "#]],
    );
    refused(
        Dialect::Anthropic,
        &[
            r#"{"model": "m", "max_tokens": 1, "messages": [{"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "a"}]}]}"#,
            r#"{"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]}]}"#,
            r#"{"model": "m", "max_tokens": 1, "tools": [{"type": "bash_20250124", "name": "bash"}], "messages": [{"role": "user", "content": "x"}]}"#,
            r#"{"model": "m", "max_tokens": 1, "tool_choice": {"type": "tool"}, "messages": [{"role": "user", "content": "x"}]}"#,
        ],
        expect![[r#"
            messages[0]: messages[0]: a tool_result belongs to the user
            messages[0]: messages[0]: a tool_use belongs to the assistant
            tools[0].type: tools[0].type: only tools that you run yourself are supported here
            tool_choice: tool_choice: its type is auto, any, none, or tool with a name
        "#]],
    );
    refused(
        Dialect::Responses,
        &[
            r#"{"model": "m", "input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}"#,
            r#"{"model": "m", "input": [{"type": "function_call_output", "output": "x"}]}"#,
            r#"{"model": "m", "input": "x", "tools": [{"type": "function"}]}"#,
        ],
        expect![[r#"
            input[0]: input[0]: a call has a call_id, a name and arguments
            input[0]: input[0]: the result of a call has a call_id and an output
            tools[0]: tools[0]: missing field `name`
        "#]],
    );
}

/// An answer with a text and two calls, the second of which was cut off.
fn calls() -> [ToolCall; 2] {
    [call("call_a", "weather", "{\n\"city\": \"R\u{f6}m\"}"), call("call_b", "time", "{\"zo")]
}

#[test]
fn answers() {
    let calls = calls();
    let mut shown = String::new();
    for dialect in [OPENAI, Dialect::Responses, Dialect::Anthropic, OLLAMA] {
        for text in ["Let me see.", ""] {
            let answer = Answer { calls: &calls, ..answer(text, None, FinishReason::Stop) };
            let body = dialect.answer(head(), &answer);
            let body = std::str::from_utf8(&body).unwrap();
            serde_json::from_str::<serde_json::Value>(body).unwrap();
            shown += body.trim_end();
            shown += "\n";
        }
    }
    expect![[r#"
        {"id":"chatcmpl-abababababababababababababababab","object":"chat.completion","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"message":{"role":"assistant","content":"Let me see.","refusal":null,"tool_calls":[{"id":"call_a","type":"function","function":{"name":"weather","arguments":"{\n\"city\": \"Röm\"}"}},{"id":"call_b","type":"function","function":{"name":"time","arguments":"{\"zo"}}]},"logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15}}
        {"id":"chatcmpl-abababababababababababababababab","object":"chat.completion","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":null,"tool_calls":[{"id":"call_a","type":"function","function":{"name":"weather","arguments":"{\n\"city\": \"Röm\"}"}},{"id":"call_b","type":"function","function":{"name":"time","arguments":"{\"zo"}}]},"logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15}}
        {"id":"resp_abababababababababababababababab","object":"response","created_at":1700000000,"status":"completed","error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":"llama \"8b\"","output":[{"id":"msg_abababababababababababababababab","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Let me see.","annotations":[],"logprobs":[]}]},{"id":"fc_abababababababababababababababab_1","type":"function_call","status":"completed","call_id":"call_a","name":"weather","arguments":"{\n\"city\": \"Röm\"}"},{"id":"fc_abababababababababababababababab_2","type":"function_call","status":"completed","call_id":"call_b","name":"time","arguments":"{\"zo"}],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":false,"temperature":null,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":null,"truncation":"disabled","usage":{"input_tokens":12,"input_tokens_details":{"cached_tokens":0},"output_tokens":3,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":15},"user":null,"metadata":{}}
        {"id":"resp_abababababababababababababababab","object":"response","created_at":1700000000,"status":"completed","error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":"llama \"8b\"","output":[{"id":"fc_abababababababababababababababab","type":"function_call","status":"completed","call_id":"call_a","name":"weather","arguments":"{\n\"city\": \"Röm\"}"},{"id":"fc_abababababababababababababababab_1","type":"function_call","status":"completed","call_id":"call_b","name":"time","arguments":"{\"zo"}],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":false,"temperature":null,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":null,"truncation":"disabled","usage":{"input_tokens":12,"input_tokens_details":{"cached_tokens":0},"output_tokens":3,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":15},"user":null,"metadata":{}}
        {"id":"msg_abababababababababababababababab","type":"message","role":"assistant","model":"llama \"8b\"","content":[{"type":"text","text":"Let me see."},{"type":"tool_use","id":"call_a","name":"weather","input":{ "city": "Röm"}},{"type":"tool_use","id":"call_b","name":"time","input":{"invalid_arguments":"{\"zo"}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":12,"output_tokens":3}}
        {"id":"msg_abababababababababababababababab","type":"message","role":"assistant","model":"llama \"8b\"","content":[{"type":"tool_use","id":"call_a","name":"weather","input":{ "city": "Röm"}},{"type":"tool_use","id":"call_b","name":"time","input":{"invalid_arguments":"{\"zo"}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":12,"output_tokens":3}}
        {"model":"llama \"8b\"","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":"Let me see.","tool_calls":[{"id":"call_a","function":{"index":0,"name":"weather","arguments":{ "city": "Röm"}}},{"id":"call_b","function":{"index":1,"name":"time","arguments":{"invalid_arguments":"{\"zo"}}}]},"done":true,"done_reason":"stop","total_duration":150000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":20000000,"eval_count":3,"eval_duration":130000000,"peerwatt":{"request_id":"abababababababababababababababab","cost_nusd":"1234","provider":"watt1qyqszqgpqyqszqgpqyqszqgpqyqszqgpmvwvrw","model_id":"0202020202020202020202020202020202020202020202020202020202020202","receipt":"/v1/receipts/abababababababababababababababab"}}
        {"model":"llama \"8b\"","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_a","function":{"index":0,"name":"weather","arguments":{ "city": "Röm"}}},{"id":"call_b","function":{"index":1,"name":"time","arguments":{"invalid_arguments":"{\"zo"}}}]},"done":true,"done_reason":"stop","total_duration":150000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":20000000,"eval_count":3,"eval_duration":130000000,"peerwatt":{"request_id":"abababababababababababababababab","cost_nusd":"1234","provider":"watt1qyqszqgpqyqszqgpqyqszqgpqyqszqgpmvwvrw","model_id":"0202020202020202020202020202020202020202020202020202020202020202","receipt":"/v1/receipts/abababababababababababababababab"}}
    "#]].assert_eq(&shown);
}

#[test]
fn streams() {
    let mut shown = String::new();
    for dialect in [OPENAI, Dialect::Responses, Dialect::Anthropic, OLLAMA] {
        let mut writer = StreamWriter::new(dialect, head(), false);
        let mut out = BytesMut::new();
        writer.begin(&mut out);
        writer.text(&mut out, "Let me see.", None);
        for call in calls() {
            let arguments = call.arguments.clone();
            let (first, rest) = arguments.split_at(2);
            writer.call(&mut out, ToolCall { arguments: String::new(), ..call });
            writer.arguments(&mut out, first);
            writer.arguments(&mut out, rest);
        }
        writer.end(&mut out, &answer("", None, FinishReason::Stop));
        for line in std::str::from_utf8(&out).unwrap().lines() {
            let data = line.strip_prefix("data: ").filter(|data| *data != "[DONE]");
            let json = data.or_else(|| line.starts_with('{').then_some(line));
            if let Some(json) = json {
                serde_json::from_str::<serde_json::Value>(json).unwrap();
            }
            // The rest of these events is shown by the dialects' own tests.
            if !line.starts_with(": peerwatt") && !line.contains(r#""response":{"id""#) {
                shown += line;
                shown += "\n";
            }
        }
    }
    expect![[r#"
        data: {"id":"chatcmpl-abababababababababababababababab","object":"chat.completion.chunk","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-abababababababababababababababab","object":"chat.completion.chunk","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"delta":{"content":"Let me see."},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-abababababababababababababababab","object":"chat.completion.chunk","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"weather","arguments":""}}]},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-abababababababababababababababab","object":"chat.completion.chunk","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\n"}}]},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-abababababababababababababababab","object":"chat.completion.chunk","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"city\": \"Röm\"}"}}]},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-abababababababababababababababab","object":"chat.completion.chunk","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_b","type":"function","function":{"name":"time","arguments":""}}]},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-abababababababababababababababab","object":"chat.completion.chunk","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"{\""}}]},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-abababababababababababababababab","object":"chat.completion.chunk","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"zo"}}]},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-abababababababababababababababab","object":"chat.completion.chunk","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls"}]}


        data: [DONE]

        event: response.created

        event: response.in_progress

        event: response.output_item.added
        data: {"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"id":"msg_abababababababababababababababab","type":"message","status":"in_progress","role":"assistant","content":[]}}

        event: response.content_part.added
        data: {"type":"response.content_part.added","sequence_number":3,"item_id":"msg_abababababababababababababababab","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}

        event: response.output_text.delta
        data: {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_abababababababababababababababab","output_index":0,"content_index":0,"logprobs":[],"delta":"Let me see."}

        event: response.output_text.done
        data: {"type":"response.output_text.done","sequence_number":5,"item_id":"msg_abababababababababababababababab","output_index":0,"content_index":0,"logprobs":[],"text":"Let me see."}

        event: response.content_part.done
        data: {"type":"response.content_part.done","sequence_number":6,"item_id":"msg_abababababababababababababababab","output_index":0,"content_index":0,"part":{"type":"output_text","text":"Let me see.","annotations":[],"logprobs":[]}}

        event: response.output_item.done
        data: {"type":"response.output_item.done","sequence_number":7,"output_index":0,"item":{"id":"msg_abababababababababababababababab","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Let me see.","annotations":[],"logprobs":[]}]}}

        event: response.output_item.added
        data: {"type":"response.output_item.added","sequence_number":8,"output_index":1,"item":{"id":"fc_abababababababababababababababab_1","type":"function_call","status":"in_progress","call_id":"call_a","name":"weather","arguments":""}}

        event: response.function_call_arguments.delta
        data: {"type":"response.function_call_arguments.delta","sequence_number":9,"item_id":"fc_abababababababababababababababab_1","output_index":1,"delta":"{\n"}

        event: response.function_call_arguments.delta
        data: {"type":"response.function_call_arguments.delta","sequence_number":10,"item_id":"fc_abababababababababababababababab_1","output_index":1,"delta":"\"city\": \"Röm\"}"}

        event: response.function_call_arguments.done
        data: {"type":"response.function_call_arguments.done","sequence_number":11,"item_id":"fc_abababababababababababababababab_1","output_index":1,"name":"weather","arguments":"{\n\"city\": \"Röm\"}"}

        event: response.output_item.done
        data: {"type":"response.output_item.done","sequence_number":12,"output_index":1,"item":{"id":"fc_abababababababababababababababab_1","type":"function_call","status":"completed","call_id":"call_a","name":"weather","arguments":"{\n\"city\": \"Röm\"}"}}

        event: response.output_item.added
        data: {"type":"response.output_item.added","sequence_number":13,"output_index":2,"item":{"id":"fc_abababababababababababababababab_2","type":"function_call","status":"in_progress","call_id":"call_b","name":"time","arguments":""}}

        event: response.function_call_arguments.delta
        data: {"type":"response.function_call_arguments.delta","sequence_number":14,"item_id":"fc_abababababababababababababababab_2","output_index":2,"delta":"{\""}

        event: response.function_call_arguments.delta
        data: {"type":"response.function_call_arguments.delta","sequence_number":15,"item_id":"fc_abababababababababababababababab_2","output_index":2,"delta":"zo"}

        event: response.function_call_arguments.done
        data: {"type":"response.function_call_arguments.done","sequence_number":16,"item_id":"fc_abababababababababababababababab_2","output_index":2,"name":"time","arguments":"{\"zo"}

        event: response.output_item.done
        data: {"type":"response.output_item.done","sequence_number":17,"output_index":2,"item":{"id":"fc_abababababababababababababababab_2","type":"function_call","status":"completed","call_id":"call_b","name":"time","arguments":"{\"zo"}}


        event: response.completed

        event: message_start
        data: {"type":"message_start","message":{"id":"msg_abababababababababababababababab","type":"message","role":"assistant","model":"llama \"8b\"","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}}

        event: content_block_start
        data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

        event: content_block_delta
        data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Let me see."}}

        event: content_block_stop
        data: {"type":"content_block_stop","index":0}

        event: content_block_start
        data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"call_a","name":"weather","input":{}}}

        event: content_block_delta
        data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\n"}}

        event: content_block_delta
        data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"\"city\": \"Röm\"}"}}

        event: content_block_stop
        data: {"type":"content_block_stop","index":1}

        event: content_block_start
        data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"call_b","name":"time","input":{}}}

        event: content_block_delta
        data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\""}}

        event: content_block_delta
        data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"zo"}}

        event: content_block_stop
        data: {"type":"content_block_stop","index":2}

        event: message_delta
        data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":12,"output_tokens":3}}


        event: message_stop
        data: {"type":"message_stop"}

        {"model":"llama \"8b\"","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":"Let me see."},"done":false}
        {"model":"llama \"8b\"","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_a","function":{"index":0,"name":"weather","arguments":{ "city": "Röm"}}}]},"done":false}
        {"model":"llama \"8b\"","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_b","function":{"index":1,"name":"time","arguments":{"invalid_arguments":"{\"zo"}}}]},"done":false}
        {"model":"llama \"8b\"","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":150000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":20000000,"eval_count":3,"eval_duration":130000000,"peerwatt":{"request_id":"abababababababababababababababab","cost_nusd":"1234","provider":"watt1qyqszqgpqyqszqgpqyqszqgpqyqszqgpmvwvrw","model_id":"0202020202020202020202020202020202020202020202020202020202020202","receipt":"/v1/receipts/abababababababababababababababab"}}
    "#]].assert_eq(&shown);
}
