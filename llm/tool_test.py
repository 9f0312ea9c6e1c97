#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The engine's tool as people and scripts use it: exit statuses, JSON, and what options do.

In:   the program; a small model of the project, DSMIL_SOURCE_ROOT
Not:  speeds.
"""
import fcntl
import json
import os
import pathlib
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
import unittest

TOOL = sys.argv.pop(1)
MODEL = pathlib.Path(os.environ["DSMIL_SOURCE_ROOT"]) / "models" / "dsmil-small-q8_0.gguf"


def tool(*args, expect=0):
    """Standard output; fails when the exit status is another."""
    done = subprocess.run([TOOL, *map(str, args)], capture_output=True, text=True, check=False)
    if done.returncode != expect:
        raise AssertionError(f"{' '.join(map(str, args))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def told(verb, *args):
    """The JSON object that a verb prints."""
    return json.loads(tool(verb, "-m", MODEL, "--json", *args))


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *args):
        self.master, slave = pty.openpty()
        # a session of its own, whose terminal this is: so that Ctrl-C reaches it
        self.child = subprocess.Popen([str(a) for a in args], stdin=slave, stdout=slave, stderr=slave,
                                      start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.unread = ""

    def write(self, text):
        """As if it was typed."""
        os.write(self.master, text.encode())

    def wait_for(self, *texts):
        """Read until these have come, one after the other; what was read."""
        at = 0
        for text in texts:
            while (found := self.unread.find(text, at)) < 0:
                if not select.select([self.master], [], [], 60)[0]:
                    raise AssertionError(f"no {text!r} in {self.unread!r}")
                self.unread += os.read(self.master, 4096).decode(errors="replace")
            at = found + len(text)
        read, self.unread = self.unread[:at], self.unread[at:]
        return read

    def end(self):
        """The exit status."""
        status = self.child.wait(60)
        os.close(self.master)
        return status


class Tool(unittest.TestCase):
    """Verbs of the tool."""

    def test_info(self):
        info = told("info")
        self.assertEqual(info["quantisation"], "Q8_0")
        self.assertEqual(info["kv_context_bytes"], info["kv_bytes_per_token"] * info["context_tokens"])
        self.assertEqual(info["needed_bytes"],
                         info["weights_bytes"] + info["workspace_bytes"] + info["kv_context_bytes"])
        self.assertLessEqual(info["weights_bytes"], 1.03 * MODEL.stat().st_size)
        self.assertGreaterEqual(info["retention_top1"], 0.95)
        self.assertLess(told("info", "--kv-type", "int8")["kv_bytes_per_token"], 0.6 * info["kv_bytes_per_token"])

    def test_run(self):
        args = ("-p", "Tell me of birds", "-n", "24", "--temp", "2", "--seed", "7")
        first, again, other = told("run", *args), told("run", *args, "-t", "1"), told("run", *args[:-1], "8")
        self.assertEqual(first["text"], again["text"])
        self.assertNotEqual(first["text"], other["text"])
        self.assertLessEqual(first["answer_tokens"], 24)
        greedy = told("run", "-p", "What is DSMIL?", "-n", "24")["text"]
        stop = greedy.split()[3]
        stopped = told("run", "-p", "What is DSMIL?", "-n", "24", "--stop", stop)
        self.assertEqual(stopped["finish"], "stop")
        self.assertEqual(stopped["text"], greedy[:greedy.index(stop)])

    def test_many_answers_and_guesses(self):
        args = ("-p", "Tell me of birds", "-n", "24", "--temp", "2", "--seed", "7")
        answers = [a["text"] for a in told("run", *args, "--n", "3")["answers"]]
        self.assertEqual(answers, [told("run", *args[:-1], seed)["text"] for seed in ("7", "8", "9")])
        self.assertEqual(answers[0], told("run", *args, "--lookup", "4")["text"])
        self.assertEqual(answers[0], told("run", *args, "--draft", MODEL)["text"])

    def test_json_object(self):
        text = told("run", "-p", "Tell me of birds", "-n", "400", "--temp", "1", "--seed", "3", "--json-object")
        self.assertTrue(text["text"].startswith("{"))
        if text["finish"] == "stop":
            self.assertIsInstance(json.loads(text["text"]), dict)

    def test_schema(self):
        with tempfile.TemporaryDirectory() as folder:
            schema = pathlib.Path(folder) / "schema.json"
            schema.write_text('{"type":"array","items":{"enum":["red","green"]},"minItems":2,"maxItems":3}')
            text = told("run", "-p", "Colours", "-n", "60", "--temp", "1", "--schema", schema)["text"]
        colours = json.loads(text)
        self.assertIn(len(colours), (2, 3))
        self.assertLessEqual(set(colours), {"red", "green"})

    def test_tokenize_file(self):
        with tempfile.TemporaryDirectory() as folder:
            text = pathlib.Path(folder) / "text"
            text.write_text("What is DSMIL?\n" * 2000)
            tokens = told("tokenize", "--file", text)["tokens"]
            self.assertEqual(tokens, told("tokenize", text.read_text())["tokens"])
            self.assertGreater(len(tokens), 6000)
            self.assertEqual(len(tool("tokenize", "-m", MODEL, "--file", text).splitlines()), len(tokens))
            tool("tokenize", "-m", MODEL, "--file", text, "a text, too", expect=2)
            tool("tokenize", "-m", MODEL, "--file", folder + "/none", expect=1)

    def test_conversation_by_lines(self):
        done = subprocess.run([TOOL, "run", "-m", MODEL, "-i", "-n", "12"], input="What is\\\nDSMIL?\n\nAnd birds?\n",
                              capture_output=True, text=True, check=True)
        prompts = [int(line.split()[0][1:]) for line in done.stderr.splitlines() if line.startswith("[")]
        self.assertEqual(len(prompts), 2)  # the empty line is no turn
        self.assertGreater(prompts[1], prompts[0] + 12)  # the second has all of the first
        first = told("run", "-p", "What is\nDSMIL?", "-n", "12")
        self.assertEqual(first["prompt_tokens"], prompts[0])
        self.assertTrue(done.stdout.startswith(first["text"] + "\n"))
        for wrong in (("-p", "a"), ("--json",), ("--n", "2"), ("--raw",)):
            tool("run", "-m", MODEL, "-i", *wrong, expect=2)

    def test_conversation_forgets_what_has_no_room(self):
        context = told("info")["context_tokens"]
        lines = "".join("word " * (context // 4) + "\n" for _ in range(6))
        done = subprocess.run([TOOL, "run", "-m", MODEL, "-i", "-n", "4"], input=lines, capture_output=True, text=True,
                              check=True)
        self.assertIn("oldest turn is forgotten", done.stderr)
        self.assertEqual(done.stderr.count("prompt tokens"), 6)

    def test_conversation_on_a_terminal(self):
        with tempfile.TemporaryDirectory() as folder:
            schema = pathlib.Path(folder) / "schema.json"
            schema.write_text('{"type":"string","minLength":100000}')  # goes on until it is stopped
            terminal = Terminal(TOOL, "run", "-m", MODEL, "-i", "--kernel", "portable", "-t", "1", "--schema", schema)
            terminal.wait_for("> ")
            for _ in range(5):  # one that is over before it is stopped shows nothing
                terminal.write("Tell me of birds\n")
                terminal.wait_for('"')
                terminal.write("\x03")
                if "stopped" in terminal.wait_for("finish: ", "]", "> "):
                    break
            else:
                self.fail("no answer was stopped")
            terminal.write("half a line")
            terminal.wait_for("half a line")
            terminal.write("\x03")  # clears it
            terminal.wait_for("> ")
            terminal.write("\x04")
            self.assertEqual(terminal.end(), 0)

    def test_an_answer_does_not_steer_the_terminal(self):
        (escape,) = [t["id"] for t in told("tokenize", "\x1b")["tokens"] if t["id"] > 2]
        args = ("run", "-m", MODEL, "-p", "Hi", "-n", "3", "--logit-bias", f"{escape}=100")
        self.assertEqual(tool(*args), "\x1b" * 3)
        terminal = Terminal(TOOL, *args)
        self.assertEqual(terminal.wait_for("answer tokens").split("\r\n")[0], "???")
        self.assertEqual(terminal.end(), 0)

    def test_bias_forbids(self):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "logits"
            tokens = [t["id"] for t in told("tokenize", "What is")["tokens"]]
            tool("logits", "-m", MODEL, "--tokens", ",".join(map(str, tokens)), "--out", out)
            n_vocab = told("info")["vocabulary"]
            values = struct.unpack(f"<{n_vocab * len(tokens)}f", out.read_bytes())[-n_vocab:]
        best = values.index(max(values))
        run = ("-p", "What is", "--raw", "-n", "1")
        self.assertNotEqual(told("run", *run)["text"], told("run", *run, "--logit-bias", f"{best}=-100")["text"])

    def test_logprobs(self):
        answer = told("run", "-p", "What is DSMIL?", "-n", "4", "--logprobs", "3")
        self.assertEqual(len(answer["logprobs"]), answer["answer_tokens"])
        self.assertNotIn("logprobs", told("run", "-p", "What is DSMIL?", "-n", "4"))
        for token in answer["logprobs"]:
            self.assertEqual(len(token["top"]), 2)
            self.assertLessEqual(token["logprob"], 0)
            self.assertGreaterEqual(token["logprob"], token["top"][0]["logprob"])  # greedy

    def test_echo(self):
        text = "The router selects a worker."
        asked = ("run", "--raw", "-p", text, "-n", "4")
        answer = told(*asked, "--echo", "--logprobs", "2")
        self.assertEqual(answer["text"], text + told(*asked)["text"])
        self.assertEqual(len(answer["logprobs"]), answer["prompt_tokens"] + answer["answer_tokens"])
        prompt = answer["logprobs"][:answer["prompt_tokens"]]
        self.assertEqual((prompt[0]["logprob"], prompt[0]["top"]), (None, []))
        self.assertEqual("".join(token["token"] for token in prompt), text)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(text)
            file.flush()
            score = told("perplexity", file.name)
        self.assertEqual(score["tokens"], len(prompt) - 1)
        nats = -sum(token["logprob"] for token in prompt[1:])
        self.assertAlmostEqual(nats, score["nats_per_token"] * score["tokens"], delta=1e-3)
        self.assertGreater(told("bench", "-p", "40", "-n", "2", "--echo", "--logprobs", "1")["prefill_tokens_per_s"], 0)

    def test_perplexity_and_bench(self):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as text:
            text.write("DSMIL is a post-quantum, zero-trust mesh for AI and security services.")
            text.flush()
            score = told("perplexity", text.name, "--ctx", "8")
        self.assertGreater(score["perplexity"], 1)
        self.assertEqual(score["ctx"], 8)
        bench = told("bench", "-p", "8", "-n", "4")
        self.assertEqual(bench["file_bytes"], MODEL.stat().st_size)
        self.assertGreater(bench["read_gb_per_s"], 0)
        self.assertGreaterEqual(bench["peak_bytes"], bench["weights_bytes"])
        self.assertEqual(bench["tokens_per_pass"], 1)
        self.assertEqual(bench["drafted"], 0)
        guessed = told("bench", "-p", "8", "-n", "4", "--draft", MODEL, "--draft-tokens", "3")
        self.assertEqual(guessed["answer_hash"], bench["answer_hash"])
        # A model guesses its own text right; how many guesses a pass carries is the engine's to choose.
        self.assertEqual(guessed["accepted"], guessed["drafted"])
        self.assertGreater(guessed["drafted"], 0)
        self.assertEqual(guessed["passes"] + guessed["accepted"], 4)
        given = told("bench", "--tokens", "1,5,6,7", "-n", "4")
        self.assertEqual(given["prompt"], 4)
        self.assertNotEqual(given["answer_hash"], bench["answer_hash"])
        tool("bench", "-m", MODEL, "--tokens", "1,x", expect=2)
        many = told("bench", "-p", "8", "-n", "4", "--sessions", "3")
        self.assertGreater(many["tokens_per_pass"], 2)

    def test_embed(self):
        one, again, other = (told("embed", "-p", text)["embedding"] for text in ("a sealed channel",) * 2 + ("rain",))
        self.assertEqual(len(one), told("info")["width"])
        self.assertEqual(one, again)
        self.assertAlmostEqual(sum(v * v for v in one), 1, places=4)
        self.assertLess(sum(a * b for a, b in zip(one, other)), 0.999)

    def test_mistakes(self):
        tool(expect=2)
        tool("nothing", expect=2)
        tool("info", expect=2)
        tool("info", "-m", "/nowhere.gguf", expect=1)
        tool("run", "-m", MODEL, "-p", "x", "--temp", "3", expect=2)
        tool("run", "-m", MODEL, "-p", "x", "--logit-bias", "1", expect=2)
        tool("run", "-m", MODEL, "-p", "x", "--unknown", "1", expect=2)
        tool("run", "-m", MODEL, "-p", "x", "--kv-type", "f64", expect=1)
        best = json.loads(tool("logits", "-m", MODEL, "--tokens", "1,2", "--json"))["best"]
        self.assertEqual(len(best), 5)
        self.assertEqual(best, sorted(best, key=lambda row: -row["logit"]))
        tool("logits", "-m", MODEL, "--tokens", "1,-2", expect=2)
        for words in (("help",), ("--help",), ("run", "--help")):
            self.assertIn("usage: dsmil llm VERB", tool(*words))

    def test_what_cannot_be_printed_is_said(self):
        for words in (["help"], ["info", "-m", MODEL], ["tokenize", "-m", MODEL, "x", "--json"]):
            with open("/dev/full", "w", encoding="utf-8") as full:
                done = subprocess.run([TOOL, *map(str, words)], stdout=full, stderr=subprocess.PIPE, text=True,
                                      check=False)
            self.assertEqual(done.returncode, 1, words)
            self.assertIn("not whole", done.stderr)

    def test_mistakes_as_json(self):
        """Who asked for JSON reads there what is wrong, in one document."""
        for expect, code, *words in ((2, "E_ARGUMENT", "nothing"), (2, "E_ARGUMENT", "info"), (2, "E_ARGUMENT", "run"),
                                     (2, "E_ARGUMENT", "run", "-m", MODEL, "-p", "x", "--temp", "3"),
                                     (2, "E_ARGUMENT", "tokenize", "-m", MODEL, "a", "b"),
                                     (2, "E_ARGUMENT", "tokenize", "-m", MODEL, *"abcde"),
                                     (2, "E_ARGUMENT", "embed", "-m", MODEL), (2, "E_ARGUMENT", "bench", "--tokens"),
                                     (2, "E_ARGUMENT", "bench", "-m", MODEL, "--tokens", "1,x"),
                                     (2, "E_ARGUMENT", "perplexity", "-m", MODEL),
                                     (2, "E_ARGUMENT", "logits", "-m", MODEL), (2, "E_ARGUMENT", "quantize", "a"),
                                     (1, "E_NOT_FOUND", "info", "-m", "/nowhere.gguf"),
                                     (1, "E_NOT_FOUND", "bench", "-m", "/nowhere.gguf"),
                                     (1, "E_NOT_FOUND", "perplexity", "-m", MODEL, "/none"),
                                     (1, "E_NOT_FOUND", "quantize", "/none", "/none/out"),
                                     (1, "E_NOT_FOUND", "tokenize", "-m", MODEL, "--file", "/none"),
                                     (1, "E_ARGUMENT", "logits", "-m", MODEL, "--tokens", "99999999"),
                                     (1, "E_NOT_FOUND", "run", "-m", MODEL, "-p", "x", "--schema", "/none")):
            done = subprocess.run([TOOL, *map(str, words), "--json"], capture_output=True, text=True, check=False)
            said = json.loads(done.stdout)["error"]
            self.assertEqual((done.returncode, said["code"]), (expect, code), words)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            self.assertTrue(done.stderr.startswith("dsmil: llm: " + said["message"]), done.stderr)
        with tempfile.TemporaryDirectory() as folder:  # refused is an answer of its own
            done = subprocess.run([TOOL, "info", "-m", folder, "--json"], capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, list(json.loads(done.stdout))), (1, ["error"]))

    def test_quantised_already(self):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "out.gguf"
            kept = json.loads(tool("quantize", MODEL, out, "--json"))
            self.assertEqual(kept["tokens"], 0)
            self.assertTrue(out.exists())
            tool("quantize", out, out, expect=1)


if __name__ == "__main__":
    unittest.main()
