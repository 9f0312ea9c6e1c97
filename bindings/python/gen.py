#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Registries and errors of the Python packages, from schema/.

In:   gen.py ROOT OUT: the checkout, and the folder of the package dsmil_dbe in the build
Out:  OUT/registry.py (enums and tables), OUT/errors.py (an exception for each error)
Not:  it checks nothing: tools/gen_registry.py does, and is what reads the tables here too.
"""
import pathlib
import sys

HEAD = '''# SPDX-License-Identifier: Apache-2.0
"""{}

Generated from schema/; do not edit.
"""
'''
ENUMS = (("MessageType", "IntEnum", "msg_types", "Type of a message."),
         ("MessageFlag", "IntFlag", "flags", "Bits of a message's flags."),
         ("TlvType", "IntEnum", "tlvs", "Types of TLVs."),
         ("Compartment", "IntFlag", "compartments", "Compartment bits."),
         ("Classification", "IntEnum", "classifications", "Classifications, low to high."),
         ("RoeLevel", "IntEnum", "roe_levels", "Rules of engagement."),
         ("Role", "IntEnum", "roles", "Role of a node."))
# Exceptions of Python that stand for the same.
ALSO = {"E_TIMEOUT": "TimeoutError", "E_CLOSED": "ConnectionError", "E_UNAVAILABLE": "ConnectionError",
        "E_PERMISSION": "PermissionError", "E_NOT_FOUND": "LookupError", "E_ARGUMENT": "ValueError"}
ERRORS = '''
from __future__ import annotations

from typing import Dict, Optional, Type


class DBEError(Exception):
    """Any error of the mesh. What may be done about it is its class: see the bases DropError to FatalError.

    number, name: as in the registry; reason: what exactly was wrong; remote: the peer answered so, it did not happen
    here; rule: the policy rule that decided; device_id: who refused; retry_after_ms: when a retry makes sense.
    """

    number: int = 0
    name: str = "E_UNKNOWN"
    text: str = "an error that this version does not know"

    def __init__(self, reason: str = "", *, remote: bool = False, rule: str = "", device_id: Optional[int] = None,
                 retry_after_ms: int = 0, clause: str = "", offset: int = 0, number: Optional[int] = None) -> None:
        super().__init__(f"{self.name}: {reason or self.text}")
        self.reason = reason or self.text
        self.remote = remote
        self.rule = rule
        self.device_id = device_id
        self.retry_after_ms = retry_after_ms
        self.clause = clause
        self.offset = offset
        if number is not None:
            self.number = number

'''
BASES = (("DROP", "DropError", "Bytes that break the specification."),
         ("PEER", "PeerError", "The other side cannot be trusted, or is gone."),
         ("DENY", "DenyError", "Policy said no."),
         ("RETRY", "RetryError", "Transient: try again after a pause."),
         ("LIMIT", "LimitError", "A named maximum is reached."),
         ("LOCAL", "LocalError", "This host's files, configuration or arguments."),
         ("FATAL", "FatalError", "An invariant broke."))


def registry(reg):
    """registry.py"""
    out = [HEAD.format("Every number of the protocol."), "from __future__ import annotations\n\n",
           "import enum\nfrom typing import Dict, NamedTuple, Optional\n"]
    for cls, base, table, doc in ENUMS:
        fmt = "{:#04x}" if base == "IntFlag" or table in ("msg_types", "tlvs") else "{}"
        rows = "".join(f"    {r['name']} = {fmt.format(r['num'])}\n    \"\"\"{r['doc']}\"\"\"\n" for r in reg[table])
        out.append(f"\n\nclass {cls}(enum.{base}):\n    \"\"\"{doc}\"\"\"\n\n{rows}")
    out.append("\n\nclass TlvRow(NamedTuple):\n    \"\"\"What the registry says of a TLV.\"\"\"\n\n"
               "    type: int\n    name: str\n    kind: str\n    min_bytes: int\n    max_bytes: int\n\n\n")
    rows = "".join(f'    TlvRow({r["num"]:#06x}, "{r["name"]}", "{r["kind"]}", {r["min"]}, {r["max"]}),\n'
                   for r in reg["tlvs"])
    out.append(f"_TLVS = (\n{rows})\nTLV_BY_NAME: Dict[str, TlvRow] = {{row.name: row for row in _TLVS}}\n"
               "TLV_BY_TYPE: Dict[int, TlvRow] = {row.type: row for row in _TLVS}\n\n")
    replies = "".join(f"    MessageType.{r['name']}: MessageType.{r['reply']},\n" for r in reg["msg_types"]
                      if r["reply"] != "NONE")
    out.append("# A request's type: the type that answers it.\n"
               f"REPLY_TYPE: Dict[MessageType, MessageType] = {{\n{replies}"
               "}\n# Types that are answers and nothing else.\n"
               "ANSWER_ONLY = frozenset({MessageType.ERROR} | (set(REPLY_TYPE.values()) - set(REPLY_TYPE)))\n\n\n")
    out.append('def reply_type(msg_type: int) -> Optional[MessageType]:\n'
               '    """What answers a message of this type; None: nothing does."""\n'
               '    return REPLY_TYPE.get(MessageType(msg_type))\n')
    return "".join(out)


def errors(reg):
    """errors.py"""
    out = [HEAD.format("Exceptions, one for each error of the registry and named like it."), ERRORS]
    for _, name, doc in BASES:
        out.append(f'\nclass {name}(DBEError):\n    """{doc}"""\n\n')
    base = {cls: name for cls, name, _ in BASES}
    names = []
    for r in reg["errors"]:
        if r["name"] == "OK":
            continue
        names.append(r["name"])
        also = f", {ALSO[r['name']]}" if r["name"] in ALSO else ""
        out.append(f'\nclass {r["name"]}({base[r["cls"]]}{also}):\n    """{r["doc"].capitalize()}."""\n\n'
                   f'    number = {r["num"]}\n    name = "{r["name"]}"\n    text = "{r["doc"]}"\n\n')
    rows = "".join(f"    {name},\n" for name in names)
    out.append(f"\n_ALL = (\n{rows})\nBY_NUMBER: Dict[int, Type[DBEError]] = {{cls.number: cls for cls in _ALL}}\n"
               "BY_NAME: Dict[str, Type[DBEError]] = {cls.name: cls for cls in _ALL}\n\n\n")
    out.append('def error(number: int, reason: str = "", *, remote: bool = False, rule: str = "", '
               'device_id: Optional[int] = None,\n'
               '          retry_after_ms: int = 0, clause: str = "", offset: int = 0) '
               '-> DBEError:\n    """The exception for an error\'s number."""\n'
               '    cls = BY_NUMBER.get(number, DBEError)\n'
               '    return cls(reason, remote=remote, rule=rule, device_id=device_id, retry_after_ms=retry_after_ms,\n'
               '               clause=clause, offset=offset, number=number)\n')
    return "".join(out)


def main(root, out):
    """Command line."""
    sys.path.insert(0, str(pathlib.Path(root) / "tools"))
    import gen_registry  # pylint: disable=import-outside-toplevel
    reg, _ = gen_registry.load()
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "registry.py").write_text(registry(reg), encoding="utf-8")
    (folder / "errors.py").write_text(errors(reg), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
