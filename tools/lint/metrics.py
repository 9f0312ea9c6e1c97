# SPDX-License-Identifier: Apache-2.0
"""Metrics: each that a service exports has a row in docs/metrics.md, and each row there is exported."""
import re

import tree

DOCS = "docs/metrics.md"
TABLE = "src/runtime/metrics.def"
NAME = r"(?:dsmil|dbe|pqc)_[a-z0-9_]+"
ROW = re.compile(rf"^\| `({NAME})` \| (\w+) \| ([^|]*) \|", re.M)
METRIC = re.compile(rf'^METRIC\(({NAME}), (\w+), "([^"]*)"', re.M)
# a device's own counter: its name, then its words or its kind
COUNTER = re.compile(rf'[({{]\s*"({NAME})"\s*,\s*(?:"|SVC_(?:COUNTER|GAUGE)\b)')


def own_counters():
    """(path, line, name) of what devices and gateway declare."""
    for path in tree.files(".c"):
        if path.startswith(("devices/", "shim/")) and not path.endswith(("_test.c", "_fixture.c", "_fake.c")):
            text = tree.read(path)
            for match in COUNTER.finditer(text):
                yield path, tree.line_of(text, match.start(1)), match.group(1)


def check():
    """Sources against the page, and the page against sources."""
    page = tree.read(DOCS) if DOCS in tree.files() else ""
    rows = {match.group(1): match for match in ROW.finditer(page)}
    exported = set()
    table = tree.read(TABLE) if TABLE in tree.files() else ""
    for match in METRIC.finditer(table):
        name, kind, labels = match.groups()
        exported.add(name)
        line = tree.line_of(table, match.start())
        want = (kind.lower(), ", ".join(f"`{label}`" for label in labels.split(",") if label))
        if name not in rows:
            yield tree.Violation(TABLE, line, f"{name} has no row in {DOCS}")
        elif (rows[name].group(2), rows[name].group(3).strip()) != want:
            at = tree.line_of(page, rows[name].start())
            yield tree.Violation(DOCS, at, f"{name} is a {want[0]} by {want[1] or 'nothing'}")
    for path, line, name in own_counters():
        exported.add(name)
        if name not in rows:
            yield tree.Violation(path, line, f"{name} has no row in {DOCS}")
    for name, match in rows.items():
        if name not in exported:
            yield tree.Violation(DOCS, tree.line_of(page, match.start()), f"nothing exports {name}")
