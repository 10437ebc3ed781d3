"""OpenAI's Python SDK against a gateway with a real model: answers, streams, sampling, models."""

import json

import openai
from harness import API_KEY, BASE_URL, MODEL, equal, main, one_of, raises

client = openai.OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0, timeout=60)
QUESTION = [{"role": "user", "content": "Tell me a story about a fox."}]


def chat(**options):
    return client.chat.completions.create(model=MODEL, messages=QUESTION, **options)


def complete(**options):
    return client.completions.create(model=MODEL, prompt="Once there was", **options)


def test_chat():
    answer = chat(max_tokens=24, seed=1)
    assert answer.id.startswith("chatcmpl-"), answer.id
    equal((answer.object, answer.model), ("chat.completion", MODEL))
    [choice] = answer.choices
    equal((choice.index, choice.message.role), (0, "assistant"))
    assert choice.message.content, "an empty answer"
    one_of(choice.finish_reason, ["stop", "length"])
    usage = answer.usage
    assert usage.prompt_tokens > 0 and 0 < usage.completion_tokens <= 24, usage
    equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)


def test_content_parts_and_the_developer_role():
    parts = [{"type": "text", "text": "Say "}, {"type": "text", "text": "hello."}]
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}],
        max_completion_tokens=8,
    )
    assert answer.choices[0].message.content


def test_a_plain_answer_tells_its_id_and_cost_in_headers():
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=QUESTION, max_tokens=8
    )
    answer = raw.parse()
    request_id = raw.headers["x-request-id"]
    equal(answer._request_id, request_id)
    assert request_id in answer.id, (request_id, answer.id)
    assert int(raw.headers["x-peerwatt-cost-nusd"]) > 0


def test_stream_with_usage():
    chunks = list(chat(max_tokens=24, seed=1, stream=True, stream_options={"include_usage": True}))
    equal({chunk.object for chunk in chunks}, {"chat.completion.chunk"})
    equal(len({chunk.id for chunk in chunks}), 1)
    *body, last = chunks
    equal(body[0].choices[0].delta.role, "assistant")
    assert all(chunk.usage is None for chunk in body)
    one_of(body[-1].choices[0].finish_reason, ["stop", "length"])
    equal(last.choices, [])
    assert last.usage.prompt_tokens > 0 and 0 < last.usage.completion_tokens <= 24, last.usage
    assert int(last.model_extra["peerwatt"]["cost_nusd"]) > 0, last


def test_stream_and_plain_answer_are_the_same_text():
    plain = chat(max_tokens=24, seed=7, temperature=0.7).choices[0].message.content
    chunks = chat(max_tokens=24, seed=7, temperature=0.7, stream=True)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    equal(streamed, plain)


def test_the_sdks_own_stream_helper():
    # The helper takes an answer cut by `max_tokens` for an error, so a stop sequence ends this one.
    options = {"temperature": 0, "stop": ["."]}
    with client.chat.completions.stream(model=MODEL, messages=QUESTION, **options) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"content.delta", "content.done"} <= kinds, kinds
    assert final.choices[0].message.content


def test_seed_makes_an_answer_repeatable():
    answers = [chat(max_tokens=24, seed=seed, temperature=1.0) for seed in (3, 3, 4, 5, 6)]
    texts = [answer.choices[0].message.content for answer in answers]
    equal(texts[0], texts[1])
    assert len(set(texts)) > 1, "every seed gives one text"


def test_temperature_zero_is_repeatable_without_a_seed():
    texts = {chat(max_tokens=24, temperature=0).choices[0].message.content for _ in range(2)}
    equal(len(texts), 1)


def test_max_tokens():
    for option in ("max_tokens", "max_completion_tokens"):
        answer = chat(temperature=0, **{option: 3})
        equal((answer.usage.completion_tokens, answer.choices[0].finish_reason), (3, "length"))


def test_stop():
    whole = chat(max_tokens=32, temperature=0).choices[0].message.content
    word = whole.split()[2]
    for stop in (word, [word, "never said"]):
        answer = chat(max_tokens=32, temperature=0, stop=stop)
        equal(answer.choices[0].message.content, whole[: whole.index(word)])
        equal(answer.choices[0].finish_reason, "stop")


