# SPDX-License-Identifier: Apache-2.0
"""`dsmil top` over services that this test plays: numbers, a service that is gone, metrics that lie, and the terminal.

In:   argv[1], the program `dsmil`
Out:  unittest's report
"""
import fcntl
import http.server
import json
import os
import pathlib
import pty
import select
import shutil
import signal
import socketserver
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest

BOUNDS = (0.1, 0.5, 1)


class Handler(http.server.BaseHTTPRequestHandler):
    """/healthz and /metrics."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def address_string(self):
        return "unix"

    def do_GET(self):
        """Health, or what the service counted."""
        text = '{"status":"healthy"}' if self.path == "/healthz" else self.server.text()
        body = text.encode("utf-8", "surrogateescape")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass  # whoever asked has ended
        self.close_connection = True


class Service(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A service whose counters move on with each look."""
    daemon_threads = True

    def __init__(self, path, wrong=None):
        super().__init__(str(path), Handler)
        self.looks, self.wrong = 0, wrong
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def text(self):
        """100 tokens and 10 requests more each time."""
        if self.wrong is not None:
            return self.wrong
        self.looks += 1
        n = 10 * self.looks
        label = 'device_id="47"'
        out = ["# HELP x y", "# TYPE x counter", f'dsmil_device_requests_total{{{label},status="ok"}} {n - 1}',
               f'dsmil_device_requests_total{{{label},status="E_BUSY"}} 1',
               f"dsmil_l7_tokens_generated_total{{{label}}} {10 * n}", 'dbe_peers{node="w"} 2',
               f"dsmil_l7_kv_used_bytes{{{label}}} 25", f"dsmil_l7_kv_limit_bytes{{{label}}} 100",
               f"dsmil_l7_worker_queued{{{label}}} 3", f"dsmil_l7_worker_sessions{{{label}}} 4",
               "dsmil_system_memory_bytes 3221225472",
               'dbe_policy_violations_total{node="w",device_id="47",rule="kinetic"} 5',
               'dbe_policy_violations_total{node="w",device_id="47",rule="odd\x1b[2J"} 2']
        for name in ("dsmil_l7_latency_seconds", "dsmil_l7_first_token_seconds"):
            for profile in ("a", "b"):  # all at or below 0.5 s, half of them at or below 0.1 s
                labels = f'{label},profile="{profile}"'
                for bound, count in zip(BOUNDS, (n / 2, n, n)):
                    out.append(f'{name}_bucket{{{labels},le="{bound}"}} {count:.0f}')
                out.append(f'{name}_bucket{{{labels},le="+Inf"}} {n}')
        return "\n".join(out) + "\n"


