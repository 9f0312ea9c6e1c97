#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The examples, as the build made them and as a stranger builds them, with pkg-config alone, and run.

In:   DSMIL_BUILD_ROOT, DSMIL_SOURCE_ROOT, CC; DSMIL_EXAMPLES: those that the build made
"""
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(os.environ["DSMIL_SOURCE_ROOT"])
sys.path.insert(0, str(ROOT / "tests"))
import installed  # noqa: E402  pylint: disable=wrong-import-position

NAMES = ("client", "oneway", "own_epoll", "server", "stream")
ANSWER = '"message":{"role":"assistant","content":"Everything here is sealed."'


class Library(installed.Installed):
    """libdbe, as it is installed."""

    package = "dbe"


class Examples(unittest.TestCase):
    """One server, and each of the others against it."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.tmp = pathlib.Path(self.folder.name)
        self.addCleanup(self.folder.cleanup)
        self.programs = {name: pathlib.Path(os.environ["DSMIL_EXAMPLES"]) / ("example_" + name) for name in NAMES}
        self.env = dict(os.environ)

    def converse(self):
        """All of them, with one server."""
        keys, socket = self.tmp / "keys", self.tmp / "s.sock"
        server = subprocess.Popen([self.programs["server"], keys, socket], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True, env=self.env)
        try:
            self.assertEqual(server.stdout.readline(), "listening\n")
            run = installed.run
            self.assertIn(ANSWER, run(self.programs["client"], keys, socket, "What is here?", env=self.env))
            pieces = run(self.programs["stream"], keys, socket, env=self.env).splitlines()
            self.assertEqual(len(pieces), 4)
            self.assertIn("sealed.", pieces[3])
            self.assertEqual(run(self.programs["own_epoll"], keys, socket, "3", env=self.env).count(ANSWER), 3)
            run(self.programs["oneway"], keys, socket, "500", env=self.env)
        finally:
            out, _ = server.communicate(timeout=30)
        self.assertEqual(server.returncode, 0, out)
        self.assertEqual(out.count("heard: L7_MODEL_STATUS"), 500)
        self.assertEqual(out.count("asked: "), 5)
        self.assertNotIn("refused", out)

    def test_as_built(self):
        self.converse()

    @unittest.skipIf(os.environ.get("DSMIL_PLAIN") == "0", "the library wants a runtime that a stranger does not link")
    def test_as_a_stranger_builds_them(self):
        place = Library
        place.setUpClass()
        self.addCleanup(place.tearDownClass)
        self.env = place.env
        flags = place("flags").flags("--cflags", "--libs")
        for name in NAMES:
            self.programs[name] = self.tmp / name
            installed.run(*shlex.split(os.environ.get("CC", "cc")), "-Wall", "-Wextra", "-Werror",
                             ROOT / "examples" / f"{name}.c", "-o", self.tmp / name, *flags)
        self.converse()


if __name__ == "__main__":
    unittest.main()
