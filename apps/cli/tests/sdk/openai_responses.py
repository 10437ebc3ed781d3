"""OpenAI's Python SDK against a gateway with a real model: responses."""

import openai
from harness import API_KEY, BASE_URL, MODEL, equal, main, one_of, raises

client = openai.OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0, timeout=60)
QUESTION = "Tell me a story about a fox."


def ask(**options):
    options = {"model": MODEL, "input": QUESTION, "max_output_tokens": 16, **options}
    return client.responses.create(**options)


def test_response():
    response = ask(instructions="Be brief.", store=False)
    assert response.id.startswith("resp_"), response.id
    equal((response.object, response.model, response.error), ("response", MODEL, None))
    one_of(response.status, ["completed", "incomplete"])
    [item] = response.output
    equal((item.type, item.role), ("message", "assistant"))
    assert response.output_text, "an empty answer"
    usage = response.usage
    assert usage.input_tokens > 0 and 0 < usage.output_tokens <= 16, usage
    equal(usage.total_tokens, usage.input_tokens + usage.output_tokens)


def test_the_conversation_is_sent_each_time():
    first = ask()
    turns = [{"role": "user", "content": QUESTION}, *first.output]
    turns.append({"role": "user", "content": [{"type": "input_text", "text": "Go on."}]})
    assert ask(input=turns).output_text


def test_stream_is_the_same_text():
    plain = ask(temperature=0).output_text
    events = list(ask(temperature=0, stream=True))
    equal([event.sequence_number for event in events], list(range(len(events))))
    equal(events[0].type, "response.created")
    one_of(events[-1].type, ["response.completed", "response.incomplete"])
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    equal("".join(deltas), plain)
    equal(events[-1].response.output_text, plain)


def test_the_sdks_own_stream_helper():
    options = {"temperature": 0, "max_output_tokens": 200}
    with client.responses.stream(model=MODEL, input=QUESTION, **options) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert "response.output_text.delta" in kinds, kinds
    assert final.output_text


def test_an_answer_that_is_cut_is_incomplete():
    response = ask(max_output_tokens=3, temperature=0)
    equal((response.status, response.usage.output_tokens), ("incomplete", 3))
    equal(response.incomplete_details.reason, "max_output_tokens")


def test_errors():
    raises(openai.NotFoundError, lambda: ask(model="no-such-model"), code="model_not_found")
    for param, options in {
        "previous_response_id": {"previous_response_id": "resp_1"},
        "store": {"store": True},
        "tools[0].type": {"tools": [{"type": "web_search"}]},
        "temperature": {"temperature": 9},
    }.items():
        raises(openai.BadRequestError, lambda: ask(**options), status_code=400, param=param)


main()
