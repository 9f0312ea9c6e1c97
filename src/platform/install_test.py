#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Another project's view of libdsmil: install it into a scratch folder, compile against it with pkg-config alone, run.

In:   DSMIL_BUILD_ROOT, DSMIL_SOURCE_ROOT (its model), CC (the build's compiler)
Does: C99 and C++ over the header; a program that loads the project's model; exports are what the header declares.
"""
import os
import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(os.environ["DSMIL_SOURCE_ROOT"])
sys.path.insert(0, str(ROOT / "tests"))
import installed  # noqa: E402
from installed import CC, CXX, run  # noqa: E402

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


class Dsmil(installed.Installed):
    """libdsmil."""

    package = "dsmil"

    def test_program(self):
        program = self.compile(CC, "use.c", PROGRAM, "-std=c99", *self.flags("--libs"))
        said = run(program, ROOT / "models" / "dsmil-small-q8_0.gguf", env=self.env)
        self.assertEqual(said.split(), ["47", "1", "dsmil-small", "1", "1"])

    def test_cpp(self):
        if not CXX:
            self.skipTest("no C++ compiler")
        text = "#include <dsmil_layer7_llm.h>\nint main() { return dsmil_device47_llm_init(0); }\n"
        self.compile([CXX], "use.cc", text, *self.flags("--libs"))

    def test_exports(self):
        header = next(self.tmp.rglob("dsmil_layer7_llm.h")).read_text()
        declared = set(re.findall(r"^(?:int|bool|uint64_t) (dsmil_\w+)\(", header, re.M))
        out = run("nm", "-D", "--defined-only", next(self.libdir.glob("libdsmil.so")))
        exported = {line.split()[-1].split("@")[0] for line in out.splitlines() if " T " in line}
        self.assertEqual(exported, declared)


if __name__ == "__main__":
    unittest.main()
