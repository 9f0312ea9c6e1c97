# SPDX-License-Identifier: Apache-2.0
"""`dsmil chat` over a pipe and on a terminal, against a gateway that this test plays.

In:   argv[1], the program `dsmil`
Out:  unittest's report
"""
import fcntl
import http.server
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest

READS = 8  # messages that this gateway's model can read


class Gateway(http.server.BaseHTTPRequestHandler):
    """Answers with what it was asked; some questions have answers of their own."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def piece(self, obj):
        """One event."""
        data = f"data: {json.dumps(obj)}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def text(self, text, reason=None):
        """One piece of an answer."""
        self.piece({"model": "test", "choices": [{"delta": {"content": text}, "finish_reason": reason}]})

    def do_POST(self):
        """A chat."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.headers["Authorization"], body))
        asked = body["messages"][-1]["content"]
        if len(body["messages"]) > READS or asked == "refuse":
            code, why = ("refused", "not \x1b[2J that") if asked == "refuse" else ("context_length_exceeded", "long")
            error = json.dumps({"error": {"code": code, "message": why}}).encode()
            self.send_response(400)
            self.send_header("Content-Length", str(len(error)))
            self.end_headers()
            self.wfile.write(error)
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            if asked == "slow":
                for _ in range(600):
                    self.text("tick ")
                    time.sleep(0.05)
            elif asked == "long":
                self.text("word " * 60)
            elif asked == "steer":
                self.text("a\x1b]0;title\x07b")
            else:
                self.text("You said ")
                self.text(asked)
            self.piece({"choices": [{"delta": {}, "finish_reason": "stop"}]})
            self.piece({"choices": [], "usage": {"completion_tokens": 3},
                        "dsmil": {"path": [{"name": "openai-shim", "device": 0, "elapsed_ms": 2.0},
                                           {"name": "l7-router", "device": 43, "elapsed_ms": 1.0, "suite": "X"}]}})
            self.wfile.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        except OSError:
            self.server.left.set()
        self.close_connection = True


