# SPDX-License-Identifier: Apache-2.0
"""soc_kind.py - what a kind of SOC event is, and the rules by which events are weighed.

One kind: the names it goes by, the fields it has, how it reads as a log line, and what a careful analyst writes.
The kinds themselves stand in soc_kinds_auth.py and soc_kinds_more.py.
[segments] of a template vanish where a field is missing. level() is the severity rule; it looks at
the event's own fields only.
Every check is something a person looks at; no row proposes an action that the system would take by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

Level = Callable[[dict[str, str]], str]


@dataclass(frozen=True)
class Kind:
    key: str
    category: str
    names: tuple[str, ...]
    fields: tuple[str, ...]
    text: tuple[str, ...]
    what: str
    why: str
    check: str
    up: str
    down: str
    level: Level
    optional: tuple[str, ...] = ("host", "minutes")
    inside: bool = False  # the source may be an inside address
    ticket: bool = False  # an approved change may be named
    actions: tuple[str, ...] = ()
    core: tuple[str, ...] = ()  # beginning of a plain sentence; the fields it leaves out follow as clauses in any order
    tail: tuple[str, ...] = ("",)  # its end
    actor: bool = False  # the user did it ("by"), rather than suffered it ("for")


def fixed(level: str) -> Level:
    return lambda values: level


def by_count(values: dict[str, str]) -> str:
    """Up to 9 INFO, 10 to 99 MODERATE, from 100 HIGH."""
    return ("INFO", "MODERATE", "HIGH")[min(len(values.get("count", "1")), 3) - 1]


def by_inside(values: dict[str, str]) -> str:
    return "HIGH" if values.get("src", "").startswith(("10.", "192.168.", "172.")) else "MODERATE"


def by_user(low: str, high: str) -> Level:
    """Privileged names weigh more."""
    return lambda v: high if v.get("user", "").startswith(("adm", "root")) else low


def by_size(values: dict[str, str]) -> str:
    return "HIGH" if len(values.get("megabytes", "1")) >= 4 else "MODERATE"


def by_action(**levels: str) -> Level:
    return lambda v: levels[v["action"]] if v.get("action") in levels else levels["other"]


def by_percent(values: dict[str, str]) -> str:
    return "MODERATE" if values.get("percent", "80") >= "95" else "INFO"
