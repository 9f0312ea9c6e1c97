# SPDX-License-Identifier: Apache-2.0
"""What every verb of `dsmil` promises: its help, its options in the shells' completion and in the man page.

In:   argv[1], the program `dsmil`; the sources of this folder, for the options that verbs take
Out:  unittest's report
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
OPTION = re.compile(r"(?<![\w$./-])--[a-z][a-z0-9-]+")
VERB = re.compile(r"^  ([a-z][a-z-]+) ", re.M)


def dsmil(*args, env=None):
    """(exit code, standard output, standard error) of one call."""
    done = subprocess.run([DSMIL, *args], capture_output=True, text=True, check=False, timeout=120,
                          stdin=subprocess.DEVNULL, env=dict(os.environ, **(env or {})))
    return done.returncode, done.stdout, done.stderr


def verbs():
    """Names in `dsmil help`."""
    return VERB.findall(dsmil("help")[1])


class Words(unittest.TestCase):
    """One method a promise."""

    def test_every_verb_has_help(self):
        self.assertGreater(len(verbs()), 12)
        for verb in verbs():
            code, out, _ = dsmil(verb, "--help")
            self.assertEqual(code, 0, verb)
            self.assertIn(f"usage: dsmil {verb}", out)

    def test_help_is_found_wherever_it_is_asked_for(self):
        for verb in verbs():
            said = dsmil(verb, "--help")
            self.assertEqual(dsmil("help", verb), said)
            self.assertEqual(dsmil(verb, "-h"), said)
        for verb, sub in (("roe", "show"), ("keys", "issue"), ("policy", "check"), ("audit", "tail"),
                          ("agent", "triage"), ("receipt", "show"), ("llm", "run"), ("api-key", "add"),
                          ("channels", "suite")):
            self.assertEqual(dsmil(verb, sub, "--help"), dsmil(verb, "--help"), verb)
        self.assertEqual(dsmil("help", "nothing")[0], 2)

    def test_help_fits_a_terminal(self):
        for line in dsmil("help")[1].splitlines():
            self.assertLess(len(line), 120)
            self.assertRegex(line, r"^$|^\S|^  [a-z-]+ {1,12}(\S.{36} |.{38} )\S")

    def test_words_that_are_wrong(self):
        """One line that says which word, and where to read more; one JSON object for who asked for that."""
        with tempfile.TemporaryDirectory() as state:
            wrong = [(verb, "--nothing") for verb in verbs()] + [
                (), ("nothing",), ("status", "x"), ("up", "--port", "x"), ("ask",), ("ask", "a", "b"),
                ("ask", "--seed", "x", "q"), ("chat", "x"), ("agent",), ("agent", "triage", "x"),
                ("agent", "triage", "--timeout", "0"), ("keys",), ("keys", "x"), ("api-key",), ("api-key", "x"),
                ("api-key", "remove"), ("channels", "suite"), ("channels", "x"), ("channels", "suite", "\033"),
                ("policy",), ("policy", "x"), ("policy", "check"), ("policy", "test"), ("policy", "reload", "x"),
                ("roe",), ("roe", "x"), ("dump",), ("dump", "a", "b"), ("receipt",), ("receipt", "x"),
                ("receipt", "verify"), ("audit",), ("audit", "x"), ("audit", "prove"), ("audit", "prove", "x"),
                ("audit", "tail", "-n", "0"), ("audit", "archive", "--before", "x"), ("llm",), ("llm", "x"),
                ("llm", "info"), ("top", "x"), ("logs", "x"), ("completion",), ("completion", "x"), ("version", "x")]
            for words in wrong:
                for more in ((), ("--json",)):
                    if not words and more:
                        continue
                    code, out, err = dsmil(*words, *more, env={"DSMIL_STATE": state, "DSMIL_KEYS": ""})
                    self.assertEqual(code, 2, words)
                    self.assertRegex(err, r"^dsmil: [^\n]*\n$", words)
                    self.assertNotIn("\033", err, words)
                    if more:
                        self.assertEqual(json.loads(out)["error"]["code"], "E_ARGUMENT", words)
                    else:
                        self.assertEqual(out, "", words)

    def test_help_tells_every_option_that_is_taken(self):
        told = set()
        for verb in verbs():
            told |= set(OPTION.findall(dsmil(verb, "--help")[1]))
        # what these sources hand to programs that they start is no option of a verb
        own = {"--help", "--version", "--wait-link"}
        for path in HERE.glob("*.c"):
            if path.stem.startswith(("up_prepare", "supervise")) or path.stem.endswith(("_test", "_main")):
                continue
            taken = set(re.findall(r'(?:strcmp\(argv\[[^;{]*?|cli_opt\([^;{]*?)"(--[a-z-]+)"', path.read_text()))
            self.assertLessEqual(taken - own, told, path.name)

    def test_completion_has_every_verb_and_option(self):
        for shell in ("bash", "zsh", "fish"):
            code, script, _ = dsmil("completion", shell)
            self.assertEqual(code, 0)
            for verb in verbs():
                self.assertRegex(script, rf"\b{verb}\b")
                for option in OPTION.findall(dsmil(verb, "--help")[1]):
                    word = f"{verb}' -l {option[2:]}" if shell == "fish" else option
                    self.assertIn(word, script, f"{shell}, {verb}")
        self.assertEqual(dsmil("completion", "tcsh")[0], 2)

    def test_the_man_page_has_every_verb_and_option(self):
        page = (HERE.parent / "docs/man/dsmil.1").read_text(encoding="utf-8")
        synopsis = page[page.index(".Sh SYNOPSIS"):page.index(".Sh DESCRIPTION")]
        for verb in ("audit", "policy", "roe", "receipt"):
            words = self.complete("dsmil", verb, "")
            self.assertGreater(len(words), 1, verb)
            line = re.search(rf"^\.Cm {verb}\n\.Cm (.*)", synopsis, re.M).group(1)
            self.assertEqual(set(re.findall(r"\w+", line)), set(words), verb)
        for verb in verbs():
            self.assertEqual(len(re.findall(rf"(?m)^\.It Cm {verb}$", page)), 1, verb)
            told = set(OPTION.findall(dsmil(verb, "--help")[1]))
            missing = [option for option in told if not re.search(rf"Fl {option[1:]}(?![\w-])", page)]
            self.assertEqual(missing, [], verb)

    def complete(self, *words):
        """What bash offers for the last of these words."""
        code = ('source /dev/stdin; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _dsmil; '
                'printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(["bash", "-uc", code, "bash", *words], input=dsmil("completion", "bash")[1],
                              capture_output=True, text=True, check=True)
        self.assertEqual(done.stderr, "")
        return done.stdout.split()

    def test_bash_completes(self):
        self.assertEqual(self.complete("dsmil", "stat"), ["status"])
        self.assertEqual(sorted(self.complete("dsmil", "")), sorted(verbs() + ["help"]))
        self.assertEqual(self.complete("dsmil", "ask", "--no"), ["--no-stream"])
        self.assertEqual(self.complete("dsmil", "keys", "iss"), ["issue"])
        self.assertEqual(self.complete("dsmil", "keys", "issue", "--ro"), ["--role"])
        self.assertEqual(self.complete("dsmil", "llm", "per"), ["perplexity"])
        self.assertEqual(self.complete("dsmil", "completion", ""), ["bash", "zsh", "fish"])
        self.assertEqual(self.complete("dsmil", "up", "--model", "--"), [])  # a file's name, which bash completes
        self.assertEqual(self.complete("dsmil", "nothing", "--"), [])

    def test_other_shells_read_it(self):
        for shell, check in (("zsh", "-n"), ("fish", "--no-execute"), ("bash", "-n")):
            if shutil.which(shell) is None:
                continue
            with tempfile.NamedTemporaryFile("w") as script:
                script.write(dsmil("completion", shell)[1])
                script.flush()
                done = subprocess.run([shell, check, script.name], capture_output=True, text=True, check=False)
                self.assertEqual((done.returncode, done.stderr), (0, ""), shell)

    def test_json_of_a_mesh_that_is_down(self):
        """One document and nothing else, also when there is nothing to tell."""
        with tempfile.TemporaryDirectory() as state:
            env = {"DSMIL_STATE": state}
            code, out, _ = dsmil("ask", "--json", "x", env=env)
            self.assertEqual((code, json.loads(out)["error"]["code"]), (3, "E_UNAVAILABLE"))
            code, out, _ = dsmil("policy", "reload", "--json", env=env)
            self.assertEqual((code, json.loads(out)), (3, {"up": False}))
            key = json.loads(dsmil("api-key", "add", "--tenant", "acme", "--json", env=env)[1])
            code, out, _ = dsmil("api-key", "remove", key["id"], "--json", env=env)
            self.assertEqual((code, json.loads(out)), (0, {"removed": key["id"]}))
            for verb in ("status", "down", "channels", "reload", "version", "first-light", "top"):
                code, out, _ = dsmil(verb, "--json", env=env)
                self.assertIsInstance(json.loads(out), dict, verb)
                self.assertEqual(code, 0 if verb in ("down", "version") else 3, verb)
            code, out, _ = dsmil("agent", "triage", "--json", env=env)
            self.assertEqual((code, json.loads(out)), (3, {"up": False}))

    def test_json_of_what_fails(self):
        """Who asked for JSON reads there what is wrong, not an empty document."""
        with tempfile.TemporaryDirectory() as state:
            env = {"DSMIL_STATE": state, "DSMIL_KEYS": ""}
            for code, error, *args in ((3, "E_NOT_FOUND", "keys", "list"), (2, "E_ARGUMENT", "keys", "issue"),
                                       (1, "E_NOT_FOUND", "api-key", "remove", "none"),
                                       (2, "E_ARGUMENT", "api-key", "add"), (1, "E_NOT_FOUND", "dump", "/none"),
                                       (2, "E_NOT_FOUND", "policy", "test", "/none"),
                                       (1, "E_NOT_FOUND", "receipt", "show", "/none"),
                                       (1, "E_NOT_FOUND", "audit", "verify"),
                                       (1, "E_NOT_FOUND", "audit", "verify", "--proof", "/none"),
                                       (1, "E_NOT_FOUND", "audit", "prove", "1"),
                                       (2, "E_ARGUMENT", "channels", "paint"), (2, "E_NOT_FOUND", "roe", "show", "x")):
                got, out, err = dsmil(*args, "--json", env=env)
                said = json.loads(out)["error"]
                self.assertEqual((got, said["code"]), (code, error), args)
                self.assertTrue(said["message"] and err, args)
            self.assertEqual(dsmil("logs", "--json", env=env)[1], "")  # lines, of which there is none

    def test_what_cannot_be_written_is_said(self):
        with tempfile.TemporaryDirectory() as state:
            env = dict(os.environ, DSMIL_STATE=state, DSMIL_KEYS="")
            for args in (["version"], ["help"], ["--version"], ["policy", "explain"], ["api-key", "list", "--json"],
                         ["completion", "bash"], ["llm", "--help"]):
                with open("/dev/full", "w", encoding="utf-8") as full:
                    done = subprocess.run([DSMIL, *args], stdout=full, stderr=subprocess.PIPE, text=True, env=env,
                                          check=False, timeout=60)
                self.assertEqual(done.returncode, 1, args)
                self.assertIn("standard output", done.stderr, args)

    def test_a_key_that_nobody_saw_is_none(self):
        with tempfile.TemporaryDirectory() as state:
            for more in ([], ["--json"]):
                with open("/dev/full", "w", encoding="utf-8") as full:
                    done = subprocess.run([DSMIL, "api-key", "add", "--tenant", "acme", *more], stdout=full, timeout=60,
                                          stderr=subprocess.PIPE, text=True, check=False,
                                          env=dict(os.environ, DSMIL_STATE=state))
                self.assertEqual(done.returncode, 1)
                self.assertNotIn("shown", done.stderr)
                self.assertEqual(json.loads(dsmil("api-key", "list", "--json", env={"DSMIL_STATE": state})[1]),
                                 {"keys": []})

    def test_a_state_that_cannot_be(self):
        """Where, why, and what to do, in one line; also of `up --check`, whose output is JSON."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "file"
            path.write_text("")
            for state in (str(path), folder + "/x" * 2000):
                for verb in (["status"], ["up"], ["up", "--check"], ["api-key", "list"], ["audit", "tail"], ["logs"]):
                    code, out, err = dsmil(*verb, env={"DSMIL_STATE": state})
                    self.assertEqual(code, 2, verb)
                    self.assertRegex(err, r"^dsmil: [^\n]*; DSMIL_STATE names another place[^\n]*\n$", verb)
                    if "--check" in verb:
                        self.assertIn("error", json.loads(out))

    def test_closed_output_is_no_file_of_ours(self):
        """A verb that opens a file where standard output was closed must not print into it."""
        with tempfile.TemporaryDirectory() as state:
            done = subprocess.run(["sh", "-c", 'exec "$0" api-key add --tenant acme >&-', DSMIL], check=False,
                                  env=dict(os.environ, DSMIL_STATE=state), capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 1)
            self.assertIn("standard output", done.stderr)
            for path in pathlib.Path(state).rglob("*"):
                self.assertFalse(path.is_file() and b"dsk-" in path.read_bytes(), path)

    def test_numbers_that_are_none(self):
        with tempfile.TemporaryDirectory() as state:
            for verb in ("ask", "chat"):
                for option, value in (("--max-tokens", "x"), ("--max-tokens", "0"), ("--max-tokens", "-1"),
                                      ("--max-tokens", "1.5"), ("--max-tokens", "99999999999"), ("--seed", "ten"),
                                      ("--temperature", "warm"), ("--temperature", "nan"), ("--temperature", "2.1")):
                    words = [verb, option, value] + (["x"] if verb == "ask" else [])
                    self.assertEqual(dsmil(*words, env={"DSMIL_STATE": state})[0], 2, words)
                good = [verb, "--max-tokens", "5", "--seed", "9223372036854775807", "--temperature", "0.5"]
                self.assertEqual(dsmil(*good, *(["x"] if verb == "ask" else []), env={"DSMIL_STATE": state})[0], 3)
        self.assertEqual(dsmil("llm", "info")[0], 2)  # of which model?


    def test_json_of_every_verb_of_keys(self):
        with tempfile.TemporaryDirectory() as state, tempfile.TemporaryDirectory() as other:
            def keys(*args, home=state):
                code, out, err = dsmil("keys", *args, "--json", env={"DSMIL_STATE": home, "DSMIL_KEYS": ""})
                self.assertEqual((code, err), (0, ""), args)
                return json.loads(out)
            made = keys("init", "--mesh", "json.example")
            self.assertEqual((made["mesh"], len(made["fingerprint"])), ("json.example", 128))
            issued = keys("issue", "--device", "43", "--role", "router")
            self.assertEqual((issued["name"], issued["device"]), ("router-43", 43))
            self.assertNotEqual(keys("renew", "router-43", "--revoke")["serial"], issued["serial"])
            self.assertEqual(keys("list")["revoked"], 1)
            self.assertEqual(keys("show", "router-43"), keys("verify", "router-43"))
            self.assertEqual(keys("seal", "router-43", "--plain"), {"name": "router-43", "sealed": "plain"})
            bundle = keys("bundle", "export", f"{other}/bundle")
            self.assertEqual(bundle["fingerprint"], made["fingerprint"])
            took = keys("bundle", "import", f"{other}/bundle", "--fingerprint", made["fingerprint"], home=other)
            self.assertEqual(took["installed"], sum(part["installed"] for part in took["parts"]))
            self.assertGreater(took["installed"], 1)
            self.assertEqual(keys("revoke", "router-43")["revoked"], 2)


if __name__ == "__main__":
    DSMIL = sys.argv[1]
    unittest.main(argv=sys.argv[:1])
