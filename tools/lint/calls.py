# SPDX-License-Identifier: Apache-2.0
"""Calls that this tree does not make.

Unbounded string functions and weak randomness nowhere; the clock and the generator only in src/base, so that tests
own both; memcmp never on what must not leak through timing; no shell.
"""
import re

import tree

NOWHERE = {
    "strcpy": "base_text or snprintf", "strcat": "base_buf", "sprintf": "snprintf", "vsprintf": "vsnprintf",
    "gets": "getline", "strtok": "strtok_r or a cursor", "rand": "base_random", "srand": "base_random",
    "random": "base_random", "drand48": "base_random", "tmpnam": "mkstemp", "mktemp": "mkstemp", "alloca": "an array",
    "system": "posix_spawn or execve", "popen": "posix_spawn or execve", "atoi": "a checked parser",
    "atol": "a checked parser", "atof": "a checked parser",
}
# A test's own bytes are no attack.
TESTS_MAY = {"strcpy", "atoi", "system", "popen"}
ONLY_BASE = {"getrandom": "base_random", "getentropy": "base_random", "clock_gettime": "base_mono_ns or base_wall_ms",
             "gettimeofday": "base_wall_ms", "time": "base_wall_ms"}
# Examples are programs of others: they have no base room.
CALL = re.compile(r"(?<![\w.>])(" + "|".join([*NOWHERE, *ONLY_BASE]) + r")\s*\(")
MEMCMP = re.compile(r"(?<!\w)memcmp\s*\(([^;]*?)\)\s*(?:[;=!<>&|?]|\))")
SECRET = re.compile(r"(?<![a-z])(secret|psk|tag|mac|hmac|prk|okm|priv|dk|shared|k_enc|k_mac|k_log|session_key|api_key|"
                    r"password|passphrase)(?![a-z])")


def check():
    """Every call in every C file; comments and strings do not count."""
    for path in tree.files(".c", ".h"):
        text = tree.code(path)
        for match in CALL.finditer(text):
            name = match.group(1)
            if name in ONLY_BASE and (path.startswith(("src/base/", "examples/")) or tree.is_test(path)):
                continue
            if name in TESTS_MAY and tree.is_test(path):
                continue
            instead = NOWHERE.get(name) or ONLY_BASE[name]
            yield tree.Violation(path, tree.line_of(text, match.start()), f"{name}() is banned here: use {instead}")
        if tree.is_test(path):
            continue
        for match in MEMCMP.finditer(text):
            if SECRET.search(match.group(1).lower()):
                yield tree.Violation(path, tree.line_of(text, match.start()),
                                     "memcmp() on a secret leaks through timing: use the constant-time comparison")
