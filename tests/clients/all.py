# SPDX-License-Identifier: Apache-2.0
"""One mesh, and every client in turn: OpenAI's for Python and Node, LangChain, curl.

In:   the commands' files beside this one; DSMIL_NODE_DIR, where Node's packages are (none: Node is left out, and said)
Out:  their reports; "clients: N passed, N failed"; exit code 0 if all passed
"""
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "scenario"))
from mesh import Mesh  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent


def commands():
    """(name, command, folder) of each client."""
    yield "OpenAI for Python", [sys.executable, HERE / "openai_sdk.py"], HERE
    yield "LangChain", [sys.executable, HERE / "langchain_sdk.py"], HERE
    if os.environ.get("DSMIL_NODE_DIR"):
        yield "OpenAI for Node", ["node", "--test", "openai_sdk.mjs"], os.environ["DSMIL_NODE_DIR"]
    else:
        print("clients: no Node here; OpenAI's Node client was not tried", flush=True)
    yield "curl", ["bash", HERE / "curl_test.sh"], HERE


def main():
    """Run them all."""
    failed = []
    count = 0
    with Mesh() as mesh:
        env = {**os.environ, "DSMIL_URL": f"http://127.0.0.1:{mesh.port}/v1", "DSMIL_KEY": mesh.key}
        for name, command, folder in commands():
            print(f"---- {name}", flush=True)
            count += 1
            if subprocess.run(command, env=env, cwd=folder, check=False).returncode != 0:
                failed.append(name)
    print(f"clients: {count - len(failed)} passed, {len(failed)} failed" + "".join(f"; {f}" for f in failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
