"""Anthropic's Python SDK against a gateway with a real model."""

import anthropic
from harness import API_KEY, BASE_URL, MODEL, equal, main, one_of, raises

HOST = BASE_URL.removesuffix("/v1")
client = anthropic.Anthropic(base_url=HOST, api_key=API_KEY, max_retries=0, timeout=60)
QUESTION = [{"role": "user", "content": "Tell me a story about a fox."}]


# The SDK has no parameter for it any more; the API has.
GREEDY = {"temperature": 0}


def ask(**options):
    options = {"max_tokens": 16, "model": MODEL, "messages": QUESTION, **options}
    return client.messages.create(**options)


def test_message():
    message = ask(system="Be brief.")
    assert message.id.startswith("msg_"), message.id
    equal((message.type, message.role, message.model), ("message", "assistant", MODEL))
    [block] = message.content
    equal(block.type, "text")
    assert block.text, "an empty answer"
    one_of(message.stop_reason, ["end_turn", "max_tokens"])
    assert message.usage.input_tokens > 0 and 0 < message.usage.output_tokens <= 16


def test_content_blocks_and_several_turns():
    blocks = [{"type": "text", "text": "Say "}, {"type": "text", "text": "hello."}]
    turns = [
        {"role": "user", "content": blocks},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Again."},
    ]
    assert ask(messages=turns, system=[{"type": "text", "text": "Be brief."}]).content


def test_stream_is_the_same_text():
    plain = ask(extra_body=GREEDY).content[0].text
    events = list(ask(extra_body=GREEDY, stream=True))
    kinds = [event.type for event in events]
    equal(kinds[:2], ["message_start", "content_block_start"])
    equal(kinds[-3:], ["content_block_stop", "message_delta", "message_stop"])
    deltas = [event.delta.text for event in events if event.type == "content_block_delta"]
    equal("".join(deltas), plain)
    usage = events[-2].usage
    assert usage.input_tokens > 0 and 0 < usage.output_tokens <= 16, usage


def test_the_sdks_own_stream_helper():
    with client.messages.stream(
        model=MODEL, max_tokens=16, messages=QUESTION, extra_body=GREEDY
    ) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    equal(final.content[0].text, text)
    assert final.stop_reason and final.usage.output_tokens > 0, final


def test_stop_sequences():
    whole = ask(extra_body=GREEDY, max_tokens=32).content[0].text
    word = whole.split()[2]
    cut = ask(extra_body=GREEDY, max_tokens=32, stop_sequences=[word])
    equal(cut.content[0].text, whole[: whole.index(word)])


def test_max_tokens():
    message = ask(max_tokens=3, extra_body=GREEDY)
    equal((message.usage.output_tokens, message.stop_reason), (3, "max_tokens"))


def test_errors_by_their_type():
    raises(anthropic.NotFoundError, lambda: ask(model="no-such-model"), status_code=404)
    error = raises(anthropic.BadRequestError, lambda: ask(extra_body={"temperature": 9}), status_code=400)
    equal(error.body["error"]["type"], "invalid_request_error")
    assert "temperature" in error.message, error
    tools = [{"name": "f", "input_schema": {"type": "object"}}]
    error = raises(anthropic.BadRequestError, lambda: ask(tools=tools), status_code=400)
    assert "tools" in error.message, error
    stranger = anthropic.Anthropic(base_url=HOST, api_key="wrong", max_retries=0)
    raises(
        anthropic.AuthenticationError,
        lambda: stranger.messages.create(model=MODEL, max_tokens=4, messages=QUESTION),
        status_code=401,
    )


def test_leaving_a_stream():
    with client.messages.stream(model=MODEL, max_tokens=200, messages=QUESTION) as stream:
        for _ in stream.text_stream:
            break
    assert ask(max_tokens=2).id


main()
