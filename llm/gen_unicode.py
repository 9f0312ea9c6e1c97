#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gen_unicode.py - writes unicode_table.c: the class of every code point, as pre-tokenizers tell them apart.

In: unicodedata2 where it is installed (it is newer), else Python's unicodedata. Out: the C file on standard output.
Run by hand when the Unicode version should move; the result is kept in the tree so that a build does not depend on
the Python that happens to be there. Each entry is (first code point << 4 | enum unicode_class) of a run.
"""
import sys

try:
    import unicodedata2 as unicodedata
except ImportError:
    import unicodedata

# White_Space is a property of its own, not a category; the list has been stable since Unicode 6.3.
SPACES = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
CASES = {"Lu": 1, "Lt": 1, "Ll": 2}
CLASSES = {"L": 3, "M": 4, "N": 5, "P": 6, "S": 7}


def class_of(code: int) -> int:
    if code in SPACES:
        return 8
    category = unicodedata.category(chr(code))
    return CASES.get(category, CLASSES.get(category[0], 0))


def main() -> None:
    runs: list[int] = []
    last = -1
    for code in range(sys.maxunicode + 1):
        now = class_of(code)
        if now != last:
            runs.append(code << 4 | now)
            last = now
    print(f"""/* SPDX-License-Identifier: Apache-2.0
 *
 * unicode_table.c - classes of code points, Unicode {unicodedata.unidata_version}. Made by gen_unicode.py; do not edit.
 */
#include "unicode_table.h"

const size_t llm_unicode_runs_count = {len(runs)};
const uint32_t llm_unicode_runs[{len(runs)}] = {{""")
    for i in range(0, len(runs), 10):
        print("    " + " ".join(f"0x{r:x}," for r in runs[i:i + 10]))
    print("};")


main()
