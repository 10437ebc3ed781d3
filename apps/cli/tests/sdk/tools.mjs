// Tools through every JavaScript client, with a model that calls the first of them with what it is told,
// and repeats the result: the question is what the tool is called with.

import assert from "node:assert/strict";

import Anthropic from "@anthropic-ai/sdk";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { Ollama } from "ollama";
import OpenAI from "openai";
import { apiKey, baseURL, host, main, model } from "./harness.mjs";

const city = { city: "Röm" };
const question = JSON.stringify(city);
const user = { role: "user", content: question };
const parameters = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "weather", parameters } }];

const openai = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 60_000 });
const anthropic = new Anthropic({ baseURL: host, apiKey, maxRetries: 0, timeout: 60_000 });
const ollama = new Ollama({ host });
const provider = createOpenAI({ baseURL, apiKey });

async function withTheAiSdk(languageModel) {
  const options = {
    model: languageModel,
    prompt: question,
    maxRetries: 0,
    stopWhen: stepCountIs(3),
    tools: {
      weather: tool({
        description: "Tells it.",
        inputSchema: jsonSchema(parameters),
        execute: async (input) => `sunny in ${input.city}`,
      }),
    },
  };
  const plain = await generateText(options);
  assert.match(plain.text, /sunny in Röm/);
  assert.equal(plain.steps.length, 2);
  let text = "";
  for await (const part of streamText(options).textStream) text += part;
  assert.equal(text, plain.text);
}

await main({
  async openaiRunner() {
    const told = [];
    const runner = openai.chat.completions.runTools({
      model,
      messages: [user],
      tools: [
        {
          type: "function",
          function: {
            name: "weather",
            parameters,
            parse: JSON.parse,
            function: (input) => {
              told.push(input);
              return "it is sunny";
            },
          },
        },
      ],
    });
    assert.equal(await runner.finalContent(), "it is sunny");
    assert.deepEqual(told, [city]);
  },

  async openaiStream() {
    const stream = openai.chat.completions.stream({ model, messages: [user], tools });
    const final = (await stream.finalChatCompletion()).choices[0];
    assert.equal(final.finish_reason, "tool_calls");
    assert.deepEqual(JSON.parse(final.message.tool_calls[0].function.arguments), city);
  },

  async anthropic() {
    const request = {
      model,
      max_tokens: 99,
      messages: [user],
      tools: [{ name: "weather", input_schema: parameters }],
    };
    const plain = await anthropic.messages.create(request);
    assert.equal(plain.stop_reason, "tool_use");
    assert.deepEqual(plain.content[0].input, city);
    const final = await anthropic.messages.stream(request).finalMessage();
    assert.deepEqual(final.content[0].input, city);
  },

  async ollama() {
    const answer = await ollama.chat({ model, messages: [user], tools });
    const [call] = answer.message.tool_calls;
    assert.deepEqual([call.function.name, call.function.arguments], ["weather", city]);
    const result = { role: "tool", tool_name: "weather", content: "it is sunny" };
    const messages = [user, answer.message, result];
    const last = await ollama.chat({ model, messages, tools });
    assert.equal(last.message.content, "it is sunny");
  },

  async aiSdkByResponses() {
    await withTheAiSdk(provider(model));
  },

  async aiSdkByChatCompletions() {
    await withTheAiSdk(provider.chat(model));
  },
});
