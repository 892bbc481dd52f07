#!/usr/bin/env python3
# Holds the chat template engine against Jinja2 itself, set up as the usual Python stack sets up its sandbox: same bytes or both an error,
# on the template files beside this script with random conversations, and on random templates. Also that the texts of messages
# come out marked as tainted: each has a sign of its own, and every place of a sign in the output must lie in tainted bytes.
#
#   differential.py RENDER_TEMPLATE [--seed N] [--n N] [--only files|random] [--show N] [--out FILE]
#
# n conversations for each file and n * 10 random templates. Exit codes: 0 nothing differs, 1 something does, 77 python3-jinja2 is absent.
# SPDX-License-Identifier: Apache-2.0
import argparse
import datetime
import glob
import json
import os
import random
import re
import subprocess
import sys
import warnings

try:
    import jinja2
    import jinja2.ext
    import jinja2.sandbox
except ImportError:
    print("python3-jinja2 is not installed: the template engine cannot be compared with it")
    sys.exit(77)

import conversations
import random_templates

warnings.filterwarnings("ignore", category=SyntaxWarning)
HERE = os.path.dirname(os.path.abspath(__file__))
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
NOW = datetime.datetime(2026, 3, 7, 9, 5, 2)
# Python's own names and addresses: no engine but Python's can print them, and no template that works does.
UNPRINTABLE = re.compile(r"<(?:function|generator|built-in|bound method|Macro|jinja2|class|dict_|reversed|map |filter |zip|module)|dict_(?:items|keys|values)\(| object at 0x|LoopContext|Namespace")


def make_environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])

    def refuse(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = refuse
    env.globals["strftime_now"] = lambda format: NOW.strftime(format)
    return env


class Reference:
    def __init__(self):
        self.env = make_environment()
        self.compiled = {}

    def render(self, source, values):
        """("ok", text) or ("error", words)."""
        try:
            if source not in self.compiled:
                if len(self.compiled) > 100:
                    self.compiled.clear()
                self.compiled[source] = self.env.from_string(source)
            return "ok", self.compiled[source].render(**{**TOKENS, **json.loads(json.dumps(values))})
        except RecursionError:
            return "skip", "recursion"
        except Exception as e:  # whatever Python raises, a template that fails is a template that fails
            return "error", f"{type(e).__name__}: {e}"


class Engine:
    """render_template: one JSON object a line in, one out."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def render(self, source, values):
        """(status, text or words, tainted ranges)."""
        request = {"template": source, "values": {**TOKENS, **values}, "now": NOW.strftime("%Y-%m-%dT%H:%M:%S")}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"render_template ended (code {self.process.wait()}) at this request:\n{json.dumps(request)}")
        reply = json.loads(line)
        if "error" in reply:
            return ("limit" if reply.get("status") == "WTL_ERR_LIMIT" else "error"), reply["error"], []
        return "ok", reply["text"], reply["tainted"]

    def close(self):
        self.process.stdin.close()
        return self.process.wait()


def untainted_sign(text, tainted, signs):
    """The first sign that stands outside of tainted bytes, or None. Ranges are bytes."""
    data = text.encode("utf-8", "surrogatepass")
    covered = bytearray(len(data))
    for begin, end in tainted:
        covered[begin:end] = b"\1" * (end - begin)
    for sign in signs:
        pattern = sign.encode()
        at = data.find(pattern)
        while at >= 0:
            if not all(covered[at:at + len(pattern)]):
                return f"{sign} at byte {at}"
            at = data.find(pattern, at + 1)
    return None


def span_mistake(text, tainted):
    last = -1
    for begin, end in tainted:
        if not (last < begin < end):
            return f"ranges are not ascending, apart and non-empty at {begin}..{end}"
        last = end
    return None if last <= len(text.encode("utf-8", "surrogatepass")) else "a range ends behind the text"


class Comparison:
    def __init__(self, engine, report):
        self.engine, self.report, self.reference = engine, report, Reference()
        self.counts = {"rendered": 0, "both fail": 0, "differ": 0, "untainted": 0, "not compared": 0, "signs": 0}

    def compare(self, name, source, values, signs):
        expected_status, expected = self.reference.render(source, values)
        status, got, tainted = self.engine.render(source, values)
        if expected_status == "skip" or (expected_status == "ok" and UNPRINTABLE.search(expected)):
            self.counts["not compared"] += 1
            return
        if status == "ok":
            mistake = span_mistake(got, tainted) or untainted_sign(got, tainted, signs)
            self.counts["signs"] += sum(got.count(sign) for sign in signs)
            if mistake:
                self.counts["untainted"] += 1
                self.report(name, source, values, "taint: " + mistake, expected, got)
        if expected_status == status == "ok" and expected == got:
            self.counts["rendered"] += 1
        elif expected_status == status == "error":
            self.counts["both fail"] += 1
        else:
            self.counts["differ"] += 1
            self.report(name, source, values, f"reference {expected_status}, engine {status}", expected, got)


def around_difference(a, b):
    n = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return f"  at character {n}\n  reference: {a[max(0, n - 40):n + 60]!r}\n  engine:    {b[max(0, n - 40):n + 60]!r}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--n", type=int, default=30)
    parser.add_argument("--only", choices=["files", "random"])
    parser.add_argument("--file", help="only template files whose name holds this")
    parser.add_argument("--show", type=int, default=20, help="print at most so many differences")
    parser.add_argument("--out", help="write all differences, with templates and values, to this file")
    options = parser.parse_args()
    out = open(options.out, "w") if options.out else None
    shown = 0

    def report(name, source, values, what, expected, got):
        nonlocal shown
        shown += 1
        words = f"{name}: {what}\n{around_difference(expected, got)}\n"
        if shown <= options.show:
            print(words, flush=True)
        if out:
            out.write(words + f"  template: {source!r}\n  values: {json.dumps(values)}\n\n" if name == "random" else words + f"  values: {json.dumps(values)}\n\n")

    engine = Engine(options.program)
    total = {}

    def add(title, comparison):
        print(f"{title}: " + ", ".join(f"{n} {what}" for what, n in comparison.counts.items()), flush=True)
        for what, n in comparison.counts.items():
            total[what] = total.get(what, 0) + n

    if options.only != "random":
        for path in sorted(glob.glob(os.path.join(HERE, "*.jinja"))):
            name = os.path.basename(path)
            if options.file and options.file not in name:
                continue
            rng = random.Random(f"{options.seed} {name}")
            comparison = Comparison(engine, report)
            source = open(path, newline="").read()
            for _ in range(options.n):
                comparison.compare(name, source, *conversations.conversation(rng))
            add(name, comparison)
    if options.only != "files":
        rng = random.Random(f"{options.seed} random")
        comparison = Comparison(engine, report)
        for _ in range(options.n * 10):
            source = random_templates.template(rng)
            values, signs = conversations.conversation(rng)
            comparison.compare("random", source, values, signs)
        add("random templates", comparison)
    code = engine.close()
    if out:
        out.close()
    print(f"all (seed {options.seed}): " + ", ".join(f"{n} {what}" for what, n in total.items()))
    if code != 0:
        print(f"render_template ended with code {code}")
    # A run in which nothing was rendered, or no sign seen, has shown nothing.
    sound = total.get("rendered", 0) > 0 and total.get("signs", 0) > 0
    sys.exit(0 if code == 0 and sound and not total["differ"] and not total["untainted"] else 1)


if __name__ == "__main__":
    main()
