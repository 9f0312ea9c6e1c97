#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turn schema/*.def into the C enums, the name tables and docs/registries.md.

In:   schema/*.def, rows such as  MSG(L3_EVENT, 0x10, L3Event, NONE, "meaning")
Out:  --header FILE (enums and constants), --source FILE (tables), --payloads FILE (descriptors by message type),
      --docs FILE, --lua FILE (tables of the Wireshark dissector, in place); --check and --check-lua FILE compare only
Does: refuses a number or name used twice, a reference to a row that does not exist, a row without a meaning.
"""
import argparse
import ast
import hashlib
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "schema"
NOTE = "/* Generated from schema/ by tools/gen_registry.py; do not edit. */\n"
KINDS = ("U8", "U16", "U32", "U64", "TEXT", "BYTES", "TIMESTAMP", "UUID", "DEVICES", "HOPS")
EMIT_ROLES = 16  # roles that a mask of emits.def has bits for
TLV_INDEXED = 256  # TLV types below are looked up by index
CLASSES = ("NONE", "DROP", "PEER", "DENY", "RETRY", "LIMIT", "LOCAL", "FATAL")
# file, macro, columns; "name" and "num" must be unique within a table
TABLES = {
    "errors": ("ERROR", ("name", "num", "cls", "doc")),
    "msg_types": ("MSG", ("name", "num", "payload", "reply", "doc")),
    "flags": ("FLAG", ("name", "num", "doc")),
    "tlvs": ("TLV", ("name", "num", "kind", "min", "max", "doc")),
    "compartments": ("COMPARTMENT", ("name", "num", "doc")),
    "classifications": ("CLASSIFICATION", ("name", "num", "doc")),
    "roe_levels": ("ROE", ("name", "num", "doc")),
    "roles": ("ROLE", ("name", "num", "path", "doc")),
    "layers": ("LAYER", ("num", "name", "mem_mib", "tops", "doc")),
    "devices": ("DEVICE", ("num", "name", "layer", "mem_mib", "tops_x10", "doc")),
    "streams": ("STREAM", ("name", "msg", "maxlen", "hours", "doc")),
    "emits": ("EMIT", ("src", "msg", "dst")),
}


class SchemaError(Exception):
    """A row that cannot stand."""


def split_args(text):
    """Split macro arguments at commas outside of quotes; numbers and strings become Python values."""
    parts = re.findall(r'"(?:[^"\\]|\\.)*"|[^,\s][^,]*', text)
    out = []
    for part in (p.strip() for p in parts):
        if part.startswith('"'):
            out.append(ast.literal_eval(part))
        elif re.fullmatch(r"0x[0-9A-Fa-f]+|\d+", part):
            out.append(int(part, 0))
        else:
            out.append(part)
    return out


def read_rows(name, macro, columns):
    """All rows of schema/<name>.def as dicts; duplicates and malformed rows are errors."""
    path = SCHEMA / f"{name}.def"
    rows, seen = [], {}
    for lineno, line in enumerate(path.read_text().splitlines(), 1):
        match = re.match(rf"{macro}\((.*)\)\s*$", line)
        if not match:
            if re.match(r"[A-Z]", line) and not line.startswith("MSG_ALIAS"):
                raise SchemaError(f"{path.name}:{lineno}: not a {macro}(...) row: {line}")
            continue
        args = split_args(match[1])
        if len(args) != len(columns):
            raise SchemaError(f"{path.name}:{lineno}: {macro} takes {len(columns)} columns, found {len(args)}")
        row = dict(zip(columns, args))
        for key in ("name", "num"):
            if key in row:
                first = seen.setdefault((key, row[key]), lineno)
                if first != lineno:
                    raise SchemaError(f"{path.name}:{lineno}: {key} {row[key]} is already used in line {first}")
        if "doc" in row and not row["doc"]:
            raise SchemaError(f"{path.name}:{lineno}: a row needs its meaning")
        rows.append(row)
    if not rows:
        raise SchemaError(f"{path.name}: no rows")
    return rows


