#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""No function of ours has the name of one in a library that the same program loads.

A program's own function silently takes the place of a shared library's, and the compiler sees nothing. The arguments
are programs; each one's defined symbols are held against the dynamic symbols of every library it is linked with.
"""
import re
import subprocess
import sys

# The linker and the C runtime put these into every program.
RUNTIME = re.compile(r"^(_.*|main|environ|data_start|completed.*|stdin|stdout|stderr|program_invocation.*)$")
# Data that the linker copies into the program from the library itself (R_X86_64_COPY): one object, not two.
COPIED = {"protobuf_c_empty_string"}


def symbols(path, *options):
    out = subprocess.run(["nm", "--defined-only", *options, path], stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = (line.split() for line in out.splitlines())
    return {row[-1].split("@")[0] for row in rows if len(row) >= 3 and row[-2] in "TDBRGSi"}


def libraries(program):
    out = subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=True).stdout
    return [m.group(1) for m in re.finditer(r"=> (/\S+)", out) if "/libc.so" not in m.group(1)]


def main():
    wrong = 0
    for program in sys.argv[1:]:
        ours = {name for name in symbols(program, "-g") if not RUNTIME.match(name)}
        assert ours, f"{program} shows no symbols: was it stripped?"
        for library in libraries(program):
            for name in sorted(ours & symbols(library, "-D") - COPIED):
                print(f"{program}: {name} is a function of {library} too")
                wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
