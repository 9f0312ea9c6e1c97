#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Another project's view of libdsmil: install it into a scratch folder, compile against it with pkg-config alone, run.

In:   DSMIL_BUILD_ROOT, DSMIL_SOURCE_ROOT (its model), CC (the build's compiler)
Does: C99 and C++ over the header; a program that loads the project's model; exports are what the header declares.
"""
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import tempfile
import unittest

BUILD = os.environ["DSMIL_BUILD_ROOT"]
ROOT = pathlib.Path(os.environ["DSMIL_SOURCE_ROOT"])
CC = shlex.split(os.environ.get("CC", "cc"))
CXX = next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
WARN = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
PROGRAM = """
#include <stdio.h>
#include <dsmil/dsmil_layer7_llm.h>
int main(int argc, char **argv)
{
    dsmil_device47_llm_ctx_t ctx;
    int err = argc == 2 ? dsmil_device47_llm_init(UINT64_C(256) << 20) : 2;
    if (err == 0)
        err = dsmil_device47_llm_load(argv[1], &ctx);
    if (err != 0)
        return 1;
    printf("%u %u %s %d %d\\n", (unsigned)ctx.device_id, (unsigned)ctx.model_id, ctx.model_name,
           dsmil_device47_check_memory_budget(&ctx), dsmil_device47_verify_int8_quantization(&ctx));
    return dsmil_device47_llm_unload(&ctx) == 0 ? 0 : 1;
}
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
        cls.top = pathlib.Path(cls.folder.name)
        run("meson", "install", "-C", BUILD, "--no-rebuild", "--tags", "libdsmil", "--destdir", cls.top)
        pc = next(cls.top.rglob("dsmil.pc"))
        cls.lib = pc.parent.parent
        env = dict(os.environ, PKG_CONFIG_PATH=str(pc.parent), PKG_CONFIG_SYSROOT_DIR=str(cls.top))
        cls.flags = shlex.split(run("pkg-config", "--cflags", "--libs", "dsmil", env=env))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_program(self):
        source, program = self.top / "use.c", self.top / "use"
        source.write_text(PROGRAM)
        run(*CC, "-std=c99", *WARN, source, "-o", program, *self.flags)
        env = dict(os.environ, LD_LIBRARY_PATH=str(self.lib))
        said = run(program, ROOT / "models" / "dsmil-small-q8_0.gguf", env=env)
        self.assertEqual(said.split(), ["47", "1", "dsmil-small", "1", "0"])

    def test_cpp(self):
        if not CXX:
            self.skipTest("no C++ compiler")
        source = self.top / "use.cc"
        source.write_text("#include <dsmil_layer7_llm.h>\nint main() { return dsmil_device47_llm_init(0); }\n")
        run(CXX, *WARN, source, "-o", self.top / "usepp", *self.flags)

    def test_exports(self):
        header = next(self.top.rglob("dsmil_layer7_llm.h")).read_text()
        declared = set(re.findall(r"^(?:int|bool|uint64_t) (dsmil_\w+)\(", header, re.M))
        out = run("nm", "-D", "--defined-only", next(self.lib.glob("libdsmil.so")))
        exported = {line.split()[-1].split("@")[0] for line in out.splitlines() if " T " in line}
        self.assertEqual(exported, declared)


if __name__ == "__main__":
    unittest.main()
