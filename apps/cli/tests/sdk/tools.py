"""Tools through every Python client, with a model that calls the first of them with what it is told, and
repeats the result: the question is what the tool is called with.
"""

import json
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import anthropic  # noqa: E402
import litellm  # noqa: E402
import ollama  # noqa: E402
import openai  # noqa: E402
from harness import API_KEY, BASE_URL, MODEL, equal, main, raises  # noqa: E402
from langchain_anthropic import ChatAnthropic  # noqa: E402
from langchain_core.messages import HumanMessage, ToolMessage  # noqa: E402
from langchain_ollama import ChatOllama  # noqa: E402
from langchain_openai import ChatOpenAI  # noqa: E402

HOST = BASE_URL.removesuffix("/v1")
CITY = {"city": "Röm"}
QUESTION = json.dumps(CITY, ensure_ascii=False)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "Tells it.", "parameters": SCHEMA}
TOOLS = [{"type": "function", "function": FUNCTION}]
TIME = {"type": "function", "function": {"name": "time"}}
USER = {"role": "user", "content": QUESTION}

openai_client = openai.OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0, timeout=60)
anthropic_client = anthropic.Anthropic(base_url=HOST, api_key=API_KEY, max_retries=0, timeout=60)
ollama_client = ollama.Client(host=HOST, timeout=60)


def chat(messages, **options):
    return openai_client.chat.completions.create(
        model=MODEL, messages=messages, **{"tools": TOOLS, **options}
    )


def test_openai_chat():
    answer = chat([USER])
    [choice] = answer.choices
    equal((choice.finish_reason, choice.message.content), ("tool_calls", None))
    [call] = choice.message.tool_calls
    equal((call.type, call.function.name), ("function", "weather"))
    equal(json.loads(call.function.arguments), CITY)
    result = {"role": "tool", "tool_call_id": call.id, "content": "it is sunny"}
    last = chat([USER, choice.message, result]).choices[0]
    equal((last.finish_reason, last.message.content), ("stop", "it is sunny"))


def test_openai_choice():
    named = {"type": "function", "function": {"name": "time"}}
    call = chat([USER], tools=[*TOOLS, TIME], tool_choice=named).choices[0].message.tool_calls[0]
    equal(call.function.name, "time")
    none = chat([USER], tool_choice="none").choices[0].message
    equal((none.tool_calls, none.content), (None, QUESTION))
    assert chat([USER], tool_choice="required").choices[0].message.tool_calls
    raises(openai.BadRequestError, lambda: chat([USER], tool_choice="often"), param="tool_choice")


def test_openai_stream_helper():
    with openai_client.chat.completions.stream(model=MODEL, messages=[USER], tools=TOOLS) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion().choices[0]
    assert "tool_calls.function.arguments.delta" in kinds, kinds
    equal(final.finish_reason, "tool_calls")
    equal(json.loads(final.message.tool_calls[0].function.arguments), CITY)


def test_openai_responses():
    tools = [{"type": "function", **FUNCTION}]

    def ask(items, **options):
        return openai_client.responses.create(model=MODEL, input=items, tools=tools, **options)

    answer = ask([USER])
    [call] = answer.output
    equal((call.type, call.name, json.loads(call.arguments)), ("function_call", "weather", CITY))
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "it is sunny"}
    equal(ask([USER, *answer.output, result]).output_text, "it is sunny")
    events = list(ask([USER], stream=True))
    deltas = [it.delta for it in events if it.type == "response.function_call_arguments.delta"]
    equal(json.loads("".join(deltas)), CITY)
    equal(events[-1].response.output[0].name, "weather")


def test_anthropic():
    tools = [{"name": "weather", "description": "Tells it.", "input_schema": SCHEMA}]

    def ask(messages, **options):
        options = {"model": MODEL, "max_tokens": 99, "messages": messages, "tools": tools, **options}
        return anthropic_client.messages.create(**options)

    answer = ask([USER], tool_choice={"type": "any"})
    [call] = answer.content
    equal((answer.stop_reason, call.type, call.name), ("tool_use", "tool_use", "weather"))
    equal(call.input, CITY)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "it is sunny"}
    turns = [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    equal(ask([USER, *turns]).content[0].text, "it is sunny")
    options = {"model": MODEL, "max_tokens": 99, "messages": [USER], "tools": tools}
    with anthropic_client.messages.stream(**options) as stream:
        final = stream.get_final_message()
    equal((final.stop_reason, final.content[0].input), ("tool_use", CITY))


def test_ollama():
    def weather(city: str) -> str:
        """Tells the weather.

        Args:
            city: where
        """
        return f"it is sunny in {city}"

    answer = ollama_client.chat(model=MODEL, messages=[USER], tools=[weather])
    [call] = answer.message.tool_calls
    equal((call.function.name, dict(call.function.arguments)), ("weather", CITY))
    told = weather(**call.function.arguments)
    result = {"role": "tool", "tool_name": "weather", "content": told}
    messages = [USER, answer.message, result]
    equal(ollama_client.chat(model=MODEL, messages=messages, tools=[weather]).message.content, told)
    parts = list(ollama_client.chat(model=MODEL, messages=[USER], tools=[weather], stream=True))
    calls = [call for part in parts for call in part.message.tool_calls or []]
    equal([dict(call.function.arguments) for call in calls], [CITY])
    assert parts[-1].done
    assert "tools" in ollama_client.show(MODEL).capabilities


def test_langchain():
    headers = {"headers": {"Authorization": f"Bearer {API_KEY}"}}
    openai_options = {"base_url": BASE_URL, "api_key": API_KEY, "model": MODEL, "max_retries": 0}
    for model in (
        ChatOpenAI(**openai_options),
        ChatOpenAI(**openai_options, use_responses_api=True),
        ChatOllama(base_url=HOST, model=MODEL, client_kwargs=headers),
        ChatAnthropic(base_url=HOST, api_key=API_KEY, model=MODEL, max_tokens=99, max_retries=0),
    ):
        bound = model.bind_tools(TOOLS)
        question = HumanMessage(QUESTION)
        answer = bound.invoke([question])
        [call] = answer.tool_calls
        equal((call["name"], call["args"]), ("weather", CITY))
        result = ToolMessage("it is sunny", tool_call_id=call["id"])
        equal(bound.invoke([question, answer, result]).text, "it is sunny")
        whole = None
        for part in bound.stream([question]):
            whole = part if whole is None else whole + part
        equal([(call["name"], call["args"]) for call in whole.tool_calls], [("weather", CITY)])


def test_litellm():
    for provider, base in (("openai", BASE_URL), ("ollama_chat", HOST), ("anthropic", HOST)):
        def ask(messages, **options):
            return litellm.completion(
                model=f"{provider}/{MODEL}",
                api_base=base,
                api_key=API_KEY,
                messages=messages,
                tools=TOOLS,
                max_tokens=99,
                num_retries=0,
                **options,
            )

        message = ask([USER]).choices[0].message
        [call] = message.tool_calls
        equal((call.function.name, json.loads(call.function.arguments)), ("weather", CITY))
        result = {"role": "tool", "tool_call_id": call.id, "name": "weather", "content": "it is sunny"}
        equal(ask([USER, message.model_dump(), result]).choices[0].message.content, "it is sunny")


main()
