#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Another project's view of libdbe: install it into a scratch folder, compile against it with pkg-config alone, run.

In:   DSMIL_BUILD_ROOT, CC (the build's compiler)
Does: C99 and C++ over every header, a program linked with the shared and with the static library, and a Python process
      that has the system's OpenSSL loaded beside ours.
Not:  the examples, which have a test of their own.
"""
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests"))
import installed  # noqa: E402
from installed import CC, CXX, run  # noqa: E402

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


class Dbe(installed.Installed):
    """libdbe."""

    package = "dbe"

    def store(self, name):
        """A folder for keys."""
        path = self.tmp / name
        path.mkdir(mode=0o700)
        return path

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
