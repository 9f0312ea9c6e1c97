// SPDX-License-Identifier: Apache-2.0
//
// OpenAI's own Node client against the gateway that DSMIL_URL and DSMIL_KEY name: what it parses and raises is what its
// users will see. Prints a line a case, in the form of Node's test runner.
import assert from "node:assert/strict";
import test from "node:test";

import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.DSMIL_URL, apiKey: process.env.DSMIL_KEY, maxRetries: 0 });
const messages = [{ role: "user", content: "What is DSMIL?" }];
const parameters = {
  type: "object",
  properties: { city: { enum: ["Rome", "Oslo"] } },
  required: ["city"],
  additionalProperties: false,
};
const models = [];
for await (const model of client.models.list()) models.push(model);
const model = models[0].id;

test("a whole answer", async () => {
  const asked = { model, messages, max_tokens: 20, temperature: 0, logprobs: true, n: 2 };
  const answer = await client.chat.completions.create(asked);
  assert.equal(answer.choices.length, 2);
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  assert.ok(answer.choices[0].logprobs.content.length > 0);
});

test("a stream and its helper", async () => {
  const stream = client.chat.completions.stream({ model, messages, max_tokens: 20, temperature: 0 });
  let text = "";
  stream.on("content", (delta) => (text += delta));
  const last = await stream.finalChatCompletion();
  assert.equal(last.choices[0].message.content, text);
});

test("a call of a tool", async () => {
  const tools = [{ type: "function", function: { name: "weather", parameters, strict: true } }];
  const asked = { model, messages, tools, tool_choice: "required", temperature: 0 };
  const answer = await client.chat.completions.create(asked);
  const call = answer.choices[0].message.tool_calls[0];
  assert.equal(answer.choices[0].finish_reason, "tool_calls");
  assert.ok(["Rome", "Oslo"].includes(JSON.parse(call.function.arguments).city));
});

test("a schema", async () => {
  const format = { type: "json_schema", json_schema: { name: "city", strict: true, schema: parameters } };
  const answer = await client.chat.completions.parse({ model, messages, response_format: format, max_tokens: 200 });
  if (answer.choices[0].finish_reason === "stop") JSON.parse(answer.choices[0].message.content);
});

test("responses, whole and as events", async () => {
  const whole = await client.responses.create({ model, input: "What is DSMIL?", max_output_tokens: 12, temperature: 0 });
  assert.ok(whole.output_text.length > 0);
  let text = "";
  let last = null;
  const asked = { model, input: "What is DSMIL?", max_output_tokens: 12, temperature: 0, stream: true };
  for await (const event of await client.responses.create(asked)) {
    if (event.type === "response.output_text.delta") text += event.delta;
    last = event;
  }
  assert.equal(text, whole.output_text);
  assert.match(last.type, /^response\.(completed|incomplete)$/);
});

test("embeddings and completions", async () => {
  const vectors = await client.embeddings.create({ model, input: ["one", "two"] });
  assert.equal(vectors.data.length, 2);
  assert.equal(typeof vectors.data[0].embedding[0], "number");
  const answer = await client.completions.create({ model, prompt: "DSMIL is", max_tokens: 4 });
  assert.equal(answer.object, "text_completion");
});

test("errors have their types", async () => {
  const wrong = new OpenAI({ baseURL: process.env.DSMIL_URL, apiKey: "wrong-key", maxRetries: 0 });
  await assert.rejects(wrong.chat.completions.create({ model, messages }), OpenAI.AuthenticationError);
  await assert.rejects(client.chat.completions.create({ model: "none", messages }), OpenAI.NotFoundError);
  await assert.rejects(client.chat.completions.create({ model, messages, store: true }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, "store");
    return true;
  });
});
