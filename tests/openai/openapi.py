# SPDX-License-Identifier: Apache-2.0
"""OpenAI's own description of its API, where DSMIL_OPENAPI names the file: properties of requests, shapes of answers.

In:   DSMIL_OPENAPI, an openapi.json
Does: resolves $ref and allOf; checks types, enum, const, required, properties, items, anyOf, oneOf and discriminators
Not:  no format, no pattern, no number ranges. Members that the description does not know are allowed, as clients do.
"""
import functools
import json
import os

PATH = os.environ.get("DSMIL_OPENAPI")
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


@functools.lru_cache(maxsize=1)
def schemas():
    """All named schemas."""
    with open(PATH, encoding="utf-8") as file:
        return json.load(file)["components"]["schemas"]


def resolve(schema):
    """Follow references."""
    while "$ref" in schema:
        schema = schemas()[schema["$ref"].rsplit("/", 1)[1]]
    return schema


def properties(schema):
    """Names of all properties of an object's schema."""
    schema = resolve(schema)
    names = set(schema.get("properties", {}))
    for part in schema.get("allOf", []):
        names |= properties(part)
    return names


def is_type(value, name):
    """JSON's notion of types."""
    if name in ("integer", "number"):
        ok = isinstance(value, (int, float)) and not isinstance(value, bool)
        return ok and (name == "number" or float(value).is_integer())
    return isinstance(value, TYPES[name])


def of_alternatives(value, alternatives, where):
    """The fewest complaints of any alternative."""
    best = None
    for alternative in alternatives:
        found = list(complaints(value, alternative, where))
        if not found:
            return []
        if best is None or len(found) < len(best):
            best = found
    return best


def complaints(value, schema, where="answer"):
    """What in `value` is not as the schema says, as words."""
    schema = resolve(schema)
    if value is None and schema.get("nullable"):
        return
    types = schema.get("type")
    types = [types] if isinstance(types, str) else types
    if types and not any(is_type(value, t) for t in types):
        yield f"{where}: {value!r} is no {' or '.join(types)}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is none of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{where}: {value!r} is not {schema['const']!r}"
    for part in schema.get("allOf", []):
        yield from complaints(value, part, where)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            yield from of_alternatives(value, schema[word], where)
    if isinstance(value, dict):
        for name in schema.get("required", []):
            if name not in value:
                yield f"{where}: {name} is missing"
        for name, member in schema.get("properties", {}).items():
            if name in value:
                yield from complaints(value[name], member, f"{where}.{name}")
    if isinstance(value, list) and "items" in schema:
        for i, item in enumerate(value):
            yield from complaints(item, schema["items"], f"{where}[{i}]")


def check(value, name):
    """Raise with all complaints if `value` is not what the schema of that name says; nothing without the file."""
    if PATH:
        found = list(complaints(value, {"$ref": "#/" + name}, name))
        if found:
            raise AssertionError("\n".join(found) + "\n" + json.dumps(value)[:2000])
