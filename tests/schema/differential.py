#!/usr/bin/env python3
"""Schemas against Python's jsonschema: every document that the automaton lets through must be valid, and its spelling of valid ones must pass.

  differential.py build/tests/walk_schema [--seed N] [--n SCHEMAS]

By hand, with a Python that has jsonschema (it skips with a sentence otherwise). Random schemas of all supported keywords; for each some random
documents, and some instances in the order of the schema's keys. Last line: counts.
SPDX-License-Identifier: Apache-2.0
"""
import argparse, json, random, subprocess, sys

try:
    import jsonschema
except ImportError:
    print("skipped: jsonschema is not installed for this Python")
    sys.exit(77)

PATTERNS = ["^[a-c]{1,3}$", "^\\d+(\\.\\d)?$", "x", "^(ab|cd)*$", "^[^a]", "é|b$", "^\\w+@\\w+$", "^.?$"]
KEYS = ["a", "b", "c", "key", "k\"y", "é"]


class Schemas:
    def __init__(self, rng):
        self.rng = rng

    def literal(self):
        return self.rng.choice([None, True, False, 0, 1, 12, -3, 1.5, "a", "ab", "", "é\n", [1, "x"], {"a": 1}])

    def string(self):
        s = {"type": "string"}
        if self.rng.random() < .4:
            s["pattern"] = self.rng.choice(PATTERNS)
        if self.rng.random() < .3:
            s["minLength"] = self.rng.randrange(3)
        if self.rng.random() < .3:
            s["maxLength"] = self.rng.randrange(2, 9)
        return s

    def number(self):
        s = {"type": self.rng.choice(["integer", "number"])}
        for name in ("minimum", "exclusiveMinimum"):
            if self.rng.random() < .3:
                s[name] = self.rng.choice([-10, 0, 0.5, 3, 99, -0.25, 1000])
        for name in ("maximum", "exclusiveMaximum"):
            if self.rng.random() < .3:
                s[name] = self.rng.choice([4, 10, 0.75, 1200, 99.5, 12345678])
        return s

    def array(self, depth):
        s = {"type": "array"}
        if self.rng.random() < .8:
            s["items"] = self.any(depth + 1)
        if self.rng.random() < .3:
            s["prefixItems"] = [self.any(depth + 1) for _ in range(self.rng.randrange(1, 3))]
        if self.rng.random() < .3:
            s["minItems"] = self.rng.randrange(3)
        if self.rng.random() < .4:
            s["maxItems"] = self.rng.randrange(2, 5)
        return s

    def object(self, depth):
        keys = self.rng.sample(KEYS, self.rng.randrange(4))
        s = {"type": "object", "properties": {k: self.any(depth + 1) for k in keys}}
        s["required"] = [k for k in keys if self.rng.random() < .5] + (["more"] if self.rng.random() < .1 else [])
        if self.rng.random() < .6:
            s["additionalProperties"] = self.rng.choice([False, True, self.any(depth + 1)])
        return s

    def any(self, depth=0):
        kind = self.rng.randrange(5 if depth > 3 else 11)
        if kind == 0:
            return self.string()
        if kind == 1:
            return self.number()
        if kind == 2:
            return {"enum": [self.literal() for _ in range(self.rng.randrange(1, 5))]}
        if kind == 3:
            return self.rng.choice([{"const": self.literal()}, {"type": "null"}, {"type": "boolean"}, True, {"type": ["string", "integer", "null"]}])
        if kind == 4:
            return {"$ref": "#/$defs/" + self.rng.choice(["x", "y"])} if depth else self.number()
        if kind in (5, 6):
            return self.array(depth)
        if kind in (7, 8):
            return self.object(depth)
        if kind == 9:
            base = self.rng.choice([{}, {}, {"type": ["string", "integer", "object"]}, {"maxLength": 4}, {"required": ["a"]}])
            return {**base, self.rng.choice(["anyOf", "anyOf", "oneOf"]): [self.any(depth + 1) for _ in range(self.rng.randrange(1, 4))]}
        return {"allOf": [self.object(depth), self.rng.choice([{"required": ["b"]}, {"properties": {"a": self.any(depth + 1)}}, self.object(depth)])]}

    def whole(self):
        s = self.any()
        s = s if isinstance(s, dict) else {}
        return {**s, "$defs": {"x": self.any(2), "y": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/y"}, {"type": "null"}]}, "v": {"$ref": "#/$defs/x"}}, "required": ["next"]}}}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("program")
    a.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    a.add_argument("--n", type=int, default=500)
    o = a.parse_args()
    rng = random.Random(o.seed)
    child = subprocess.Popen([o.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    compiled = refused = documents = again = wrong = 0
    for i in range(o.n):
        schema = Schemas(rng).whole()
        validator = jsonschema.Draft202012Validator(schema)

        def ask(**more):
            child.stdin.write(json.dumps({"schema": schema, "seed": o.seed + i, **more}) + "\n")
            child.stdin.flush()
            return json.loads(child.stdout.readline())

        def complain(words, text):
            print(f"seed {o.seed}, schema {i}: {words}: {text!r}\n  {json.dumps(schema, ensure_ascii=False)}")
            return 1

        got = ask(n=8)
        if "error" in got:
            refused += 1
            continue
        compiled += 1
        for text in got["documents"]:
            if text is None:
                continue  # longer than the program's buffer
            documents += 1
            try:
                value = json.loads(text)
                if not validator.is_valid(value):
                    wrong += complain("let through and not valid", text)
            except ValueError:
                wrong += complain("no JSON", text)
        texts = [t for t in got["documents"] if t]
        changed = ["".join(rng.choice("0a\"}],9") if rng.random() < .1 else c for c in t) for t in texts]
        for text, took in zip(changed, ask(texts=changed)["takes"]):
            again += 1
            try:
                valid = validator.is_valid(json.loads(text))
            except ValueError:
                valid = False
            if took and not valid:
                wrong += complain("took a damaged document", text)
    child.stdin.close()
    child.wait(10)
    print(f"seed {o.seed}: {compiled} schemas compiled, {refused} refused, {documents} documents valid but {wrong}, {again} damaged ones")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
