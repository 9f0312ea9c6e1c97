# SPDX-License-Identifier: Apache-2.0
"""`dsmil logs` over files as services leave them: order, choice, rotation, crashes, and what a terminal must not get.

In:   argv[1], the program `dsmil`
Out:  unittest's report
"""
import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

NOW = datetime.datetime.now(datetime.timezone.utc)
ID = "5f0c1b1e-2733-4d0a-9b62-0e6f3a51c4d7"


def line(ago_s, message, level="INFO", service="l7-router", **more):
    """A line as the runtime writes it."""
    at = (NOW - datetime.timedelta(seconds=ago_s)).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    return json.dumps({"timestamp": at, "level": level, "device_id": 43, "layer": 7, "service": service,
                       "event_type": "service", "message": message, **more}) + "\n"


class Logs(unittest.TestCase):
    """One method a promise."""

    def setUp(self):
        self.state = pathlib.Path(tempfile.mkdtemp())
        self.log = self.state / "log"
        self.log.mkdir()
        self.router = self.log / "l7-router.log"
        self.worker = self.log / "l7-worker.log"
        (self.log / "l7-router.log.1").write_text(line(7000, "first"))
        self.router.write_text(line(60, "third") + line(10, "fifth", "WARNING", request_id=ID, tenant="acme",
                                                        context={"rule": "8.1", "count": 3}))
        self.worker.write_text(line(100, "second", service="l7-worker") + line(30, "fourth", "ERROR", "l7-worker"))

    def tearDown(self):
        shutil.rmtree(self.state)

    def start(self, *args):
        """A process that follows."""
        return subprocess.Popen([DSMIL, "logs", *args], stdout=subprocess.PIPE, text=True,
                                env=dict(os.environ, DSMIL_STATE=str(self.state)))

    def logs(self, *args, want=0):
        """Lines of one call."""
        done = subprocess.run([DSMIL, "logs", *args], capture_output=True, check=False, timeout=60,
                              env=dict(os.environ, DSMIL_STATE=str(self.state)))
        self.assertEqual(done.returncode, want, done.stderr)
        return done.stdout.decode(errors="replace").splitlines()

    def test_merged_by_time(self):
        said = self.logs()
        self.assertEqual([text for text in said for word in ("first", "second", "third", "fourth", "fifth")
                          if word in text], said)
        self.assertEqual(len(said), 5)
        self.assertIn("WARNING l7-router", said[4])
        self.assertIn(f"fifth  rule=8.1  count=3  tenant=acme  request={ID}", said[4])

    def test_choice(self):
        self.assertEqual(len(self.logs("--service", "l7-worker")), 2)
        self.assertEqual(len(self.logs("--level=warning")), 2)
        self.assertEqual(len(self.logs("--level", "ERROR")), 1)
        self.worker.write_text(self.worker.read_text() + line(1, f"http route=/v1 request={ID}", service="openai-shim"))
        self.assertEqual(len(self.logs("--request", ID[:8].upper())), 2)
        self.assertEqual(len(self.logs("--request", ID[:4])), 1)
        self.assertEqual(len(self.logs("--request", "00000000")), 0)
        self.assertEqual(len(self.logs("--since", "1h")), 5)
        self.assertEqual(len(self.logs("--since", "1d", "--service", "l7-router")), 3)

    def test_json_is_what_was_written(self):
        self.worker.write_text(line(100, "second") + "Assertion failed\n")
        said = [json.loads(text) for text in self.logs("--json", "--since", "1h")]
        self.assertEqual([o["message"] for o in said], ["second", "Assertion failed", "third", "fifth"])
        self.assertEqual(said[1]["event_type"], "text")
        self.assertEqual(said[3]["context"], {"rule": "8.1", "count": 3})

    def test_crash(self):
        crash = {"level": "error", "event_type": "crash", "service": "l7-worker", "message": "died of SIGSEGV",
                 "pid": 7, "unix_s": int(NOW.timestamp()) - 20}
        self.worker.write_text(json.dumps(crash) + "\n" + json.dumps(
            {"level": "error", "event_type": "crash", "service": "l7-worker", "message": "before: decode",
             "ago_us": 12, "number": 3, "request_id": ID}) + "\n" + "no JSON at all\n")
        said = self.logs("--since", "1h")
        self.assertEqual([" CRASH " in text for text in said], [False, True, True, False, False])
        self.assertIn("died of SIGSEGV  pid=7", said[1])
        self.assertIn("before: decode  ago_us=12  number=3", said[2])
        self.assertIn("l7-worker              no JSON at all", said[3])

    def test_nothing_steers_the_terminal(self):
        self.worker.write_bytes(line(5, "a\x1b]0;title\x07\n\u009b2J b").encode() + b"raw \x1b[2J\xff\0 end\n")
        said = self.logs("--service", "l7-worker")
        self.assertIn("a?]0;title? ?2J b", said[0])
        self.assertIn("raw ?[2J", said[1])
        self.assertEqual(len(said), 2)

    def test_long_and_empty_lines(self):
        self.worker.write_text("\n\n" + "x" * 1000000 + "\n" + line(1, "after"))
        said = self.logs("--service", "l7-worker")
        self.assertEqual(len(said), 2)
        self.assertLess(len(said[0]), 70000)
        self.assertIn("xxx", said[0])
        self.assertIn("after", said[-1])

    def follow(self, proc, word):
        """Read until a line with this word came."""
        timer = threading.Timer(60, proc.kill)
        timer.start()
        try:
            for text in proc.stdout:
                if word in text:
                    return text
        finally:
            timer.cancel()
        return self.fail(f"no line with {word}")

    def test_follow(self):
        proc = self.start("-f", "--since", "1h")
        try:
            self.follow(proc, "fifth")
            with open(self.router, "a", encoding="utf-8") as out:
                out.write(line(0, "sixth"))
                out.flush()
                self.follow(proc, "sixth")
                os.replace(self.router, self.log / "l7-router.log.1")  # as the supervisor does it
                out.write(line(0, "seventh"))  # still the old file, which is open
                out.flush()
            self.router.write_text(line(0, "eighth"))
            self.follow(proc, "seventh")
            self.follow(proc, "eighth")
            (self.log / "audit.log").write_text(line(0, "ninth", service="audit"))
            self.follow(proc, "ninth")
        finally:
            proc.kill()
            proc.wait()
            proc.stdout.close()

    def test_what_people_get_wrong(self):
        for args in (("--level", "loud"), ("--since", "5"), ("--since", "x"), ("--what",), ("--service",)):
            self.logs(*args, want=2)
        shutil.rmtree(self.log)
        self.assertEqual(self.logs(), [])

    def test_a_service_that_is_none(self):
        """No output would look like a service without anything to say."""
        (self.log / "audit.log").write_text("")
        self.assertEqual(self.logs("--service", "audit"), [])
        self.assertEqual(self.logs("--service", "l7-router", "--since", "1s"), [])
        for more in ((), ("-f",), ("--json",), ("--since", "1h")):
            done = subprocess.run([DSMIL, "logs", "--service", "router", *more], capture_output=True, check=False,
                                  timeout=60, text=True, env=dict(os.environ, DSMIL_STATE=str(self.state)))
            self.assertEqual(done.returncode, 2, more)
            self.assertIn('no service "router"; there are audit, l7-router, l7-worker', done.stderr)
            if "--json" in more:
                self.assertEqual(json.loads(done.stdout)["error"]["code"], "E_NOT_FOUND")
        shutil.rmtree(self.log)
        done = subprocess.run([DSMIL, "logs", "--service", "router"], capture_output=True, check=False, timeout=60,
                              text=True, env=dict(os.environ, DSMIL_STATE=str(self.state)))
        self.assertEqual(done.returncode, 2)
        self.assertIn("nothing is logged in", done.stderr)


if __name__ == "__main__":
    DSMIL = sys.argv[1]
    unittest.main(argv=sys.argv[:1])