def read_aliases(reg):
    """MSG_ALIAS rows: (number, name); a number must not be taken."""
    names = {r["name"] for r in reg["msg_types"]}
    taken = {r["num"] for r in reg["msg_types"]}
    aliases = []
    for line in (SCHEMA / "msg_types.def").read_text().splitlines():
        match = re.match(r"MSG_ALIAS\((0x[0-9A-Fa-f]+), (\w+)\)", line)
        if match:
            num = int(match[1], 16)
            if num in taken or match[2] not in names:
                raise SchemaError(f"msg_types.def: alias {match[0]} clashes or names nothing")
            taken.add(num)
            aliases.append((num, match[2]))
    return aliases


def check(reg):
    """References between tables, kinds and ranges."""
    msgs = {r["name"] for r in reg["msg_types"]}
    roles = {r["name"] for r in reg["roles"]}
    layers = {r["num"] for r in reg["layers"]}
    for r in reg["msg_types"]:
        if not 0 < r["num"] <= 0xFF or (r["reply"] != "NONE" and r["reply"] not in msgs):
            raise SchemaError(f"msg_types.def: {r['name']}: number or reply")
    for r in reg["tlvs"]:
        if not 0 < r["num"] <= 0xFFFF or r["kind"] not in KINDS or not 0 < r["min"] <= r["max"] <= 0xFFFF:
            raise SchemaError(f"tlvs.def: {r['name']}: type, kind or length")
    for r in reg["errors"]:
        if r["cls"] not in CLASSES:
            raise SchemaError(f"errors.def: {r['name']}: class {r['cls']}")
    for r in reg["emits"]:
        if r["src"] not in roles or r["dst"] not in roles or r["msg"] not in msgs:
            raise SchemaError(f"emits.def: {r}: names nothing")
    for r in reg["devices"]:
        if r["layer"] not in layers:
            raise SchemaError(f"devices.def: {r['num']}: layer {r['layer']}")
    if sorted(r["num"] for r in reg["devices"]) != list(range(104)):
        raise SchemaError("devices.def: devices 0 to 103 must all be there, in one row each")
    for r in reg["streams"]:
        if r["msg"] not in msgs:
            raise SchemaError(f"streams.def: {r['name']}: message {r['msg']}")


def load():
    """The whole registry, checked."""
    reg = {name: read_rows(name, macro, cols) for name, (macro, cols) in TABLES.items()}
    reg["devices"].sort(key=lambda r: r["num"])
    check(reg)
    return reg, read_aliases(reg)


def registry_hash(reg, aliases):
    """What two peers must agree on: every table without its words for people (docs/spec/dbe-v1.md, clause 6.15)."""
    digest = hashlib.sha3_512()
    for name in sorted(reg):
        cols = [c for c in TABLES[name][1] if c != "doc"]
        for row in reg[name]:
            digest.update((name + "," + ",".join(str(row[c]) for c in cols) + "\n").encode())
    for num, name in aliases:
        digest.update(f"msg_aliases,{num},{name}\n".encode())
    return digest.digest()[:32]


def enum(tag, prefix, rows, extra="", hexa=False):
    """One C enum with a comment a row."""
    lines = [f"enum {tag} {{"]
    for r in rows:
        num = f"0x{r['num']:02X}" if hexa else str(r["num"])
        lines.append(f"    {prefix}{r['name']} = {num}, /* {r['doc']} */")
    return "\n".join(lines) + f"\n}};\n{extra}\n"


