#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Man pages: a formatter accepts them, their references lead somewhere, and what they name is exported or in a header.

In:   the pages beside this file; mandoc or groff, whichever is there; src/lib/dbe.map; include/dsmil
"""
import pathlib
import re
import shutil
import subprocess
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PAGES = sorted(HERE.glob("*.[1-9]"))


def warnings(page):
    """What a formatter says of a page; None if there is no formatter."""
    if shutil.which("mandoc"):
        return subprocess.run(["mandoc", "-Tlint", "-Wwarning", str(page)], capture_output=True, text=True,
                              check=False).stdout
    if shutil.which("groff"):
        return subprocess.run(["groff", "-mandoc", "-ww", "-Tutf8", "-z", str(page)], capture_output=True, text=True,
                              check=False).stderr
    return None


class Man(unittest.TestCase):
    """Every page."""

    def test_form(self):
        for page in PAGES:
            said = warnings(page)
            if said is None:
                self.skipTest("neither mandoc nor groff is installed")
            self.assertEqual(said, "", page.name)

    def test_references(self):
        names = {page.name for page in PAGES}
        for page in PAGES:
            for name, section in re.findall(r"^\.(?:It )?(?:.*\b)?Xr (\S+) (\d)", page.read_text(), re.M):
                self.assertIn(f"{name}.{section}", names, page.name)

    def test_functions_exist(self):
        exported = set(re.findall(r"\b(dbe_\w+);", (ROOT / "src/lib/dbe.map").read_text()))
        for header in (ROOT / "include/dsmil").glob("*.h"):
            exported |= set(re.findall(r"^\w+ (dsmil_\w+)\(", header.read_text(), re.M))
        for page in PAGES:
            named = set(re.findall(r"^\.F[no] ((?:dbe|dsmil)_\w+)", page.read_text(), re.M))
            self.assertLessEqual(named, exported, page.name)

    def test_every_function_of_libdsmil_has_a_place(self):
        page = (HERE / "libdsmil.3").read_text()
        for header in (ROOT / "include/dsmil").glob("*.h"):
            self.assertIn(f".In dsmil/{header.name}", page)
            for name in re.findall(r"^\w+ (dsmil_\w+)\(", header.read_text(), re.M):
                self.assertIn(f".Fn {name}", page)

    def test_every_header_has_a_page(self):
        text = "\n".join(page.read_text() for page in PAGES)
        for header in (ROOT / "include/dbe").glob("*.h"):
            if header.name != "err.h":
                self.assertIn(f".In dbe/{header.name}", text)


if __name__ == "__main__":
    unittest.main()
