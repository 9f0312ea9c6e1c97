# SPDX-License-Identifier: Apache-2.0
"""A library of the project as others find it: installed into a scratch folder, and used through pkg-config alone.

In:   DSMIL_BUILD_ROOT, CC (the build's compiler)
Out:  run(), and a class whose tests share one installation
"""
import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile
import unittest

BUILD = os.environ.get("DSMIL_BUILD_ROOT", "build")
CC = shlex.split(os.environ.get("CC", "cc"))
CXX = next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
WARN = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]


def run(*args, **kwargs):
    """Output of a program that must succeed."""
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True, check=False, **kwargs)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, args))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Installed(unittest.TestCase):
    """One installation for all tests of a class that names its `package`; its install tag is lib<package>."""

    package = None

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.tmp = pathlib.Path(cls.folder.name)
        root = cls.tmp / "root"
        run("meson", "install", "-C", BUILD, "--no-rebuild", "--tags", f"lib{cls.package}", "--destdir", root)
        pc = next(root.rglob(f"{cls.package}.pc"))
        cls.prefix = root / cls.variable(pc, "prefix").lstrip("/")
        cls.libdir = pc.parent.parent
        cls.env = {**os.environ, "PKG_CONFIG_PATH": f"{pc.parent}:{os.environ.get('PKG_CONFIG_PATH', '')}",
                   "LD_LIBRARY_PATH": str(cls.libdir)}

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @staticmethod
    def variable(pc, name):
        """A variable of a pkg-config file, as written."""
        return next(line.partition("=")[2] for line in pc.read_text().splitlines() if line.startswith(name + "="))

    def flags(self, *what):
        """What pkg-config says, with the prefix where the scratch folder has it."""
        return shlex.split(run("pkg-config", f"--define-variable=prefix={self.prefix}", *what, self.package,
                               env=self.env))

    def compile(self, compiler, name, text, *flags):
        """A program or, with -c, an object."""
        source = self.tmp / name
        source.write_text(text)
        run(*compiler, *WARN, source, "-o", source.with_suffix(".out"), *self.flags("--cflags"), *flags)
        return source.with_suffix(".out")
