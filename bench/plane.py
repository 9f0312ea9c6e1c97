# SPDX-License-Identifier: Apache-2.0
"""Many chats at once through the whole plane - gateway, router, worker - beside the engine alone and llama-server.

In:   DSMIL_BUILD_ROOT, a release build; --model, a GGUF file that all three load; --peer, a folder with llama-server
Out:  a line a slice and the medians of the ratios; JSON with --json
Time: completion tokens of all chats over the time from the first request to the last answer, prompts included. The
      engine's figure is that of `dsmil-llm bench` with as many sessions and prompts of as many tokens.
"""
import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "scenario"))
import mesh as scenario  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "llm"))
import compare  # noqa: E402


def chat(mesh, index, words, answer):
    """Tokens of prompt and answer of one chat."""
    text = " ".join(f"w{(index * 7919 + i * 104729) % 9973}" for i in range(words))
    body = {"model": "dsmil", "max_tokens": answer, "temperature": 0, "stream": True,
            "stream_options": {"include_usage": True}, "messages": [{"role": "user", "content": text}]}
    link = http.client.HTTPConnection("127.0.0.1", mesh.port, timeout=3600)
    link.request("POST", "/v1/chat/completions", json.dumps(body),
                 {"Authorization": f"Bearer {mesh.key}", "Content-Type": "application/json"})
    reply = link.getresponse()
    lines = reply.read().decode().splitlines()
    if reply.status != 200:
        sys.exit(f"plane: {reply.status} {lines}")
    usage = [u for u in (json.loads(x[6:]).get("usage") for x in lines if x.startswith("data: {")) if u][-1]
    return usage["prompt_tokens"], usage["completion_tokens"]


def through_plane(mesh, args):
    """Tokens a second of all chats, and the mean prompt."""
    with concurrent.futures.ThreadPoolExecutor(args.sessions) as pool:
        start = time.monotonic()
        done = list(pool.map(lambda i: chat(mesh, i, args.words, args.answer), range(args.sessions)))
        seconds = time.monotonic() - start
    return sum(c for _, c in done) / seconds, round(statistics.mean(p for p, _ in done))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--peer", default=os.environ.get("LLAMA_CPP"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--sessions", type=int, default=16)
    parser.add_argument("--words", type=int, default=16)
    parser.add_argument("--answer", type=int, default=48)
    parser.add_argument("--slices", type=int, default=3)
    parser.add_argument("--json")
    args = parser.parse_args()
    args.tool = str(scenario.BUILD / "llm" / "dsmil-llm")
    slices = []
    for _ in range(args.slices):
        with scenario.Mesh("--model", args.model, "--threads", str(args.threads)) as mesh:
            plane, args.session_prompt = through_plane(mesh, args)
        row = {"plane": plane, "engine": compare.our_sessions(args, args.model), "prompt_tokens": args.session_prompt}
        if args.peer:
            row["peer"] = compare.peer_sessions(args, args.model)
        slices.append(row)
        print("  ".join(f"{k} {v:.1f}" for k, v in row.items()), flush=True)
    for other, aim in (("engine", 0.95), ("peer", 1.0)):
        if other in slices[0]:
            ratio = statistics.median(s["plane"] / s[other] for s in slices)
            print(f"plane / {other:<7} {ratio:5.2f}x  (aim {aim}x)")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(slices), encoding="utf-8")


if __name__ == "__main__":
    main()
