# SPDX-License-Identifier: Apache-2.0
"""Policy: a mesh follows a new one under traffic with nothing lost, and one with an error changes nothing."""
import json
import shutil
import threading
import unittest

from mesh import ROOT, Mesh, unix_get, wait_for

DEFAULT = (ROOT / "src/policy/default.yaml").read_text()


def with_rule(version, rule=""):
    """The built-in policy under another number, with a rule before its own."""
    return DEFAULT.replace("version: 1", f"version: {version}").replace("rules:", f"rules:\n{rule}", 1)


class Policy(unittest.TestCase):
    """`dsmil up` with policy.yaml in its state folder."""

    def reload(self, mesh, text):
        """Another file, and the order to take it."""
        (mesh.state / "policy.yaml").write_text(text)
        return mesh.cli("policy", "reload")

    def versions(self, mesh):
        """What each service says is in force."""
        services = json.loads((mesh.state / "mesh.json").read_text())["services"]
        return {json.loads(unix_get(s["metrics_socket"], "/policy"))["version"] for s in services}

    def test_a_new_policy_under_traffic(self):
        with Mesh(files={"policy.yaml": with_rule(2)}) as mesh:
            self.assertEqual(self.versions(mesh), {2})
            answers, stop = [], threading.Event()

            def ask():
                while not stop.is_set():
                    answers.append(mesh.chat(max_tokens=4)[0])

            asking = [threading.Thread(target=ask) for _ in range(2)]
            for thread in asking:
                thread.start()
            try:
                for version in (3, 4, 5):
                    done = self.reload(mesh, with_rule(version))
                    self.assertEqual(done.returncode, 0, done.stderr)
                    had = len(answers)
                    wait_for("answers go on coming", lambda had=had: len(answers) > had + 4)
                self.assertEqual(self.versions(mesh), {5})
            finally:
                stop.set()
                for thread in asking:
                    thread.join()
            self.assertEqual(set(answers), {200})
            for service in ("dsmil-l7-router", "dsmil-l7-llm-worker-47", "dsmil-openai-shim"):
                wait_for("channels have new keys", lambda s=service: "channel has new keys" in mesh.log(s))
                self.assertNotIn("channel is down", mesh.log(service))
            self.check_audit(mesh, 2, 5)

    def check_audit(self, mesh, first, last):
        """Each service's records name the policy that it began with, and those that followed, by the files' digests."""
        digests = {}
        for version in range(first, last + 1):
            (mesh.state / "checked.yaml").write_text(with_rule(version))
            done = mesh.cli("policy", "check", str(mesh.state / "checked.yaml"), "--json")
            digests[version] = json.loads(done.stdout)["digest"]
        self.assertEqual(len(set(digests.values())), len(digests))

        def told():
            lines = mesh.cli("audit", "tail", "--json", "-n", "1000", "--kind", "policy").stdout.splitlines()
            ret = {}
            for entry in map(json.loads, lines):
                ret.setdefault(entry["sender"], []).append((entry["count"], entry["detail"]))
            return ret

        expected = list(digests.items())
        wait_for("each service tells", lambda: len(told()) >= 3 and all(t == expected for t in told().values()))

    def test_a_rule_and_an_error(self):
        with Mesh(files={"policy.yaml": with_rule(2)}) as mesh:
            no_chats = "  - {name: no-chats, effect: deny, types: [L7_CHAT_REQ]}\n"
            self.assertEqual(self.reload(mesh, with_rule(3, no_chats)).returncode, 0)
            self.assertEqual(mesh.chat()[0], 403)
            done = self.reload(mesh, with_rule(4, "  - {name: no-chats, effect: dney}\n"))
            self.assertEqual(done.returncode, 1)
            self.assertIn('effect is "dney"; expected allow or deny', done.stderr)
            self.assertEqual(self.versions(mesh), {3})
            self.assertEqual(mesh.chat()[0], 403)  # what was in force still is
            self.assertEqual(self.reload(mesh, with_rule(4)).returncode, 0)
            self.assertEqual(mesh.chat()[0], 200)

    def test_limits_of_a_tenant(self):
        limited = DEFAULT.replace("    classification: EXEC", "    limits: {requests: 2/15min, tokens: 100000/min}\n"
                                  "    classification: EXEC", 1)
        with Mesh("--no-first-light", files={"policy.yaml": limited}) as mesh:
            self.assertEqual([mesh.chat(max_tokens=2)[0] for _ in range(2)], [200, 200])
            status, headers, said = mesh.chat()
            self.assertEqual(status, 429, said)
            self.assertIn(int(headers["Retry-After"]), range(1, 902))
            self.assertIn("2 of 2 requests", json.dumps(said))
            told = json.loads(wait_for("the audit log to have it", lambda: mesh.cli(
                "audit", "tail", "--json", "--kind", "limit").stdout).splitlines()[0])
            self.assertEqual((told["code"], told["rule"], told["tenant"]),
                             ("E_LIMIT", "tenant-limits", "LOCAL_TOOL_USER"))
            self.assertIn("2 of 2 requests", told["detail"])

    def test_a_mesh_with_a_broken_policy_does_not_start(self):
        mesh = Mesh(files={"policy.yaml": "version: 0\n"})
        try:
            done = mesh.cli("up", "--check")
            self.assertEqual(done.returncode, 2)
            self.assertIn("policy.yaml:1:10: version is 0", done.stderr)
        finally:
            shutil.rmtree(mesh.state)


if __name__ == "__main__":
    unittest.main()
