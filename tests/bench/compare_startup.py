#!/usr/bin/env python3
"""Time to the first token of a short prompt with a warm page cache: wattle against llama.cpp, interleaved, one process each.

  compare_startup.py --wattle build/wattle [--rounds 5] MODEL.gguf [MODEL.gguf ...]

Run it with a Python that has llama-cpp-python. wattle's figure is the life of a whole `wattle run -n 1` process, from its
start to its end. llama.cpp's counts load, context, tokenising, prefill and the choice of the first token inside a Python process
whose own start and imports are left out, which favours llama.cpp.
"""
import argparse
import os
import statistics
import subprocess
import sys
import time

PROMPT = "The capital of France is"
PEER = """
import ctypes, sys, time
import llama_cpp as lc
quiet = lc.llama_log_callback(lambda *a: None)
lc.llama_log_set(quiet, ctypes.c_void_p(0))
lc.llama_backend_init()
t0 = time.perf_counter()
model = lc.llama_model_load_from_file(sys.argv[1].encode(), lc.llama_model_default_params())
cp = lc.llama_context_default_params()
cp.n_ctx = 1024
cp.n_threads = cp.n_threads_batch = int(sys.argv[3])
ctx = lc.llama_init_from_model(model, cp)
vocab = lc.llama_model_get_vocab(model)
raw = sys.argv[2].encode()
ids = (lc.llama_token * 64)()
n = lc.llama_tokenize(vocab, raw, len(raw), ids, 64, True, True)
assert lc.llama_decode(ctx, lc.llama_batch_get_one(ids, n)) == 0
sampler = lc.llama_sampler_init_greedy()
lc.llama_sampler_sample(sampler, ctx, -1)
print((time.perf_counter() - t0) * 1e3)
"""


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("models", nargs="+")
    ap.add_argument("--wattle", default="build/wattle")
    ap.add_argument("--rounds", type=int, default=7)
    ap.add_argument("-t", "--threads", default="2")
    a = ap.parse_args()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "WTL_"))}
    print("| model | wattle, ms (least to largest) | llama.cpp, ms (least to largest) | ratio of medians |")
    print("|---|---|---|---|")
    for model in a.models:
        ours, peer = [], []
        for i in range(a.rounds + 1):
            start = time.perf_counter()
            subprocess.run([a.wattle, "run", "-m", model, "-p", PROMPT, "-n", "1", "-c", "1024", "-t", a.threads, "--temp", "0"],
                           env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            w = (time.perf_counter() - start) * 1e3
            p = float(subprocess.run([sys.executable, "-c", PEER, model, PROMPT, a.threads], env=env, check=True, stdout=subprocess.PIPE,
                                     stderr=subprocess.DEVNULL).stdout)
            if i:  # the first round warms the page cache
                ours.append(w)
                peer.append(p)
        print(f"| {os.path.basename(model)} | {statistics.median(ours):.0f} ({min(ours):.0f} to {max(ours):.0f}) "
              f"| {statistics.median(peer):.0f} ({min(peer):.0f} to {max(peer):.0f}) | {statistics.median(ours) / statistics.median(peer):.2f} |")


if __name__ == "__main__":
    main()
