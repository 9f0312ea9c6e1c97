# SPDX-License-Identifier: Apache-2.0
"""LangChain's OpenAI classes against a running mesh, as its users write them."""
import os
import unittest

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field

URL, KEY = os.environ["DSMIL_URL"], os.environ["DSMIL_KEY"]


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Triage(BaseModel):
    """Judgement of an event."""
    urgent: bool
    score: int = Field(ge=0, le=9)


class LangChain(unittest.TestCase):
    """Chats, tools, structures, vectors."""

    def chat(self, **extra):
        """The class that its users take."""
        return ChatOpenAI(base_url=URL, api_key=KEY, model="dsmil", max_retries=0, **extra)

    def test_invoke_and_stream(self):
        chat = self.chat(temperature=0, max_tokens=16)
        asked = [SystemMessage("Be brief."), HumanMessage("What is DSMIL?")]
        answer = chat.invoke(asked)
        self.assertTrue(answer.content)
        self.assertGreater(answer.usage_metadata["total_tokens"], 0)
        self.assertEqual("".join(c.content for c in chat.stream(asked)), answer.content)

    def test_tools(self):
        answer = self.chat(max_tokens=200, temperature=0).bind_tools([add], tool_choice="add").invoke("2 and 3?")
        self.assertIsInstance(answer, AIMessage)
        call = answer.tool_calls[0]
        self.assertEqual(call["name"], "add")
        self.assertEqual(set(call["args"]), {"a", "b"})
        back = [HumanMessage("2 and 3?"), answer, ToolMessage("5", tool_call_id=call["id"], name="add")]
        self.assertIsNotNone(self.chat(max_tokens=8).bind_tools([add]).invoke(back).content)

    def test_structured_output(self):
        made = self.chat(max_tokens=200, temperature=0).with_structured_output(Triage, method="json_schema")
        self.assertIn(made.invoke("Judge this.").score, range(10))
        made = self.chat(max_tokens=200, temperature=0).with_structured_output(Triage, method="function_calling")
        self.assertIsInstance(made.invoke("Judge this.").urgent, bool)

    def test_vectors(self):
        # our vocabulary is not OpenAI's: texts go as texts
        vectors = OpenAIEmbeddings(base_url=URL, api_key=KEY, model="dsmil", check_embedding_ctx_length=False)
        one, two = vectors.embed_documents(["one", "two"])
        self.assertEqual(len(one), len(two))
        self.assertNotEqual(one, two)

    def test_many_prompts(self):
        made = OpenAI(base_url=URL, api_key=KEY, model="dsmil", max_tokens=3).generate(["DSMIL is", "A", "B"])
        self.assertEqual(len(made.generations), 3)

    def test_completion(self):
        self.assertIsInstance(OpenAI(base_url=URL, api_key=KEY, model="dsmil", max_tokens=4).invoke("DSMIL is"), str)

    def test_responses(self):
        chat = self.chat(use_responses_api=True, max_tokens=16, temperature=0)
        self.assertTrue(chat.invoke("What is DSMIL?").text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
