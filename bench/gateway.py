# SPDX-License-Identifier: Apache-2.0
"""What the OpenAI gateway costs: memory of idle connections, time it adds to an answer, a client that reads slowly.

In:   DSMIL_BUILD_ROOT, a build (release, for figures that count); one mesh is started, and beside it a gateway of its
      own for the connections
Out:  a line a figure, and JSON with --json
Time: an answer of one token over a connection that stays. "adds" is the gateway's own time of the answer's trace,
      without the router's and what lies behind: parsing, sealing, opening, JSON. "client" is all that a client sees
      beyond the router's time, HTTP and this script included.
"""
import argparse
import http.client
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "scenario"))
from mesh import BUILD, Mesh, wait_for  # noqa: E402

ASK = {"model": "dsmil", "messages": [{"role": "user", "content": "What is DSMIL?"}], "max_tokens": 1}


def quantiles(values):
    """Median and 99th percentile, in ms."""
    ordered = sorted(values)
    return {"median_ms": round(statistics.median(ordered), 3), "p99_ms": round(ordered[int(len(ordered) * 0.99)], 3)}


def added(mesh, count):
    """Time that the gateway adds."""
    conn = http.client.HTTPConnection("127.0.0.1", mesh.port)
    head = {"Authorization": f"Bearer {mesh.key}", "Content-Type": "application/json"}
    body = json.dumps(ASK)
    inside, outside = [], []
    for i in range(count + 50):
        begin = time.perf_counter()
        conn.request("POST", "/v1/chat/completions", body, head)
        answer = json.loads(conn.getresponse().read())
        whole = (time.perf_counter() - begin) * 1e3
        path = answer["dsmil"]["path"]
        if i >= 50:
            inside.append(path[0]["elapsed_ms"] - path[1]["elapsed_ms"])
            outside.append(whole - path[1]["elapsed_ms"])
    return {"adds": quantiles(inside), "client": quantiles(outside)}


def rss_bytes(pid):
    """Resident memory."""
    fields = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return int(next(f for f in fields if f.startswith("Pss:")).split()[1]) * 1024


def idle(mesh, count):
    """A gateway with `count` connections that have each been answered once."""
    service = mesh.service("dsmil-openai-shim")
    words = pathlib.Path(f"/proc/{service['pid']}/cmdline").read_bytes().split(b"\0")[:-1]
    command = [w.decode() for w in words]
    for name, value in (("--port", "0"), ("--max-connections", str(count + 16))):
        if name in command:
            command[command.index(name) + 1] = value
        else:
            command += [name, value]
    if "--metrics-socket" in command:
        at = command.index("--metrics-socket")
        del command[at:at + 2]
    env = {k: v for k, v in (e.split("=", 1) for e in pathlib.Path(f"/proc/{service['pid']}/environ").read_bytes()
                             .decode().split("\0") if "=" in e) if k not in ("NOTIFY_SOCKET", "DSMIL_READY_FD")}
    log = open(mesh.state / "idle.log", "wb")  # pylint: disable=consider-using-with
    with subprocess.Popen(command, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL) as proc:
        try:
            def port():
                assert proc.poll() is None, (mesh.state / "idle.log").read_text()
                said = (mesh.state / "idle.log").read_text()
                at = said.find("127.0.0.1:")
                return int(said[at + 10:at + 16].split("/")[0]) if at >= 0 else None
            where = wait_for("the gateway listens", port)
            before = rss_bytes(proc.pid)
            sockets = []
            for _ in range(count):
                s = socket.create_connection(("127.0.0.1", where))
                s.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                s.recv(65536)
                sockets.append(s)
            after = rss_bytes(proc.pid)
            for s in sockets:
                s.close()
        finally:
            proc.terminate()
    return {"connections": count, "before_bytes": before, "with_bytes": after,
            "a_connection_bytes": (after - before) // count}


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--connections", type=int, default=10000)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    found = {"build": os.path.relpath(BUILD)}
    with Mesh() as mesh:
        found["time"] = added(mesh, args.requests)
        found["idle"] = idle(mesh, args.connections)
    print(json.dumps(found, indent=1))
    if args.json:
        args.json.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
