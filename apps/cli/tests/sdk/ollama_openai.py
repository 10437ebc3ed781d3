"""Ollama's documented way to its OpenAI-compatible API: OpenAI's Python SDK with a base URL that ends in
`/v1/`. Those examples run here as documented, with our base URL and key in place of Ollama's.
"""

import openai
from harness import API_KEY, BASE_URL, MODEL, equal, main

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


main()
