# SPDX-License-Identifier: Apache-2.0
"""A real mesh for a scenario: its own state folder, a free port, every process gone at the end.

In:   DSMIL_BUILD_ROOT, the build folder with build/dsmil; DSMIL_TEST_MODEL, another model than the project's own
Not:  no sleeping in the hope that something has happened; wait_for asks until it has, or fails with what it saw last.

A slow or busy machine must not make a test fail: times here only end what hangs. A client waits longer than the gateway
lets an answer take.
"""
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("DSMIL_BUILD_ROOT", ROOT / "build"))
DSMIL = BUILD / "dsmil"
MODEL = ["--model", os.environ["DSMIL_TEST_MODEL"]] if "DSMIL_TEST_MODEL" in os.environ else []


PATIENCE_S = 240  # for what takes a moment on a machine with nothing else to do
ANSWER_S = 330  # the gateway gives an answer 300 s


def wait_for(what, ask, seconds=PATIENCE_S):
    """Call `ask` until it gives something true, and give that back."""
    end = time.monotonic() + seconds
    last = None
    while time.monotonic() < end:
        last = ask()
        if last:
            return last
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {seconds} s; last answer {last!r}")


def unix_get(path, target):
    """Body of a GET over a Unix socket."""
    conn = http.client.HTTPConnection("localhost", timeout=PATIENCE_S)
    conn.sock = socket.socket(socket.AF_UNIX)
    conn.sock.settimeout(PATIENCE_S)
    conn.sock.connect(path)
    conn.request("GET", target)
    body = conn.getresponse().read().decode()
    conn.close()
    return body


class Mesh:
    """`dsmil up` in a temporary state folder."""

    def __init__(self, *args, env=None, files=None, program=DSMIL):
        self.program = program
        self.state = pathlib.Path(tempfile.mkdtemp(prefix="dsmil-test-"))
        for name, text in (files or {}).items():
            (self.state / name).write_text(text)
        self.env = dict(os.environ, DSMIL_STATE=str(self.state), NO_COLOR="1", **(env or {}))
        self.env.pop("DSMIL_KEYS", None)
        self.args = args
        self.proc = None
        self.out = self.state / "up.out"

    def __enter__(self):
        with open(self.out, "wb") as out:
            self.proc = subprocess.Popen([self.program, "up", "--port", "0", "--no-first-light", *MODEL, *self.args],
                                         env=self.env, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            wait_for("the mesh is ready", self.ready)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.proc and self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
            try:
                self.proc.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        shutil.rmtree(self.state, ignore_errors=True)

    def said(self):
        """What `dsmil up` printed so far."""
        return self.out.read_text()

    def log(self, service):
        """A service's log, as far as its lines are whole: it may be writing one."""
        whole, end, _ = (self.state / "log" / f"{service}.log").read_text().rpartition("\n")
        return whole + end

    def mesh_json(self):
        """What the supervisor wrote about its services; {} while there is nothing."""
        try:
            return json.loads((self.state / "mesh.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def ready(self):
        """True once all services are; fails at once if the supervisor is gone."""
        return self.is_ready(self.mesh_json())

    def is_ready(self, mesh):
        """The same, of what was read of mesh.json."""
        if self.proc.poll() is not None:
            raise AssertionError(f"dsmil up ended with {self.proc.returncode}:\n{self.said()}")
        if mesh.get("pid") != self.proc.pid or not mesh.get("ready"):
            return False
        return all(s["state"] == "ready" for s in mesh["services"])

    def metric(self, name):
        """Sum of a metric's samples over the sockets of router and worker and the gateway."""
        texts = [self.request("GET", "/metrics", key=False)[2]]
        for service in self.mesh_json()["services"]:
            if "metrics_socket" in service:
                texts.append(unix_get(service["metrics_socket"], "/metrics"))
        lines = [line for text in texts for line in text.splitlines() if line.startswith((name + " ", name + "{"))]
        assert lines, f"no service exports {name}"
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def metrics_of(self, name):
        """All that a service exports, "" while it is down."""
        try:
            return unix_get(self.service(name)["metrics_socket"], "/metrics")
        except (OSError, http.client.HTTPException, KeyError, StopIteration):
            return ""

    def service(self, name):
        """One service's row."""
        return next(s for s in self.mesh_json()["services"] if s["name"] == name)

    def signal(self, name, number=signal.SIGKILL):
        """Send it to a service that runs; its pid. One that is down has the pid 0, which would mean all of us."""
        pid = wait_for(f"{name} runs", lambda: self.service(name)["pid"])
        os.kill(pid, number)
        return pid

    def is_back(self, name, pid):
        """True once another process than this one has its place, and all are ready; all of it at one time."""
        mesh = self.mesh_json()
        return self.is_ready(mesh) and all(s["pid"] not in (0, pid) for s in mesh["services"] if s["name"] == name)

    @property
    def port(self):
        """The gateway's port."""
        return self.mesh_json()["port"]

    @property
    def key(self):
        """The gateway's API key."""
        return (self.state / "api-key").read_text().strip()

    def cli(self, *args, **kw):
        """Run one verb."""
        return subprocess.run([DSMIL, *args], env=self.env, capture_output=True, text=True, timeout=ANSWER_S,
                              check=False, **kw)

    def connect(self, timeout=ANSWER_S):
        """A connection to the gateway."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=None, headers=None, key=True):
        """One exchange: (status, headers, parsed JSON or text)."""
        conn = self.connect()
        head = dict(headers or {})
        if key:
            head.setdefault("Authorization", f"Bearer {self.key}")
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if body is not None:
            head.setdefault("Content-Type", "application/json")
        conn.request(method, path, body, head)
        res = conn.getresponse()
        raw = res.read()
        conn.close()
        try:
            parsed = json.loads(raw)
        except ValueError:
            parsed = raw.decode(errors="replace")
        return res.status, dict(res.getheaders()), parsed

    def chat(self, question="What is DSMIL?", **extra):
        """One whole answer."""
        body = {"model": "dsmil", "messages": [{"role": "user", "content": question}], **extra}
        return self.request("POST", "/v1/chat/completions", body)

    def stream(self, question="What is DSMIL?", **extra):
        """Events of a streamed answer, as they come."""
        body = {"model": "dsmil", "stream": True, "messages": [{"role": "user", "content": question}], **extra}
        conn = self.connect()
        try:
            conn.request("POST", "/v1/chat/completions", json.dumps(body),
                         {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"})
            res = conn.getresponse()
            assert res.status == 200, (res.status, res.read())
            assert res.getheader("Content-Type").startswith("text/event-stream"), res.getheader("Content-Type")
            while True:
                line = res.readline()
                if not line:
                    return
                if line.startswith(b"data: "):
                    data = line[6:].strip()
                    yield "[DONE]" if data == b"[DONE]" else json.loads(data)
        finally:
            conn.close()
