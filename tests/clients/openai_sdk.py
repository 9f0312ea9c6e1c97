# SPDX-License-Identifier: Apache-2.0
"""OpenAI's own Python client against a running mesh: what it parses and raises is what its users will see."""
import asyncio
import pathlib
import sys
import unittest

import openai

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "scenario"))
from mesh import Mesh  # noqa: E402

ASK = [{"role": "user", "content": "What is DSMIL?"}]


class Sdk(unittest.TestCase):
    """One mesh, one client."""

    @classmethod
    def setUpClass(cls):
        cls.mesh = Mesh().__enter__()
        cls.url = f"http://127.0.0.1:{cls.mesh.port}/v1"
        cls.client = openai.OpenAI(base_url=cls.url, api_key=cls.mesh.key, max_retries=0)
        cls.model = cls.client.models.list().data[0].id

    @classmethod
    def tearDownClass(cls):
        cls.mesh.__exit__()

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
        answer = self.client.chat.completions.create(model=self.model, messages=turns, max_tokens=30)
        self.assertTrue(answer.choices[0].message.content)

    def test_async_client(self):
        async def ask():
            async with openai.AsyncOpenAI(base_url=self.url, api_key=self.mesh.key, max_retries=0) as client:
                calls = [client.chat.completions.create(model=self.model, messages=ASK, max_tokens=10, seed=i)
                         for i in range(4)]
                return await asyncio.gather(*calls)
        self.assertEqual(len(asyncio.run(ask())), 4)

    def test_errors_have_their_types(self):
        wrong = openai.OpenAI(base_url=self.url, api_key="wrong", max_retries=0)
        with self.assertRaises(openai.AuthenticationError):
            wrong.models.list()
        with self.assertRaises(openai.NotFoundError):
            self.client.chat.completions.create(model="no-such-model", messages=ASK)
        with self.assertRaises(openai.BadRequestError) as raised:
            self.client.chat.completions.create(model=self.model, messages=ASK, logit_bias={"1": 1})
        self.assertEqual(raised.exception.param, "logit_bias")


if __name__ == "__main__":
    unittest.main(verbosity=2)
