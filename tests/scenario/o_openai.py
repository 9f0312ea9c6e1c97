# SPDX-License-Identifier: Apache-2.0
"""OpenAI's API on a running mesh: every endpoint's shapes, whole and streamed, and what parameters promise.

The project's own model is small: what it says is not looked at, only the form, and what a constraint forbids.
With DSMIL_OPENAPI naming OpenAI's description (openapi.json), every answer is held against it, too.
"""
import base64
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "openai"))
import openapi  # noqa: E402
from mesh import DSMIL, MODEL, ROOT, Mesh, wait_for  # noqa: E402

MODEL_FILE = MODEL[1] if MODEL else str(ROOT / "models" / "dsmil-small-q8_0.gguf")

ASK = [{"role": "user", "content": "What is DSMIL?"}]
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "weather of a city", "parameters": {
    "$defs": {"unit": {"enum": ["C", "F"]}}, "type": "object", "additionalProperties": False,
    "properties": {"city": {"enum": ["Rome", "Oslo"]}, "unit": {"$ref": "#/$defs/unit"}},
    "required": ["city", "unit"]}}}
CALL_TOKENS = 400  # a call of TOOL with all the white space that there may be is shorter, also byte by byte
SCHEMA = {"type": "object", "additionalProperties": False, "required": ["severity", "count"],
          "properties": {"severity": {"enum": ["low", "high"]},
                         "count": {"type": "integer", "minimum": 0, "maximum": 9}}}


