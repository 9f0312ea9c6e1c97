#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The fake cryptography is linked into tests and fuzz targets alone, and its test programs hold none of the real one.

In:   DSMIL_BUILD_ROOT, a configured build folder; meson introspect
Not:  it builds nothing; programs that are not built yet are not looked into.
"""
import json
import os
import pathlib
import subprocess
import unittest

BUILD = pathlib.Path(os.environ["DSMIL_BUILD_ROOT"])
ALLOWED = ("tests/", "fuzz/")
FAKE = "crypto_fake.c"


def targets():
    """Every target of the build folder with its place in the tree and its sources."""
    told = subprocess.run(["meson", "introspect", "--targets", str(BUILD)], check=True, capture_output=True, text=True)
    root = BUILD.resolve()
    for target in json.loads(told.stdout):
        sources = [source for group in target["target_sources"] for source in group.get("sources", [])]
        place = pathlib.Path(target["filename"][0]).resolve().relative_to(root)
        yield str(place), target["installed"], sources


class Isolation(unittest.TestCase):
    """Who is linked with what."""

    def test_sources(self):
        """Only targets of tests/ and fuzz/ that are not installed have the file."""
        having = [(place, installed) for place, installed, sources in targets()
                  if any(source.endswith("/" + FAKE) for source in sources)]
        self.assertTrue(having)
        for place, installed in having:
            self.assertFalse(installed, place)
            self.assertTrue(place.startswith(ALLOWED), place)

    def test_symbols(self):
        """No installed file that is built defines a function of it; the simulator on it has no function of OpenSSL."""
        for place, installed, _ in targets():
            path = BUILD / place
            fake = place.endswith("sim_session_fake")
            if not (installed or fake) or not path.is_file() or path.suffix in (".h", ".pc"):
                continue
            names = subprocess.run(["nm", "--defined-only", str(path)], capture_output=True, text=True,
                                   check=False).stdout
            with self.subTest(place):
                if fake:
                    self.assertIn("crypto_fake_live", names)
                    self.assertNotIn("EVP_", names)
                else:
                    self.assertNotIn("crypto_fake_", names)


if __name__ == "__main__":
    unittest.main()
