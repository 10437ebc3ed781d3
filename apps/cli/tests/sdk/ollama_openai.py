"""What somebody who comes from Ollama's Python world can do with a gateway.

Ollama's documentation of its OpenAI-compatible API uses OpenAI's Python SDK with a base URL that
ends in `/v1/`. Those examples run here as documented, with our base URL and key in place of
Ollama's. The `ollama` package itself speaks Ollama's native API (`/api/chat`, `/api/tags`), which a
gateway does not serve: what is checked of it is that it gets an error which says so.
"""

import ollama
import openai
from harness import API_KEY, BASE_URL, MODEL, equal, main, raises

client = openai.OpenAI(base_url=BASE_URL + "/", api_key=API_KEY, max_retries=0, timeout=60)


def test_chat_completion_as_documented():
    chat_completion = client.chat.completions.create(
        messages=[{"role": "user", "content": "Say this is a test"}], model=MODEL, max_tokens=16
    )
    assert chat_completion.choices[0].message.content


def test_stream_as_documented():
    stream = client.chat.completions.create(
        messages=[{"role": "user", "content": "Say this is a test"}],
        model=MODEL,
        max_tokens=16,
        stream=True,
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text


def test_completion_as_documented():
    completion = client.completions.create(model=MODEL, prompt="Say this is a test", max_tokens=16)
    assert completion.choices[0].text


def test_models_as_documented():
    assert MODEL in [model.id for model in client.models.list()]
    equal(client.models.retrieve(MODEL).id, MODEL)


def test_the_native_client_is_told_that_its_api_is_not_served():
    root = BASE_URL.removesuffix("/v1")
    native = ollama.Client(host=root, headers={"Authorization": f"Bearer {API_KEY}"})
    for call in (
        native.list,
        lambda: native.chat(model=MODEL, messages=[{"role": "user", "content": "Hello."}]),
        lambda: list(native.generate(model=MODEL, prompt="Hello.", stream=True)),
    ):
        error = raises(ollama.ResponseError, call, status_code=404)
        # The SDK takes `error` out of a JSON body; what is not JSON would still look like HTML.
        assert "message" in error.error and "<" not in str(error.error), error.error


main()