class Top(unittest.TestCase):
    """One method a promise."""

    def setUp(self):
        self.state = pathlib.Path(tempfile.mkdtemp())
        self.lock = open(self.state / "lock", "w", encoding="ascii")
        fcntl.lockf(self.lock, fcntl.LOCK_EX)
        self.services = [Service(self.state / "worker")]
        self.env = dict(os.environ, DSMIL_STATE=str(self.state), TERM="xterm")
        self.env.pop("NO_COLOR", None)
        self.mesh(("worker", "worker"))

    def tearDown(self):
        for service in self.services:
            service.shutdown()
            service.server_close()
        self.lock.close()
        shutil.rmtree(self.state)

    def mesh(self, *services):
        """What the supervisor would write."""
        rows = [{"name": name, "device": 47, "state": "running", "pid": 1, "restarts": 0,
                 "started_unix": int(time.time()) - 5, "metrics_socket": str(self.state / socket)}
                for name, socket in services]
        (self.state / "mesh.json").write_text(json.dumps(
            {"mesh": "test.example", "pid": os.getpid(), "ready": True, "port": 1, "model": "/a/m.gguf",
             "services": rows}))

    def top(self, *args, want=0):
        """(standard output, standard error)."""
        done = subprocess.run([DSMIL, "top", *args], capture_output=True, env=self.env, check=False, timeout=60,
                              stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, want, done.stderr)
        return done.stdout.decode(), done.stderr.decode()

    def test_json(self):
        top = json.loads(self.top("--json")[0])
        one = top["services"][0]
        self.assertEqual((top["up"], top["mesh"], top["model"]), (True, "test.example", "m.gguf"))
        self.assertEqual((one["name"], one["health"], one["metrics"], one["channels"], one["queued"], one["in_flight"],
                          one["kv_used_bytes"], one["memory_bytes"]),
                         ("worker", "healthy", True, 2, 3, 4, 25, 3221225472))
        self.assertEqual((one["requests_total"], one["tokens_total"], one["refusals_total"]), (20, 200, 7))
        self.assertAlmostEqual(one["tokens_per_s"] / one["requests_per_s"], 10)
        self.assertGreater(one["requests_per_s"], 0)
        # half at or below 0.1 s, the other half between 0.1 s and 0.5 s
        self.assertAlmostEqual(one["latency_ms"]["p50"], 100)
        self.assertAlmostEqual(one["latency_ms"]["p99"], 492)
        self.assertAlmostEqual(one["first_token_ms"]["p99"], 492)
        self.assertEqual(top["refusals_by_rule"], {"kinetic": 5, "odd\x1b[2J": 2})

    def test_once(self):
        for args in (("--once",), ()):  # a pipe is looked at once, too
            out, _ = self.top(*args)
            row = next(text for text in out.splitlines() if text.startswith("worker")).split()
            self.assertEqual(row[:4], ["worker", "47", "healthy", "2"])
            self.assertEqual(row[6:12], ["100", "492", "100", "492", "4", "3"])
            self.assertEqual(row[12:14], ["25%", "3.0G"])
            self.assertIn("kinetic", out)
            self.assertNotIn("\x1b", out)

    def test_a_service_that_is_gone_or_lies(self):
        huge = "dbe_peers 1\n" + "x" * 200 + " 1\n"
        for number, text in enumerate(("dbe_peers{\n", huge, "dbe_peers NaN\ndbe_peers -4\ndbe_peers 1e300\n",
                                       "\udcff\n", "")):
            self.services.append(Service(self.state / f"w{number}", text))
        self.mesh(("worker", "worker"), ("gone", "nothing"), *[(f"w{i}", f"w{i}") for i in range(5)], ("n" * 500, "x"))
        services = {s["name"]: s for s in json.loads(self.top("--json")[0])["services"]}
        self.assertEqual([services[name]["metrics"] for name in ("worker", "gone", "w0", "w1", "w2", "w3", "w4")],
                         [True, False, False, False, True, False, True])
        self.assertEqual(services["gone"]["health"], "no answer")
        self.assertEqual(services["w2"]["channels"], 0)
        self.assertIsNone(services["w4"]["latency_ms"]["p50"])
        self.assertEqual(len(services), 7)

    def test_more_rules_than_are_kept(self):
        self.services.append(Service(self.state / "many", "".join(
            f'dbe_policy_violations_total{{rule="r{i}"}} 1\n' for i in range(100))))
        self.mesh(("many", "many"))
        rules = json.loads(self.top("--json")[0])["refusals_by_rule"]
        self.assertEqual((len(rules), rules["r0"], rules["other"]), (33, 1, 68))

    def test_down_and_wrong(self):
        self.top("--what", want=2)
        self.lock.close()
        self.assertIn("is down", self.top("--once", want=3)[1])
        self.assertEqual(json.loads(self.top("--json", want=3)[0]), {"up": False})

    # ---- on a terminal

    def until(self, fd, word):
        """What the terminal shows up to and with this."""
        shown, end = "", time.monotonic() + 60
        while word not in shown:
            self.assertLess(time.monotonic(), end, shown)
            if select.select([fd], [], [], 1)[0]:
                shown += os.read(fd, 65536).decode()
        return shown

    def live(self, end):
        """Shows, shows again, follows the size, ends as `end` wants, and leaves the terminal as it was."""
        main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
        before = termios.tcgetattr(side)
        proc = subprocess.Popen([DSMIL, "top"], stdin=side, stdout=side, stderr=side, env=self.env,
                                start_new_session=True)
        try:
            shown = self.until(main, "\x1b[J")
            self.assertTrue(shown.startswith("\x1b[?1049h\x1b[?25l\x1b[H"), shown)
            self.assertIn("worker", shown)
            self.assertIn("odd?[2J", self.until(main, "\x1b[J"))
            self.assertNotEqual(termios.tcgetattr(side)[3], before[3])
            fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 5, 20, 0, 0))
            proc.send_signal(signal.SIGWINCH)
            for _ in range(2):
                shown = self.until(main, "\x1b[J")
            self.assertEqual(shown.count("\r\n"), 4)
            self.assertIn("\x1b[1mmesh test.example, g\x1b[0m", shown)
            end(proc, main)
            self.assertTrue(self.until(main, "\x1b[?1049l").endswith("\x1b[?25h\x1b[?1049l"))
            self.assertEqual(proc.wait(60), 0)
            self.assertEqual(termios.tcgetattr(side), before)
        finally:
            proc.kill()
            proc.wait()
            os.close(main)
            os.close(side)

    def test_live_until_q(self):
        self.live(lambda proc, main: os.write(main, b"xq"))

    def test_live_until_it_is_told_to_end(self):
        self.live(lambda proc, main: proc.send_signal(signal.SIGTERM))


if __name__ == "__main__":
    DSMIL = sys.argv[1]
    unittest.main(argv=sys.argv[:1])
