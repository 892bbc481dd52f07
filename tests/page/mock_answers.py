# What the stand-in server says: one scripted answer per scenario, chosen by the first word of the last user message.
# SPDX-License-Identifier: Apache-2.0
import random

RLO, ZWSP = "\u202e", "\u200b"

MARKDOWN = """## Three things

A paragraph with **bold**, *italic*, `inline code` and a [link](https://example.org/).

1. First item with enough words that it has to wrap on a narrow screen, which shows how the hanging indent looks
2. Second
   - nested one
   - nested two
3. Third

> A quotation of one line.

```python
def joules(watts, seconds):
    return watts * seconds  # a comment that is long enough to scroll inside of its own block and never the page around it, at any width
```

That is all."""

HOSTILE = "\n\n".join([
    "<script>window.pwned = 1</script><img src=x onerror=\"window.pwned = 2\"><svg onload=\"window.pwned = 3\"><iframe srcdoc=\"<script>top.pwned=4</script>\"></iframe>",
    "[click](javascript:window.pwned=5) ![x](https://evil.example/track.png) <a href=\"javascript:window.pwned=6\">a</a> [data](data:text/html,<script>1</script>)",
    "x" * 10000,
    "# " + "W" * 3000,
    f"evil{RLO}txt.exe{RLO} and \u2067isolate\u2069, zero{ZWSP}width, tag \U000e0041\U000e0042, flag \U0001F3F4\U000E0067\U000E0062\U000E0065\U000E006E\U000E0067\U000E007F, emoji 👩‍👩‍👧‍👦🏽",
    "שלום עולם! 12 + 3 (abc) مرحبا بالعالم",
    "- item " + "y" * 2000 + "\n- `" + "z" * 2000 + "`",
    "```html\n<script>window.pwned = 7</script>\n" + "a-long-line " * 900 + "\n" + "\n".join(f"line {i}" for i in range(400)) + "\n```",
    "*" * 3000 + "a" + "_*" * 3000 + "`" * 2001 + " [" * 2000,
    "\n".join(" " * (2 * i) + "- deep" for i in range(60)),
    "> " * 300 + "quote",
    "\x1b[31mred\x07 \x00 nul",
    "```\nunclosed <b>fence</b>",
])

STORY = " ".join("The wattle blooms in late winter, and its yellow heads are counted among the first signs of spring in the south.".split() * 6)
RTL = "هذا نص طويل بالعربية يبدأ من اليمين، وفيه كلمة English وأرقام 12.5 J.\n\n- بند أول\n- بند ثانٍ"

TEXTS = {"markdown": MARKDOWN, "hostile": HOSTILE, "rtl": RTL, "slow": " ".join(f"word{i}" for i in range(1000)), "long": "\n\n".join([STORY] * 12)}


def pieces(text, seed=1):
    """Cut like tokens, at times within a word."""
    rng, out, i = random.Random(seed), [], 0
    step = max(8, len(text) // 300)
    while i < len(text):
        n = rng.randint(2, step)
        out.append(text[i:i + n])
        i += n
    return out


def energy(kind, new, cached, decoded, settled=True):
    """The energy object of http-api.md section 2."""
    per_new, per_cached, per_token = 0.021, 0.0012, 0.118
    prefill, decode = new * per_new + cached * per_cached, decoded * per_token
    total = prefill + decode
    seconds = (new * 0.0011 + 0.004, decoded * 0.0062 + 0.001)
    share = {"measured": 0.06, "replayed": 0.06, "modelled": 0.6, "below": 0.8, "disputed": 0.4}.get(kind, 0.06)
    status = {"below": "below_resolution", "replayed": "measured", "unavailable": "unavailable"}.get(kind, kind)
    method = {"modelled": "modelled", "replayed": "replayed", "unavailable": None}.get(kind, "counter")
    known = kind != "unavailable"

    def j(value):
        return round(value, 6) if known else None

    reason = None if known else "the energy counters of this CPU can be read by root only (/sys/class/powercap/intel-rapl:0/energy_uj)"
    fix = {"unavailable": "sudo chmod a+r /sys/class/powercap/intel-rapl:0/energy_uj", "modelled": "--tdp-watts WATTS"}.get(kind)

    def phase(joules, s, **more):
        return {"joules": j(joules), "bound_joules": j(joules * share), "low_joules": j(joules * (1 - share)), "high_joules": j(joules * (1 + share)), "seconds": s, "status": status, "reason": reason, **more}

    def each(value, n):
        return {"joules": j(value) if n else None, "bound_joules": j(value * share) if n else None, "reason": None if n and known else "there were no such tokens"}

    return {
        "energy_joules": j(total), "energy_kwh": j(total / 3.6e6), "avg_power_watts": j(total / sum(seconds)), "duration_seconds": sum(seconds),
        "attribution_method": "interval_model_v1", "attribution_ratio": 0.97 if known else None, "schema": 1, "status": status, "settled": settled,
        "bound_joules": j(total * share), "low_joules": j(total * (1 - share)), "high_joules": j(total * (1 + share)), "bound_coverage": 0.99, "method": method,
        "scope": ["cpu_package"] if known else [], "reason": reason, "fix": fix,
        "phases": {"queue": phase(0, 0.0), "prefill": phase(prefill, seconds[0], tokens=new, cached_tokens=cached), "decode": phase(decode, seconds[1], tokens=decoded)},
        "dynamic_joules": j(total * 0.74), "idle_joules": j(total * 0.26),
        "cached": {"tokens": cached, "joules_spent": j(cached * per_cached), "joules_avoided": j(cached * per_new), "reason": reason, "method": "counterfactual"},
        "joules_per_token": {"new_prompt": each(per_new, new), "cached_prompt": each(per_cached, cached), "decoded": each(per_token, decoded)},
        "tokens_per_joule": {"output": j(decoded / total), "total": j((new + cached + decoded) / total)},
        "domains": [{"name": "cpu" if kind == "modelled" else "package-0", "scope": "cpu_package", "source": "cpu_model" if kind == "modelled" else "powercap", "joules": j(total), "bound_joules": j(total * share)}] if known else [],
    }
