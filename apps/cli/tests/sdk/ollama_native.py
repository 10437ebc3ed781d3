"""Ollama's Python package against a gateway: nothing but the host is changed.

The gateway was started with `--keyless`, so it needs no key, like an Ollama server.
"""

import ollama
from harness import API_KEY, BASE_URL, MODEL, equal, main, one_of, raises

HOST = BASE_URL.removesuffix("/v1")
client = ollama.Client(host=HOST, timeout=60)
QUESTION = [{"role": "user", "content": "Tell me a story about a fox."}]


def chat(**more):
    options = {"num_predict": 16, "seed": 1, **more.pop("options", {})}
    return client.chat(model=MODEL, messages=QUESTION, options=options, **more)


def test_chat():
    answer = chat()
    equal((answer.model, answer.done), (MODEL, True))
    one_of(answer.done_reason, ["stop", "length"])
    equal(answer.message.role, "assistant")
    assert answer.message.content, "an empty answer"
    assert answer.prompt_eval_count > 0 and 0 < answer.eval_count <= 16, answer
    assert answer.total_duration > 0 and answer.created_at, answer


def test_chat_stream_is_the_same_text():
    plain = chat().message.content
    *parts, last = list(chat(stream=True))
    equal("".join(part.message.content for part in [*parts, last]), plain)
    assert not any(part.done for part in parts) and last.done
    assert last.eval_count > 0, last


def test_generate():
    options = {"num_predict": 12, "temperature": 0}
    plain = client.generate(model=MODEL, prompt="Once there was", options=options)
    assert plain.response and plain.done, plain
    parts = client.generate(model=MODEL, prompt="Once there was", options=options, stream=True)
    equal("".join(part.response for part in parts), plain.response)


def test_a_raw_prompt_is_continued():
    answer = client.generate(
        model=MODEL, prompt="Once upon a", raw=True, options={"num_predict": 4, "temperature": 0}
    )
    chat = client.generate(model=MODEL, prompt="Once upon a", options={"num_predict": 4, "temperature": 0})
    assert answer.response
    assert answer.prompt_eval_count < chat.prompt_eval_count, "the template was put around it"


def test_a_system_message():
    answer = client.generate(
        model=MODEL, prompt="Hello.", system="Be brief.", options={"num_predict": 4}
    )
    assert answer.response is not None


def test_options():
    answers = [chat(options={"temperature": 1.0, "seed": seed}) for seed in (3, 3, 4, 5, 6)]
    texts = [answer.message.content for answer in answers]
    equal(texts[0], texts[1])
    assert len(set(texts)) > 1, "every seed gives one text"
    whole = chat(options={"temperature": 0, "num_predict": 32}).message.content
    word = whole.split()[2]
    cut = chat(options={"temperature": 0, "num_predict": 32, "stop": [word]})
    equal((cut.message.content, cut.done_reason), (whole[: whole.index(word)], "stop"))
    equal(chat(options={"num_predict": 3, "temperature": 0}).eval_count, 3)
    # Those about the machine are its provider's business.
    assert chat(options={"num_ctx": 128, "num_thread": 2, "num_gpu": 0}, keep_alive="5m").done


def test_logprobs():
    answer = chat(options={"temperature": 0}, logprobs=True, top_logprobs=2)
    equal("".join(token.token for token in answer.logprobs), answer.message.content)
    assert all(token.logprob <= 0 and len(token.top_logprobs) >= 1 for token in answer.logprobs)


def test_models():
    listed = client.list().models
    assert MODEL in [model.model for model in listed], listed
    shown = client.show(MODEL)
    equal(shown.capabilities, ["completion"])
    architecture = shown.modelinfo["general.architecture"]
    assert shown.modelinfo[f"{architecture}.context_length"] > 0, shown.modelinfo
    assert MODEL in [model.model for model in client.ps().models]


def test_loading_a_model_is_no_generation():
    equal(client.generate(model=MODEL).done_reason, "load")


def test_an_unknown_model():
    for call in (
        lambda: client.chat(model="no-such-model", messages=QUESTION),
        lambda: list(client.generate(model="no-such-model", prompt="Hello.", stream=True)),
        lambda: client.show("no-such-model"),
    ):
        error = raises(ollama.ResponseError, call, status_code=404)
        assert MODEL in error.error, "the message does not list what there is"


def test_what_cannot_be_honoured_is_refused_by_name():
    def tool(city: str) -> str:
        """The weather."""

    for name, more in {
        "tools": {"tools": [tool]},
        "format": {"format": "json"},
        "think": {"think": True},
        "options.mirostat": {"options": {"mirostat": 1}},
        "options.temperature": {"options": {"temperature": 9}},
    }.items():
        error = raises(ollama.ResponseError, lambda: chat(**more), status_code=400)
        assert name in error.error, error


def test_a_key_is_taken_and_a_wrong_one_refused():
    known = ollama.Client(host=HOST, headers={"Authorization": f"Bearer {API_KEY}"})
    assert known.chat(model=MODEL, messages=QUESTION, options={"num_predict": 2}).done
    stranger = ollama.Client(host=HOST, headers={"Authorization": "Bearer wrong"})
    raises(ollama.ResponseError, stranger.list, status_code=401)


def test_leaving_a_stream():
    for part in chat(stream=True, options={"num_predict": 200}):
        break
    assert chat(options={"num_predict": 2}).done


main()
