#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A device that was just begun builds with this tree's warnings, links, says its help, and passes its own test.

Usage: new_device_test.py BUILD_ROOT. The checkout is copied, so that the tree stays as it is; the build's own commands
(compile_commands.json) are taken for the new files.
"""
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(sys.argv[1])
SOURCE = pathlib.Path(os.environ["DSMIL_SOURCE_ROOT"])
TOOL = SOURCE / "tools" / "new_device.py"


def run(*command, **options):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **options)


class NewDevice(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = pathlib.Path(tempfile.mkdtemp(prefix="dsmil-new-device-"))
        for folder in ("schema", "devices", "tools"):
            shutil.copytree(SOURCE / folder, cls.root / folder)
        done = run(sys.executable, TOOL, "--root", cls.root, "example_ai", "57")
        assert done.returncode == 0, done.stderr
        cls.folder = cls.root / "devices" / "l8_example_ai"

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.root)

    def compile(self, file):
        """Object of a new file, with the flags that the router's files are built with."""
        commands = json.loads((BUILD / "compile_commands.json").read_text())
        model = next(c for c in commands if c["file"].endswith("l7_router/select.c") and ".p/" in c["output"])
        words = shlex.split(model["command"])
        out = self.root / (file.stem + ".o")
        keep, skip = [], False
        for word in words:
            if skip or word in ("-c", "-MD", model["file"]):
                skip = False
            elif word in ("-o", "-MF", "-MQ"):
                skip = True
            else:
                keep.append(word)
        done = run(*keep, f"-I{self.root}", "-c", file, "-o", out, cwd=BUILD)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return out, keep

    def test_its_own_test_passes_and_can_fail(self):
        compiler = [w for w in self.compile(self.folder / "judge.c")[1] if not w.startswith(("-I", "-D", "-M"))]
        test = self.compile(self.folder / "judge_test.c")[0]
        for limit, code in ((">=", 0), (">", 1)):
            text = (self.folder / "judge.c").read_text()
            changed = self.root / "judge_changed.c"
            changed.write_text(text.replace("score >= limit", f"score {limit} limit"))
            program = self.root / "judge_test"
            linked = run(*compiler, self.compile(changed)[0], test, "-lcmocka", "-lm", "-o", program, cwd=BUILD)
            self.assertEqual(linked.returncode, 0, linked.stderr)
            self.assertEqual(run(program).returncode, code)

    def test_the_device_compiles(self):
        self.compile(self.folder / "example_ai.c")

    def test_the_rules_of_the_tree_hold(self):
        done = run(sys.executable, "-B", self.root / "tools" / "lint" / "run", "includes", "calls", "lengths", "layout")
        bad = [x for x in done.stdout.splitlines() if "l8_example_ai" in x]
        self.assertEqual(bad, [])
        self.assertIn("subdir('l8_example_ai')\n", (self.root / "devices" / "meson.build").read_text())

    def test_formatted(self):
        if shutil.which("clang-format") is None:
            self.skipTest("clang-format is not installed")
        for path in sorted(self.folder.glob("*.[ch]")):
            done = run("clang-format", f"--style=file:{SOURCE / '.clang-format'}", path)
            self.assertEqual(done.stdout, path.read_text(), path.name)

    def test_what_is_in_the_way_is_said(self):
        for name, number, words in (("example_ai", "58", "exists"), ("other", "57", "is devices/l8_example_ai"),
                                    ("other", "43", "already"), ("Other", "58", "is no name"),
                                    ("other", "104", "is no device")):
            done = run(sys.executable, TOOL, "--root", self.root, name, number)
            self.assertNotEqual(done.returncode, 0)
            self.assertTrue(re.search(words, done.stderr), done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
