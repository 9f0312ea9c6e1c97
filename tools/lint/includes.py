# SPDX-License-Identifier: Apache-2.0
"""Include direction: which room may include which.

ROOMS is ARCHITECTURE.md's drawing as a table: room -> the rooms directly below it (everything below those counts too).
PUBLIC says which headers of include/dbe the lower rooms may know; rooms not named there may include all.
FOREIGN says which rooms may include a library's headers at all.
Tests, fuzz targets and benchmarks may include what they test.
"""
import re

import tree

ROOMS = {
    "base": [],
    "conf": ["base"],
    "schema": [],
    "codec": ["base", "schema"],
    "crypto": ["base"],
    "session": ["codec", "crypto"],
    "transport": ["base"],
    "node": ["session", "transport"],
    "policy": ["codec", "crypto", "conf"],
    "audit": ["crypto", "schema"],
    "e2e": ["codec", "crypto"],
    "lib": ["node", "policy"],
    "fabric": ["codec"],
    "payload": ["codec", "crypto"],
    "runtime": ["node", "policy", "fabric", "conf", "audit", "e2e"],
    "platform": ["base", "llm"],
    "llm": ["base"],
    "shrink": ["runtime"],
    "devices": ["runtime", "llm", "platform"],
    "shim": ["node", "runtime"],
    "cli": ["node", "runtime", "payload", "llm", "audit", "e2e"],
}
ERR_AND_LIMITS = {"err.h", "limits.h"}
PUBLIC = {
    "base": ERR_AND_LIMITS | {"registry.h"},
    "conf": ERR_AND_LIMITS | {"registry.h"},
    "llm": ERR_AND_LIMITS,
    "platform": ERR_AND_LIMITS,
    "crypto": ERR_AND_LIMITS | {"registry.h", "crypto.h"},
    "transport": ERR_AND_LIMITS | {"registry.h"},
    "audit": ERR_AND_LIMITS | {"registry.h"},
    "codec": ERR_AND_LIMITS | {"registry.h", "msg.h"},
    "fabric": ERR_AND_LIMITS | {"registry.h", "msg.h"},
    "payload": ERR_AND_LIMITS | {"registry.h", "msg.h", "payload.h", "policy.h"},
    "session": ERR_AND_LIMITS | {"registry.h", "msg.h", "identity.h", "policy.h"},
    "policy": ERR_AND_LIMITS | {"registry.h", "msg.h", "identity.h", "policy.h"},
    "e2e": ERR_AND_LIMITS | {"registry.h", "msg.h", "identity.h"},
}
FOREIGN = {
    re.compile(r"^openssl/"): {"crypto", "node"},
    re.compile(r"^tss2/"): {"node"},
    re.compile(r"^(oqs/|intel-ipsec-mb\.h$)"): {"crypto"},
    re.compile(r"^jansson\.h$"): {"shim", "cli", "llm", "devices/l7_worker"},  # by name: the router has none
    re.compile(r"^yaml\.h$"): {"conf"},
    re.compile(r"^microhttpd\.h$"): {"shim", "runtime"},
    re.compile(r"^protobuf-c/"): {"schema", "payload"},
}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^">]+)[">]', re.M)


def room_of(path):
    """Room of a source file, or None where the table says nothing."""
    parts = path.split("/")
    if parts[0] == "src":
        return parts[1]
    if path.startswith("include/dbe/"):
        return "public"
    return parts[0] if parts[0] in ROOMS else None


def below(room):
    """A room and all rooms under it."""
    found, todo = set(), [room]
    while todo:
        at = todo.pop()
        if at not in found:
            found.add(at)
            todo += ROOMS[at]
    return found


def judge(room, quote, name, folder):
    """What is wrong with an include in that room and folder; None if nothing is."""
    first, _, rest = name.partition("/")
    if quote == "<":
        for pattern, allowed in FOREIGN.items():
            if pattern.search(name) and not {room, folder} & allowed:
                return f"<{name}> belongs to {', '.join(sorted(allowed))}; {room} may not include it"
        return None
    if first == "dbe":
        if room in PUBLIC and rest not in PUBLIC[room]:
            return f"{room} may not know {name}"
        return None
    if room == "public":
        return f"an installed header may include installed headers only, not {name}"
    if first in ROOMS and rest and first not in below(room):
        return f"{room} may not include {first}: that room is not below it"
    return None


def check():
    """Every #include of every C file outside the tests."""
    for path in tree.files(".c", ".h"):
        room = room_of(path)
        if room is None or tree.is_test(path):
            continue
        if room != "public" and room not in ROOMS:
            yield tree.Violation(path, 1, f"room {room} is not in tools/lint/includes.py")
            continue
        text = tree.read(path)
        for match in INCLUDE.finditer(text):
            wrong = judge(room, match.group(1), match.group(2), path.rpartition("/")[0])
            if wrong:
                yield tree.Violation(path, tree.line_of(text, match.start()), wrong)
