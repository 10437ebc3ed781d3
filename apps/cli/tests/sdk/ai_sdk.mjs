// The AI SDK with its provider for OpenAI against a gateway: by responses, which is its default, and by
// chat completions.

import assert from "node:assert/strict";

import { createOpenAI } from "@ai-sdk/openai";
import { generateText, streamText } from "ai";
import { apiKey, baseURL, main, model, question } from "./harness.mjs";

const provider = createOpenAI({ baseURL, apiKey });
const options = { prompt: question, maxOutputTokens: 16, temperature: 0, maxRetries: 0 };

async function check(languageModel) {
  const plain = await generateText({ model: languageModel, ...options });
  assert.ok(plain.text);
  assert.ok(plain.usage.outputTokens > 0 && plain.usage.outputTokens <= 16);
  const { textStream } = streamText({ model: languageModel, ...options });
  let text = "";
  for await (const part of textStream) text += part;
  assert.equal(text, plain.text);
}

await main({
  async byResponses() {
    await check(provider(model));
  },

  async byChatCompletions() {
    await check(provider.chat(model));
  },

  async withASystemMessage() {
    const answer = await generateText({
      model: provider(model),
      ...options,
      system: "Be brief.",
    });
    assert.ok(answer.text);
  },

  async errors() {
    await assert.rejects(
      generateText({ model: provider("no-such-model"), ...options }),
      /no-such-model/,
    );
  },
});