def header(reg):
    """dbe/registry.h"""
    out = ["/* SPDX-License-Identifier: Apache-2.0 */\n", NOTE,
           "#ifndef DBE_REGISTRY_H\n#define DBE_REGISTRY_H\n\n#include <stddef.h>\n#include <stdint.h>\n\n"
           "/* Around declarations, so that C++ links with them. */\n#ifdef __cplusplus\n"
           "#define DBE_BEGIN_DECLS extern \"C\" {\n#define DBE_END_DECLS }\n#else\n"
           "#define DBE_BEGIN_DECLS\n#define DBE_END_DECLS\n#endif\n\nDBE_BEGIN_DECLS\n\n"]
    classes = ", ".join(f"DBE_CLASS_{c}" for c in CLASSES)
    out.append(f"enum dbe_err_class {{ {classes} }};\n\n")
    errs = enum("dbe_err_", "DBE_", reg["errors"]).replace("enum dbe_err_ {", "typedef enum dbe_err {")
    out.append(errs.replace("};\n", "} dbe_err;\n"))
    out.append(enum("dbe_msg_type", "DBE_MSG_", reg["msg_types"], hexa=True))
    out.append(enum("dbe_flag", "DBE_FLAG_", reg["flags"], hexa=True))
    out.append(enum("dbe_tlv_type", "DBE_TLV_", reg["tlvs"], hexa=True))
    out.append("enum dbe_tlv_kind { " + ", ".join(f"DBE_TLV_KIND_{k}" for k in KINDS) + " };\n\n")
    out.append(enum("dbe_compartment", "DBE_COMPARTMENT_", reg["compartments"], hexa=True))
    out.append(enum("dbe_classification", "DBE_CLSF_", reg["classifications"]))
    out.append(enum("dbe_roe_level", "DBE_ROE_", reg["roe_levels"]))
    out.append(enum("dbe_role", "DBE_ROLE_", reg["roles"]))
    out.append(enum("dbe_layer", "DBE_LAYER_", reg["layers"]))
    out.append(enum("dbe_device", "DBE_DEV_", reg["devices"]))
    out.append(f"""enum {{
    DBE_MSG_TYPE_COUNT = {len(reg['msg_types'])},
    DBE_TLV_TYPE_COUNT = {len(reg['tlvs'])},
    DBE_TLV_TYPE_LAST  = {max(r['num'] for r in reg['tlvs'] if r['num'] < 0x8000)}, /* largest non-critical type */
    DBE_DEVICE_COUNT   = {len(reg['devices'])},
    DBE_COMPARTMENT_ALL = 0x{sum(r['num'] for r in reg['compartments']):02X}, /* every bit that has a meaning */
    DBE_FLAG_ALL        = 0x{sum(r['num'] for r in reg['flags']):02X},
}};

/* One row of each table. Strings are static; tables are sorted by number. */
struct dbe_msg_row {{ uint8_t type; uint8_t reply; /* 0: none */ const char *name, *payload, *doc; }};
struct dbe_tlv_row {{ uint16_t type; enum dbe_tlv_kind kind; uint16_t min_bytes, max_bytes; const char *name, *doc; }};
struct dbe_err_row {{ int err; enum dbe_err_class cls; const char *name, *doc; }};
struct dbe_num_row {{ uint32_t num; const char *name, *doc; }};
struct dbe_role_row {{ uint8_t role; const char *name, *path, *doc; }};
struct dbe_device_row {{ uint8_t id, layer; uint32_t mem_mib, tops_x10; const char *name, *title; }};
struct dbe_layer_row {{ uint8_t layer; uint32_t mem_mib, tops; const char *name, *doc; }};
struct dbe_stream_row {{ const char *name; uint8_t msg_type; uint32_t maxlen, hours; const char *doc; }};

/* Look a number or a name up; NULL when there is no such row. dbe_reg_msg also resolves aliases (0x30, 0x31). */
const struct dbe_msg_row    *dbe_reg_msg(uint8_t type);
const struct dbe_tlv_row    *dbe_reg_tlv(uint16_t type);
const struct dbe_tlv_row    *dbe_reg_tlv_named(const char *name);
const struct dbe_err_row    *dbe_reg_err(int err);
const struct dbe_num_row    *dbe_reg_compartment(uint32_t mask);
const struct dbe_num_row    *dbe_reg_compartment_named(const char *name);
const struct dbe_num_row    *dbe_reg_classification(uint32_t num);
const struct dbe_num_row    *dbe_reg_classification_named(const char *name);
const struct dbe_num_row    *dbe_reg_roe(uint32_t num);
const struct dbe_num_row    *dbe_reg_roe_named(const char *name);
const struct dbe_role_row   *dbe_reg_role(uint8_t role);
const struct dbe_role_row   *dbe_reg_role_path(const char *path);
const struct dbe_device_row *dbe_reg_device(uint8_t id);
const struct dbe_layer_row  *dbe_reg_layer(uint8_t layer);
const struct dbe_stream_row *dbe_reg_stream(const char *name);

/* 1 if a node of role `src` may say `msg_type` to a node of role `dst` (schema/emits.def), else 0. */
int dbe_reg_may_emit(uint8_t src, uint8_t msg_type, uint8_t dst);

/* Digest of all tables; peers with another one refuse each other (docs/spec/dbe-v1.md, section 6). */
extern const uint8_t dbe_registry_hash[32];

DBE_END_DECLS

#endif
""")
    return "".join(out)


