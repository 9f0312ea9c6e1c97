# SPDX-License-Identifier: Apache-2.0
"""The audit log across processes: what is decided is there, a killed log loses nothing, attacks are found."""
import json
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import unittest

from mesh import BUILD, DSMIL, Mesh, wait_for

VERIFY = BUILD / "cli" / "dsmil-audit-verify"
FIRST = "0" * 20 + ".log"


def entries(mesh):
    """The log so far, whole lines alone."""
    lines = []
    for segment in sorted((mesh.state / "audit").glob("*.log")):
        lines += [json.loads(line) for line in segment.read_text().split("\n")[:-1]]
    return lines


def anchors(state):
    """Options that name every anchor; not the file that one is just being written to."""
    paths = [p for p in sorted((state / "anchors").iterdir()) if p.suffix in ("", ".conflict")]
    return [word for path in paths for word in ("--anchor", str(path))]


def verify(state, *args):
    """The small program's exit code and its words."""
    done = subprocess.run([VERIFY, "--keys", state / "keys", *args, state / "audit"], capture_output=True, text=True,
                          timeout=330, check=False)
    return done.returncode, done.stdout + done.stderr


def some(log, **want):
    """Entries with these values."""
    return [e for e in log if all(e.get(k) == v for k, v in want.items())]


def two(found):
    """Both of two entries, or nothing yet."""
    return found if len(found) >= 2 else None


