# SPDX-License-Identifier: Apache-2.0
"""Each fuzz target is built, and each has a corpus to start from only under its own name."""
import re

import tree

ENTRY = re.compile(r"\bLLVMFuzzerTestOneInput\s*\(")


def check():
    """fuzz/*.c against fuzz/meson.build, fuzz/corpus/* against fuzz/*.c."""
    build = tree.read("fuzz/meson.build") if "fuzz/meson.build" in tree.files() else ""
    sources = [path for path in tree.files(".c") if path.startswith("fuzz/")]
    names = {path.split("/")[-1].removesuffix(".c") for path in sources if ENTRY.search(tree.code(path))}
    for path in sources:
        name = path.split("/")[-1].removesuffix(".c")
        if not re.search(rf"\b{re.escape(name)}\b", build):
            yield tree.Violation(path, 1, "is not built: fuzz/meson.build does not name it")
    for corpus in {path.split("/")[2] for path in tree.files() if path.startswith("fuzz/corpus/")}:
        if corpus not in names:
            yield tree.Violation(f"fuzz/corpus/{corpus}", 1, "is no fuzz target's name")
