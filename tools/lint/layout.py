# SPDX-License-Identifier: Apache-2.0
"""Width, white space, braces, and the licence line.

Only what has one right answer is checked: .clang-format says the rest for new code, but tables are drawn by hand and
a formatter's choice of line breaks is not enforced.
"""
import re

import tree

WIDTH = 120
SOURCES = (".c", ".h", ".def", ".proto", ".py", ".sh", "meson.build", "meson_options.txt", "Makefile", ".clang-format")
SPDX = "SPDX-License-Identifier: Apache-2.0"
TABS_OK = ("Makefile",)
# Prose held as data: a sentence is a line.
PROSE = ("models/train/",)
LONG_OK = re.compile(r"https?://|(?:[0-9a-f]{2}){32}")
BRACE = re.compile(r"^[A-Za-z][^;={}#]*\)[ \t]*\{[ \t]*$")
LEFTOVER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")


def is_script(path):
    """A program without an ending."""
    return "." not in path.rsplit("/", 1)[-1] and tree.read(path).startswith("#!")


def lines_of(path):
    """Violations within single lines."""
    for number, line in enumerate(tree.read(path).split("\n"), 1):
        if len(line) > WIDTH and not LONG_OK.search(line) and not path.startswith(PROSE):
            yield tree.Violation(path, number, f"{len(line)} columns, {WIDTH} are allowed")
        if line != line.rstrip():
            yield tree.Violation(path, number, "white space at the end of the line")
        if "\t" in line and not path.endswith(TABS_OK):
            yield tree.Violation(path, number, "a tab")
        if LEFTOVER.search(line):
            yield tree.Violation(path, number, "a note to oneself: do it, or write it down where it is tracked")
        if path.endswith((".c", ".h")) and BRACE.match(line):
            yield tree.Violation(path, number, "a function's opening brace stands on a line of its own")


def check():
    """Every source and script."""
    for path in tree.files():
        if not path.endswith(SOURCES) and not is_script(path):
            continue
        text = tree.read(path)
        if SPDX not in "\n".join(text.split("\n")[:3]):
            yield tree.Violation(path, 1, f"no line \"{SPDX}\" at the top")
        if text and not text.endswith("\n"):
            yield tree.Violation(path, text.count("\n") + 1, "no newline at the end of the file")
        yield from lines_of(path)