class Audit(unittest.TestCase):
    def complete(self, log):
        """Every run's numbers, from 0 on, each once."""
        runs = {}
        for e in log:
            key = e["sender"], e["run"]
            first = e["seq"] - (e["count"] - 1 if e["kind"] == "gap" else 0)
            self.assertEqual(first, runs.get(key, 0), e)
            runs[key] = e["seq"] + 1
        return runs

    @staticmethod
    def channels(mesh, sender, peer):
        """Names that `sender` gave its channels with `peer`."""
        return {e["channel"] for e in some(entries(mesh), kind="handshake", peer=f"spiffe://dsmil.local/l7/{peer}")
                if e["sender"].endswith("/" + sender)}

    def test_what_is_decided_is_there(self):
        with Mesh() as mesh:
            answer = mesh.chat(max_tokens=4)
            self.assertEqual(answer[0], 200)
            request = answer[2]["dsmil"]["request_id"]
            done = mesh.cli("first-light", "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            allowed = wait_for("both receivers' decisions", lambda: two(some(entries(mesh), request_id=request)))
            self.assertEqual({e["outcome"] for e in allowed}, {"allow"})
            self.assertEqual({e["sender"].rsplit("/", 1)[1] for e in allowed}, {"43", "47"})
            self.assertEqual({e["tenant"] for e in allowed}, {"LOCAL_TOOL_USER"})
            rules = ["kinetic", "exec", "claim"]
            wait_for("the refusals", lambda: all(some(entries(mesh), outcome="deny", rule=r) for r in rules) and
                     some(entries(mesh), kind="handshake_refused"))
            wait_for("both ends' name of a channel, which is one", lambda: self.channels(mesh, "shim/0", "router/43") &
                     self.channels(mesh, "router/43", "shim/0"))
            log = entries(mesh)
            self.complete(log)
            self.assertTrue((mesh.metric("dsmil_audit_records_total")) >= len(log) - 5)
            self.assertEqual(mesh.metric("dsmil_audit_lost_total"), 0)
            verdict = mesh.cli("audit", "verify", "--json")
            self.assertEqual(verdict.returncode, 0, verdict.stdout + verdict.stderr)
            self.assertEqual(json.loads(verdict.stdout)["missing_records"], 0)
            tail = mesh.cli("audit", "tail", "--json", "-n", "1000", "--outcome", "deny")
            self.assertTrue(set(rules) <= {json.loads(line)["rule"] for line in tail.stdout.splitlines()})

    def test_every_event_and_no_secret(self):
        """spec audit 1.2 and 1.3"""
        prompt, key = "zanzibar-quinoa-7261", "dsmil-no-such-key-4711"
        with Mesh() as mesh:
            self.assertEqual(mesh.chat(prompt, max_tokens=2)[0], 200)
            body = {"model": "dsmil", "messages": [{"role": "user", "content": prompt}]}
            refused = mesh.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {key}"})
            self.assertEqual(refused[0], 401)
            self.assertEqual(mesh.cli("first-light", "--json").returncode, 0)
            self.assertEqual(mesh.cli("channels", "suite", "2").returncode, 0)
            self.assertEqual(mesh.cli("reload").returncode, 0)
            wait_for("new keys", lambda: some(entries(mesh), kind="channel_switched"))
            mesh.cli("down")
            wait_for("the mesh is down", lambda: mesh.proc.poll() is not None)
            kinds = {e["kind"] for e in entries(mesh)}
            self.assertTrue(kinds >= {"start", "stop", "handshake", "handshake_refused", "channel_down",
                                      "channel_switched", "order", "config"}, kinds)
            text = "".join(p.read_text() for p in (mesh.state / "audit").glob("*.log"))
            self.assertNotIn(prompt, text)
            self.assertNotIn(key, text)

    def test_a_killed_log_loses_nothing_that_it_acknowledged(self):
        with Mesh() as mesh:
            answered, stop = [], threading.Event()

            def ask():
                while not stop.is_set():
                    status, _, body = mesh.chat(max_tokens=2)
                    if status == 200:
                        answered.append(body["dsmil"]["request_id"])

            threads = [threading.Thread(target=ask) for _ in range(4)]
            for t in threads:
                t.start()
            try:
                for _ in range(3):
                    before = len(answered)
                    wait_for("load", lambda: len(answered) > before + 20)
                    pid = mesh.signal("dsmil-audit")
                    wait_for("the log is back", lambda pid=pid: mesh.is_back("dsmil-audit", pid))
            finally:
                stop.set()
                for t in threads:
                    t.join()
            wait_for("all decisions", lambda: set(answered) <= {e.get("request_id") for e in entries(mesh)
                                                                if e["sender"].endswith("/router/43")})
            runs = self.complete(entries(mesh))
            self.assertEqual(len([k for k in runs if k[0].endswith("/audit/14")]), 4)
            for program in ("dsmil-l7-router", "dsmil-openai-shim", "dsmil-l7-llm-worker-47"):
                self.assertEqual(mesh.service(program)["restarts"], 0)
            self.assertEqual(verify(mesh.state, *anchors(mesh.state))[0], 0)

    def test_attacks(self):
        with Mesh() as mesh, Mesh() as other, tempfile.TemporaryDirectory() as place:
            for m in (mesh, other):
                self.assertEqual(m.cli("first-light", "--json").returncode, 0)
            for m in (mesh, other):
                m.cli("down")
                wait_for("the mesh is down", lambda m=m: m.proc.poll() is not None)
            kept = pathlib.Path(place) / "kept"
            shutil.copytree(mesh.state, kept, ignore=shutil.ignore_patterns("run", "*.sock", "*.http"))
            log = (kept / "audit" / FIRST).read_text()
            lines = log.splitlines(keepends=True)
            self.assertEqual(verify(kept, *anchors(kept))[0], 0)

            def attack(text, code, words):
                (kept / "audit" / FIRST).write_text(text)
                got, said = verify(kept, *anchors(kept))
                self.assertEqual(got, code, said)
                self.assertIn(words, said)
                (kept / "audit" / FIRST).write_text(log)

            attack("".join(lines[:9]), 6, "entry 9: missing")
            attack(log.replace('"deny"', '"allow"', 1), 4,
                   f"entry {next(i for i, l in enumerate(lines) if 'deny' in l)}: changed")
            attack("".join(lines[:5] + [lines[6], lines[5]] + lines[7:]), 4, "entry 5: entry 6 stands here")
            attack("".join(lines[:5] + lines[6:]), 4, "entry 5: entry 6 stands here")

            shutil.rmtree(kept / "audit")  # a log of another mesh's key
            shutil.copytree(other.state / "audit", kept / "audit")
            code, said = verify(kept)
            self.assertEqual(code, 5, said)
            shutil.rmtree(kept / "audit")  # the right log, set back to its beginning
            (kept / "audit").mkdir()
            (kept / "audit" / FIRST).write_text("".join(lines[:4]))
            self.assertEqual(verify(kept)[0], 0)
            code, said = verify(kept, *anchors(kept))
            self.assertEqual(code, 6, said)
            self.assertIn("entry 4: missing", said)

    def test_a_start_reads_what_is_new(self):
        """spec audit 4.9"""
        with Mesh() as mesh:
            self.assertEqual(mesh.cli("first-light", "--json").returncode, 0)
            pid = mesh.signal("dsmil-audit", signal.SIGTERM)
            wait_for("the log is back", lambda: mesh.is_back("dsmil-audit", pid))
            wait_for("what it read", lambda: "of them were read, after the checkpoint of" in mesh.log("dsmil-audit"))
            self.assertEqual(mesh.cli("audit", "verify").returncode, 0)

    def test_archive_and_anchors(self):
        """spec audit 10.1, 10.4 and 10.5"""
        with Mesh(env={"DSMIL_SEGMENT_MIB": "1", "DSMIL_CHECKPOINT_SECONDS": "1"}) as mesh:
            log = mesh.state / "audit"
            self.assertEqual(mesh.cli("audit", "archive", "--before", "1").returncode, 1)  # nothing is closed yet

            def two_segments():
                for _ in range(20):
                    self.assertEqual(mesh.chat(max_tokens=1)[0], 200)
                return len(list(log.glob("*.log"))) > 1

            wait_for("a second segment", two_segments, 600)
            second = int(sorted(log.glob("*.log"))[1].stem)
            put_away = ("audit", "archive", "--before", str(second))
            wait_for("a checkpoint of it", lambda: mesh.cli(*put_away).returncode == 0)
            self.assertEqual(len(list((log / "archive").glob("*.log"))), 1)
            shown = json.loads(mesh.cli("audit", "anchor", "--json").stdout)
            self.assertIn("router-43", [a["name"] for a in shown if a["anchor"] and not a["conflict"]])
            out = mesh.state / "exported"
            wait_for("an anchor", lambda: mesh.cli("audit", "anchor", "--out", str(out)).returncode == 0)
            mesh.cli("down")
            wait_for("the mesh is down", lambda: mesh.proc.poll() is not None)
            whole = json.loads(mesh.cli("audit", "verify", "--json", "--anchor", str(out)).stdout)
            self.assertTrue(whole["ok"], whole)
            self.assertEqual(whole["archived_entries"], 0)
            (log / "archive").rename(mesh.state / "elsewhere")
            left = json.loads(mesh.cli("audit", "verify", "--json", "--anchor", str(out)).stdout)
            self.assertTrue(left["ok"], left)
            self.assertEqual((left["archived_entries"], left["root"]), (second, whole["root"]))
            code, said = verify(mesh.state, "--archive", mesh.state / "elsewhere", *anchors(mesh.state))
            self.assertEqual(code, 0, said)
            proof = mesh.state / "proof"
            self.assertEqual(mesh.cli("audit", "prove", str(second), "--out", str(proof)).returncode, 0)
            self.assertEqual(verify(mesh.state, "--proof", proof)[0], 0)
            self.assertEqual(mesh.cli("audit", "prove", "3", "--out", str(proof)).returncode, 1)
            (log / "archived").unlink()  # an attacker's cutting looks like this
            code, said = verify(mesh.state)
            self.assertEqual(code, 6, said)
            self.assertIn("entry 0: missing", said)

    def test_proofs(self):
        with Mesh() as mesh:
            mesh.chat(max_tokens=2)
            mesh.cli("down")
            wait_for("the mesh is down", lambda: mesh.proc.poll() is not None)
            proof = mesh.state / "proof"
            done = mesh.cli("audit", "prove", "3", "--out", str(proof))
            self.assertEqual(done.returncode, 0, done.stderr)
            code, said = verify(mesh.state, "--proof", proof)
            self.assertEqual(code, 0, said)
            self.assertIn("entry 3 is in the log", said)
            proof.write_text(proof.read_text().replace('"seq":', '"seq":1', 1))
            self.assertEqual(verify(mesh.state, "--proof", proof)[0], 5)
            size = json.loads(mesh.cli("audit", "verify", "--json").stdout)["signed_entries"]
            self.assertEqual(mesh.cli("audit", "prove", str(size), "--out", str(proof)).returncode, 1)
            done = mesh.cli("audit", "prove", "--from", str(size), "--out", str(proof))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(verify(mesh.state, "--proof", proof)[0], 0)
            self.assertEqual(subprocess.run([DSMIL, "audit", "prove"], env=mesh.env, capture_output=True,
                                            check=False).returncode, 2)


if __name__ == "__main__":
    unittest.main()
