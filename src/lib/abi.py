#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What libdbe exports: the functions that its installed headers declare, and nothing else.

In:   abi.py write MAP HEADER...      make the version script
      abi.py check MAP LIB HEADER...  compare headers, version script and the library's dynamic symbols
Out:  MAP; or one line for each difference and exit status 1
Not:  it judges no types: a changed signature under an old name is for a reviewer to see.
"""
import pathlib
import re
import subprocess
import sys

NODE = "DBE_1"
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.M)
FUNCTION = re.compile(r"(?<![(*\w])\*?(dbe_\w+)[ \t\n]*\(")
OBJECT = re.compile(r"^extern\s[^(]*?(dbe_\w+)(?:\[\w*\])?$", re.S)


def declarations(text):
    """Statements at file level, without comments, directives and what stands in braces."""
    text = DIRECTIVE.sub("", COMMENT.sub("", text))
    depth, start, out, kept = 0, 0, [], []
    for char in text:
        if char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
        elif depth == 0:
            kept.append(char)
    text = "".join(kept)
    for match in re.finditer(";", text):
        out.append(re.sub(r"\bDBE_(?:BEGIN|END)_DECLS\b", "", text[start:match.start()]).strip())
        start = match.end()
    return out


def declared(headers):
    """Names of functions and objects that the headers declare."""
    names = set()
    for header in headers:
        for statement in declarations(pathlib.Path(header).read_text(encoding="utf-8")):
            if statement.startswith(("typedef", "static")):
                continue
            found = FUNCTION.search(statement) or OBJECT.match(statement)
            if found:
                names.add(found.group(1))
    return names


def mapped(path):
    """Names in the version script."""
    text = COMMENT.sub("", pathlib.Path(path).read_text(encoding="utf-8"))
    return set(re.findall(r"\b(dbe_\w+);", text))


def exported(library):
    """Dynamic symbols that the library defines: name -> version."""
    done = subprocess.run(["nm", "-D", "--defined-only", "--with-symbol-versions", library], check=True,
                          capture_output=True, text=True)
    out = {}
    for line in done.stdout.splitlines():
        name, _, version = line.split()[-1].partition("@@")
        if line.split()[-2] != "A":  # the version node itself
            out[name] = version
    return out


def write(path, headers):
    """The version script."""
    rows = "".join(f"        {name};\n" for name in sorted(declared(headers)))
    pathlib.Path(path).write_text(
        "/* SPDX-License-Identifier: Apache-2.0\n *\n"
        " * dbe.map - what libdbe.so exports, and under which version. A name once released stays in its node;\n"
        " * new ones of a later release go into a node of their own. Written by src/lib/abi.py from include/dbe.\n */\n"
        f"{NODE} {{\n    global:\n{rows}    local:\n        *;\n}};\n", encoding="utf-8")


def check(path, library, headers):
    """Lines for people, one a difference."""
    want, have, out = declared(headers), mapped(path), exported(library)
    for name in sorted(want - have):
        yield f"{name} is declared in an installed header and not in {path}: src/lib/abi.py write"
    for name in sorted(have - want):
        yield f"{name} is in {path} and in no installed header"
    for name in sorted(have - set(out)):
        yield f"{name} is in {path} and not in the library"
    for name in sorted(set(out) - have):
        yield f"{name} is exported and should not be"
    for name in sorted(set(out) & have):
        if out[name] != NODE:
            yield f"{name} has version {out[name] or 'none'}, not {NODE}"


def main(args):
    """Command line."""
    if len(args) >= 3 and args[0] == "write":
        write(args[1], args[2:])
        return 0
    if len(args) >= 4 and args[0] == "check":
        wrong = list(check(args[1], args[2], args[3:]))
        print("\n".join(wrong) if wrong else f"{len(mapped(args[1]))} symbols, as declared")
        return 1 if wrong else 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