class Talk(unittest.TestCase):
    """One method a promise."""

    def setUp(self):
        self.state = pathlib.Path(tempfile.mkdtemp())
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
        self.server.seen, self.server.left = [], threading.Event()
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.lock = open(self.state / "lock", "w", encoding="ascii")
        fcntl.lockf(self.lock, fcntl.LOCK_EX)
        (self.state / "mesh.json").write_text(json.dumps(
            {"mesh": "m", "model": "x.gguf", "pid": os.getpid(), "ready": True, "port": self.server.server_port,
             "services": []}))
        (self.state / "api-key").write_text("dsmil_v1_T_00\n")
        (self.state / "api-key").chmod(0o600)
        self.env = dict(os.environ, DSMIL_STATE=str(self.state), TERM="xterm")
        self.env.pop("NO_COLOR", None)

    def tearDown(self):
        self.server.shutdown()
        self.server.server_close()
        self.lock.close()
        shutil.rmtree(self.state)

    def pipe(self, text, *args, want=0):
        """(standard output, standard error) of a conversation over pipes."""
        done = subprocess.run([DSMIL, "chat", *args], input=text.encode(), capture_output=True, env=self.env,
                              check=False, timeout=60)
        self.assertEqual(done.returncode, want, done.stderr)
        return done.stdout.decode(), done.stderr.decode()

    def test_plain_over_a_pipe(self):
        out, err = self.pipe("one\ntwo \\\nlines\n//slash\n\nlast", "--system", "Be brief.", "--model=m",
                             "--temperature", "0.5", "--seed", "7", "--max-tokens", "9")
        self.assertEqual(out, "You said one\nYou said two \nlines\nYou said /slash\nYou said last\n")
        self.assertEqual(err, "")
        key, body = self.server.seen[-1]
        self.assertEqual(key, "Bearer dsmil_v1_T_00")
        self.assertEqual([m["role"] for m in body["messages"]], ["system"] + ["user", "assistant"] * 3 + ["user"])
        self.assertEqual(body["messages"][4]["content"], "You said two \nlines")
        self.assertEqual((body["model"], body["temperature"], body["seed"], body["max_tokens"], body["stream"]),
                         ("m", 0.5, 7, 9, True))

    def test_long_conversations_are_trimmed(self):
        out, err = self.pipe("".join(f"{i}\n" for i in range(6)))
        self.assertEqual(out, "".join(f"You said {i}\n" for i in range(6)))
        self.assertIn("its oldest 1 turn is forgotten", err)
        roles = [m["content"] for m in self.server.seen[-1][1]["messages"]]
        self.assertEqual((len(roles), roles[0], roles[-1]), (7, "2", "5"))

    def test_commands(self):
        save, data = self.state / "talk.md", self.state / "talk.json"
        out, err = self.pipe(f"/path\none\n/path\n/system Be kind.\n/system\n/save {save}\n/save {data}\n/new\ntwo\n"
                             "/what\n/save\n/help\n/quit\nnever\n")
        self.assertEqual(out, "You said one\nYou said two\n")
        for words in ("no answer yet", "openai-shim (device 0) 1.00 ms -> l7-router", "Be kind.", "3 messages are in",
                      "no such command", "/save needs"):
            self.assertIn(words, err)
        self.assertEqual(save.read_text(), "## system\n\nBe kind.\n\n## user\n\none\n\n## assistant\n\nYou said one\n")
        self.assertEqual([m["role"] for m in json.loads(data.read_text())], ["system", "user", "assistant"])
        self.assertEqual(save.stat().st_mode & 0o777, 0o600)
        self.assertEqual([m["content"] for m in self.server.seen[-1][1]["messages"]], ["Be kind.", "two"])

    def test_a_refused_turn_is_told_and_not_kept(self):
        out, err = self.pipe("refuse\nagain\n", want=1)
        self.assertEqual(out, "You said again\n")
        self.assertIn("answered 400: not ?[2J that (refused)", err)
        self.assertEqual(len(self.server.seen[-1][1]["messages"]), 1)

    def test_what_people_get_wrong(self):
        for args in (("--temperature", "hot"), ("--temperature", "3"), ("--what",), ("word",)):
            self.pipe("", *args, want=2)
        _, err = self.pipe("\0\n", want=1)
        self.assertIn("left out", err)
        self.lock.close()
        self.assertIn("the mesh is down; start it", self.pipe("x\n", want=3)[1])

    def verb(self, *args):
        """(exit code, standard output, standard error) of another verb."""
        done = subprocess.run([DSMIL, *args], stdin=subprocess.DEVNULL, capture_output=True, env=self.env, check=False,
                              timeout=60, text=True)
        return done.returncode, done.stdout, done.stderr

    def test_a_state_that_is_damaged(self):
        """Not the same as a mesh that is down, and no table with holes."""
        mesh = self.state / "mesh.json"
        for text in ("{", "[]", '{"pid": 1}', mesh.read_text().replace('"services": []', '"services": [{}]')):
            mesh.write_text(text)
            for verb in (["status"], ["top", "--once"], ["channels"], ["reload"], ["ask", "x"], ["chat"],
                         ["policy", "reload"], ["first-light"]):
                code, _, err = self.verb(*verb)
                self.assertEqual(code, 3, verb)
                self.assertRegex(err, r"^dsmil: [^\n]*mesh.json is damaged; `dsmil down`[^\n]*\n$", verb)
                if verb[0] != "chat":
                    _, out, _ = self.verb(*verb, "--json")
                    self.assertEqual(json.loads(out)["error"]["code"], "E_STATE", verb)
        mesh.unlink()
        self.assertIn("still starting", self.verb("status")[2])

    def test_a_gateway_key_that_is_gone(self):
        (self.state / "api-key").unlink()
        code, _, err = self.verb("ask", "x")
        self.assertEqual(code, 3)
        self.assertRegex(err, r"^dsmil: ask: [^\n]*api-key is missing; `dsmil down` and `dsmil up` make one[^\n]*\n$")

    # ---- on a terminal

    def terminal(self, *args, columns=40):
        """A process on a terminal of its own."""
        pid, fd = pty.fork()
        if pid == 0:
            os.execve(DSMIL, [DSMIL, *args], self.env)
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        return pid, fd

    def until(self, fd, word, again=b""):
        """What the terminal shows up to and with this; `again` is typed each second until then."""
        shown, end = "", time.monotonic() + 60
        while word not in shown:
            self.assertLess(time.monotonic(), end, shown)
            if select.select([fd], [], [], 1)[0]:
                shown += os.read(fd, 4096).decode()
            else:
                os.write(fd, again)
        return shown

    def test_terminal(self):
        pid, fd = self.terminal("chat")
        try:
            self.until(fd, "> ")
            os.write(fd, b"slow\n")
            self.until(fd, "tick tick")
            os.write(fd, b"\x03")
            self.until(fd, "(stopped)")
            self.assertTrue(self.server.left.wait(60))
            os.write(fd, b"long\n")
            shown = self.until(fd, "3 tokens")
            lines = [text for text in re.sub("\x1b\\[[0-9;]*m", "", shown).split("\r\n") if text.startswith("word")]
            self.assertEqual(" ".join(" ".join(lines).split()), " ".join(["word"] * 60))
            self.assertTrue(all(len(text) <= 40 for text in lines), lines)
            self.assertIn("tick", self.server.seen[-1][1]["messages"][1]["content"])
            os.write(fd, b"steer\n")
            shown = self.until(fd, "3 tokens")
            self.assertIn("a?]0;title?b", shown)
            if "> " not in shown.partition("3 tokens")[2]:
                self.until(fd, "> ")  # a key before it would take the prompt away with the line
            os.write(fd, b"half\x03")  # at the prompt it only takes the line back
            self.until(fd, "> ", again=b"\x03")  # one that comes before the line is read is lost, as for a person
            os.write(fd, b"\x04")
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
            pid = 0
        finally:
            if pid != 0:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            os.close(fd)


    def test_ask_on_a_terminal(self):
        """What a model says does not steer the terminal; a pipe gets it as it is."""
        pid, fd = self.terminal("ask", "steer")
        self.assertIn("a?]0;title?b", self.until(fd, "b"))
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
        os.close(fd)
        done = subprocess.run([DSMIL, "ask", "steer"], capture_output=True, env=self.env, check=True, timeout=60)
        self.assertEqual(done.stdout, b"a\x1b]0;title\x07b\n")


if __name__ == "__main__":
    DSMIL = sys.argv[1]
    unittest.main(argv=sys.argv[:1])