class OpenAi(unittest.TestCase):
    """One mesh for all."""

    @classmethod
    def setUpClass(cls):
        cls.mesh = Mesh().__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.mesh.__exit__()

    def post(self, path, status=200, headers=None, **body):
        """One request; its answer."""
        body.setdefault("model", "dsmil")
        got, _, answer = self.mesh.request("POST", "/v1/" + path, body, headers)
        self.assertEqual(got, status, answer)
        if status >= 400:
            openapi.check(answer, "ErrorResponse")
        return answer

    def chat(self, **body):
        """A whole chat, checked."""
        body.setdefault("messages", ASK)
        answer = self.post("chat/completions", **body)
        openapi.check(answer, "CreateChatCompletionResponse")
        self.assertEqual(answer["object"], "chat.completion")
        for i, choice in enumerate(answer["choices"]):
            self.assertEqual(choice["index"], i)
            self.assertLessEqual({"index", "message", "logprobs", "finish_reason"}, set(choice))
            self.assertLessEqual({"role", "content", "refusal"}, set(choice["message"]))
        usage = answer["usage"]
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])
        self.assertIn("cached_tokens", usage["prompt_tokens_details"])
        return answer

    def stream(self, path, **body):
        """Events of a stream as (name, data)."""
        body.setdefault("model", "dsmil")
        conn = self.mesh.connect()
        conn.request("POST", "/v1/" + path, json.dumps({**body, "stream": True}),
                     {"Authorization": f"Bearer {self.mesh.key}", "Content-Type": "application/json"})
        res = conn.getresponse()
        text = res.read().decode()
        conn.close()
        self.assertEqual(res.status, 200, text)
        events = []
        for block in text.strip().split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.split("\n"))
            data = lines["data"]
            events.append((lines.get("event"), data if data == "[DONE]" else json.loads(data)))
        return events

    # ---- chats

    def test_choices_and_seed(self):
        asked = {"n": 3, "temperature": 1, "seed": 7, "max_tokens": 12}
        first, again = self.chat(**asked), self.chat(**asked)
        texts = [c["message"]["content"] for c in first["choices"]]
        self.assertEqual(len(texts), 3)
        self.assertEqual(texts, [c["message"]["content"] for c in again["choices"]])
        self.assertEqual(first["system_fingerprint"], again["system_fingerprint"])
        alone = self.chat(**{**asked, "n": 1})["choices"][0]["message"]["content"]
        self.assertEqual(alone, texts[0])
        self.assertGreaterEqual(first["usage"]["completion_tokens"], 3)

    def test_prompts_are_cached_within_a_key(self):
        long = [{"role": "user", "content": "Tell me about the router. " * 12}]
        for key, hit in (("a", False), ("a", True), ("b", False)):
            usage = self.chat(messages=long, max_tokens=1, prompt_cache_key=key)["usage"]
            self.assertEqual(usage["prompt_tokens_details"]["cached_tokens"] > 0, hit, key)

    def test_probabilities(self):
        # spec 19.5; top_logprobs may be left out; with it there are exactly as many, likeliest first
        # (vllm-project/vllm#4795); the shape is the chat's, not the completion's (#3179)
        for top in (None, 0, 1, 5):
            asked = {} if top is None else {"top_logprobs": top}
            choice = self.chat(logprobs=True, temperature=0, max_tokens=6, **asked)["choices"][0]
            self.assertEqual(set(choice["logprobs"]), {"content", "refusal"})
            tokens = choice["logprobs"]["content"]
            self.assertEqual("".join(t["token"] for t in tokens), choice["message"]["content"])
            for token in tokens:
                self.assertEqual(set(token), {"token", "logprob", "bytes", "top_logprobs"})
                self.assertEqual(bytes(token["bytes"]).decode(), token["token"])
                likely = [t["logprob"] for t in token["top_logprobs"]]
                self.assertEqual(len(likely), top or 0)
                self.assertEqual(likely, sorted(likely, reverse=True))
                if top:
                    self.assertEqual(token["top_logprobs"][0]["token"], token["token"])
        self.assertIsNone(self.chat(max_tokens=1)["choices"][0]["logprobs"])

    def test_streamed_probabilities_are_the_same(self):
        asked = {"logprobs": True, "top_logprobs": 2, "temperature": 0, "max_tokens": 8}
        whole = self.chat(**asked)["choices"][0]["logprobs"]["content"]
        chunks = [c for _, c in self.stream("chat/completions", messages=ASK, **asked) if c != "[DONE]"]
        parts = [t for c in chunks for ch in c["choices"] if ch["logprobs"] for t in ch["logprobs"]["content"]]
        self.assertEqual(parts, whole)

    def test_stream(self):
        # spec 19.1 and 19.2
        events = self.stream("chat/completions", messages=ASK, n=2, temperature=1, seed=3, max_tokens=10,
                             stream_options={"include_usage": True})
        self.assertEqual(events[-1], (None, "[DONE]"))
        chunks = [c for _, c in events[:-1]]
        for chunk in chunks:
            # "usage": null until the end is what OpenAI says in words, and not in the schema
            openapi.check({k: v for k, v in chunk.items() if (k, v) != ("usage", None)},
                          "CreateChatCompletionStreamResponse")
            self.assertEqual(chunk["id"], chunks[0]["id"])
        self.assertEqual(chunks[-1]["choices"], [])
        self.assertGreater(chunks[-1]["usage"]["completion_tokens"], 0)
        whole = self.chat(n=2, temperature=1, seed=3, max_tokens=10)
        for i in range(2):
            mine = [ch for c in chunks for ch in c["choices"] if ch["index"] == i]
            self.assertEqual(mine[0]["delta"]["role"], "assistant")
            self.assertEqual([c["finish_reason"] is None for c in mine], [True] * (len(mine) - 1) + [False])
            self.assertEqual("".join(c["delta"].get("content") or "" for c in mine),
                             whole["choices"][i]["message"]["content"])
        plain = self.stream("chat/completions", messages=ASK, max_tokens=4)
        self.assertTrue(all(c["choices"] for _, c in plain[:-1]), "a chunk without choices was not asked for")

    def test_top_shows_what_clients_wait(self):
        list(self.mesh.stream(max_tokens=4))
        done = self.mesh.cli("top", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        gateway = next(s for s in json.loads(done.stdout)["services"] if s["name"] == "dsmil-openai-shim")
        for key in ("first_token_ms", "latency_ms"):
            self.assertGreater(gateway[key]["p50"], 0, gateway)

    def test_json(self):
        for _ in range(3):
            text = self.chat(max_tokens=200, temperature=1, response_format={"type": "json_schema", "json_schema": {
                "name": "triage", "strict": True, "schema": SCHEMA}})["choices"][0]
            if text["finish_reason"] == "stop":
                value = json.loads(text["message"]["content"])
                self.assertIn(value["severity"], ("low", "high"))
                self.assertIn(value["count"], range(10))
                self.assertEqual(set(value), {"severity", "count"})
        text = self.chat(max_tokens=1, response_format={"type": "json_object"})["choices"][0]["message"]["content"]
        self.assertEqual(text[:1], "{")
        refused = self.post("chat/completions", 400, messages=ASK, response_format={
            "type": "json_schema", "json_schema": {"name": "x", "schema": {"uniqueItems": True}}})
        self.assertEqual(refused["error"]["param"], "response_format")

    def check_call(self, call):
        """One call that keeps to TOOL."""
        self.assertEqual((call["type"], call["function"]["name"]), ("function", "get_weather"))
        arguments = json.loads(call["function"]["arguments"])
        self.assertIn(arguments["city"], ("Rome", "Oslo"))
        self.assertIn(arguments["unit"], ("C", "F"))
        return call["id"]

    def test_tools(self):
        forced = {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
                  "temperature": 0, "max_tokens": CALL_TOKENS}
        choice = self.chat(**forced)["choices"][0]
        self.assertEqual(choice["finish_reason"], "tool_calls")
        self.assertIsNone(choice["message"]["content"])
        call_id = self.check_call(choice["message"]["tool_calls"][0])
        self.check_call(self.chat(**{**forced, "tool_choice": "required"})["choices"][0]["message"]["tool_calls"][0])
        deltas = [ch["delta"] for _, c in self.stream("chat/completions", messages=ASK, **forced) if c != "[DONE]"
                  for ch in c["choices"]]
        calls = [c for d in deltas for c in d.get("tool_calls", [])]
        self.assertEqual([c["index"] for c in calls], [0])
        self.check_call(calls[0])
        # and its result goes back
        after = ASK + [choice["message"], {"role": "tool", "tool_call_id": call_id, "content": "20 C"}]
        self.chat(messages=after, tools=[TOOL], max_tokens=5)
        none = self.chat(tools=[TOOL], tool_choice="none", max_tokens=5)["choices"][0]["message"]
        self.assertNotIn("tool_calls", none)
        after[-1]["tool_call_id"] = "another"
        refused = self.post("chat/completions", 400, messages=after, tools=[TOOL])
        self.assertEqual(refused["error"]["param"], "messages[2].tool_call_id")

    def test_several_calls_and_a_format_beside_tools(self):
        asked = {"tools": [TOOL], "tool_choice": "required", "max_tokens": CALL_TOKENS}
        many = self.chat(**asked)["choices"][0]
        calls = many["message"]["tool_calls"]
        self.assertEqual(len({self.check_call(c) for c in calls}), len(calls))
        one = self.chat(**asked, parallel_tool_calls=False)["choices"][0]
        self.assertEqual((one["finish_reason"], len(one["message"]["tool_calls"])), ("tool_calls", 1))
        # what was cut is no call, and is not lost
        cut = self.chat(tools=[TOOL], tool_choice="required", max_tokens=4)["choices"][0]
        self.assertEqual(cut["finish_reason"], "length")
        self.assertNotIn("tool_calls", cut["message"])
        self.assertTrue(cut["message"]["content"])
        # an answer is JSON of the schema, or calls
        for seed in range(4):
            choice = self.chat(tools=[TOOL], max_tokens=300, seed=seed, temperature=1.5, response_format={
                "type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}})["choices"][0]
            if choice["finish_reason"] == "stop":
                self.assertEqual(set(json.loads(choice["message"]["content"])), {"severity", "count"})
            for call in choice["message"].get("tool_calls", []):
                self.check_call(call)

    def test_streamed_calls_are_the_same(self):
        # spec 19.4: also where they are cut; what is left of a call follows the whole ones
        asked = {"tools": [TOOL], "tool_choice": "required", "temperature": 2, "n": 8}
        for seed, max_tokens in ((1, 30), (9, 80), (17, 110), (25, 150)):
            asked.update(seed=seed, max_tokens=max_tokens)
            whole = self.chat(**asked)["choices"]
            chunks = [ch for _, c in self.stream("chat/completions", messages=ASK, **asked)[:-1] for ch in c["choices"]]
            for i, choice in enumerate(whole):
                mine = [c for c in chunks if c["index"] == i]
                calls = [c["function"] for d in mine for c in d["delta"].get("tool_calls", [])]
                self.assertEqual(calls, [c["function"] for c in choice["message"].get("tool_calls", [])])
                self.assertEqual("".join(d["delta"].get("content") or "" for d in mine),
                                 choice["message"]["content"] or "")
                self.assertEqual(mine[-1]["finish_reason"], choice["finish_reason"])
                if choice["message"]["content"]:  # the call was asked for at once: words are what was cut of one
                    self.assertEqual(choice["finish_reason"], "length")
                told = [d["delta"].get("content") or "call" for d in mine[1:-1]]
                self.assertEqual(told[:len(calls)], ["call"] * len(calls), "words before the calls that they follow")

    def test_penalties_and_biases_bite(self):
        top = self.chat(logprobs=True, temperature=0, max_tokens=1)["choices"][0]["message"]["content"]
        # the model's first token is forbidden by its number, which is looked for among the small ones
        for token in range(0, 1024, 256):
            biases = {str(i): -100 for i in range(token, token + 256)}
            if self.chat(temperature=0, max_tokens=1, logit_bias=biases)["choices"][0]["message"]["content"] != top:
                break
        else:
            self.fail("no bias changed the first token")
        refused = self.post("chat/completions", 400, messages=ASK, logit_bias={"99999999": 1})
        self.assertIn("logit_bias", refused["error"]["message"])

    # ---- the other endpoints

    def test_completions(self):
        asked = {"prompt": "DSMIL is", "max_tokens": 6, "temperature": 0}
        for logprobs in (None, 0, 2):
            answer = self.post("completions", **asked, **({} if logprobs is None else {"logprobs": logprobs}))
            openapi.check(answer, "CreateCompletionResponse")
            choice = answer["choices"][0]
            if logprobs is None:
                self.assertIsNone(choice["logprobs"])
                continue
            # 0 still asks for the chosen tokens' (vllm-project/vllm#3707)
            self.assertEqual("".join(choice["logprobs"]["tokens"]), choice["text"])
            self.assertEqual(len(choice["logprobs"]["token_logprobs"]), len(choice["logprobs"]["tokens"]))
            self.assertEqual(choice["logprobs"]["text_offset"][0], 0)
            for token, top in zip(choice["logprobs"]["tokens"], choice["logprobs"]["top_logprobs"]):
                self.assertIn(token, top)
                self.assertLessEqual(len(top), logprobs + 1)
        echoed = self.post("completions", **asked, echo=True)["choices"][0]["text"]
        self.assertEqual(echoed, asked["prompt"] + choice["text"])
        chunks = [c for _, c in self.stream("completions", **asked, echo=True)[:-1]]
        self.assertEqual("".join(c["choices"][0]["text"] for c in chunks), echoed)
        self.assertEqual(chunks[-1]["choices"][0]["finish_reason"], "length")

    TEXT = "The router asks: is it h\u00e9lo \u20ac, or not?  Two spaces. DSMIL is a mesh of devices."

    def echo(self, prompt=TEXT, **body):
        """The answer to what evaluation tools ask: the prompt with its probabilities. OpenAI's description does not
        know its own nulls, so it is not held against that."""
        return self.post("completions", **{"prompt": prompt, "echo": True, "logprobs": 1, "max_tokens": 0,
                                           "temperature": 0, **body})

    def ids_of(self, text):
        """Tokens of a text."""
        out = subprocess.run([DSMIL, "llm", "tokenize", "-m", MODEL_FILE, "--json", text], check=True,
                             capture_output=True, text=True).stdout
        return [token["id"] for token in json.loads(out)["tokens"]]

    def check_echo(self, choice, logprobs=1):
        """What holds of each; its probabilities."""
        told = choice["logprobs"]
        count = len(told["tokens"])
        self.assertEqual({len(told[k]) for k in ("token_logprobs", "top_logprobs", "text_offset")}, {count})
        self.assertIsNone(told["token_logprobs"][0])
        self.assertIsNone(told["top_logprobs"][0])
        self.assertEqual(told["text_offset"][0], 0)
        for i in range(1, count):
            self.assertLessEqual(told["token_logprobs"][i], 0)
            self.assertIn(told["token_logprobs"][i], told["top_logprobs"][i].values())
            self.assertLessEqual(len(told["top_logprobs"][i]), logprobs + 1)
            if "\ufffd" not in told["tokens"][i]:
                at = told["text_offset"][i]
                self.assertEqual(choice["text"][at:at + len(told["tokens"][i])], told["tokens"][i])
        return told

    def test_echo_with_probabilities(self):
        # spec 19.8
        answer = self.echo()
        choice = answer["choices"][0]
        self.assertEqual((choice["text"], choice["finish_reason"]), (self.TEXT, "length"))
        told = self.check_echo(choice)
        self.assertEqual(len(told["tokens"]), answer["usage"]["prompt_tokens"])
        self.assertEqual(answer["usage"]["completion_tokens"], 0)
        # the sum is what the engine's own tool says of the text, in one window
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
            file.write(self.TEXT)
            file.flush()
            score = json.loads(subprocess.run([DSMIL, "llm", "perplexity", "-m", MODEL_FILE, "--json", file.name],
                                              check=True, capture_output=True, text=True).stdout)
        self.assertEqual(score["tokens"], len(told["tokens"]) - 1)
        self.assertAlmostEqual(-sum(told["token_logprobs"][1:]), score["nats_per_token"] * score["tokens"], delta=1e-3)
        # the same again, although its prompt is cached now, and with an answer behind it
        self.assertEqual(self.echo()["choices"][0]["logprobs"], told)
        more = self.echo(max_tokens=4)
        longer = self.check_echo(more["choices"][0])
        count = len(told["tokens"])
        self.assertEqual(longer["token_logprobs"][:count], told["token_logprobs"])
        self.assertEqual(len(longer["tokens"]), count + more["usage"]["completion_tokens"])
        plain = self.post("completions", prompt=self.TEXT, max_tokens=4, temperature=0)["choices"][0]["text"]
        self.assertEqual(more["choices"][0]["text"], self.TEXT + plain)

    def test_echo_says_what_each_beginning_does(self):
        ids = self.ids_of(self.TEXT)
        told = self.check_echo(self.echo(prompt=ids, logprobs=5)["choices"][0], 5)
        self.assertEqual(len(told["tokens"]), len(ids))
        for end in range(1, len(ids), 3):
            after = self.post("completions", prompt=ids[:end], max_tokens=1, temperature=0, logprobs=5)
            top = after["choices"][0]["logprobs"]["top_logprobs"]
            if top:  # an end token is not told without echo
                likely = {k: v for k, v in told["top_logprobs"][end].items() if k in top[0]}
                self.assertGreaterEqual(len(likely), 4)
                for token, logprob in likely.items():
                    self.assertAlmostEqual(logprob, top[0][token], delta=1e-4)

    def test_echo_streams_and_several(self):
        ids = self.ids_of(self.TEXT)
        for prompt in ([self.TEXT, "DSMIL"], [ids, ids[:5]]):
            for more in ({"max_tokens": 0}, {"max_tokens": 3, "n": 2, "seed": 1}, {"max_tokens": 2, "logprobs": None}):
                whole = self.echo(prompt=prompt, **more)["choices"]
                parts = {c["index"]: {"text": "", "logprobs": {}, "finish_reason": None} for c in whole}
                for _, chunk in self.stream("completions", **{"prompt": prompt, "echo": True, "logprobs": 1,
                                                              "temperature": 0, **more})[:-1]:
                    for choice in chunk["choices"]:
                        part = parts[choice["index"]]
                        part["text"] += choice["text"]
                        part["finish_reason"] = choice["finish_reason"] or part["finish_reason"]
                        for key, values in (choice["logprobs"] or {}).items():
                            part["logprobs"].setdefault(key, []).extend(values)
                for choice in whole:
                    if more.get("logprobs", 1):
                        self.check_echo(choice)
                    self.assertEqual(parts[choice["index"]], {"text": choice["text"],
                                                              "logprobs": choice["logprobs"] or {},
                                                              "finish_reason": choice["finish_reason"]})

    def test_echo_past_the_router(self):
        # what a receipt is about is what was sent, the prompt with it
        answer = self.echo(max_tokens=2, dsmil={"sealed": True, "receipt": True})
        self.check_echo(answer["choices"][0])
        with tempfile.TemporaryDirectory() as folder:
            paths = [pathlib.Path(folder) / name for name in ("receipt", "request", "answer")]
            for path, data in zip(paths, (base64.b64decode(answer["dsmil"]["receipt"]),
                                          base64.b64decode(answer["dsmil"]["receipt_request"]),
                                          answer["choices"][0]["text"].encode())):
                path.write_bytes(data)
            done = self.mesh.cli("receipt", "verify", "--request", str(paths[1]), "--answer", str(paths[2]),
                                 str(paths[0]))
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_no_answer_without_echo(self):
        refused = self.post("completions", 400, prompt="x", max_tokens=0)
        self.assertEqual(refused["error"]["param"], "max_tokens")
        self.assertEqual(self.post("chat/completions", 400, messages=ASK, max_tokens=0)["error"]["param"], "max_tokens")

    def test_several_prompts(self):
        asked = {"prompt": ["DSMIL is", "The router"], "n": 2, "max_tokens": 5, "seed": 3, "echo": True}
        answer = self.post("completions", **asked)
        openapi.check(answer, "CreateCompletionResponse")
        self.assertEqual([c["index"] for c in answer["choices"]], [0, 1, 2, 3])
        for choice in answer["choices"]:
            self.assertTrue(choice["text"].startswith(asked["prompt"][choice["index"] // 2]), choice)
        alone = [self.post("completions", **{**asked, "prompt": p}) for p in asked["prompt"]]
        self.assertEqual([c["text"] for a in alone for c in a["choices"]], [c["text"] for c in answer["choices"]])
        self.assertEqual(answer["usage"]["prompt_tokens"], sum(a["usage"]["prompt_tokens"] for a in alone))
        texts = [""] * 4
        for _, chunk in self.stream("completions", **asked)[:-1]:
            for choice in chunk["choices"]:
                texts[choice["index"]] += choice["text"]
        self.assertEqual(texts, [c["text"] for c in answer["choices"]])

    def test_tokens_of_the_models_own(self):
        answer = self.post("completions", prompt=[[5, 6, 7], [8]], max_tokens=3)
        self.assertEqual(len(answer["choices"]), 2)
        self.assertEqual(answer["usage"]["prompt_tokens"], 4)
        vectors = self.post("embeddings", input=[[5, 6], [5, 6], [7]])
        openapi.check(vectors, "CreateEmbeddingResponse")
        self.assertEqual(vectors["data"][0]["embedding"], vectors["data"][1]["embedding"])
        self.assertEqual(vectors["usage"]["prompt_tokens"], 5)
        for path, name in (("completions", "prompt"), ("embeddings", "input")):
            refused = self.post(path, 400, **{name: [100257]})["error"]  # of some larger vocabulary
            self.assertEqual(refused["param"], name)
            self.assertIn("100257", refused["message"])

    def test_embeddings(self):
        floats = self.post("embeddings", input=["one", "two", "one"])
        openapi.check(floats, "CreateEmbeddingResponse")
        self.assertEqual([d["index"] for d in floats["data"]], [0, 1, 2])
        one, two, again = (d["embedding"] for d in floats["data"])
        self.assertEqual(one, again)
        self.assertNotEqual(one, two)
        self.assertAlmostEqual(sum(x * x for x in one), 1, places=3)
        packed = self.post("embeddings", input="one", encoding_format="base64")["data"][0]["embedding"]
        raw = base64.b64decode(packed)
        self.assertEqual(list(struct.unpack(f"<{len(raw) // 4}f", raw)), [struct.unpack("<f", struct.pack("<f", x))[0]
                                                                          for x in one])
        self.assertEqual(self.post("embeddings", 400, input="x", dimensions=8)["error"]["param"], "dimensions")
        self.assertEqual(self.post("embeddings", 400, input=[1, "two"])["error"]["param"], "input[1]")

    def test_models(self):
        _, _, models = self.mesh.request("GET", "/v1/models")
        openapi.check(models, "ListModelsResponse")
        _, _, model = self.mesh.request("GET", "/v1/models/" + models["data"][0]["id"])
        openapi.check(model, "Model")

    def test_responses(self):
        answer = self.post("responses", input="What is DSMIL?", instructions="Be brief.", max_output_tokens=6,
                           metadata={"a": "b"}, temperature=0, include=["message.output_text.logprobs"])
        openapi.check(answer, "Response")
        self.assertEqual((answer["object"], answer["status"]), ("response", "incomplete"))
        self.assertEqual(answer["incomplete_details"], {"reason": "max_output_tokens"})
        self.assertEqual((answer["store"], answer["metadata"]), (False, {"a": "b"}))
        self.assertEqual(answer["instructions"], "Be brief.")
        part = answer["output"][0]["content"][0]
        self.assertEqual("".join(t["token"] for t in part["logprobs"]), part["text"])
        # the output goes back as input
        self.post("responses", input=[{"role": "user", "content": "Hi"}, *answer["output"],
                                      {"role": "user", "content": [{"type": "input_text", "text": "More"}]}],
                  max_output_tokens=4)

    def test_responses_call_tools(self):
        tool = {"type": "function", **TOOL["function"]}
        first = self.post("responses", input="Weather?", tools=[tool], tool_choice="required",
                          max_output_tokens=CALL_TOKENS)
        openapi.check(first, "Response")
        # any number of calls, and behind them what was cut of another
        kinds = [item["type"] for item in first["output"]]
        cut = ["message"] if first["status"] == "incomplete" and kinds[-1] == "message" else []
        self.assertEqual(kinds, ["function_call"] * (len(kinds) - len(cut)) + cut)
        call = first["output"][0]
        self.assertEqual((call["type"], call["name"]), ("function_call", "get_weather"))
        self.post("responses", input=[{"role": "user", "content": "Weather?"}, call,
                                      {"type": "function_call_output", "call_id": call["call_id"], "output": "20 C"}],
                  tools=[tool], max_output_tokens=4)
        schema = self.post("responses", input="Triage.", max_output_tokens=200, text={
            "format": {"type": "json_schema", "name": "t", "strict": True, "schema": SCHEMA}})
        refused = self.post("responses", 400, input="Triage.", text={"format": {
            "type": "json_schema", "name": "t", "schema": {"uniqueItems": True}}})
        self.assertEqual(refused["error"]["param"], "text.format")
        if schema["status"] == "completed":
            self.assertIn("severity", json.loads(schema["output"][0]["content"][0]["text"]))

    def test_response_events(self):
        names = {"response.created": "ResponseCreatedEvent", "response.in_progress": "ResponseInProgressEvent",
                 "response.output_item.added": "ResponseOutputItemAddedEvent",
                 "response.content_part.added": "ResponseContentPartAddedEvent",
                 "response.output_text.delta": "ResponseTextDeltaEvent",
                 "response.output_text.done": "ResponseTextDoneEvent",
                 "response.content_part.done": "ResponseContentPartDoneEvent",
                 "response.output_item.done": "ResponseOutputItemDoneEvent",
                 "response.function_call_arguments.delta": "ResponseFunctionCallArgumentsDeltaEvent",
                 "response.function_call_arguments.done": "ResponseFunctionCallArgumentsDoneEvent",
                 "response.completed": "ResponseCompletedEvent", "response.incomplete": "ResponseIncompleteEvent"}
        tool = {"type": "function", **TOOL["function"]}
        for asked in ({"max_output_tokens": 12}, {"tools": [tool], "tool_choice": "required",
                                                  "max_output_tokens": 150},
                      {"tools": [tool], "tool_choice": "required", "max_output_tokens": 40}):
            events = self.stream("responses", input="What is DSMIL?", temperature=0, **asked)
            for number, (name, data) in enumerate(events):
                self.assertEqual((data["type"], data["sequence_number"]), (name, number))
                openapi.check(data, names[name])
            self.assertEqual([n for n, _ in events[:2]], ["response.created", "response.in_progress"])
            self.assertIn(events[-1][0], ("response.completed", "response.incomplete"))
            final = events[-1][1]["response"]
            deltas = [""] * len(final["output"])
            for name, data in events:
                if name.endswith(".delta"):
                    deltas[data["output_index"]] += data["delta"]
            self.assertEqual(deltas, [item["arguments"] if item["type"] == "function_call" else
                                      item["content"][0]["text"] for item in final["output"]])
            whole = self.post("responses", input="What is DSMIL?", temperature=0, **asked)
            self.assertEqual(*[[(item["type"], item["status"], item.get("content"), item.get("arguments"))
                                for item in answer["output"]] for answer in (final, whole)])

    # ---- refusals

    def test_nothing_is_ignored(self):
        # an unknown or unsupported parameter is a 400 that names it (waybarrios/vllm-mlx#786)
        for path, need in (("chat/completions", {"messages": ASK}), ("completions", {"prompt": "x"}),
                           ("embeddings", {"input": "x"}), ("responses", {"input": "x"})):
            for name in ("top_k", "repetition_penalty", "nonsense"):
                self.assertEqual(self.post(path, 400, **need, **{name: 1})["error"]["param"], name)
        for name, value in (("store", True), ("previous_response_id", "resp_1"), ("background", True),
                            ("conversation", "c")):
            refused = self.post("responses", 400, input="x", **{name: value})
            self.assertEqual(refused["error"]["param"], name)

    def test_bad_bodies(self):
        for body, code in ((b"{", "invalid_json"), (b"[" * 5000, "invalid_json"), (b"\xff", "invalid_utf8")):
            status, _, answer = self.mesh.request("POST", "/v1/responses", body)
            self.assertEqual((status, answer["error"]["code"]), (400, code))
        status, _, answer = self.mesh.request("POST", "/v1/embeddings", b" " * (1 << 20) + b"{}")
        self.assertEqual((status, answer["error"]["code"]), (413, "request_too_large"))

    # ---- keys

    def test_keys_of_tenants(self):
        made = self.mesh.cli("api-key", "add", "--tenant", "ALPHA", "--comment", "for a test", "--json")
        self.assertEqual(made.returncode, 0, made.stderr)
        row = json.loads(made.stdout)
        head = {"Authorization": f"Bearer {row['key']}"}

        def status():
            return self.mesh.request("POST", "/v1/chat/completions",
                                     {"model": "dsmil", "messages": ASK, "max_tokens": 2}, head)
        answer = wait_for("the key counts", lambda: (lambda a: a if a[0] == 200 else None)(status()))
        self.assertEqual(answer[2]["dsmil"]["tenant"], "ALPHA")
        listed = self.mesh.cli("api-key", "list", "--json")
        self.assertNotIn(row["key"], listed.stdout)
        self.assertIn(row["id"], [k["id"] for k in json.loads(listed.stdout)["keys"]])
        self.assertNotIn(row["key"], (self.mesh.state / "api-keys").read_text())
        self.assertEqual((self.mesh.state / "api-keys").stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.mesh.cli("api-key", "remove", row["id"]).returncode, 0)
        wait_for("the key is gone", lambda: status()[0] == 401)
        self.assertEqual(self.mesh.cli("api-key", "remove", row["id"]).returncode, 1)
        self.assertEqual(self.mesh.cli("api-key", "add", "--tenant", "A B").returncode, 2)

    # ---- clients that leave

    def test_client_that_leaves_ends_its_answer(self):
        before = self.mesh.metric("dsmil_l7_worker_cancelled_total")
        conn = self.mesh.connect()
        conn.request("POST", "/v1/chat/completions", json.dumps(
            {"model": "dsmil", "messages": ASK, "stream": True, "logit_bias": {"2": -100}, "temperature": 2,
             "max_tokens": 400, "n": 4}),
            {"Authorization": f"Bearer {self.mesh.key}", "Content-Type": "application/json"})
        conn.getresponse().readline()
        conn.close()
        wait_for("nothing is computed", lambda: self.mesh.metric("dsmil_l7_worker_sessions") == 0)
        self.assertLessEqual(self.mesh.metric("dsmil_l7_worker_cancelled_total"), before + 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
