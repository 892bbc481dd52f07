#!/usr/bin/env python3
"""Many conversations at once: wattle serve against another OpenAI-compatible server, interleaved, on the same file.

  compare_serve.py --wattle build/wattle --model MODEL.gguf --load http_load.py [--peer path/to/llama-server] [-c 1,8,32] [--rounds 2] [-t 2]

Both servers run one at a time (the other one is ended), with the same threads and with room for every conversation; the order changes
from round to round. One JSON line per run, then a table of medians and ratios. http_load.py drives C conversations of two turns.
SPDX-License-Identifier: Apache-2.0
"""
import argparse, json, os, re, signal, socket, statistics, subprocess, sys, tempfile, time, urllib.request


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_healthy(url, process):
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"the server ended with code {process.returncode}")
        try:
            with urllib.request.urlopen(url + "/health", timeout=2) as r:
                if r.status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit("the server did not become healthy in a minute")


def command(kind, a, port, n):
    # Room for a conversation of http_load: about 450 + 64 + 60 + 64 tokens.
    slot = 1024
    if kind == "wattle":
        return [a.wattle, "serve", "-m", a.model, "--port", str(port), "-np", str(n), "-c", str(n * slot), "-t", str(a.t), *a.wattle_args.split()]
    return [a.peer, "-m", a.model, "--port", str(port), "-np", str(n), "-c", str(n * slot), "-t", str(a.t), "-tb", str(a.t), *a.peer_args.split()]


def run(kind, a, n):
    port = free_port()
    env = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    with tempfile.TemporaryDirectory() as state:
        env["XDG_STATE_HOME"] = state
        server = subprocess.Popen(command(kind, a, port, n), env=env, cwd=state, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_healthy(url, server)
            load = [sys.executable, a.load, "--url", url, "--pid", str(server.pid), "--turns", "2"]
            subprocess.run(load + ["-c", "1", "-n", "8", "--seed", "99"], check=True, capture_output=True)  # pages in, clocks up
            out = subprocess.run(load + ["-c", str(n), "-n", str(a.n)], check=True, capture_output=True, text=True).stdout
            status = open(f"/proc/{server.pid}/status").read()
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)
    row = json.loads(out)
    row.update(server=kind, peak_rss_mb=int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) // 1024)
    print(json.dumps(row), flush=True)
    return row


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--wattle", required=True)
    p.add_argument("--model", required=True)
    p.add_argument("--load", required=True)
    p.add_argument("--peer", help="llama-server; without it only ours runs")
    p.add_argument("-c", default="1,8,32")
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("-t", type=int, default=2)
    p.add_argument("-n", type=int, default=64)
    p.add_argument("--wattle-args", default="")
    p.add_argument("--peer-args", default="--no-webui", help="a fork may know other words: '--webui none'")
    a = p.parse_args()
    for name in ("wattle", "model", "load", "peer"):  # servers run in a folder of their own, where some leave a log
        if getattr(a, name):
            setattr(a, name, os.path.abspath(getattr(a, name)))
    kinds = ["wattle"] + (["peer"] if a.peer else [])
    print("| conversations | server | tokens/s | first token, turn 1 (p50) | first token, later turns (p50) | time per token (p50) | cached | peak MB |\n|---|---|---|---|---|---|---|---|", file=sys.stderr)
    for n in map(int, a.c.split(",")):
        rows = [run(kind, a, n) for i in range(a.rounds) for kind in (kinds if i % 2 == 0 else kinds[::-1])]
        for kind in kinds:
            own = [r for r in rows if r["server"] == kind]
            errors = [e for r in own for e in r["errors"]]
            m = lambda key: statistics.median(r[key] for r in own)
            print(f"| {n} | {kind} | {m('tokens_per_s'):.1f} | {m('ttft_first_p50'):.3f} s | {m('ttft_later_p50'):.3f} s | {1e3 * m('tpot_p50'):.1f} ms | {m('cached_tokens'):.0f} of {m('prompt_tokens'):.0f} | "
                  f"{m('peak_rss_mb'):.0f} |{' errors: ' + str(errors) if errors else ''}", file=sys.stderr)
        if a.peer:
            pairs = list(zip([r for r in rows if r["server"] == "wattle"], [r for r in rows if r["server"] == "peer"]))
            print(f"| {n} | ratio | {statistics.median(w['tokens_per_s'] / q['tokens_per_s'] for w, q in pairs):.2f}x | {statistics.median(q['ttft_first_p50'] / w['ttft_first_p50'] for w, q in pairs):.2f}x | "
                  f"{statistics.median(q['ttft_later_p50'] / w['ttft_later_p50'] for w, q in pairs):.2f}x | {statistics.median(q['tpot_p50'] / w['tpot_p50'] for w, q in pairs):.2f}x | | |", file=sys.stderr)


if __name__ == "__main__":
    main()
