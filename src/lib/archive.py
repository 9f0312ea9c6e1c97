#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""libdbe.a: the rooms linked into one object whose only global names are those of the version script.

In:   archive.py OUT MAP WHOLE... -- PARTS..., the environment's CC, OBJCOPY, AR
Out:  OUT, an archive of one object: all of WHOLE, and of PARTS (a static OpenSSL, say) what is needed
Does: a program may link it beside an OpenSSL of its own, for no name of ours or of our OpenSSL is left to clash.
"""
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

from abi import mapped


def main(args):
    """Command line."""
    out, script, rest = args[0], args[1], args[2:]
    cut = rest.index("--")
    whole, parts = rest[:cut], rest[cut + 1:]
    compiler = shlex.split(os.environ.get("CC", "cc"))
    with tempfile.TemporaryDirectory(dir=pathlib.Path(out).resolve().parent) as folder:
        obj, names = f"{folder}/dbe.o", f"{folder}/names"
        pathlib.Path(names).write_text("\n".join(sorted(mapped(script))) + "\n", encoding="ascii")
        subprocess.run([*compiler, "-r", "-nostdlib", "-o", obj, "-Wl,--whole-archive", *whole,
                        "-Wl,--no-whole-archive", *parts], check=True)
        subprocess.run([os.environ.get("OBJCOPY", "objcopy"), f"--keep-global-symbols={names}", obj], check=True)
        pathlib.Path(out).unlink(missing_ok=True)
        subprocess.run([os.environ.get("AR", "ar"), "rcs", out, obj], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
