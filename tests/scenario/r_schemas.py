# SPDX-License-Identifier: Apache-2.0
"""Schemas that mean harm, through a whole mesh: who sends them is told what is wrong, and nobody else waits or is told
anything else than without them.
"""
import concurrent.futures
import json
import unittest

from mesh import Mesh, wait_for

SAME = {"temperature": 0, "seed": 1, "max_tokens": 12}


def of_schema(schema):
    """A request whose answer is to be of a schema."""
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}, **SAME}


def copies():
    """Small to read, and seconds to translate if it were let: a large part that is copied thousands of times."""
    return {"$defs": {"big": {"type": "null", "x-a": [1] * 60000}},
            "anyOf": [{"allOf": [{"$ref": "#/$defs/big"}]} for _ in range(2500)]}


def lengths():
    """Hours: a long text measured against thousands of lengths, again and again."""
    return {"$defs": {"long": {"const": "x" * 40000},
                      "any": {"anyOf": [{"type": "string", "minLength": 100000 + i} for i in range(4000)]}},
            "oneOf": [{"$ref": "#/$defs/long"}, {"$ref": "#/$defs/any"}]}


def ways():
    """Quickly translated, but with ever more ways to read one text."""
    return {"type": "string", "pattern": "^(?:(?:[^b]{1,90}){1,90}){90,99}$"}


class Schemas(unittest.TestCase):
    """One mesh for all."""

    @classmethod
    def setUpClass(cls):
        cls.mesh = Mesh().__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.mesh.__exit__()

    def refused(self, status, body, *words):
        """It is the request that was wrong, and what of it is named."""
        self.assertEqual(status, 400, body)
        for word in words:
            self.assertIn(word, body["error"]["message"])

    def test_the_place_is_named(self):
        status, _, body = self.mesh.chat(**of_schema({"type": "object", "properties": {"a": {"not": {}}}}))
        self.refused(status, body, "response_format", "#/properties/a/not")
        tool = {"type": "function", "function": {"name": "f", "parameters": {
            "type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}}}
        status, _, body = self.mesh.chat(tools=[tool], **SAME)
        self.refused(status, body, "tools", "/uniqueItems")

    def test_work_is_bounded(self):
        for schema in copies(), lengths():
            status, _, body = self.mesh.chat(**of_schema(schema))
            self.refused(status, body, "response_format: #", "too much work")
        status, _, body = self.mesh.chat(**dict(of_schema(ways()), max_tokens=400))
        self.refused(status, body, "too many ways")

    def test_nobody_else_notices(self):
        status, _, alone = self.mesh.chat(**SAME)
        self.assertEqual(status, 200)
        hostile = [of_schema(schema) for schema in (copies(), lengths(), ways())] * 8
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            bad = [pool.submit(self.mesh.chat, **body) for body in hostile]
            good = [pool.submit(self.mesh.chat, **SAME) for _ in range(8)]
            for answer in good:
                status, _, body = answer.result()
                self.assertEqual(status, 200, body)
                self.assertEqual(body["choices"], alone["choices"])
            for answer in bad:
                status, headers, body = answer.result()
                if status == 200:  # ended by its twelve tokens before there were too many ways
                    self.assertEqual(body["choices"][0]["finish_reason"], "length")
                elif status in (429, 503):  # more than may wait
                    self.assertIn("Retry-After", headers)
                else:
                    self.refused(status, body)
        wait_for("nothing is being translated", lambda: self.mesh.metric("dsmil_l7_worker_forming") == 0)
        self.assertEqual(self.mesh.chat(**SAME)[2]["choices"], alone["choices"])

    def test_a_caller_that_leaves(self):
        body = json.dumps({"model": "dsmil", "messages": [{"role": "user", "content": "x"}], **of_schema(lengths())})
        for _ in range(8):
            conn = self.mesh.connect()
            conn.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {self.mesh.key}",
                                                               "Content-Type": "application/json"})
            conn.close()
        self.assertEqual(self.mesh.chat(**SAME)[0], 200)


if __name__ == "__main__":
    unittest.main()
