#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The programs of docs/python.md run, one after the other, in one process.

In:   DSMIL_SOURCE_ROOT
"""
import os
import pathlib
import re
import unittest

from fixture import Mesh


class Docs(unittest.TestCase):
    """What the page shows is what happens."""

    def test_programs(self):
        mesh = Mesh()
        self.addCleanup(mesh.close)
        os.environ["DSMIL_KEYS"] = str(mesh.keys)
        os.environ.pop("DSMIL_DEVICE_ID", None)
        page = pathlib.Path(os.environ["DSMIL_SOURCE_ROOT"], "docs", "python.md").read_text(encoding="utf-8")
        names = {"RUN": str(mesh.root)}
        programs = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
        self.assertGreater(len(programs), 4)
        for program in programs:
            exec(compile(program, "docs/python.md", "exec"), names)  # pylint: disable=exec-used
        names["shim"].close()
        names["router"].close()


if __name__ == "__main__":
    unittest.main()