def quoted(text):
    """A C string literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def table(ctype, var, lines):
    """One static const table."""
    return f"static const struct {ctype} {var}[] = {{\n" + "".join(f"    {{ {l} }},\n" for l in lines) + "};\n\n"


def lookup(ret, func, arg, var, test):
    """One linear lookup: the tables are small, and the hot paths index by type instead."""
    return (f"const struct {ret} *{func}({arg})\n{{\n"
            f"    for (size_t i = 0; i < sizeof {var} / sizeof {var}[0]; i++)\n"
            f"        if ({test.format(row=var + '[i]')})\n            return &{var}[i];\n    return NULL;\n}}\n\n")


def index(var, size, entries):
    """A table from number to row + 1, for the lookups that every message makes."""
    cells = ", ".join(f"[{num}] = {row}" for num, row in entries)
    return f"static const uint8_t {var}[{size}] = {{ {cells} }};\n\n"


def source(reg, aliases):
    """registry.c"""
    q = quoted
    out = ["/* SPDX-License-Identifier: Apache-2.0 */\n", NOTE, '#include "dbe/registry.h"\n\n#include <string.h>\n\n']
    rep = {r["name"]: r["num"] for r in reg["msg_types"]}
    rep["NONE"] = 0
    out.append(table("dbe_msg_row", "msgs", [
        f"0x{r['num']:02X}, 0x{rep[r['reply']]:02X}, {q(r['name'])}, {q(r['payload'])}, {q(r['doc'])}"
        for r in sorted(reg["msg_types"], key=lambda r: r["num"])]))
    out.append(table("dbe_tlv_row", "tlvs", [
        f"0x{r['num']:04X}, DBE_TLV_KIND_{r['kind']}, {r['min']}, {r['max']}, {q(r['name'])}, {q(r['doc'])}"
        for r in sorted(reg["tlvs"], key=lambda r: r["num"])]))
    out.append(table("dbe_err_row", "errs", [
        f"{r['num']}, DBE_CLASS_{r['cls']}, {q(r['name'])}, {q(r['doc'])}" for r in reg["errors"]]))
    for key, var in (("compartments", "compartments"), ("classifications", "classifications"), ("roe_levels", "roes")):
        out.append(table("dbe_num_row", var, [f"{r['num']}, {q(r['name'])}, {q(r['doc'])}" for r in reg[key]]))
    out.append(table("dbe_role_row", "roles", [
        f"{r['num']}, {q(r['name'])}, {q(r['path'])}, {q(r['doc'])}" for r in reg["roles"]]))
    out.append(table("dbe_device_row", "devices", [
        f"{r['num']}, {r['layer']}, {r['mem_mib']}, {r['tops_x10']}, {q(r['name'])}, {q(r['doc'])}"
        for r in reg["devices"]]))
    out.append(table("dbe_layer_row", "layers", [
        f"{r['num']}, {r['mem_mib']}, {r['tops']}, {q(r['name'])}, {q(r['doc'])}" for r in reg["layers"]]))
    out.append(table("dbe_stream_row", "streams", [
        f"{q(r['name'])}, 0x{rep[r['msg']]:02X}, {r['maxlen']}, {r['hours']}, {q(r['doc'])}" for r in reg["streams"]]))
    num = {r["name"]: r["num"] for r in reg["roles"]}
    out.append(emit_masks(reg, num, rep))
    out.append("const uint8_t dbe_registry_hash[32] = {\n    " + ", ".join(
        f"0x{b:02X}" for b in registry_hash(reg, aliases)) + "\n};\n\n")
    msgs = sorted(reg["msg_types"], key=lambda r: r["num"])
    at = {r["name"]: i + 1 for i, r in enumerate(msgs)}
    known = [(r["num"], at[r["name"]]) for r in msgs] + [(n, at[name]) for n, name in aliases]
    out.append(index("msg_index", 256, known))
    out.append("const struct dbe_msg_row *dbe_reg_msg(uint8_t type)\n{\n"
               "    return msg_index[type] != 0 ? &msgs[msg_index[type] - 1] : NULL;\n}\n\n")
    tlvs = sorted(reg["tlvs"], key=lambda r: r["num"])
    low = [(r["num"], i + 1) for i, r in enumerate(tlvs) if r["num"] < TLV_INDEXED]
    out.append(index("tlv_index", TLV_INDEXED, low))
    out.append(f"const struct dbe_tlv_row *dbe_reg_tlv(uint16_t type)\n{{\n"
               f"    if (type < {TLV_INDEXED})\n"
               f"        return tlv_index[type] != 0 ? &tlvs[tlv_index[type] - 1] : NULL;\n"
               f"    for (size_t i = {len(low)}; i < sizeof tlvs / sizeof tlvs[0]; i++)\n"
               f"        if (tlvs[i].type == type)\n            return &tlvs[i];\n    return NULL;\n}}\n\n")
    for ret, func, arg, var, test in (
            ("dbe_tlv_row", "dbe_reg_tlv_named", "const char *name", "tlvs", "strcmp({row}.name, name) == 0"),
            ("dbe_err_row", "dbe_reg_err", "int err", "errs", "{row}.err == err"),
            ("dbe_num_row", "dbe_reg_compartment", "uint32_t mask", "compartments", "{row}.num == mask"),
            ("dbe_num_row", "dbe_reg_compartment_named", "const char *name", "compartments",
             "strcmp({row}.name, name) == 0"),
            ("dbe_num_row", "dbe_reg_classification", "uint32_t num", "classifications", "{row}.num == num"),
            ("dbe_num_row", "dbe_reg_classification_named", "const char *name", "classifications",
             "strcmp({row}.name, name) == 0"),
            ("dbe_num_row", "dbe_reg_roe", "uint32_t num", "roes", "{row}.num == num"),
            ("dbe_num_row", "dbe_reg_roe_named", "const char *name", "roes", "strcmp({row}.name, name) == 0"),
            ("dbe_role_row", "dbe_reg_role", "uint8_t role", "roles", "{row}.role == role"),
            ("dbe_role_row", "dbe_reg_role_path", "const char *path", "roles", "strcmp({row}.path, path) == 0"),
            ("dbe_layer_row", "dbe_reg_layer", "uint8_t layer", "layers", "{row}.layer == layer"),
            ("dbe_stream_row", "dbe_reg_stream", "const char *name", "streams", "strcmp({row}.name, name) == 0")):
        out.append(lookup(ret, func, arg, var, test))
    out.append("const struct dbe_device_row *dbe_reg_device(uint8_t id)\n{\n"
               "    return id < DBE_DEVICE_COUNT ? &devices[id] : NULL;\n}\n\n")
    out.append(f"int dbe_reg_may_emit(uint8_t src, uint8_t msg_type, uint8_t dst)\n{{\n"
               f"    return src < {EMIT_ROLES} && dst < {EMIT_ROLES} && (emits[msg_type][src] >> dst & 1) != 0;\n}}\n")
    return "".join(out)


def emit_masks(reg, num, rep):
    """Who may say what to whom, so that a decision is one load: receivers as bits, by message type and sender."""
    if max(num.values()) >= EMIT_ROLES:
        raise SchemaError(f"roles.def: a role above {EMIT_ROLES - 1} does not fit the masks of emits.def")
    masks = {}
    for r in reg["emits"]:
        masks.setdefault(rep[r["msg"]], {}).setdefault(num[r["src"]], []).append(num[r["dst"]])
    rows = "".join(f"    [0x{msg:02X}] = {{ " + ", ".join(
        f"[{src}] = " + " | ".join(f"1U << {dst}" for dst in dsts) for src, dsts in sorted(by_src.items())) + " },\n"
        for msg, by_src in sorted(masks.items()))
    return f"static const uint16_t emits[256][{EMIT_ROLES}] = {{\n{rows}}};\n\n"


def lower_camel(name):
    """A message's name as protoc-c spells it in C: L7ChatRequest is l7_chat_request."""
    out, upper = "", True
    for char in name:
        out += ("_" if char.isupper() and not upper else "") + char.lower()
        upper = char.isupper()
    return out