def test_logprobs():
    answer = chat(max_tokens=6, temperature=0, logprobs=True, top_logprobs=3)
    tokens = answer.choices[0].logprobs.content
    equal(len(tokens), answer.usage.completion_tokens)
    equal("".join(token.token for token in tokens), answer.choices[0].message.content)
    for token in tokens:
        assert token.logprob <= 0 and bytes(token.bytes).decode() == token.token, token
        assert 1 <= len(token.top_logprobs) <= 3, token
        # The likeliest token was taken, so it leads its alternatives.
        equal(token.top_logprobs[0].token, token.token)
        ranked = [other.logprob for other in token.top_logprobs]
        equal(ranked, sorted(ranked, reverse=True))


def test_logprobs_in_a_stream():
    chunks = chat(max_tokens=6, temperature=0, logprobs=True, stream=True)
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    tokens = [it.token for choice in choices if choice.logprobs for it in choice.logprobs.content]
    equal("".join(tokens), "".join(choice.delta.content or "" for choice in choices))


def test_completion():
    answer = complete(max_tokens=12, temperature=0)
    assert answer.id.startswith("cmpl-"), answer.id
    equal((answer.object, answer.choices[0].index), ("text_completion", 0))
    assert answer.choices[0].text
    assert 0 < answer.usage.completion_tokens <= 12


def test_completion_stream():
    plain = complete(max_tokens=12, temperature=0).choices[0].text
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *body, last = list(complete(max_tokens=12, temperature=0, **options))
    equal("".join(chunk.choices[0].text for chunk in body), plain)
    equal(last.choices, [])
    assert last.usage.completion_tokens > 0


def test_completion_logprobs():
    logprobs = complete(max_tokens=4, temperature=0, logprobs=2).choices[0].logprobs
    equal(len(logprobs.tokens), len(logprobs.token_logprobs))
    equal(len(logprobs.tokens), len(logprobs.text_offset))
    equal(logprobs.text_offset[0], 0)
    assert all(value <= 0 for value in logprobs.token_logprobs)


def test_models():
    models = client.models.list().data
    assert MODEL in [model.id for model in models], models
    one = client.models.retrieve(MODEL)
    equal((one.id, one.object), (MODEL, "model"))
    pinned = one.model_extra["peerwatt"]["model_id"]
    answer = client.chat.completions.create(model=pinned, messages=QUESTION, max_tokens=2)
    assert answer.choices[0].message.content is not None


def test_unknown_model():
    def ask():
        return client.chat.completions.create(model="no-such-model", messages=QUESTION)

    error = raises(openai.NotFoundError, ask, status_code=404, code="model_not_found")
    assert MODEL in error.message, "the message does not list what there is"
    raises(openai.NotFoundError, lambda: client.models.retrieve("no-such-model"), status_code=404)


def test_bad_key():
    for key in ("wrong", "pw-0000000000000000000000000000"):
        stranger = openai.OpenAI(base_url=BASE_URL, api_key=key, max_retries=0)
        raises(
            openai.AuthenticationError,
            lambda: stranger.chat.completions.create(model=MODEL, messages=QUESTION),
            status_code=401,
            code="invalid_api_key",
        )


def test_bad_fields_are_named():
    for param, options in {
        "temperature": {"temperature": 9},
        "max_tokens": {"max_tokens": 0},
        "top_logprobs": {"logprobs": True, "top_logprobs": 99},
        "stop": {"stop": [""]},
        "n": {"n": 2},
        "tools": {"tools": [{"type": "function", "function": {"name": "f"}}]},
    }.items():
        raises(openai.BadRequestError, lambda: chat(**options), status_code=400, param=param)

    def with_messages(messages):
        return lambda: client.chat.completions.create(model=MODEL, messages=messages)

    raises(openai.BadRequestError, with_messages([]), param="messages")
    nobody = [{"role": "nobody", "content": "Hello."}]
    raises(openai.BadRequestError, with_messages(nobody), param="messages[0].role")


def test_bad_json():
    answer = client._client.post(
        BASE_URL + "/chat/completions",
        content=b'{"model": ',
        headers={"authorization": f"Bearer {API_KEY}", "content-type": "application/json"},
    )
    equal(answer.status_code, 400)
    equal(json.loads(answer.content)["error"]["type"], "invalid_request_error")


main()
