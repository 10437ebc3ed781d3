// Ollama's JavaScript package against a gateway: nothing but the host is changed.

import assert from "node:assert/strict";

import { host, main, model, question } from "./harness.mjs";
import { Ollama } from "ollama";

const client = new Ollama({ host });
const messages = [{ role: "user", content: question }];
const options = { num_predict: 16, temperature: 0 };

await main({
  async chat() {
    const answer = await client.chat({ model, messages, options });
    assert.ok(answer.done && answer.message.content);
    assert.ok(answer.eval_count > 0 && answer.eval_count <= 16);
  },

  async chatStream() {
    const plain = await client.chat({ model, messages, options });
    let text = "";
    for await (const part of await client.chat({ model, messages, options, stream: true })) {
      text += part.message.content;
    }
    assert.equal(text, plain.message.content);
  },

  async generate() {
    const answer = await client.generate({ model, prompt: "Once there was", options });
    assert.ok(answer.response);
  },

  async models() {
    const { models } = await client.list();
    assert.ok(models.some((it) => it.name === model));
    assert.deepEqual((await client.show({ model })).capabilities, ["completion"]);
    assert.ok((await client.ps()).models.length > 0);
    assert.match((await client.version()).version, /^\d+\.\d+\.\d+$/);
  },

  async errors() {
    await assert.rejects(client.chat({ model: "no-such-model", messages }), /no-such-model/);
    await assert.rejects(client.chat({ model, messages, format: "json" }), /format/);
  },

  async leavingAStream() {
    const stream = await client.chat({ model, messages, stream: true, options: { num_predict: 200 } });
    for await (const part of stream) {
      if (part.message.content) break;
    }
    stream.abort();
    assert.ok((await client.chat({ model, messages, options })).done);
  },
});
