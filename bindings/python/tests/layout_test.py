#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The structures of dsmil_dbe._lib lie as the C compiler lays them out: every field's offset, and room for the whole.

In:   CC, DSMIL_SOURCE_ROOT, DSMIL_BUILD_ROOT (the installed headers and the generated one)
"""
import ctypes
import os
import pathlib
import shlex
import subprocess
import tempfile
import unittest

from dsmil_dbe import _lib

STRUCTURES = {"dbe_diag": _lib.Diag, "dbe_tlv": _lib.Tlv, "dbe_msg": _lib.Msg, "dbe_builder": _lib.Builder,
              "dbe_identity": _lib.Identity, "dbe_claim": _lib.Claim, "dbe_labels": _lib.Labels,
              "dbe_verdict": _lib.Verdict, "dbe_node_ops": _lib.NodeOps, "dbe_node_config": _lib.NodeConfig,
              "dbe_policy_digest": _lib.PolicyDigest}
HEADERS = ("claim.h", "gate.h", "identity.h", "msg.h", "node.h", "policy.h")


def fields(structure):
    """Names that C has too."""
    return [name for name, *_ in structure._fields_ if name != "_room"]


class Layout(unittest.TestCase):
    """One small C program tells all offsets."""

    def test_as_in_c(self):
        lines = [f"#include <dbe/{header}>" for header in HEADERS]
        lines += ["#include <stddef.h>", "#include <stdio.h>", "int main(void)", "{"]
        for name, structure in STRUCTURES.items():
            lines.append(f'    printf("{name} %zu\\n", sizeof(struct {name}));')
            lines += [f'    printf("{name}.{field} %zu\\n", offsetof(struct {name}, {field}));'
                      for field in fields(structure)]
        lines += ["    return 0;", "}"]
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder, "layout.c")
            source.write_text("\n".join(lines) + "\n")
            program = source.with_suffix("")
            folders = [os.environ["DSMIL_SOURCE_ROOT"] + "/include", os.environ["DSMIL_BUILD_ROOT"] + "/schema"]
            subprocess.run([*shlex.split(os.environ.get("CC", "cc")), *(f"-I{path}" for path in folders), str(source),
                            "-o", str(program)], check=True)
            out = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
        in_c = {name: int(number) for name, number in (line.split() for line in out.splitlines())}
        for name, structure in STRUCTURES.items():
            for field in fields(structure):
                self.assertEqual(getattr(structure, field).offset, in_c[f"{name}.{field}"], f"{name}.{field}")
            self.assertGreaterEqual(ctypes.sizeof(structure), in_c[name], name)
            if "_room" not in [field for field, *_ in structure._fields_]:
                self.assertEqual(ctypes.sizeof(structure), in_c[name], name)


if __name__ == "__main__":
    unittest.main()
