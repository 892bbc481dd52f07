#!/usr/bin/env python3
"""wattle against llama.cpp, or a fork of it, on the same file, interleaved in one run: ratios per test and thread count.

  compare_peer.py --wattle build/wattle --peer-python PYTHON --peer-script peer_bench.py MODEL.gguf [MODEL.gguf ...]
  compare_peer.py --wattle build/wattle --peer-bench path/to/llama-bench MODEL.gguf [MODEL.gguf ...]

PYTHON must have llama-cpp-python; peer_bench.py prints llama-bench's fields, one JSON object a line. llama-bench itself says neither CPU time
nor memory of a test. Rounds alternate between the
two programs (A B A B ...), each round is one process, and the ratio is taken between the medians of the rounds, with the least and
largest ratio of neighbouring rounds beside it. Absolute figures on a shared machine mean nothing by themselves.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys


def run(command, env):
    out = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out) if out.startswith("[") else [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("models", nargs="+")
    ap.add_argument("--wattle", default="build/wattle")
    ap.add_argument("--peer-python", default=sys.executable)
    ap.add_argument("--peer-script")
    ap.add_argument("--peer-bench", help="a llama-bench, in place of python and script")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("-t", "--threads", default="1,2")
    ap.add_argument("-p", "--n-prompt", default="512")
    ap.add_argument("-n", "--n-gen", default="128")
    ap.add_argument("-d", "--n-depth", default="0", help="tokens that are there before each test")
    ap.add_argument("-r", "--repetitions", default="3")
    a = ap.parse_args()
    if not (a.peer_script or a.peer_bench):
        ap.error("a peer is missing: --peer-script or --peer-bench")
    name = "the fork" if a.peer_bench else "llama.cpp"
    env = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    rows = {}
    for model in a.models:
        tests = ["-m", model, "-t", a.threads, "-p", a.n_prompt, "-n", a.n_gen, "-r", a.repetitions]
        if a.n_depth != "0":
            tests += ["-d", a.n_depth]  # older forks have no such option
        ours = [a.wattle, "bench", *tests, "-o", "jsonl", "--no-limits", "--meter", "none"]
        peer = [a.peer_bench, *tests, "-o", "json"] if a.peer_bench else [a.peer_python, a.peer_script, *tests]
        for _ in range(a.rounds):
            for who, command in (("wattle", ours), (name, peer)):
                for o in run(command, env):
                    test = "prefill %d" % o["n_prompt"] if o["n_prompt"] else "decode %d" % o["n_gen"]
                    key = (os.path.basename(model), o["n_threads"], test + (" after %d" % o["n_depth"] if o.get("n_depth") else ""))
                    rows.setdefault(key, {}).setdefault(who, []).append(o)
    print(f"| model | test | threads | wattle tok/s | {name} tok/s | ratio (least to largest) | CPU-s per token, ratio | RSS MB, wattle / {name} |")
    print("|---|---|---|---|---|---|---|---|")
    for (model, threads, test), who in rows.items():
        w, l = who["wattle"], who[name]
        ts = lambda v: statistics.median(o["avg_ts"] for o in v)
        cpu = lambda v: statistics.median(o["cpu_s_per_token"] for o in v)
        rss = lambda v: f"{max(o['rss_bytes'] for o in v) / 1e6:.0f}" if "rss_bytes" in v[0] else "not told"
        cpu_ratio = f"{cpu(w) / cpu(l):.2f}" if "cpu_s_per_token" in l[0] else "not told"
        pairs = [x["avg_ts"] / y["avg_ts"] for x, y in zip(w, l)]
        print(f"| {model} | {test} | {threads} | {ts(w):.1f} | {ts(l):.1f} | {ts(w) / ts(l):.2f} ({min(pairs):.2f} to {max(pairs):.2f}) "
              f"| {cpu_ratio} | {rss(w)} / {rss(l)} |")


if __name__ == "__main__":
    main()
