# SPDX-License-Identifier: Apache-2.0
"""The generator refuses a table in which a number or a name stands twice, or a row names nothing."""
import importlib.util
import os
import pathlib
import shutil
import sys
import tempfile
import unittest

ROOT = pathlib.Path(os.environ.get("DSMIL_SOURCE_ROOT", pathlib.Path(__file__).resolve().parent.parent))
spec = importlib.util.spec_from_file_location("gen_registry", ROOT / "tools" / "gen_registry.py")
gen = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gen)


class Refusals(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp())
        for path in (ROOT / "schema").glob("*.def"):
            shutil.copy(path, self.dir)
        gen.SCHEMA = self.dir

    def tearDown(self):
        shutil.rmtree(self.dir)

    def add(self, name, row):
        with open(self.dir / f"{name}.def", "a", encoding="utf-8") as out:
            out.write(row + "\n")

    def refused(self):
        with self.assertRaises(gen.SchemaError):
            gen.load()

    def test_the_tree_as_it_stands_is_accepted(self):
        gen.load()

    def test_number_twice(self):
        self.add("msg_types", 'MSG(ANOTHER, 0x41, X, NONE, "clashes with L7_CHAT_REQ")')
        self.refused()

    def test_name_twice(self):
        self.add("errors", 'ERROR(E_AUTH, 1000, PEER, "the name is taken")')
        self.refused()

    def test_alias_on_a_taken_number(self):
        self.add("msg_types", "MSG_ALIAS(0x41, L7_CHAT_RESP)")
        self.refused()

    def test_emit_of_nothing(self):
        self.add("emits", "EMIT(SHIM, NO_SUCH_MESSAGE, ROUTER)")
        self.refused()

    def test_row_without_meaning(self):
        self.add("tlvs", 'TLV(SILENT, 0x0100, U8, 1, 1, "")')
        self.refused()

    def test_missing_column(self):
        self.add("roles", 'ROLE(GHOST, 99, "ghost")')
        self.refused()

    def test_hash_changes_with_any_row(self):
        before = gen.registry_hash(*gen.load())
        self.add("roles", 'ROLE(GHOST, 99, "ghost", "a role more")')
        self.assertNotEqual(before, gen.registry_hash(*gen.load()))

    def test_hash_does_not_depend_on_words_for_people(self):
        before = gen.registry_hash(*gen.load())
        self.add("roles", "/* a comment */")
        path = self.dir / "tlvs.def"
        text = path.read_text(encoding="utf-8").replace('"tenant on whose behalf', '"the tenant on whose behalf')
        path.write_text(text, encoding="utf-8")
        self.assertEqual(before, gen.registry_hash(*gen.load()))


if __name__ == "__main__":
    sys.exit(unittest.main())
