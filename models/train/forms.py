# SPDX-License-Identifier: Apache-2.0
"""forms.py - short orders on one SOC event: summarise, classify, extract as JSON, triage as JSON.

In: a sample of soc.py. Out: the order and the answer that follows from the sample's own note and fields by rule.
Does not do: the triage note itself (soc.py), wordings of free questions (wording.py).
"""

from __future__ import annotations

import json
import re
from random import Random

from soc import Sample

NOTE = re.compile(
    r"Severity: (?P<severity>\w+)\.\nWhat: (?P<what>.+)\.\nWhy: (?P<why>.+)\nCheck: (?P<check>.+)\.\n"
    r"Raise if: (?P<raise>.+?)\. Lower if: (?P<lower>.+)\.\n"
)
ORDERS = {  # the first wording of each is the one that the card promises, and the one that is scored
    "summarise": (
        "Summarise: {e}",
        "Summarise:\n{e}",
        "Summarize: {e}",
        "Summarise this event: {e}",
        "Summarise in one sentence: {e}",
        "summarise: {e}",
    ),
    "classify": (
        "Classify: {e}",
        "Classify:\n{e}",
        "Classify this event: {e}",
        "Classify in one word: {e}",
        "classify: {e}",
        "{e}\nAnswer with one word: INFO, MODERATE, HIGH or CRITICAL.",
    ),
    "extract": (
        "Extract: {e}",
        "Extract:\n{e}",
        "Extract users, hosts, addresses and files: {e}",
        "Extract the entities as JSON: {e}",
        "extract: {e}",
        "{e}\nExtract the entities as JSON.",
    ),
    "triage_json": (
        "Triage as JSON: {e}",
        "Triage as JSON:\n{e}",
        "Triage this event as JSON: {e}",
        "Triage this event. Answer as JSON.\n{e}",
        "triage as json: {e}",
        "{e}\nTriage as JSON.",
    ),
}
ENTITY_FIELDS = (("users", ("user",)), ("hosts", ("host",)), ("addresses", ("src", "dst")), ("files", ("file",)))


def answer(form: str, sample: Sample) -> str:
    """The teacher's answer. Names are plain here: JSON has its own quotes."""
    parts = NOTE.match(sample.note.replace('"', ""))
    assert parts
    if form == "summarise":
        return parts["what"][0].upper() + parts["what"][1:] + "."
    if form == "classify":
        return sample.severity
    if form == "extract":
        found = {key: [sample.values[n] for n in names if n in sample.values] for key, names in ENTITY_FIELDS}
        return json.dumps(found, separators=(",", ":"))
    note = {
        "severity": sample.severity,
        "what": parts["what"],
        "why": parts["why"],
        "check": parts["check"],
        "raise_if": parts["raise"],
        "lower_if": parts["lower"],
        "advice_only": True,
    }
    return json.dumps(note, separators=(",", ":"))


def form_turns(rng: Random, sample: Sample, form: str = "") -> list[tuple[str, str]]:
    """One order and its answer; without a form, any, the short ones more often."""
    form = form or rng.choices(tuple(ORDERS), (22, 30, 33, 15))[0]
    wording = ORDERS[form][0] if rng.random() < 0.4 else rng.choice(ORDERS[form])
    return [("user", wording.replace("{e}", sample.event)), ("assistant", answer(form, sample))]
