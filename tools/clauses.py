#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The specifications' clauses: numbered without a gap, cited rightly, and each of them held by a test.

In:   docs/spec/dbe-v1.md and docs/spec/audit-v1.md; the tree, or DSMIL_SOURCE_ROOT; tools/clauses.exempt
Out:  what is wrong, one line each, and a count; exit 1 if anything is. --list prints every clause with the tests that
      cite it.
Does: a test cites a clause as `spec 4.3`, `spec 3.1, 3.11 and 4.1` or `spec 8.15 to 8.17`, one of the audit log as
      `spec audit 4.3`. A clause that the text itself marks with "(Note: reason.)" needs no test. tools/clauses.exempt
      lists others that have none yet, a number (`12.12`, `audit 4.3`) and a reason a row; it only shrinks: a row for a
      clause that has a test, or is gone, is wrong too.
"""
import collections
import os
import pathlib
import re
import sys

ROOT = pathlib.Path(os.environ.get("DSMIL_SOURCE_ROOT", pathlib.Path(__file__).resolve().parent.parent))
ROOMS = ("src", "include", "devices", "shim", "cli", "fuzz", "tests", "schema", "bindings")
SPECS = (("", "docs/spec/dbe-v1.md", 100), ("audit ", "docs/spec/audit-v1.md", 40))  # prefix, text, clauses at least
NUMBER = r"\d+\.\d+"
CITED = re.compile(rf"\bspec (audit )?({NUMBER}(?:(?:, | and | to )(?:spec (?:audit )?)?{NUMBER})*)")
CLAUSE = re.compile(rf"^\*\*({NUMBER})\*\*(?: \(Note: ([^)]*)\))?", re.M)


def gaps(text):
    """Clauses that do not follow the one before them in their section, and references to none."""
    last = {}
    for section, number in re.findall(r"^\*\*(\d+)\.(\d+)\*\*", text, re.M):
        if int(number) != last.get(section, 0) + 1:
            yield f"clause {section}.{number} follows {section}.{last.get(section, 0)}"
        last[section] = int(number)
    for reference in re.findall(rf"clauses? ({NUMBER})|\(({NUMBER})\)", text):
        section, number = (reference[0] or reference[1]).split(".")
        if int(number) > last.get(section, 0):
            yield f"the text refers to clause {section}.{number}, which does not exist"


def numbers_of(citation):
    """Every clause that one citation names; "8.15 to 8.17" names three."""
    words = re.findall(rf"{NUMBER}|to", citation)
    for i, word in enumerate(words):
        if word == "to":
            section, first = words[i - 1].split(".")
            yield from (f"{section}.{n}" for n in range(int(first) + 1, int(words[i + 1].split(".")[1])))
        else:
            yield word


def is_test(path):
    """Does this file test something?"""
    parts = path.relative_to(ROOT).parts
    return parts[0] in ("tests", "fuzz") or path.stem.endswith("_test") or path.stem.startswith("test_")


def citations():
    """(clause, path) of every citation in the tree; a clause of the audit log's as "audit 4.3"."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*")):
            if path.suffix in (".c", ".h", ".py") and path.is_file():
                text = re.sub(r"\s*\n\s*(?:\*|#)?\s*", " ", path.read_text(encoding="utf-8"))
                for prefix, citation in CITED.findall(text):
                    yield from ((prefix + number, path) for number in numbers_of(citation))


def exempt():
    """Rows of tools/clauses.exempt: clause -> reason."""
    path, rows = ROOT / "tools/clauses.exempt", {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        if line and not line.startswith("#"):
            number, reason = re.fullmatch(rf"((?:audit )?{NUMBER}) *(.*)", line).groups()
            rows[number] = reason
    return rows


def judge():
    """(problems, clauses, tests by clause, notes)."""
    clauses, notes, problems = [], {}, []
    tests = collections.defaultdict(set)
    for prefix, name, least in SPECS:
        text = (ROOT / name).read_text(encoding="utf-8")
        found = CLAUSE.findall(text)
        clauses += [prefix + number for number, _ in found]
        notes.update({prefix + number: note for number, note in found if note})
        problems += [f"{name}: {problem}" for problem in gaps(text)]
        if len(found) < least:
            problems.append(f"{name}: only {len(found)} clauses were found")
    for number, path in citations():
        if number not in clauses:
            problems.append(f"{path.relative_to(ROOT)} cites spec {number}, which does not exist")
        elif is_test(path):
            tests[number].add(str(path.relative_to(ROOT)))
    rows = exempt()
    for number in clauses:
        if number not in tests and number not in notes and number not in rows:
            problems.append(f"no test cites spec {number}")
    for number, reason in rows.items():
        if number not in clauses or number in tests or number in notes or not reason:
            problems.append(f"tools/clauses.exempt: {number} is tested, a note, gone or without a reason: drop the row")
    return problems, clauses, tests, notes


def main(argv):
    """Exit status."""
    problems, clauses, tests, notes = judge()
    if "--list" in argv:
        for number in clauses:
            print(f"{number:12} {', '.join(sorted(tests[number])) or notes.get(number) or exempt().get(number, '-')}")
    print("\n".join(sorted(set(problems), key=problems.index)))
    tested = sum(1 for number in clauses if tests[number])
    print(f"{len(clauses)} clauses: {tested} tested, {len(notes)} notes, {len(exempt())} exempt")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
