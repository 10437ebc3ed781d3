// Embeddings by each of the JavaScript clients, with a model whose vectors are the same of the same text.

import assert from "node:assert/strict";

import { apiKey, baseURL, host, main, model } from "./harness.mjs";
import { Ollama } from "ollama";
import OpenAI from "openai";

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 60_000 });
const native = new Ollama({ host });
const input = ["a fox", "a hen and a fox", "a fox"];
const embed = (options) => client.embeddings.create({ model, input, ...options });
const vectors = (answer) => answer.data.map((one) => Array.from(one.embedding));

function near(some, others) {
  assert.equal(some.length, others.length);
  some.forEach((number, place) => assert.ok(Math.abs(number - others[place]) < 1e-6));
}

await main({
  async openai() {
    // The SDK asks for Base64 unless told otherwise.
    const answer = await embed();
    assert.equal(answer.model, model);
    assert.deepEqual(answer.usage, { prompt_tokens: 9, total_tokens: 9 });
    const [first, second, third] = vectors(answer);
    assert.deepEqual(first, third);
    assert.notDeepEqual(first, second);
    const plain = vectors(await embed({ encoding_format: "float" }));
    plain.forEach((vector, place) => near(vector, vectors(answer)[place]));
    const [short] = vectors(await embed({ input: "a fox", dimensions: 3 }));
    near(short, first.slice(0, 3));
  },

  async errors() {
    await assert.rejects(embed({ input: [1, 2] }), { status: 400, param: "input[0]" });
    await assert.rejects(embed({ model: "dummy/echo" }), { status: 400, param: "model" });
    await assert.rejects(embed({ model: "no-such-model" }), { status: 404 });
  },

  async ollama() {
    const expected = vectors(await embed());
    const answer = await native.embed({ model, input });
    answer.embeddings.forEach((vector, place) => near(vector, expected[place]));
    assert.equal(answer.prompt_eval_count, 9);
    const { embedding } = await native.embeddings({ model, prompt: "a fox" });
    near(embedding, expected[0]);
    await assert.rejects(native.embed({ model: "dummy/echo", input }), /no embeddings/);
  },
});
