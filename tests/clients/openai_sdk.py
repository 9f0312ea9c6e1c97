# SPDX-License-Identifier: Apache-2.0
"""OpenAI's own Python client against the gateway that DSMIL_URL and DSMIL_KEY name: what it parses and raises is what
its users will see."""
import asyncio
import json
import os
import unittest
from typing import Literal

import openai
from pydantic import BaseModel

URL, KEY = os.environ["DSMIL_URL"], os.environ["DSMIL_KEY"]
ASK = [{"role": "user", "content": "What is DSMIL?"}]


class Triage(BaseModel):
    """What an answer is parsed into."""
    urgent: bool
    severity: Literal["low", "high"]


class Sdk(unittest.TestCase):
    """One client."""

    @classmethod
    def setUpClass(cls):
        cls.client = openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0)
        cls.model = cls.client.models.list().data[0].id

    def test_models(self):
        models = self.client.models.list().data
        self.assertTrue(all(m.object == "model" and m.owned_by for m in models))

    def test_answer(self):
        answer = self.client.chat.completions.create(model=self.model, messages=ASK, temperature=0, max_tokens=60)
        self.assertIn("DSMIL", answer.choices[0].message.content)
        self.assertIn(answer.choices[0].finish_reason, ("stop", "length"))
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)

    def test_stream_with_usage(self):
        chunks = list(self.client.chat.completions.create(model=self.model, messages=ASK, temperature=0, max_tokens=60,
                                                          stream=True, stream_options={"include_usage": True}))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        whole = self.client.chat.completions.create(model=self.model, messages=ASK, temperature=0, max_tokens=60)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)

    def test_stop_and_seed(self):
        def once():
            return self.client.chat.completions.create(model=self.model, messages=ASK, temperature=0.9, seed=11,
                                                       max_tokens=40, stop=["."]).choices[0]
        first, second = once(), once()
        self.assertEqual(first.message.content, second.message.content)
        self.assertNotIn(".", first.message.content)

    def test_many_turns(self):
        turns = [{"role": "system", "content": "Answer briefly."}, *ASK, {"role": "assistant", "content": "A mesh."},
                 {"role": "user", "content": [{"type": "text", "text": "What does the router do?"}]}]
        answer = self.client.chat.completions.create(model=self.model, messages=turns, temperature=0, max_tokens=30)
        self.assertTrue(answer.choices[0].message.content)

    def test_async_client(self):
        async def ask():
            async with openai.AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0) as client:
                calls = [client.chat.completions.create(model=self.model, messages=ASK, max_tokens=10, seed=i)
                         for i in range(4)]
                return await asyncio.gather(*calls)
        self.assertEqual(len(asyncio.run(ask())), 4)

    def test_choices_with_probabilities(self):
        answer = self.client.chat.completions.create(model=self.model, messages=ASK, n=2, logprobs=True, top_logprobs=3,
                                                     max_tokens=8, seed=1)
        self.assertEqual([c.index for c in answer.choices], [0, 1])
        self.assertTrue(all(len(t.top_logprobs) == 3 for t in answer.choices[0].logprobs.content))
        self.assertTrue(answer.system_fingerprint)

    def test_parsed_answer(self):
        answer = self.client.chat.completions.parse(model=self.model, messages=ASK, response_format=Triage,
                                                    temperature=0, max_tokens=400)
        self.assertIsInstance(answer.choices[0].message.parsed, Triage)

    def test_tools(self):
        tools = [openai.pydantic_function_tool(Triage)]
        answer = self.client.chat.completions.create(model=self.model, messages=ASK, tools=tools, max_tokens=400,
                                                     tool_choice="required", temperature=0)
        call = answer.choices[0].message.tool_calls[0]
        self.assertEqual(set(json.loads(call.function.arguments)), {"urgent", "severity"})
        turns = [*ASK, answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "noted"}]
        self.client.chat.completions.create(model=self.model, messages=turns, tools=tools, max_tokens=4)

    def test_stream_helper(self):
        with self.client.chat.completions.stream(model=self.model, messages=ASK, temperature=0) as stream:
            text = "".join(e.delta for e in stream if e.type == "content.delta")
            self.assertEqual(stream.get_final_completion().choices[0].message.content, text)

    def test_responses(self):
        whole = self.client.responses.create(model=self.model, input="What is DSMIL?", max_output_tokens=16,
                                             temperature=0, store=False)
        self.assertTrue(whole.output_text)
        with self.client.responses.stream(model=self.model, input="What is DSMIL?", max_output_tokens=16,
                                          temperature=0) as stream:
            text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        self.assertEqual(text, whole.output_text)
        again = self.client.responses.create(model=self.model, max_output_tokens=4, input=[
            {"role": "user", "content": "Hi"}, *whole.output, {"role": "user", "content": "More"}])
        self.assertIn(again.status, ("completed", "incomplete"))
        parsed = self.client.responses.parse(model=self.model, input="Judge.", text_format=Triage, temperature=0,
                                             max_output_tokens=400)
        self.assertIsInstance(parsed.output_parsed, Triage)

    def test_embeddings_and_completions(self):
        vectors = self.client.embeddings.create(model=self.model, input=["one", "two"]).data
        self.assertEqual(len(vectors), 2)
        self.assertIsInstance(vectors[0].embedding[0], float)
        answer = self.client.completions.create(model=self.model, prompt="DSMIL is", temperature=0, max_tokens=4,
                                                logprobs=1)
        self.assertEqual("".join(answer.choices[0].logprobs.tokens), answer.choices[0].text)

    def test_prompts_and_tokens(self):
        answer = self.client.completions.create(model=self.model, prompt=["DSMIL is", "The router"], n=2, max_tokens=3)
        self.assertEqual([c.index for c in answer.choices], [0, 1, 2, 3])
        self.assertEqual(len(self.client.completions.create(model=self.model, prompt=[5, 6], max_tokens=2).choices), 1)
        self.assertEqual(len(self.client.embeddings.create(model=self.model, input=[[5, 6], [7]]).data), 2)
        with self.assertRaises(openai.BadRequestError) as raised:
            self.client.embeddings.create(model=self.model, input=[[100257]])
        self.assertEqual(raised.exception.param, "input")

    def test_several_calls(self):
        tools = [openai.pydantic_function_tool(Triage)]
        asked = {"model": self.model, "messages": ASK, "tools": tools, "tool_choice": "required", "max_tokens": 400,
                 "temperature": 0}
        calls = self.client.chat.completions.create(**asked).choices[0].message.tool_calls
        self.assertEqual(len({c.id for c in calls}), len(calls))
        self.assertEqual(len(self.client.chat.completions.create(**asked, parallel_tool_calls=False)
                             .choices[0].message.tool_calls), 1)
        with self.client.chat.completions.stream(**asked) as stream:
            for _ in stream:
                pass
            streamed = stream.get_final_completion().choices[0].message.tool_calls
        self.assertEqual([c.function.arguments for c in streamed], [c.function.arguments for c in calls])

    def test_errors_have_their_types(self):
        wrong = openai.OpenAI(base_url=URL, api_key="wrong", max_retries=0)
        with self.assertRaises(openai.AuthenticationError):
            wrong.models.list()
        with self.assertRaises(openai.NotFoundError):
            self.client.chat.completions.create(model="no-such-model", messages=ASK)
        with self.assertRaises(openai.BadRequestError) as raised:
            self.client.chat.completions.create(model=self.model, messages=ASK, store=True)
        self.assertEqual(raised.exception.param, "store")


if __name__ == "__main__":
    unittest.main(verbosity=2)
