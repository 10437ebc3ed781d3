"""OpenAI's Python SDK against a gateway whose models are behaviours: what a client sees when a
provider fails, when nothing is delivered, and when the client itself leaves.

MODEL is unused; the models are those of the dummy engine.
"""

import time

import openai
from harness import API_KEY, BASE_URL, equal, main, one_of, raises

client = openai.OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0, timeout=60)
QUESTION = [{"role": "user", "content": "one two three four five six"}]


def ask(model, **options):
    return client.chat.completions.create(model=model, messages=QUESTION, **options)


def receipt(request_id):
    """The receipt of a request; it exists once the gateway has closed the books on it."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return client._client.get(
                f"{BASE_URL}/receipts/{request_id}", headers={"authorization": f"Bearer {API_KEY}"}
            ).raise_for_status().json()
        except Exception:
            if time.monotonic() > deadline:
                raise


def delivered_and_cost(request_id):
    statement = receipt(request_id)["receipt"]["acknowledgement"]["value"]
    cost = int(statement["lane_total"]) - int(statement["lane_total_before"])
    return statement["delivered_tokens"], cost


def test_an_echo_is_whole():
    equal(ask("dummy/echo").choices[0].message.content.strip(), QUESTION[0]["content"])


def test_an_answer_without_tokens_is_free():
    raw = client.chat.completions.with_raw_response.create(model="dummy/empty", messages=QUESTION)
    answer = raw.parse()
    equal(answer.choices[0].message.content, "")
    equal((answer.usage.completion_tokens, int(raw.headers["x-peerwatt-cost-nusd"])), (0, 0))


def test_a_refusal_is_an_error_with_a_status():
    error = raises(openai.APIStatusError, lambda: ask("dummy/refuses"))
    assert error.status_code in (502, 503), error


def test_a_provider_that_dies_is_an_error():
    error = raises(openai.APIStatusError, lambda: ask("dummy/dies-after-3-tokens"))
    assert error.status_code in (502, 503), error


def test_a_provider_that_dies_in_a_stream_is_an_error_after_what_arrived():
    stream = ask("dummy/dies-after-3-tokens", stream=True)
    arrived = []

    def read():
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                arrived.append(chunk.choices[0].delta.content)

    raises(openai.APIError, read)
    # Tokens that are ready together come in one chunk; the receipt has counted them.
    assert arrived
    delivered, cost = delivered_and_cost(stream.response.headers["x-request-id"])
    equal(delivered, 3)
    assert cost > 0


def test_a_client_that_leaves_pays_for_what_was_delivered():
    with ask("dummy/paced", stream=True) as stream:
        request_id = stream.response.headers["x-request-id"]
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                break
    delivered, cost = delivered_and_cost(request_id)
    assert 0 < delivered < 64, f"{delivered} of 64 tokens were delivered"
    assert cost > 0


def test_many_streams_at_once_are_each_whole():
    streams = [ask("dummy/64", stream=True) for _ in range(8)]
    for stream in streams:
        choices = [chunk.choices[0] for chunk in stream if chunk.choices]
        equal(len([choice for choice in choices if choice.delta.content]) <= 64, True)
        one_of(choices[-1].finish_reason, ["stop", "length"])


main()
