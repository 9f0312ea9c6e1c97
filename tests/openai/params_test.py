# SPDX-License-Identifier: Apache-2.0
"""An ignored parameter cannot exist: every property of OpenAI's request schemas has a row in shim/params.def.

The names stand in properties.json. With DSMIL_OPENAPI they are compared with OpenAI's own description first, so that a
new property shows as a failure that says what is missing; `params_test.py --write` then takes the names over.
"""
import json
import pathlib
import re
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import openapi  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
ROWS = re.compile(r"^(CHAT|COMPLETION|EMBEDDING|RESPONSE)\((\w+), (HONOURED|ONLY|REFUSED), (\w+)\)$", re.M)
SCHEMAS = {"CHAT": "CreateChatCompletionRequest", "COMPLETION": "CreateCompletionRequest",
           "EMBEDDING": "CreateEmbeddingRequest", "RESPONSE": "CreateResponse"}


def described():
    """Properties by request, from OpenAI's description."""
    return {kind: sorted(openapi.properties(openapi.schemas()[name])) for kind, name in SCHEMAS.items()}


class Params(unittest.TestCase):
    """The table against the names."""

    @classmethod
    def setUpClass(cls):
        text = (HERE.parents[1] / "shim/params.def").read_text(encoding="utf-8")
        cls.rows = ROWS.findall(text)
        lines = [line for line in text.splitlines() if re.match(r"^[A-Z]+\(", line)]
        assert len(lines) == len(cls.rows), "a row of params.def has another form"
        cls.names = json.loads((HERE / "properties.json").read_text(encoding="utf-8"))

    def test_every_property_has_one_verdict(self):
        for kind, names in self.names.items():
            told = [name for row_kind, name, *_ in self.rows if row_kind == kind and name != "dsmil"]  # ours
            self.assertEqual(sorted(told), sorted(set(told)), f"{kind}: a property stands twice")
            self.assertEqual(sorted(told), names, f"{kind}: the table and OpenAI's properties differ")

    def test_refusals_say_so(self):
        for kind, name, verdict, how in self.rows:
            self.assertEqual(verdict == "REFUSED", how == "NEVER", f"{kind} {name}")

    @unittest.skipUnless(openapi.PATH, "DSMIL_OPENAPI names no openapi.json")
    def test_names_are_openai_s(self):
        self.assertEqual(self.names, described())


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        (HERE / "properties.json").write_text(json.dumps(described(), indent=1) + "\n", encoding="utf-8")
    else:
        unittest.main()
