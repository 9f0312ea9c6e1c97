# SPDX-License-Identifier: Apache-2.0
"""copying.py - lessons in copying names, addresses and numbers exactly, and in telling near-equal ones apart.

In: a random generator. Out: conversations of one question and one answer. The texts are made up for each lesson and are
not divided between training and test; the test's own names come up only by chance.
"""

from __future__ import annotations

import string
from random import Random
from typing import Callable

from names import make_domain, make_file, make_host, make_ip, make_near, make_scrap, make_user

Lesson = list[tuple[str, str]]
ORDINALS = ("first", "second", "third", "fourth")


def make_number(rng: Random) -> str:
    return str(rng.randint(2, 99999))


def make_address(rng: Random) -> str:
    return make_ip(rng, rng.random() < 0.4)


MAKERS: tuple[Callable[[Random], str], ...] = (
    make_user,
    make_host,
    make_address,
    make_address,
    make_number,
    make_scrap,
    make_scrap,
    make_domain,
    make_file,
)


def repeat(rng: Random) -> Lesson:
    """Repeating a text: the shortest lesson."""
    parts = [rng.choice(MAKERS)(rng) for _ in range(rng.randint(1, 6))]
    text = rng.choice((" ", ", ", " and ", " / ")).join(parts)
    asks = (
        "Repeat: {t}",
        'Say "{t}"',
        "Repeat this: {t}",
        "Repeat after me: {t}",
        "Copy this exactly: {t}",
        "echo {t}",
    )
    return [("user", rng.choice(asks).replace("{t}", text)), ("assistant", text)]


def fields(rng: Random) -> Lesson:
    """Fields of a record in the order in which they are asked for."""
    record = {
        "user": make_scrap(rng) if rng.random() < 0.4 else make_user(rng),
        "host": make_scrap(rng) if rng.random() < 0.25 else make_host(rng),
        "src": make_address(rng),
        "count": str(rng.randint(2, 4999)),
    }
    if rng.random() < 0.4:
        record["dst"] = make_near(rng, record["src"])
    keys = rng.sample(sorted(record), rng.randint(2, len(record)))
    asked = rng.sample(keys, rng.randint(1, len(keys)))
    quote = '"' if (as_json := rng.random() < 0.5) else ""
    shown = {k: record[k] if k in ("count",) else f"{quote}{record[k]}{quote}" for k in keys}
    body = (
        "{" + ",".join(f'"{k}":{v}' for k, v in shown.items()) + "}"
        if as_json
        else " ".join(f"{k}={v}" for k, v in shown.items())
    )
    answer = ", ".join(f'{k} "{record[k]}"' if k in ("user", "host") else f"{k} {record[k]}" for k in asked)
    return [("user", f"Give {', '.join(asked)} of {body}"), ("assistant", answer)]


def near_equal(rng: Random) -> Lesson:
    """One of several near-equal texts, by its place or its label."""
    items = [rng.choice((make_user, make_host, make_address, make_address, make_scrap))(rng)]
    for _ in range(rng.randint(1, 3)):
        items.append(make_near(rng, items[-1]))
    at = rng.randrange(len(items))
    if rng.random() < 0.5:
        return [("user", f"Give the {ORDINALS[at]} of {', '.join(items)}"), ("assistant", items[at])]
    labels = rng.sample(string.ascii_lowercase, len(items))
    shown = " ".join(f"{k}={v}" for k, v in zip(labels, items))
    return [("user", f"Give {labels[at]} of {shown}"), ("assistant", f"{labels[at]} {items[at]}")]


def inside(rng: Random) -> Lesson:
    """Which addresses are inside: the rule behind some severities."""
    if rng.random() < 0.5:
        here = rng.random() < 0.5
        return [
            ("user", f"Inside or outside: {make_ip(rng, here)}"),
            ("assistant", "inside" if here else "outside"),
        ]
    items = [make_ip(rng) for _ in range(rng.randint(1, 3))]
    own = make_ip(rng, True)
    items.insert(rng.randint(0, len(items)), own)
    return [("user", f"Which is inside: {', '.join(items)}"), ("assistant", own)]


def copy_turns(rng: Random) -> Lesson:
    return rng.choices((repeat, fields, near_equal, inside), (30, 35, 27, 8))[0](rng)
