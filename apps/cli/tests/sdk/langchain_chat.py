"""LangChain's chat models against a gateway, each through the API that it was made for."""

from harness import API_KEY, BASE_URL, MODEL, equal, main
from langchain_anthropic import ChatAnthropic
from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI

HOST = BASE_URL.removesuffix("/v1")
QUESTION = [("system", "Be brief."), ("human", "Tell me a story about a fox.")]


def check(model):
    answer = model.invoke(QUESTION)
    assert answer.content, answer
    usage = answer.usage_metadata
    assert usage["input_tokens"] > 0 and 0 < usage["output_tokens"] <= 16, usage
    parts = [part.text for part in model.stream(QUESTION)]
    assert len(parts) > 1, parts
    equal("".join(parts), answer.text)


def test_openai():
    check(
        ChatOpenAI(
            base_url=BASE_URL, api_key=API_KEY, model=MODEL, max_tokens=16, temperature=0, max_retries=0
        )
    )


def test_openai_by_responses():
    check(
        ChatOpenAI(
            base_url=BASE_URL,
            api_key=API_KEY,
            model=MODEL,
            max_tokens=16,
            temperature=0,
            max_retries=0,
            use_responses_api=True,
        )
    )


def test_ollama():
    headers = {"headers": {"Authorization": f"Bearer {API_KEY}"}}
    check(
        ChatOllama(
            base_url=HOST, model=MODEL, num_predict=16, temperature=0, client_kwargs=headers
        )
    )


def test_anthropic():
    check(
        ChatAnthropic(
            base_url=HOST, api_key=API_KEY, model=MODEL, max_tokens=16, temperature=0, max_retries=0
        )
    )


main()
