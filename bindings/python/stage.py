#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lay out the Python packages as they are imported.

In:   stage.py ROOT OUT [LIBRARY]: the checkout, a folder such as build/python, and libdbe.so.1
Out:  OUT/dsmil_dbe, OUT/dsmil_pqc, with the generated modules and a link to the library; OUT/.stamp
Does: removes modules that are no longer there.
"""
import pathlib
import shutil
import sys

import gen

PACKAGES = ("dsmil_dbe", "dsmil_pqc")
GENERATED = {"dsmil_dbe/registry.py", "dsmil_dbe/errors.py"}


def main(root, out, library=None):
    """Command line."""
    source, target = pathlib.Path(root) / "bindings" / "python" / "src", pathlib.Path(out)
    wanted = {path.relative_to(source) for name in PACKAGES for path in (source / name).iterdir()
              if path.suffix == ".py" or path.name == "py.typed"}
    for name in PACKAGES:
        (target / name).mkdir(parents=True, exist_ok=True)
        for old in (target / name).glob("*.py"):
            if old.relative_to(target) not in wanted and str(old.relative_to(target)) not in GENERATED:
                old.unlink()
    for path in wanted:
        shutil.copyfile(source / path, target / path)
    gen.main(root, target / "dsmil_dbe")
    if library:
        link = target / "dsmil_dbe" / "libdbe.so.1"
        link.unlink(missing_ok=True)
        link.symlink_to(pathlib.Path(library).resolve())
    (target / ".stamp").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
