"""Embeddings by each of the Python clients, with a model whose vectors are the same of the same text."""

import os

# It would ask for a list of prices on the internet.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # noqa: E402
import ollama  # noqa: E402
import openai  # noqa: E402
from harness import API_KEY, BASE_URL, MODEL, equal, main, raises  # noqa: E402
from langchain_ollama import OllamaEmbeddings  # noqa: E402
from langchain_openai import OpenAIEmbeddings  # noqa: E402

HOST = BASE_URL.removesuffix("/v1")
TEXTS = ["a fox", "a hen and a fox", "a fox"]
client = openai.OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0, timeout=60)
native = ollama.Client(host=HOST, timeout=60)


def embed(**options):
    return client.embeddings.create(model=MODEL, input=TEXTS, **options)


def vectors(answer):
    return [one.embedding for one in answer.data]


def near(one, other):
    """Numbers as one client or another has rounded them."""
    equal(len(one), len(other))
    assert all(abs(a - b) < 1e-6 for a, b in zip(one, other)), (one, other)


def test_openai():
    # The SDK asks for Base64 unless told otherwise.
    answer = embed()
    equal((answer.object, answer.model), ("list", MODEL))
    equal([one.index for one in answer.data], [0, 1, 2])
    first, second, third = vectors(answer)
    equal(first, third)
    assert first != second and len(first) == len(second) == 8, answer
    # A token is a word here.
    equal((answer.usage.prompt_tokens, answer.usage.total_tokens), (9, 9))


def test_openai_as_numbers():
    equal(vectors(embed(encoding_format="float")), vectors(embed()))


def test_openai_of_one_text_and_of_another_size():
    answer = client.embeddings.create(model=MODEL, input="a fox", dimensions=3, user="somebody")
    [vector] = vectors(answer)
    near(vector, vectors(embed())[0][:3])


def test_openai_tells_id_and_cost():
    raw = client.embeddings.with_raw_response.create(model=MODEL, input="a fox")
    cost = int(raw.headers["x-peerwatt-cost-nusd"])
    longer = client.embeddings.with_raw_response.create(model=MODEL, input=["a fox", "a fox"])
    equal(int(longer.headers["x-peerwatt-cost-nusd"]), 2 * cost)
    assert len(raw.headers["x-request-id"]) == 32


def test_openai_errors():
    def ask(**body):
        return client.embeddings.create(**{"model": MODEL, "input": "a fox", **body})

    bad = openai.BadRequestError
    raises(bad, lambda: ask(input=[1, 2, 3]), param="input[0]")
    raises(bad, lambda: ask(input=[]), param="input")
    raises(bad, lambda: ask(input=["a", ""]), param="input")
    raises(bad, lambda: ask(dimensions=0), param="dimensions")
    raises(bad, lambda: ask(model="dummy/echo"), param="model")
    raises(openai.NotFoundError, lambda: ask(model="no-such-model"), code="model_not_found")
    question = [{"role": "user", "content": "Hello."}]
    raises(
        bad, lambda: client.chat.completions.create(model=MODEL, messages=question), param="model"
    )


def test_ollama():
    answer = native.embed(model=MODEL, input=TEXTS)
    equal(answer.model, MODEL)
    for one, other in zip(answer.embeddings, vectors(embed()), strict=True):
        near(one, other)
    equal(answer.prompt_eval_count, 9)
    assert answer.total_duration > 0
    options = {"num_ctx": 1_024, "temperature": 0}
    [vector] = native.embed(
        model=MODEL, input="a fox", truncate=True, options=options, keep_alive="5m", dimensions=4
    ).embeddings
    equal(len(vector), 4)
    near(native.embeddings(model=MODEL, prompt="a fox").embedding, answer.embeddings[0])
    equal(native.embed(model=MODEL, input="").embeddings, [])
    equal(native.show(MODEL).capabilities, ["embedding"])
    raises(ollama.ResponseError, lambda: native.embed(model="dummy/echo", input="a"), status_code=400)


def test_langchain():
    # It would send tokens of OpenAI's own models.
    by_openai = OpenAIEmbeddings(
        base_url=BASE_URL, api_key=API_KEY, model=MODEL, check_embedding_ctx_length=False
    )
    by_ollama = OllamaEmbeddings(base_url=HOST, model=MODEL)
    expected = vectors(embed())
    for model in (by_openai, by_ollama):
        for one, other in zip(model.embed_documents(TEXTS), expected, strict=True):
            near(one, other)
        near(model.embed_query("a fox"), expected[0])


def test_litellm():
    expected = vectors(embed())
    for provider, base in (("openai", BASE_URL), ("ollama", HOST)):
        answer = litellm.embedding(
            model=f"{provider}/{MODEL}", input=TEXTS, api_base=base, api_key=API_KEY
        )
        for one, other in zip(answer.data, expected, strict=True):
            near(one["embedding"], other)
        assert answer.usage.prompt_tokens > 0, answer.usage


main()
