# SPDX-License-Identifier: Apache-2.0
"""Functions of at most 80 lines, files of at most 800. Tables are not functions and do not count.

tools/lint/lengths.allow lists what is longer, one "path[:function] lines" a row. It only shrinks: a row that allows
more than is there, or something that is gone, is a violation too.
"""
import re

import tree

FUNCTION_MAX, FILE_MAX = 80, 800
ALLOW = "tools/lint/lengths.allow"
NAME = re.compile(r"(\w+)\s*\([^{};]*\)\s*$")


def functions(path):
    """(name, first line, number of lines) of each function body at file level."""
    lines = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: re.sub(r"[^\n]", " ", m.group(0)), tree.code(path),
                   flags=re.M)
    depth, start, head_from = 0, 0, 0
    for match in re.finditer(r"[{};]", lines):
        char, at = match.group(0), match.start()
        if char == "{":
            if depth == 0:
                found = NAME.search(lines[head_from:at])
                start, name = at, found.group(1) if found else None
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                if name:
                    first, last = tree.line_of(lines, start), tree.line_of(lines, at)
                    yield name, first, last - first + 1
                head_from = at + 1
        elif depth == 0:
            head_from = at + 1


def allowed():
    """The allow-list: key -> (lines, row)."""
    rows = {}
    if (tree.ROOT / ALLOW).exists():
        for number, row in enumerate(tree.read(ALLOW).splitlines(), 1):
            if row.strip() and not row.startswith("#"):
                key, count = row.split()
                rows[key] = (int(count), number)
    return rows


def measure():
    """(key, path, line, lines, maximum) of everything that is measured."""
    for path in tree.files(".c", ".h", ".py"):
        yield path, path, 1, tree.read(path).count("\n"), FILE_MAX
        if not path.endswith(".py"):
            for name, first, count in functions(path):
                yield f"{path}:{name}", path, first, count, FUNCTION_MAX


def check():
    """What is too long and not listed, and rows of the list that no longer hold."""
    rows = allowed()
    seen = set()
    for key, path, line, count, maximum in measure():
        limit = max(maximum, rows.get(key, (0, 0))[0])
        if count > limit:
            yield tree.Violation(path, line, f"{key.removeprefix(path + ':')} has {count} lines, {limit} are allowed")
        elif key in rows and count < limit:
            yield tree.Violation(ALLOW, rows[key][1], f"{key} has {max(count, 0)} lines now: lower the row or drop it")
        seen.add(key)
    for key, (_, number) in rows.items():
        if key not in seen:
            yield tree.Violation(ALLOW, number, f"{key} is gone: drop the row")
