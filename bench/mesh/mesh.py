#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Messages between two processes: DBE beside what else one could use, in one run on one processor.

In:   programs of bench/mesh (see peer.h); --slices, --only NAMES, --cpu N; --json FILE
Out:  a table: round trip of 1 KiB, messages a second with 64 in flight; each beside the same socket with
      AES-256-GCM and nothing else. The same as JSON, every slice in it.
Does: runs all of them by turns, slice by slice, so that a machine that speeds up or slows down does so for all;
      quotes medians, and ratios slice by slice.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

FLOOR = "socket+gcm"
BESIDE = ["tls1.3", "zeromq-curve", "grpc-stream", "grpc-unary"]
OURS = ["dbe-uds", "dbe-shm", "dbe-labels"]
KINDS = [  # what, command, messages a slice
    ("ping_64", "ping 64 {n}", 4000),
    ("ping_1k", "ping 1024 {n}", 4000),
    ("flood_64", "flood 64 {n} 64", 60000),
    ("flood_1k", "flood 1024 {n} 64", 30000),
    ("flood_64k", "flood 65536 {n} 64", 1200),
    ("serial_1k", "flood 1024 {n} 1", 6000),
]
SLOW = {"zeromq", "zeromq-curve", "grpc-stream", "grpc-unary"}


class Peer:
    """One program, its server and its client, ready to be told what to do."""

    def __init__(self, program, name, folder):
        self.name = name
        self.process = subprocess.Popen([program, name, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        if not self.answer().get("ready"):
            raise RuntimeError(f"{name} did not come up")

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended")
        return json.loads(line)

    def do(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self):
        self.process.kill()
        self.process.wait()


def measure(peer, what, command, count):
    """One slice: figures by name. Times in microseconds, rates in messages a second."""
    count = max(count // 10, 20) if peer.name in SLOW else count
    got = peer.do(command.format(n=count))
    if what.startswith("ping"):
        return {"p50_us": got["p50_ns"] / 1e3, "p99_us": got["p99_ns"] / 1e3, "mean_us": got["mean_ns"] / 1e3}
    return {"per_s": count / got["seconds"]}


def names_of(program):
    return subprocess.run([program], stdout=subprocess.PIPE, text=True, check=True).stdout.split()


def start(programs, only, folder):
    peers = []
    for program in programs:
        for name in names_of(program):
            if only and name not in only:
                continue
            try:
                peers.append(Peer(program, name, folder))
            except RuntimeError as why:
                print(f"mesh: {why}; left out", file=sys.stderr)
    return peers


def median(slices, figure):
    return statistics.median(s[figure] for s in slices)


def ratio(slices, floor, figure):
    return statistics.median(a[figure] / b[figure] for a, b in zip(slices, floor))


def table(results):
    head = ("", "64 B p50", "1 KiB p50", "p99", "1 KiB", "64 B", "64 KiB", "ratio: 1 KiB", "1 KiB", "64 B", "64 KiB")
    units = ("", "us", "us", "us", "k msg/s", "k msg/s", "MB/s", "p50", "msg/s", "msg/s", "bytes/s")
    rows = [head, units]
    floor = results.get(FLOOR)
    for name, r in results.items():
        cells = [name, f"{median(r['ping_64'], 'p50_us'):.2f}", f"{median(r['ping_1k'], 'p50_us'):.2f}",
                 f"{median(r['ping_1k'], 'p99_us'):.2f}", f"{median(r['flood_1k'], 'per_s') / 1e3:.1f}",
                 f"{median(r['flood_64'], 'per_s') / 1e3:.1f}",
                 f"{median(r['flood_64k'], 'per_s') * 65536 / 1e6:.0f}"]
        if floor:
            cells += [f"{ratio(r['ping_1k'], floor['ping_1k'], 'p50_us'):.2f}x",
                      f"{ratio(r['flood_1k'], floor['flood_1k'], 'per_s'):.2f}x",
                      f"{ratio(r['flood_64'], floor['flood_64'], 'per_s'):.2f}x",
                      f"{ratio(r['flood_64k'], floor['flood_64k'], 'per_s'):.2f}x"]
        rows.append(cells)
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(head))]
    for row in rows:
        print("  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths))))


def ours_beside(results):
    """How DBE stands to each sealed alternative: below 1 a shorter round trip, above 1 more messages."""
    lines = []
    for name in OURS:
        for other in BESIDE:
            if name not in results or other not in results:
                continue
            a, b = results[name], results[other]
            lines.append({"ours": name, "other": other,
                          "round_trip_1k": ratio(a["ping_1k"], b["ping_1k"], "p50_us"),
                          "messages_1k": ratio(a["flood_1k"], b["flood_1k"], "per_s"),
                          "messages_64": ratio(a["flood_64"], b["flood_64"], "per_s"),
                          "bytes_64k": ratio(a["flood_64k"], b["flood_64k"], "per_s")})
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("programs", nargs="+")
    parser.add_argument("--slices", type=int, default=int(os.environ.get("BENCH_SLICES", "15")))
    parser.add_argument("--only", default="")
    parser.add_argument("--kinds", default="")
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--json", default="")
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.cpu})
    folder = tempfile.mkdtemp(prefix="dsmil-bench-", dir="/tmp")
    peers = start(args.programs, set(args.only.split(",")) - {""}, folder)
    results = {p.name: {what: [] for what, *_ in KINDS} for p in peers}
    try:
        for number in range(args.slices + 1):  # the first one warms up and does not count
            for what, command, count in KINDS:
                for peer in peers:
                    got = measure(peer, what, command, count)
                    if number > 0:
                        results[peer.name][what].append(got)
    finally:
        for peer in peers:
            peer.close()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"messages between two processes on processor {args.cpu}, {args.slices} slices each, medians; "
          f"64 in flight; ratios to {FLOOR}")
    table(results)
    beside = ours_beside(results)
    for b in beside:
        print(f"{b['ours']} beside {b['other']}: round trip of 1 KiB {b['round_trip_1k']:.2f}x, messages/s "
              f"{b['messages_1k']:.1f}x of 1 KiB and {b['messages_64']:.1f}x of 64 B, bytes/s of 64 KiB "
              f"{b['bytes_64k']:.1f}x")
    for name in OURS:
        if name in results:
            tail = statistics.median(s["p99_us"] / s["p50_us"] for s in results[name]["ping_1k"])
            print(f"{name}: p99 is {tail:.2f}x the p50 of a round trip of 1 KiB")
    if args.json:
        os.makedirs(os.path.dirname(os.path.abspath(args.json)), exist_ok=True)
        with open(args.json, "w", encoding="utf-8") as out:
            json.dump({"bench": "mesh", "floor": FLOOR, "cpu": args.cpu, "beside": beside, "slices": results}, out)


if __name__ == "__main__":
    main()
