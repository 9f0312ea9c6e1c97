# SPDX-License-Identifier: Apache-2.0
"""The specification's clauses are numbered without a gap, and every clause that the tree cites is one of them."""
import os
import pathlib
import re
import sys

ROOT = pathlib.Path(os.environ.get("DSMIL_SOURCE_ROOT", "."))
ROOMS = ("src", "include", "devices", "shim", "cli", "fuzz", "tests", "schema")
CITED = re.compile(r"\bspec (\d+\.\d+)\b")


def gaps(text):
    """Clauses that do not follow the one before them in their section."""
    last = {}
    for section, number in re.findall(r"^\*\*(\d+)\.(\d+)\*\*", text, re.M):
        if int(number) != last.get(section, 0) + 1:
            yield f"clause {section}.{number} follows {section}.{last.get(section, 0)}"
        last[section] = int(number)
    for reference in re.findall(r"clauses? (\d+\.\d+)|\((\d+\.\d+)\)", text):
        section, number = (reference[0] or reference[1]).split(".")
        if int(number) > last.get(section, 0):
            yield f"the text refers to clause {section}.{number}, which does not exist"


def citations(clauses):
    """Citations in the tree of clauses that do not exist."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.[ch]")):
            for number in CITED.findall(path.read_text()):
                if number not in clauses:
                    yield f"{path.relative_to(ROOT)} cites spec {number}, which does not exist"


def main():
    """Exit 1 and say what is wrong, or 0."""
    text = (ROOT / "docs/spec/dbe-v1.md").read_text()
    clauses = set(re.findall(r"^\*\*(\d+\.\d+)\*\*", text, re.M))
    problems = list(gaps(text)) + list(citations(clauses))
    if len(clauses) < 100:
        problems.append(f"only {len(clauses)} clauses were found")
    print("\n".join(problems) or f"{len(clauses)} clauses")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
