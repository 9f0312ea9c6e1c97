#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`pip install .` without a network and without build dependencies, then an import of what was installed alone.

In:   DSMIL_SOURCE_ROOT, DSMIL_BUILD_ROOT
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(os.environ["DSMIL_SOURCE_ROOT"])
LIBRARY = pathlib.Path(os.environ["DSMIL_BUILD_ROOT"]) / "src" / "lib" / "libdbe.so.1"
HAVE_PIP = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
PROGRAM = ("import dsmil_dbe, dsmil_pqc, pathlib; from dsmil_dbe import _lib; "
           "m = dsmil_dbe.DBEMessage(dsmil_dbe.MessageType.L7_CHAT_REQ, 1); assert m.to_bytes(); "
           "print(pathlib.Path(_lib.__file__).parent, _lib.lib._name)")


@unittest.skipUnless(HAVE_PIP, "there is no pip")
class Wheel(unittest.TestCase):
    """From the packages' folder and from the top."""

    def install_and_import(self, folder):
        """What the installed packages say of themselves."""
        with tempfile.TemporaryDirectory() as target:
            env = {**os.environ, "DSMIL_LIBDBE": str(LIBRARY.resolve()), "PIP_DISABLE_PIP_VERSION_CHECK": "1",
                   "PIP_ROOT_USER_ACTION": "ignore"}
            env.pop("PYTHONPATH", None)
            done = subprocess.run([sys.executable, "-m", "pip", "install", "--no-index", "--no-cache-dir", "--quiet",
                                   "--target", target, str(folder)], env=env, capture_output=True, text=True,
                                  check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            env.pop("DSMIL_LIBDBE")
            out = subprocess.run([sys.executable, "-c", PROGRAM], env={**env, "PYTHONPATH": target}, cwd=target,
                                 capture_output=True, text=True, check=True).stdout.split()
            self.assertEqual(out, [f"{os.path.realpath(target)}/dsmil_dbe",
                                   f"{os.path.realpath(target)}/dsmil_dbe/libdbe.so.1"])

    def test_from_the_packages_folder(self):
        self.install_and_import(ROOT / "bindings" / "python")

    def test_from_the_top(self):
        self.install_and_import(ROOT)


if __name__ == "__main__":
    unittest.main()
