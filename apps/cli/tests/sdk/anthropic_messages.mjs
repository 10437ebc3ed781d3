// Anthropic's JavaScript SDK against a gateway with a real model.

import assert from "node:assert/strict";

import Anthropic from "@anthropic-ai/sdk";
import { apiKey, host, main, model, question } from "./harness.mjs";

const client = new Anthropic({ baseURL: host, apiKey, maxRetries: 0, timeout: 60_000 });
const messages = [{ role: "user", content: question }];
const request = { model, messages, max_tokens: 16, temperature: 0 };

await main({
  async message() {
    const answer = await client.messages.create(request);
    assert.ok(answer.content[0].text);
    assert.ok(answer.usage.input_tokens > 0 && answer.usage.output_tokens > 0);
  },

  async streamHelper() {
    const plain = await client.messages.create(request);
    const stream = client.messages.stream(request);
    const parts = [];
    stream.on("text", (delta) => parts.push(delta));
    const final = await stream.finalMessage();
    assert.equal(parts.join(""), plain.content[0].text);
    assert.equal(final.content[0].text, plain.content[0].text);
    assert.ok(final.usage.output_tokens > 0);
  },

  async errors() {
    await assert.rejects(
      client.messages.create({ ...request, model: "no-such-model" }),
      Anthropic.NotFoundError,
    );
    await assert.rejects(
      client.messages.create({ ...request, temperature: 9 }),
      Anthropic.BadRequestError,
    );
  },
});