def payloads(reg):
    """payload_table.c: from a message type to the descriptor of its payload."""
    out = ["/* SPDX-License-Identifier: Apache-2.0 */\n", NOTE,
           '#include "payload/wire.h"\n\n#include "dsmil.pb-c.h"\n\n',
           "const payload_desc *payload_desc_of(uint8_t msg_type)\n{\n"
           "    const struct dbe_msg_row *row = dbe_reg_msg(msg_type); /* resolves aliases */\n\n"
           "    switch (row != NULL ? row->type : 0) {\n"]
    for r in sorted(reg["msg_types"], key=lambda r: r["num"]):
        out.append(f"    case DBE_MSG_{r['name']}: return &dsmil__{lower_camel(r['payload'])}__descriptor;\n")
    out.append("    default: return NULL;\n    }\n}\n")
    return "".join(out)


LUA_BEGIN, LUA_END = "-- begin generated by tools/gen_registry.py --lua\n", "-- end generated\n"


def lua_table(name, pairs):
    """One table from a number to a text."""
    return f"local {name} = {{\n" + "".join(f"  [{num}] = {quoted(text)},\n" for num, text in pairs) + "}\n"


def lua(reg, aliases, text):
    """The Wireshark dissector with its tables made anew: what stands between the two marks is replaced."""
    names = {r["name"]: r["num"] for r in reg["msg_types"]}
    types = [(f"0x{r['num']:02X}", r["name"]) for r in reg["msg_types"]]
    types += [(f"0x{num:02X}", f"{name} (alias 0x{names[name]:02X})") for num, name in aliases]
    out = [lua_table("MSG_TYPES", types),
           lua_table("PAYLOADS", [(f"0x{r['num']:02X}", r["payload"]) for r in reg["msg_types"]] +
                     [(f"0x{num:02X}", next(r["payload"] for r in reg["msg_types"] if r["name"] == name))
                      for num, name in aliases]),
           lua_table("TLV_NAMES", [(f"0x{r['num']:04X}", r["name"]) for r in reg["tlvs"]])]
    out.append("local TLV_RULES = {\n" + "".join(
        f"  [0x{r['num']:04X}] = {{kind = \"{r['kind']}\", min = {r['min']}, max = {r['max']}}},\n"
        for r in reg["tlvs"]) + "}\n")
    for table, name in (("classifications", "CLASSIFICATIONS"), ("roe_levels", "ROE_LEVELS"), ("layers", "LAYERS"),
                        ("errors", "ERRORS")):
        out.append(lua_table(name, [(r["num"], r["name"]) for r in reg[table]]))
    out.append(lua_table("DEVICES", [(r["num"], r["doc"]) for r in reg["devices"]]))
    for table, name in (("flags", "FLAGS"), ("compartments", "COMPARTMENTS")):
        out.append(f"local {name} = {{\n" + "".join(
            f"  {{mask = 0x{r['num']:X}, name = \"{r['name']}\", doc = {quoted(r['doc'])}}},\n"
            for r in reg[table]) + "}\n")
    before, rest = text.split(LUA_BEGIN)
    return before + LUA_BEGIN + "".join(out) + LUA_END + rest.split(LUA_END)[1]


