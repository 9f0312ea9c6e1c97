#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Another project's view of libdbe: install it into a scratch folder, compile against it with pkg-config alone, run.

In:   DSMIL_BUILD_ROOT, CC (the build's compiler)
Does: C99 and C++ over every header, a program linked with the shared and with the static library, and a Python process
      that has the system's OpenSSL loaded beside ours.
Not:  the examples, which have a test of their own.
"""
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD = os.environ.get("DSMIL_BUILD_ROOT", "build")
CC = shlex.split(os.environ.get("CC", "cc"))
CXX = next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
WARN = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
PROGRAM = """
#include <stdio.h>
#include <string.h>
#include <dbe/identity.h>
#include <dbe/node.h>
int main(int argc, char **argv)
{
    struct dbe_diag diag;
    struct dbe_issue what;
    struct dbe_credential *cred = NULL;
    dbe_err err;
    memset(&what, 0, sizeof what);
    what.device = 47;
    what.role = DBE_ROLE_WORKER;
    if (argc != 2)
        return 2;
    err = dbe_keys_init(argv[1], "test.mesh", 1, &diag);
    if (err == DBE_OK)
        err = dbe_keys_issue(argv[1], &what, &diag);
    if (err == DBE_OK)
        err = dbe_credential_load(argv[1], "worker-47", &cred, &diag);
    if (err != DBE_OK)
        printf("%s: %s\\n", dbe_err_name(err), diag.text);
    else
        printf("%s %s\\n", dbe_credential_identity(cred)->spiffe_id, dbe_suite_name(1));
    dbe_credential_free(cred);
    return err == DBE_OK ? 0 : 1;
}
"""
EXPECTED = "spiffe://test.mesh/l7/worker/47"
PYTHON = """
import ctypes, ssl, sys
ctx = ssl.create_default_context()
dbe = ctypes.CDLL(sys.argv[1])
diag = ctypes.create_string_buffer(1024)
assert dbe.dbe_keys_init(sys.argv[2].encode(), b"test.mesh", 1, diag) == 0
trust = ctypes.c_void_p()
assert dbe.dbe_trust_load(sys.argv[2].encode(), ctypes.byref(trust), diag) == 0
dbe.dbe_trust_mesh.restype = ctypes.c_char_p
import hashlib
hashlib.new("sha3_512", b"x").hexdigest()
ssl.create_default_context().set_ciphers("ECDHE+AESGCM")
print(dbe.dbe_trust_mesh(trust).decode(), ssl.OPENSSL_VERSION.split()[0])
"""


def run(*args, **kwargs):
    """Output of a program that must succeed."""
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True, check=False, **kwargs)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, args))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Installed(unittest.TestCase):
    """One installation for all tests."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.tmp = pathlib.Path(cls.folder.name)
        run("meson", "install", "-C", BUILD, "--no-rebuild", "--tags", "libdbe", "--destdir", cls.tmp / "root")
        pc = next((cls.tmp / "root").rglob("dbe.pc"))
        cls.prefix = cls.tmp / "root" / cls.variable(pc, "prefix").lstrip("/")
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
        return shlex.split(run("pkg-config", f"--define-variable=prefix={self.prefix}", *what, "dbe", env=self.env))

    def store(self, name):
        """A folder for keys."""
        path = self.tmp / name
        path.mkdir(mode=0o700)
        return path

    def compile(self, compiler, name, text, *flags):
        """A program or, with -c, an object."""
        source = self.tmp / name
        source.write_text(text)
        run(*compiler, *WARN, source, "-o", source.with_suffix(".out"), *self.flags("--cflags"), *flags)
        return source.with_suffix(".out")

    def headers(self):
        """Names as a program includes them."""
        return sorted(f"dbe/{path.name}" for path in (self.prefix / "include" / "dbe").iterdir())

    def test_complete(self):
        self.assertIn("dbe/registry.h", self.headers())
        self.assertIn("dbe/node.h", self.headers())
        names = {path.name for path in self.libdir.iterdir()}
        self.assertLessEqual({"libdbe.so", "libdbe.so.1", "libdbe.a", "pkgconfig"}, names)

    def test_each_header_stands_alone(self):
        for header in self.headers():
            text = f"#include <{header}>\n#include <{header}>\nint main(void) {{ return 0; }}\n"
            with self.subTest(header):
                self.compile(CC, "alone.c", text, "-std=c99")
                if CXX:
                    self.compile([CXX], "alone.cc", text, "-std=c++11")

    def test_shared(self):
        program = self.compile(CC, "shared.c", PROGRAM, "-std=c99", *self.flags("--libs"))
        self.assertIn(EXPECTED, run(program, self.store("shared"), env=self.env))

    def test_cpp(self):
        if not CXX:
            self.skipTest("no C++ compiler")
        program = self.compile([CXX], "shared.cc", PROGRAM, *self.flags("--libs"))
        self.assertIn(EXPECTED, run(program, self.store("cpp"), env=self.env))

    def test_static(self):
        libs = ["-l:libdbe.a" if flag == "-ldbe" else flag for flag in self.flags("--static", "--libs")]
        program = self.compile(CC, "static.c", PROGRAM, "-std=c99", *libs)
        self.assertIn(EXPECTED, run(program, self.store("static")))

    def test_beside_the_systems_openssl(self):
        out = run(sys.executable, "-c", PYTHON, self.libdir / "libdbe.so.1", self.store("python"))
        self.assertEqual(out.split(), ["test.mesh", "OpenSSL"])


if __name__ == "__main__":
    unittest.main(verbosity=1)
