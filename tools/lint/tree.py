# SPDX-License-Identifier: Apache-2.0
"""What every lint check shares: the files of the tree, and C text without comments and strings.

In:   the checkout (git where there is one, else a walk)
Out:  files(), read(), code(), Violation
Not:  it judges nothing.
"""
import collections
import functools
import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
IGNORED = re.compile(r"^(\.git|\.deps|build|build-[^/]*)(/|$)|(^|/)__pycache__(/|$)")
C_TOKENS = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)

Violation = collections.namedtuple("Violation", "path line text")


@functools.lru_cache(maxsize=None)
def everything():
    """Paths of all files, relative to the root: tracked ones and new ones that git does not ignore."""
    try:
        listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"], check=True,
                                capture_output=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        listed = [os.path.relpath(os.path.join(at, name), ROOT) for at, _, names in os.walk(ROOT) for name in names]
    return tuple(sorted(path for path in set(listed)
                        if path and not IGNORED.search(path) and (ROOT / path).is_file()))


def files(*endings):
    """Paths that end so; all without an argument."""
    return [path for path in everything() if not endings or path.endswith(endings)]


@functools.lru_cache(maxsize=None)
def read(path):
    """The text of a file."""
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")


def _blank(match):
    text = match.group(0)
    keep = text[0] if text[0] in "\"'" else " "
    return keep + re.sub(r"[^\n]", " ", text[1:-1]) + (keep if len(text) > 1 else "")


@functools.lru_cache(maxsize=None)
def code(path):
    """C text with comments and the insides of strings blanked; lines and columns stay where they are."""
    return C_TOKENS.sub(_blank, read(path))


def line_of(text, offset):
    """1-based line of an offset."""
    return text.count("\n", 0, offset) + 1


def is_test(path):
    """Tests may reach across rooms and compare bytes as they like."""
    return path.endswith("_test.c") or path.startswith(("tests/", "fuzz/", "bench/"))
