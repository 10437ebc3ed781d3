"""LiteLLM's SDK against a gateway, by each of the APIs that it can speak to one."""

import os

# It would ask for a list of prices on the internet.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # noqa: E402
from harness import API_KEY, BASE_URL, MODEL, equal, main, raises  # noqa: E402

HOST = BASE_URL.removesuffix("/v1")
QUESTION = [{"role": "user", "content": "Tell me a story about a fox."}]


def ask(provider, base, **options):
    return litellm.completion(
        model=f"{provider}/{MODEL}",
        api_base=base,
        api_key=API_KEY,
        messages=QUESTION,
        max_tokens=16,
        temperature=0,
        num_retries=0,
        **options,
    )


def check(provider, base):
    answer = ask(provider, base)
    text = answer.choices[0].message.content
    assert text, answer
    assert 0 < answer.usage.completion_tokens <= 16, answer.usage
    chunks = ask(provider, base, stream=True)
    equal("".join(chunk.choices[0].delta.content or "" for chunk in chunks), text)


def test_openai():
    check("openai", BASE_URL)


def test_ollama():
    check("ollama_chat", HOST)


def test_anthropic():
    check("anthropic", HOST)


def test_an_unknown_model():
    def missing():
        litellm.completion(
            model="openai/no-such-model", api_base=BASE_URL, api_key=API_KEY, messages=QUESTION
        )

    raises(litellm.NotFoundError, missing)


main()
