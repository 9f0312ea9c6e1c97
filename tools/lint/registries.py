# SPDX-License-Identifier: Apache-2.0
"""Registries: no name and no number twice, and docs/registries.md says what schema/ says."""
import re
import subprocess
import sys

import tree

ROW = re.compile(r"^([A-Z][A-Z0-9_]*)\(\s*(\w+)", re.M)
DOCS = "docs/registries.md"


def twice(path):
    """A first column that a table has twice. Pairs and triples (emits.def) are the generator's to judge."""
    text = tree.code(path)
    seen = {}
    for match in ROW.finditer(text):
        line = tree.line_of(text, match.start())
        if match.groups() in seen:
            yield tree.Violation(path, line, f"{match.group(2)} stands in line {seen[match.groups()]} already")
        seen[match.groups()] = line


def check():
    """All .def files, then the generator's own checks and the page it would write."""
    for path in tree.files(".def"):
        if path != "schema/emits.def":
            yield from twice(path)
    done = subprocess.run([sys.executable, str(tree.ROOT / "tools/gen_registry.py"), "--check", str(tree.ROOT / DOCS)],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        yield tree.Violation(DOCS, 1, (done.stderr or done.stdout).strip().split("\n")[-1])
