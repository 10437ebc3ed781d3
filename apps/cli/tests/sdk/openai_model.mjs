// OpenAI's Node SDK against a gateway with a real model.

import assert from "node:assert/strict";

import OpenAI from "openai";
import { apiKey, baseURL, main, model, question } from "./harness.mjs";

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 60_000 });
const messages = [{ role: "user", content: question }];
const chat = (options) => client.chat.completions.create({ model, messages, ...options });

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const text = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");

await main({
  async chat() {
    const answer = await chat({ max_tokens: 16, seed: 1 });
    assert.equal(answer.object, "chat.completion");
    assert.equal(answer.choices[0].message.role, "assistant");
    assert.ok(answer.choices[0].message.content);
    assert.equal(
      answer.usage.total_tokens,
      answer.usage.prompt_tokens + answer.usage.completion_tokens,
    );
  },

  async headers() {
    const { data, response, request_id } = await chat({ max_tokens: 4 }).withResponse();
    assert.ok(data.id.includes(request_id));
    assert.ok(Number(response.headers.get("x-peerwatt-cost-nusd")) > 0);
  },

  async streamWithUsage() {
    const options = { max_tokens: 16, stream: true, stream_options: { include_usage: true } };
    const chunks = await collect(await chat(options));
    const last = chunks.pop();
    assert.equal(chunks[0].choices[0].delta.role, "assistant");
    assert.ok(text(chunks));
    assert.deepEqual(last.choices, []);
    assert.ok(last.usage.completion_tokens > 0);
  },

  async streamHelper() {
    const runner = client.chat.completions.stream({ model, messages, max_tokens: 16 });
    const parts = [];
    runner.on("content", (delta) => parts.push(delta));
    const final = await runner.finalChatCompletion();
    assert.equal(final.choices[0].message.content, parts.join(""));
  },

  async seedMakesAnAnswerRepeatable() {
    const sampled = (seed) => chat({ max_tokens: 16, temperature: 1, seed });
    const answers = [await sampled(3), await sampled(3)];
    const [first, second] = answers.map((answer) => answer.choices[0].message.content);
    assert.equal(first, second);
  },

  async stopAndMaxTokens() {
    const short = await chat({ max_completion_tokens: 3, temperature: 0 });
    assert.equal(short.choices[0].finish_reason, "length");
    assert.equal(short.usage.completion_tokens, 3);
    const whole = (await chat({ max_tokens: 32, temperature: 0 })).choices[0].message.content;
    const stop = whole.split(/\s+/)[2];
    const cut = await chat({ max_tokens: 32, temperature: 0, stop: [stop] });
    assert.equal(cut.choices[0].message.content, whole.slice(0, whole.indexOf(stop)));
  },

  async logprobs() {
    const answer = await chat({ max_tokens: 4, temperature: 0, logprobs: true, top_logprobs: 2 });
    const tokens = answer.choices[0].logprobs.content;
    assert.equal(tokens.map((it) => it.token).join(""), answer.choices[0].message.content);
    assert.ok(tokens.every((it) => it.logprob <= 0 && it.top_logprobs.length >= 1));
  },

  async completions() {
    const request = { model, prompt: "Once there was", max_tokens: 8, temperature: 0 };
    const plain = (await client.completions.create(request)).choices[0].text;
    const chunks = await collect(await client.completions.create({ ...request, stream: true }));
    assert.ok(plain);
    assert.equal(chunks.map((chunk) => chunk.choices[0]?.text ?? "").join(""), plain);
  },

  async models() {
    const listed = [];
    for await (const it of client.models.list()) listed.push(it.id);
    assert.ok(listed.includes(model));
    assert.equal((await client.models.retrieve(model)).id, model);
  },

  async errors() {
    await assert.rejects(chat({ model: "no-such-model" }), OpenAI.NotFoundError);
    const stranger = new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 });
    await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
    await assert.rejects(chat({ temperature: 9 }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, "temperature");
      return true;
    });
  },

  async leavingAStream() {
    const stream = await chat({ max_tokens: 200, stream: true });
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.content) break;
    }
    assert.ok(stream.controller.signal.aborted);
    // The gateway goes on serving.
    assert.ok((await chat({ max_tokens: 2 })).id);
  },
});
