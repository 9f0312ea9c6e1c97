# SPDX-License-Identifier: Apache-2.0
"""Shell scripts parse, and Python files compile."""
import subprocess

import tree


def check():
    """`bash -n` or `sh -n` by the first line (sourced .sh files are bash), compile() for Python."""
    for path in tree.files():
        last = path.rsplit("/", 1)[-1]
        if not path.endswith((".sh", ".py", ".ci/run")) and "." in last:
            continue
        text = tree.read(path)
        first = text.split("\n", 1)[0]
        if path.endswith(".py") or (first.startswith("#!") and "python" in first):
            try:
                compile(text, path, "exec")
            except SyntaxError as error:
                yield tree.Violation(path, error.lineno or 1, error.msg)
        elif path.endswith(".sh") or (first.startswith("#!") and "sh" in first):
            shell = "sh" if first.endswith("/sh") else "bash"
            done = subprocess.run([shell, "-n", str(tree.ROOT / path)], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                yield tree.Violation(path, 1, done.stderr.strip().split("\n")[0])