def docs(reg, aliases):
    """docs/registries.md"""
    out = ["<!-- Generated from schema/ by tools/gen_registry.py; do not edit. -->\n# Registries\n\n"
           "Every number of the protocol has one owner, a row in `schema/`. A number used twice fails the build.\n"]
    heads = {"errors": "Errors", "msg_types": "Message types", "flags": "Flags", "tlvs": "TLVs",
             "compartments": "Compartments", "classifications": "Classifications", "roe_levels": "ROE levels",
             "roles": "Roles", "layers": "Layers", "devices": "Devices", "streams": "Streams",
             "emits": "Who may say what to whom"}
    titles = {"num": "number", "cls": "class", "doc": "meaning", "mem_mib": "memory MiB", "tops_x10": "TOPS x10",
              "min": "min bytes", "max": "max bytes", "msg": "message"}
    for name, (_, cols) in TABLES.items():
        out.append(f"\n## {heads[name]}\n\nSource: `schema/{name}.def`\n\n")
        out.append("| " + " | ".join(titles.get(c, c) for c in cols) + " |\n" + "|---" * len(cols) + "|\n")
        hexa = {"msg_types": "0x{:02X}", "tlvs": "0x{:04X}", "flags": "0x{:04X}", "compartments": "0x{:02X}"}
        for r in reg[name]:
            cells = [hexa.get(name, "{}").format(r[c]) if c == "num" else str(r[c]) for c in cols]
            out.append("| " + " | ".join(cells) + " |\n")
    out.append("\nAliases that are read and never written: " + ", ".join(
        f"0x{n:02X} for {name}" for n, name in aliases) + ".\n")
    return "".join(out)


def main():
    """Command line; exit 1 with one line on a schema error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for opt in ("--header", "--source", "--payloads", "--lua", "--docs", "--check", "--check-lua"):
        parser.add_argument(opt, type=pathlib.Path)
    args = parser.parse_args()
    try:
        reg, aliases = load()
    except SchemaError as err:
        print(f"gen_registry: {err}", file=sys.stderr)
        return 1
    for path, make in ((args.header, lambda: header(reg)), (args.source, lambda: source(reg, aliases)),
                       (args.payloads, lambda: payloads(reg)),
                       (args.lua, lambda: lua(reg, aliases, args.lua.read_text())),
                       (args.docs, lambda: docs(reg, aliases))):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(make())
    if args.check and (not args.check.exists() or args.check.read_text() != docs(reg, aliases)):
        print(f"gen_registry: {args.check} is not what schema/ gives; run tools/gen_registry.py --docs {args.check}",
              file=sys.stderr)
        return 1
    if args.check_lua and args.check_lua.read_text() != lua(reg, aliases, args.check_lua.read_text()):
        print(f"gen_registry: {args.check_lua} is not what schema/ gives; run tools/gen_registry.py --lua "
              f"{args.check_lua}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
