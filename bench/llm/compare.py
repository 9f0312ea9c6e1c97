#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The engine beside llama.cpp on the same model, threads and machine, in one run.

In:   --tool dsmil-llm; --peer DIR with llama-bench (and llama-server) of a llama.cpp built here, or LLAMA_CPP=DIR;
      --model FILE, or --shape and --type of a random one; --threads N, --prompt N, --answer N, --slices N;
      --decode-only: no prompt to speak of, so that a model of 7B takes its turns in a minute and a half;
      --sessions N: also N chats at once, against llama-server with as many slots; --json FILE;
      --speculate: also guesses on text that repeats itself (speculate.py), by a draft model of --draft-shape
Out:  a table: prefill, decode, the memory's read bandwidth, load time, resident memory; medians and ratios
Does: takes turns slice by slice, so that a machine that speeds up or slows down does so for both
Not:  without a peer it measures the engine against the memory's bandwidth alone.
"""
import argparse
import concurrent.futures
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import speculate

HERE = os.path.dirname(os.path.abspath(__file__))


def run_json(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"compare: {command[0]}: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout)


def ours(args, model):
    return run_json([args.tool, "bench", "-m", model, "-p", str(1 if args.decode_only else args.prompt), "-n",
                     str(args.answer), "-t", str(args.threads), "--json"])


def peers(args, model):
    rows = run_json([os.path.join(args.peer, "llama-bench"), "-m", model, "-p",
                     str(0 if args.decode_only else args.prompt), "-n", str(args.answer), "-t", str(args.threads), "-r",
                     "1", "-o", "json"])
    return {"prefill_tokens_per_s": next((r["avg_ts"] for r in rows if r["n_prompt"] > 0 and r["n_gen"] == 0), None),
            "decode_tokens_per_s": next(r["avg_ts"] for r in rows if r["n_gen"] > 0 and r["n_prompt"] == 0)}


# ---- many chats at once ----------------------------------------------------------------------------------------------

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def complete(port, index, args):
    body = {"prompt": [1] + [300 + (index * 7919 + i * 104729) % 30000 for i in range(args.session_prompt - 1)],
            "n_predict": args.answer, "ignore_eos": True, "temperature": 0, "cache_prompt": False}
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=3600)
    link.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
    return json.loads(link.getresponse().read())["tokens_predicted"]


def peer_sessions(args, model):
    """Generated tokens a second of llama-server with as many slots as chats, prompts included in the time."""
    port = free_port()
    server = subprocess.Popen(
        [os.path.join(args.peer, "llama-server"), "-m", model, "-t", str(args.threads), "-np", str(args.sessions), "-c",
         str(args.sessions * (args.session_prompt + args.answer + 16)), "--port", str(port), "--no-webui"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                link = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                link.request("GET", "/health")
                if link.getresponse().status == 200:
                    break
            except OSError:
                pass
            if server.poll() is not None:
                sys.exit("compare: llama-server ended")
            time.sleep(0.2)
        with concurrent.futures.ThreadPoolExecutor(args.sessions) as pool:
            start = time.monotonic()
            total = sum(pool.map(lambda i: complete(port, i, args), range(args.sessions)))
            return total / (time.monotonic() - start)
    finally:
        server.terminate()
        server.wait()


def our_sessions(args, model):
    """The same: all prompts first, then what is left of all answers."""
    r = run_json([args.tool, "bench", "-m", model, "-p", str(args.session_prompt), "-n", str(args.answer), "-t",
                  str(args.threads), "--sessions", str(args.sessions), "--json"])
    seconds = (args.session_prompt * args.sessions / r["prefill_tokens_per_s"]
               + (args.answer - 1) * args.sessions / r["decode_tokens_per_s"])
    return args.answer * args.sessions / seconds


# ---- the whole -------------------------------------------------------------------------------------------------------

def show(name, mine, theirs, target, unit="tokens/s"):
    line = f"{name:<28} {statistics.median(mine):10.2f} {unit:<9}"
    if theirs:
        ratio = statistics.median(a / b for a, b in zip(mine, theirs))
        line += f" {statistics.median(theirs):10.2f}  {ratio:6.2f}x" + (f"  (aim {target}x)" if target else "")
    print(line)


def measure(args, model):
    slices = {"ours": [], "peer": [], "ours_sessions": [], "peer_sessions": [], "speculation": [], "peer_repeats": []}
    for _ in range(args.slices):
        slices["ours"].append(ours(args, model))
        if args.peer:
            slices["peer"].append(peers(args, model))
        if args.sessions:
            slices["ours_sessions"].append(our_sessions(args, model))
            if args.peer:
                slices["peer_sessions"].append(peer_sessions(args, model))
        if args.speculate:
            slices["speculation"].append(speculate.measure(run_json, args, args.repeating))
            if args.peer:
                slices["peer_repeats"].append(peers(args, args.repeating[0])["decode_tokens_per_s"])
    return slices


def report(args, slices):
    mine, theirs = slices["ours"], slices["peer"]
    first = mine[0]
    print(f"{first['model']}, kernel {first['kernel']}, {args.threads} threads, prompt {first['prompt']}, "
          f"answer {args.answer}, {args.slices} slices by turns")
    print(f"{'':<28} {'engine':>10} {'':<9} {'llama.cpp' if theirs else '':>10}")
    vector = first["kernel"] == "amx"
    for key, name, aim in [("prefill_tokens_per_s", "prefill", 3.0 if vector else 1.5),
                           ("decode_tokens_per_s", "decode", 1.2)]:
        if not args.decode_only or key.startswith("decode"):
            show(name, [s[key] for s in mine], [s[key] for s in theirs], aim)
    show("weights read in decode", [s["decode_gb_per_s"] for s in mine], [], None, "GB/s")
    show("reading meanwhile", [s["read_gb_per_s"] for s in mine], [], None, "GB/s")
    show("share of it (aim 0.88)", [s["decode_gb_per_s"] / s["read_gb_per_s"] for s in mine], [], None, "")
    show("load (aim twice the next)", [s["load_s"] for s in mine], [], None, "s")
    show("reading into fresh memory", [s["fresh_read_s"] for s in mine], [], None, "s")
    show("reading into used memory", [s["file_read_s"] for s in mine], [], None, "s")
    if slices["ours_sessions"]:
        show(f"{args.sessions} chats at once", slices["ours_sessions"], slices["peer_sessions"], 1.5)
    if slices["speculation"]:
        speculate.report(slices["speculation"], slices["peer_repeats"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", required=True)
    parser.add_argument("--peer", default=os.environ.get("LLAMA_CPP"))
    parser.add_argument("--model")
    parser.add_argument("--shape", default="160m")
    parser.add_argument("--type", default="Q8_0")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--answer", type=int, default=128)
    parser.add_argument("--slices", type=int, default=3)
    parser.add_argument("--decode-only", action="store_true")
    parser.add_argument("--sessions", type=int, default=0)
    parser.add_argument("--session-prompt", type=int, default=64)
    parser.add_argument("--speculate", action="store_true")
    parser.add_argument("--draft-shape", default="15m")
    parser.add_argument("--json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = args.model
        if not model:
            model = os.path.join(folder, "model.gguf")
            subprocess.run([sys.executable, os.path.join(HERE, "random_model.py"), model, "--shape", args.shape,
                            "--type", args.type], check=True)
        if args.speculate:
            args.repeating = speculate.make_models(folder, args.shape, args.type, args.draft_shape)
        slices = measure(args, model)
    report(args, slices)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as out:
            json.dump(slices, out, indent=1)


if __name__ == "__main__":
    main()
