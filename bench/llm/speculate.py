# SPDX-License-Identifier: Apache-2.0
"""Decoding with guesses beside plain decoding, on text that repeats what stands in the prompt; a part of compare.py.

In:   a model of random_model.py --repeats, a smaller one that drafts for it and is wrong once in eight tokens
Out:  tokens a second, acceptance and the ratio to plain decoding, for prompts that the answer repeats as they are,
      with one token in 16, 8 or 4 corrected, and not at all; and for one that misleads look-up at every token
Does: checks that all ways give the same text; takes turns, slice by slice, with the peer's plain decoding, if any
Not:  the answer is as sure as a model can be, so the figures are of the engine, not of what a model would repeat.
"""
import os
import random
import statistics
import subprocess
import sys

import random_model

HERE = os.path.dirname(os.path.abspath(__file__))
BEGIN, WRONG, LOOKUP, DRAFTS = 300, 8, 11, 7
CASES = [("repeats all", 0), ("1 in 16 corrected", 16), ("1 in 8 corrected", 8), ("1 in 4 corrected", 4),
         ("repeats nothing", 1)]


def make_models(folder, shape, kind, draft_shape):
    out = []
    for name, size, extra in [("repeats", shape, []), ("draft", draft_shape, ["--differs", str(WRONG)])]:
        out.append(os.path.join(folder, name + ".gguf"))
        subprocess.run([sys.executable, os.path.join(HERE, "random_model.py"), out[-1], "--shape", size, "--type", kind,
                        "--repeats", *extra], check=True)
    return out


def prompt(answer, one_in):
    """The text with one token in `one_in` replaced (at random; 0: none), and the beginning of the correct one.

    -1: for each two tokens that follow each other in the text, these two and a wrong third one.
    """
    rng = random.Random(one_in)
    text = [(BEGIN + i * random_model.STRIDE) % random_model.VOCABULARY for i in range(answer + 32)]
    if one_in < 0:
        threes = zip(text, text[1:], rng.sample(range(BEGIN, random_model.VOCABULARY), len(text)))
        return [1] + [token for three in threes for token in three] + text[:8]
    first = [rng.randrange(BEGIN, random_model.VOCABULARY) if one_in and rng.randrange(one_in) == 0 else token
             for token in text]
    return [1] + first + text[:8]


def measure(run_json, args, models):
    """One slice: for each case plain, by look-up and with the draft model."""
    out = {}
    for name, one_in in CASES:
        command = [args.tool, "bench", "-m", models[0], "-n", str(args.answer), "-t", str(args.threads), "--json",
                   "--tokens", ",".join(map(str, prompt(args.answer, one_in)))]
        ways = {"plain": [], "look-up": ["--lookup", str(LOOKUP)],
                "draft model": ["--draft", models[1], "--draft-tokens", str(DRAFTS)]}
        out[name] = {way: run_json(command + extra) for way, extra in ways.items()}
        if len({r["answer_hash"] for r in out[name].values()}) != 1:
            sys.exit(f"compare: {name}: guesses changed the text")
    return out


def report(slices, peer):
    """`peer`: its plain decoding of this model in tokens a second, a slice; or nothing."""
    first = next(iter(slices[0].values()))["plain"]
    print(f"\n{first['model']}, answers of {first['answer']} tokens that repeat text of the prompt")
    print(f"{'':<20} {'plain':>8} {'look-up':>9} {'':>7} {'accepted':>9} {'draft':>9} {'':>7} {'accepted':>9}")
    for name, _ in CASES:
        rows = [s[name] for s in slices]
        line = f"{name:<20} {statistics.median(r['plain']['decode_tokens_per_s'] for r in rows):8.2f}"
        for way in ("look-up", "draft model"):
            speed = statistics.median(r[way]["decode_tokens_per_s"] for r in rows)
            ratio = statistics.median(r[way]["decode_tokens_per_s"] / r["plain"]["decode_tokens_per_s"] for r in rows)
            line += f" {speed:9.2f} {ratio:6.2f}x {100 * rows[0][way]['acceptance']:8.1f}%"
        print(line)
    if peer:
        print(f"{'llama.cpp, plain':<20} {statistics.median(peer):8.2f}")
