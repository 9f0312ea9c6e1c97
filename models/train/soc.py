# SPDX-License-Identifier: Apache-2.0
"""soc.py - synthetic SOC events and the rule-based teacher that writes their triage notes.

In: a random generator and the split ("train" or "test"). Out: Sample(prompt text, note, facts for scoring).
Names, addresses and pairs of kind and format are divided between the splits by a hash, so that a test event is built of
parts that training never showed. Everything here is invented: no real log, host or person.
Does not do: wording of questions around the event (corpus.py), scoring (evaluate.py).
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass, field
from random import Random
from typing import Callable

from names import SERVICES, make_domain, make_file, make_host, make_ip, make_near, make_scrap, make_user, syllables
from soc_kind import Kind
from soc_kinds_auth import AUTH_KINDS
from soc_kinds_more import MORE_KINDS

KINDS = AUTH_KINDS + MORE_KINDS
LEVELS = ("INFO", "MODERATE", "HIGH", "CRITICAL")
KIND_WEIGHTS = [1.0 if kind.level.__qualname__.startswith("fixed") else 2.0 for kind in KINDS]  # rules need practice
FORMATS = ("full", "json", "pretty", "kv", "text")

_COUNTRIES = (
    "Brazil Canada Chile China Cuba Egypt Estonia Finland France Ghana Greece India Iran Italy Japan Kenya Latvia "
    "Mexico Nepal Norway Peru Poland Qatar Romania Russia Spain Sweden Turkey Ukraine Vietnam"
).split()
_PACKAGES = "openssl linux-image curl sudo bash glibc nginx openssh-server systemd python3 firefox vim".split()
_KEYS = {  # field -> names it goes by in JSON and key=value events
    "user": ("user", "username", "account", "user_name"),
    "host": ("host", "hostname", "server", "node"),
    "src": ("src_ip", "src", "source_ip", "ip", "remote_addr"),
    "dst": ("dst_ip", "dst", "dest_ip"),
    "count": ("count", "attempts", "n", "total"),
    "minutes": ("window_min", "minutes", "period_min"),
    "domain": ("domain", "query", "fqdn"),
    "file": ("file", "filename", "path"),
    "country": ("country", "geo"),
    "service": ("service", "unit", "process"),
    "package": ("package", "pkg"),
    "device": ("device", "device_id", "dev"),
    "megabytes": ("megabytes", "mb", "size_mb"),
    "percent": ("percent", "used_pct", "usage"),
    "ticket": ("ticket", "change", "change_id"),
    "action": ("action", "verdict", "result"),
    "group": ("group", "role"),
    "port": ("port", "dst_port"),
}


@dataclass
class Sample:
    """One event as text, the note that a careful person would write, and what a scorer looks for."""

    event: str
    note: str
    severity: str
    entities: list[str] = field(default_factory=list)
    kind: str = ""
    fmt: str = ""
    user: str = ""
    src: str = ""
    host: str = ""
    values: dict[str, str] = field(default_factory=dict)


def in_test(text: str, one_in: int = 8) -> bool:
    """True where a part belongs to the test split; stable across runs and machines."""
    return zlib.crc32(text.encode()) % one_in == 0


def _pick(rng: Random, split: str, make: Callable[[], str]) -> str:
    """Draws from make until the drawn part belongs to the split."""
    while True:
        value = make()
        if in_test(value) == (split == "test"):
            return value


def _clock(rng: Random) -> str:
    return f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}:{rng.randint(0, 59):02d}"


def _fields(rng: Random, split: str) -> dict[str, str]:
    """A value for every field an event may have."""
    big = rng.random()
    count = rng.randint(2, 9) if big < 0.25 else rng.randint(10, 99) if big < 0.6 else rng.randint(100, 4999)
    return {
        "user": _pick(rng, split, lambda: make_user(rng)),
        "host": _pick(rng, split, lambda: make_host(rng)),
        "src": _pick(rng, split, lambda: make_ip(rng)),
        "dst": _pick(rng, split, lambda: make_ip(rng)),
        "inside": _pick(rng, split, lambda: make_ip(rng, True)),
        "count": str(count),
        "minutes": str(rng.randint(2, 59)),
        "domain": _pick(rng, split, lambda: make_domain(rng)),
        "file": _pick(rng, split, lambda: make_file(rng)),
        "country": rng.choice(_COUNTRIES),
        "service": rng.choice(SERVICES),
        "package": rng.choice(_PACKAGES),
        "device": str(rng.choice((43, 44, 47, 48, 51, 52, 53, 59, 60))),
        "megabytes": str(rng.randint(20, 999) if rng.random() < 0.5 else rng.randint(1000, 90000)),
        "percent": str(rng.randint(80, 94) if rng.random() < 0.5 else rng.randint(95, 99)),
        "ticket": f"CHG-{rng.randint(100, 9999)}",
        "group": rng.choice(("sudo", "wheel", "Domain Admins", "docker", "admins")),
        "port": str(rng.choice((22, 23, 80, 443, 445, 3389, 5432, 6379, 8080))),
        "action": "",
        "pid": str(rng.randint(300, 99999)),
        "sport": str(rng.randint(20000, 65000)),
    }


def _harden(rng: Random, kind: Kind, pool: dict[str, str]) -> None:
    """Training only: odd names, near-equal addresses, and more of the names that decide a severity."""
    if rng.random() < 0.25:
        pool["user"] = _pick(rng, "train", lambda: make_scrap(rng))
    if rng.random() < 0.15:
        pool["host"] = _pick(rng, "train", lambda: make_scrap(rng))
    if rng.random() < 0.2:
        pool["dst"] = _pick(rng, "train", lambda: make_near(rng, pool["src"]))
    if kind.key == "login_after_fail" and rng.random() < 0.4:
        kinds = ("root", "root", "admin", "adm-" + syllables(rng, 1, 2), "adm_" + syllables(rng, 1, 2))
        pool["user"] = rng.choice(kinds)


def _fill(template: str, values: dict[str, str], quote: bool) -> str:
    """Fills {name}; [segments] whose names are missing vanish. Names are quoted where the event quoted them."""

    def shown(name: str) -> str:
        value = values[name]
        return f'"{value}"' if quote and name in ("user", "host", "domain", "file") else value

    def segment(match: re.Match[str]) -> str:
        inner = match.group(1)
        return inner if all(n in values for n in re.findall(r"\{(\w+)\}", inner)) else ""

    return re.sub(r"\{(\w+)\}", lambda m: shown(m.group(1)), re.sub(r"\[([^\]]*)\]", segment, template))


def _raise(level: str, steps: int) -> str:
    return LEVELS[max(0, min(len(LEVELS) - 1, LEVELS.index(level) + steps))]


def _note(kind: Kind, values: dict[str, str], level: str, quote: bool, score: str) -> str:
    why = kind.why + (f" Layer 3 scores it {score}, so it is raised one step." if score else "")
    if "ticket" in values:
        why += f" Change {values['ticket']} is named, so it is lowered one step."
    return (
        f"Severity: {level}.\nWhat: {_fill(kind.what, values, quote)}.\nWhy: {why}\n"
        f"Check: {_fill(kind.check, values, quote)}.\n"
        f"Raise if: {kind.up}. Lower if: {kind.down}.\nAdvice only: a person decides."
    )


def _event_json(rng: Random, kind: Kind, name: str, values: dict[str, str], fmt: str, score: str) -> str:
    keys = {f: rng.choice(_KEYS[f]) for f in values}
    detail: dict[str, object] = {keys[f]: (int(v) if v.isdigit() else v) for f, v in values.items()}
    items = list(detail.items())
    if rng.random() < 0.5:
        rng.shuffle(items)
    detail = dict(items)
    if fmt != "full":
        key = rng.choice(("event", "type", "event_type", "name", "alert"))
        body: dict[str, object] = {key: name, **detail}
        if rng.random() < 0.3:
            body["category"] = kind.category
        if score:
            body["l3_score"] = float(score)
        return (
            json.dumps(body, indent=2)
            if fmt == "pretty"
            else json.dumps(body, separators=(",", ":") if rng.random() < 0.5 else (", ", ": "))
        )
    signals: dict[str, object] = {"l3": {"decision": name, "score": float(score or f"0.{rng.randint(30, 89)}")}}
    if rng.random() < 0.5:
        signals["l4"] = {
            "label": rng.choice(("suspicious", "benign", "policy", "unknown")),
            "confidence": round(rng.uniform(0.4, 0.99), 2),
        }
    if rng.random() < 0.4:
        signals["shrink"] = {
            "risk_acute_stress": round(rng.uniform(0.05, 0.6), 2),
            "anomaly_score": round(rng.uniform(0.1, 2.9), 1),
        }
    body = {
        "event_id": f"evt-{rng.randint(1000, 999999)}",
        "ts": rng.randint(1760000000, 1799999999),
        "source_layer": rng.choice((3, 4, 5, 8)),
        "device_id_src": rng.randint(15, 58),
        "severity": rng.choice(("LOW", "INFO", "MODERATE", "HIGH")),
        "category": kind.category,
        "detail": detail,
        "signals": signals,
    }
    return json.dumps(body, separators=(",", ":"))


def _unknown_sample(rng: Random, split: str) -> Sample:
    """An event of a kind that no row names: the note says so and follows the score, or asks for one."""
    pool = _fields(rng, split)
    head = rng.choice(
        "printer license thermal badge calendar fan battery camera quota session cache queue mail clock sensor "
        "door radio driver".split()
    )
    tail = "warning changed expired reset moved error notice delayed opened restarted mismatch limit".split()
    name = f"{head}_{rng.choice(tail)}"
    if rng.random() < 0.3:
        name = f"{syllables(rng, 1, 2)}_{syllables(rng, 1, 2)}"
    values = {n: pool[n] for n in ("user", "host", "src") if rng.random() < 0.55}
    score = f"0.{rng.randint(11, 99)}" if rng.random() < 0.7 else ""
    body: dict[str, object] = {"event": name, **{rng.choice(_KEYS[n]): v for n, v in values.items()}}
    fmt = "json" if rng.random() < 0.6 else "kv"
    if score:
        body["score"] = float(score)
    event = json.dumps(body, separators=(",", ":")) if fmt == "json" else " ".join(f"{k}={v}" for k, v in body.items())
    number = float(score or 0)
    level = "CRITICAL" if number > 0.9 else "HIGH" if number > 0.75 else "MODERATE" if number > 0.5 else "INFO"
    why = (
        f"I do not know this kind of event; the severity follows its score {float(score)}."
        if score
        else "I do not know this kind of event and it has no score."
    )
    what = _fill('event "{name}"[ for user {user}][ on {host}][ from {src}]', {**values, "name": name}, True)
    note = (
        f"Severity: {level}.\nWhat: {what}.\nWhy: {why}\n"
        "Check: what sends it, what came just before, whether it is usual there.\n"
        "Raise if: it comes with other alerts. Lower if: it is known and harmless.\nAdvice only: a person decides."
    )
    return Sample(
        event,
        note,
        level,
        [name, *values.values()],
        "unknown",
        fmt,
        values.get("user", ""),
        values.get("src", ""),
        values.get("host", ""),
        values,
    )


def _sentence(rng: Random, kind: Kind, pool: dict[str, str]) -> str:
    """A template in plain words: what happened, then who, where, whence and how long in any order."""
    core = rng.choice(kind.core)
    clauses = {
        "user": rng.choice((" by {user}", " by user {user}") if kind.actor else (" for {user}", " for user {user}")),
        "src": rng.choice((" from {src}", " from address {src}")),
        "host": rng.choice((" on {host}", " on host {host}", " on server {host}")),
        "minutes": rng.choice((" in {minutes} minutes", " within {minutes} minutes")),
    }
    parts = [
        c
        for n, c in clauses.items()
        if n in kind.fields and "{" + n + "}" not in core and not (n in kind.optional and rng.random() < 0.25)
    ]
    rng.shuffle(parts)
    text = core + "".join(parts) + rng.choice(kind.tail)
    return (text[0].upper() + text[1:] if rng.random() < 0.4 else text) + rng.choice(("", "", "."))


def make_sample(rng: Random, split: str) -> Sample:
    """Draws one event and its note."""
    if rng.random() < (0.05 if split == "test" else 0.08):
        return _unknown_sample(rng, split)
    while True:
        kind = rng.choice(KINDS) if split == "test" else rng.choices(KINDS, KIND_WEIGHTS)[0]
        fmt = rng.choices(FORMATS, (15, 30, 8, 20, 27))[0]
        if in_test(f"{kind.key}/{fmt}", 25) and split == "train":
            continue  # a pair that only the test split shows
        break
    pool = _fields(rng, split)
    if kind.inside and rng.random() < 0.5:
        pool["src"] = pool["inside"]
    if split == "train":
        _harden(rng, kind, pool)
    if kind.actions:
        pool["action"] = rng.choice(kind.actions)
    line = _sentence(rng, kind, pool) if kind.core and rng.random() < 0.5 else rng.choice(kind.text)
    if fmt == "text":
        names = re.findall(r"\{(\w+)\}", line)
        values = {n: pool[n] for n in names}
    else:
        names = [n for n in kind.fields if not (n in kind.optional and rng.random() < 0.2)]
        values = {n: pool[n] for n in names}
    if kind.ticket and rng.random() < 0.25:
        values["ticket"] = pool["ticket"]
    level = kind.level(values)
    often = 0.12 if split == "test" else 0.24
    scored = fmt in ("full", "json", "pretty") and rng.random() < often and level != "CRITICAL"
    score = f"0.{rng.randint(91, 99)}" if scored else ""
    name = rng.choice(kind.names)
    if fmt == "text":
        event = _fill(line, values, False) + (f" ({values['ticket']})" if "ticket" in values else "")
        if rng.random() < 0.25:
            month = rng.choice("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split())
            event = f"{month} {rng.randint(1, 28)} {_clock(rng)} " + event
        elif rng.random() < 0.12:
            event = f"20{rng.randint(24, 29)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}T{_clock(rng)}Z " + event
    elif fmt == "kv":
        pairs = [f"{rng.choice(_KEYS[f])}={v if ' ' not in v else json.dumps(v)}" for f, v in values.items()]
        if rng.random() < 0.4:
            rng.shuffle(pairs)
        event = " ".join([f"{rng.choice(('event', 'type', 'alert', 'msg'))}={name}"] + pairs)
    else:
        event = _event_json(rng, kind, name, values, fmt, score)
    level = _raise(level, (1 if score else 0) - (1 if "ticket" in values else 0))
    note = _note(kind, values, level, fmt != "text", score)
    entities = [v for n, v in values.items() if n in ("user", "host", "src", "dst", "domain", "file") and v in note]
    return Sample(
        event,
        note,
        level,
        entities,
        kind.key,
        fmt,
        values.get("user", ""),
        values.get("src", ""),
        values.get("host", ""),
        values,
    )
