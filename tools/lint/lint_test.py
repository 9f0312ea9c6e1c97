#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each check finds what it is for, and nothing in a clean file: small trees are made and linted.

In:   tools/lint as it stands
Out:  unittest's report
"""
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
TOP = "/* SPDX-License-Identifier: Apache-2.0 */\n"


def lint(check, files):
    """Output of one check over a tree of these files (path -> text)."""
    with tempfile.TemporaryDirectory() as at:
        root = pathlib.Path(at)
        shutil.copytree(HERE, root / "tools/lint", ignore=shutil.ignore_patterns("*_test.py", "__pycache__"))
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        done = subprocess.run([sys.executable, str(root / "tools/lint/run"), check], capture_output=True, text=True,
                              check=False)
        return done.stdout + done.stderr


class Lint(unittest.TestCase):
    """One method a check."""

    def finds(self, check, path, text, want, **more):
        """The check says `want` of the file."""
        self.assertIn(want, lint(check, {path: text, **more}))

    def clean(self, check, path, text):
        """The check has nothing against the file."""
        self.assertIn("1 checks passed, 0 failed", lint(check, {path: text}))

    def test_includes(self):
        self.finds("includes", "llm/a.c", '#include "dbe/node.h"\n', "llm/a.c:1: llm may not know dbe/node.h")
        self.finds("includes", "src/base/a.c", '\n#include "codec/wire.h"\n', "a.c:2: base may not include codec")
        self.finds("includes", "devices/x/a.c", "#include <jansson.h>\n", "devices may not include it")
        self.clean("includes", "devices/l7_worker/a.c", "#include <jansson.h>\n")
        self.finds("includes", "src/odd/a.c", "\n", "room odd is not in")
        self.clean("includes", "src/node/a.c", '#include "session/session.h"\n#include "base/base.h"\n')
        self.clean("includes", "src/base/a_test.c", '#include "codec/wire.h"\n')

    def test_calls(self):
        self.finds("calls", "llm/a.c", "void f(void)\n{\n    strcpy(a, b);\n}\n", "llm/a.c:3: strcpy() is banned")
        self.finds("calls", "cli/a.c", "int t = time(NULL);\n", "time() is banned")
        self.finds("calls", "src/node/a.c", "if (memcmp(tag, want, 16) == 0)\n", "leaks through timing")
        self.clean("calls", "src/base/a.c", "int t = time(NULL);\n")
        self.clean("calls", "llm/a_test.c", "strcpy(a, b);\n")
        self.clean("calls", "cli/a.c", '/* strcpy(a) */ const char *s = "gets()"; x->time(1); memcmp(name, b, 2);\n')

    def test_lengths(self):
        body = "    a++;\n" * 79
        self.finds("lengths", "llm/a.c", f"int f(int a)\n{{\n{body}}}\n", "f has 81 lines, 80 are allowed")
        self.clean("lengths", "llm/a.c", f"int f(int a)\n{{\n{body[9:]}}}\nint t[] = {{\n" + "    1,\n" * 100 + "};\n")
        self.finds("lengths", "llm/a.c", "int a;\n" * 801, "has 801 lines")
        self.finds("lengths", "tools/lint/lengths.allow", "llm/a.c:f 99\n", "is gone: drop the row")

    def test_layout(self):
        self.finds("layout", "llm/a.c", "int a;\n", "no line \"SPDX")
        self.finds("layout", "llm/a.c", TOP + "\tint a;\n", "llm/a.c:2: a tab")
        self.finds("layout", "llm/a.c", TOP + "int a; \n", "white space at the end")
        self.finds("layout", "llm/a.c", TOP + "int a;", "no newline at the end")
        self.finds("layout", "llm/a.c", TOP + "int f(void) {\n}\n", "a line of its own")
        self.finds("layout", "llm/a.c", TOP + "/* " + "a " * 60 + "*/\n", "125 columns")
        self.clean("layout", "llm/a.c", TOP + "int f(void)\n{\n    return 1;\n}\n")

    def test_registries(self):
        self.finds("registries", "schema/x.def", TOP + "X(A, 1)\nX(A, 2)\n", "schema/x.def:3: A stands in line 2")

    def test_fuzzing(self):
        entry = TOP + "int LLVMFuzzerTestOneInput(void)\n{\n}\n"
        self.finds("fuzzing", "fuzz/tlv.c", entry, "is not built")
        self.finds("fuzzing", "fuzz/corpus/old/1", "x", "fuzz/corpus/old:1: is no fuzz target's name")

    def test_shell(self):
        self.finds("shell", "scripts/x", "#!/bin/sh\nif\n", "scripts/x:1:")
        self.finds("shell", "tools/x.py", "a = (\n", "never closed")
        self.clean("shell", "scripts/x", "#!/bin/sh\ntrue\n")

    def test_metrics(self):
        page, table = "docs/metrics.md", "src/runtime/metrics.def"
        row = "| `dsmil_x_total` | counter | `a`, `b` | what |\n"
        metric = 'METRIC(dsmil_x_total, COUNTER, "a,b",\n       "what")\n'
        self.finds("metrics", table, metric, f"{table}:1: dsmil_x_total has no row")
        self.finds("metrics", page, row, f"{page}:1: nothing exports dsmil_x_total")
        self.finds("metrics", table, metric.replace(",b", ""), "dsmil_x_total is a counter by `a`", **{page: row})
        self.finds("metrics", "shim/a.c", 'COUNTER("dbe_y", "what", SVC_GAUGE, y),\n', "shim/a.c:1: dbe_y has no row")
        self.finds("metrics", "devices/x/a.c", 'COUNTER("dbe_y", SVC_GAUGE, y, "what"),\n', "dbe_y has no row")
        self.assertIn("1 checks passed", lint("metrics", {table: metric, page: row}))


if __name__ == "__main__":
    unittest.main()
