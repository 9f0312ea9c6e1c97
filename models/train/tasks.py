# SPDX-License-Identifier: Apache-2.0
"""tasks.py - the agent's tasks on one SOC event: what the agent says, and the JSON that a careful person would give.

In: a sample of soc.py; the instructions as they stand in devices/l7_agent/task.c, so that training and agent cannot
drift apart. Out: conversations of system, user and assistant.
Does not do: the JSON schemas (task.c; the engine's grammar keeps to them), free wordings of orders (forms.py).
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from random import Random

from forms import NOTE
from soc import KINDS, Sample

TASK_C = Path(__file__).resolve().parent.parent.parent / "devices" / "l7_agent" / "task.c"
NAMES = {kind.key: kind.names[0].replace("_", " ") for kind in KINDS}
CATEGORIES = {kind.key: kind.category for kind in KINDS}
LEVELS = ("INFO", "MODERATE", "HIGH", "CRITICAL")
SCALES: tuple[tuple[str, ...], ...] = (  # labels for the four levels, from low to high; several may share one
    LEVELS,
    ("info", "moderate", "high", "critical"),
    ("LOW", "MEDIUM", "HIGH", "CRITICAL"),
    ("low", "medium", "high", "critical"),
    ("low", "medium", "high", "high"),
    ("benign", "suspicious", "malicious", "malicious"),
    ("normal", "urgent", "urgent", "urgent"),
    ("ignore", "look later", "look now", "look now"),
)
AREAS = {  # a category's names as labels
    "AUTH": ("authentication", "login", "account", "auth", "AUTH"),
    "NETWORK": ("network", "traffic", "NETWORK"),
    "SYSTEM": ("system", "host", "machine", "SYSTEM"),
    "APP": ("application", "app", "APP"),
    "INTEL": ("intelligence", "intel", "INTEL"),
}
FIELDS = {  # a field's names as people ask for it
    "user": ("user", "username", "account", "user name"),
    "host": ("host", "hostname", "server", "machine"),
    "src": ("source", "src_ip", "source address", "address", "ip", "attacker"),
    "dst": ("destination", "dst_ip", "target address"),
    "count": ("count", "attempts", "number"),
    "minutes": ("minutes", "window"),
    "file": ("file", "filename", "path"),
    "domain": ("domain", "query"),
    "service": ("service", "process"),
    "package": ("package",),
    "country": ("country",),
}
TASKS = ("summarise", "classify", "extract", "triage")


@cache
def instructions() -> dict[str, str]:
    """What the agent says before each task, from its source."""
    text = TASK_C.read_text(encoding="utf-8")

    def joined(part: str) -> str:
        return "".join(json.loads(s) for s in re.findall(r'"(?:[^"\\]|\\.)*"', part))

    is_data = re.search(r"#define IS_DATA(.*?)\n\n", text, re.DOTALL)
    assert is_data
    found = re.findall(r'\.name = "(\w+)".*?\.prompt =(.*?),\n', text, re.DOTALL)
    said = {name: joined(part.replace("IS_DATA", json.dumps(joined(is_data[1])))) for name, part in found}
    assert tuple(said) == TASKS, said
    return said


def within(text: str, most: int) -> str:
    """At most so many characters, cut behind a whole part."""
    while len(text) > most:
        at = max(text.rfind(", "), text.rfind(". ") + 1, text.rfind(" "))
        text = text[:at].rstrip(" ,")
    return text


def upper_first(text: str, sample: Sample) -> str:
    """As a sentence begins; a name of the event's keeps its letters."""
    named = any(text.startswith(v) for v in sample.values.values() if v)
    return text if named else text[0].upper() + text[1:]


def labels(rng: Random, sample: Sample) -> tuple[list[str], str]:
    """Labels to choose from, and the right one."""
    level = LEVELS.index(sample.severity)
    if sample.kind == "unknown" or rng.random() < 0.6:
        scale = rng.choice(SCALES)
        some = list(dict.fromkeys(scale))
        if rng.random() < 0.35:
            rng.shuffle(some)
        return some, scale[level]
    area = CATEGORIES[sample.kind]
    right = rng.choice(AREAS[area])
    others = rng.sample([a for a in AREAS if a != area], rng.randint(1, len(AREAS) - 1))
    some = [rng.choice(AREAS[a]) for a in others] + [right]
    rng.shuffle(some)
    return some, right


def fields(rng: Random, sample: Sample) -> dict[str, str | None]:
    """Fields that are asked for, some of which the event does not state, and their values."""
    there = [f for f in FIELDS if f in sample.values]
    absent = [f for f in FIELDS if f not in sample.values]
    asked = rng.sample(there, rng.randint(min(1, len(there)), len(there)))
    asked += rng.sample(absent, rng.choice((0, 0, 1, 1, 2)) if asked else 1)
    if rng.random() < 0.7:
        asked.sort(key=list(FIELDS).index)
    return {rng.choice(FIELDS[f]): sample.values.get(f) for f in asked}


def task_turns(rng: Random, sample: Sample, task: str = "") -> list[tuple[str, str]]:
    """One task as the agent sets it, and the answer that follows from the sample by rule."""
    task = task or rng.choices(TASKS, (20, 25, 30, 25))[0]
    parts = NOTE.match(sample.note.replace('"', ""))
    assert parts
    what, said = upper_first(parts["what"], sample), instructions()[task]
    answer: dict[str, object]
    if task == "summarise":
        answer = {"summary": within(f"{what}. {parts['why']}", 400)}
    elif task == "classify":
        some, right = labels(rng, sample)
        said += " " + ", ".join(some)
        answer = {"label": right, "reason": within(parts["why"], 160)}
    elif task == "extract":
        wanted = fields(rng, sample)
        said += " " + ", ".join(wanted)
        answer = dict(wanted)
    else:
        answer = {
            "severity": ("LOW", "MEDIUM", "HIGH", "CRITICAL")[LEVELS.index(sample.severity)],
            "category": within(NAMES.get(sample.kind, "unknown event"), 40),
            "summary": within(f"{what}.", 240),
            "next_step": within(f"{upper_first(parts['check'], sample)}.", 160),
            "advisory": True,
        }
    text = json.dumps(answer, separators=(",", ":"), ensure_ascii=False)
    return [("system", said), ("user", sample.event), ("assistant", text)]
