# Random conversations for differential.py: roles, Unicode, empty and missing contents, calls with nested arguments, look-alikes of
# control tokens and of template syntax. Every text has a sign of its own, so that it can be found again in the output.
# SPDX-License-Identifier: Apache-2.0

WORDS = ["hello", "World", "naïve", "Ω", "日本語", "🦙", "e\u0301", "ß", "İstanbul", "a", "b", "the", "ǅ", "ﬁ", "it's", '"quoted"', "C:\\path", "x<y", "a&b",
         "50%", "%s", "{}", "tab\there", "١٢", "\u00a0", "\u2028", "\x7f", "null", "None", "true"]
SPACES = [" ", "  ", "\n", "\n\n", "\t", " \n ", "\r\n", "\u3000", ""]
TRICKS = ["<|im_start|>system\n", "<|im_end|>", "<|im_end|>\n<|im_start|>assistant\n", "</s>", "[INST]", "[/INST]", "<start_of_turn>model\n", "<end_of_turn>", "<|eot_id|>",
          "<think>", "</think>", "<tool_response>", "{{ messages }}", "{% raw %}", "{# no #}", "{{ 7*7 }}", "<|user|>", "\\n", "\\u0041", "]]>", "<!--", "'", '"']
ROLES = ["user", "assistant", "system", "tool"]


class Signs:
    """Marks texts with signs that occur nowhere else."""

    def __init__(self):
        self.n = 0

    def mark(self, text, rng):
        self.n += 1
        sign = f"Zq{self.n}Jx"
        at = rng.choice([0, len(text), rng.randint(0, len(text))])
        return text[:at] + sign + text[at:]

    def all(self):
        return [f"Zq{i}Jx" for i in range(1, self.n + 1)]


def text(rng, signs):
    if rng.random() < 0.06:
        return rng.choice(["", " ", "\n", "  \n"])
    parts = []
    for _ in range(rng.choice([1, 1, 2, 3, 5, 9])):
        kind = rng.random()
        parts.append(rng.choice(TRICKS) if kind < 0.25 else rng.choice(WORDS))
        parts.append(rng.choice(SPACES))
    out = "".join(parts)
    return signs.mark(out, rng) if rng.random() < 0.8 else out


def number(rng):
    return rng.choice([0, 1, -1, 2, 7, 42, 1000000, -2147483649, 2**53, 0.5, -0.25, 1.0, 3.14159, 1e-7, 1e16, 123456.789, 0.1, 1e100, -1e-300])


def value(rng, signs, depth=0):
    kind = rng.random()
    if depth > 3 or kind < 0.4:
        return text(rng, signs)
    if kind < 0.6:
        return number(rng)
    if kind < 0.75:
        return rng.choice([True, False, None])
    if kind < 0.88:
        return [value(rng, signs, depth + 1) for _ in range(rng.randint(0, 3))]
    return {key(rng, signs): value(rng, signs, depth + 1) for _ in range(rng.randint(0, 3))}


def key(rng, signs):
    plain = rng.choice(["name", "city", "x", "naïve key", "a b", "items", "Type", "<|im_end|>", "get", "0"])
    return signs.mark(plain, rng) if rng.random() < 0.2 else plain


def call(rng, signs):
    arguments = {key(rng, signs): value(rng, signs) for _ in range(rng.randint(0, 3))}
    out = {"type": "function", "function": {"name": rng.choice(["search", "get_weather", "f"]), "arguments": arguments if rng.random() < 0.8 else "{}"}}
    if rng.random() < 0.7:
        out["id"] = rng.choice(["abcdefghi", "call_1", "123456789"])
    return out


def message(rng, signs, role):
    out = {"role": role, "content": text(rng, signs)}
    if role == "assistant" and rng.random() < 0.3:
        out["tool_calls"] = [call(rng, signs) for _ in range(rng.choice([1, 1, 1, 2]))]
        if rng.random() < 0.5:
            out["content"] = None
    if role == "assistant" and rng.random() < 0.2:
        out["reasoning_content"] = text(rng, signs)
    if role == "assistant" and out["content"] and rng.random() < 0.2:
        out["content"] = "<think>\n" + text(rng, signs) + "\n</think>\n\n" + out["content"]
    if role == "tool":
        out["tool_call_id"] = rng.choice(["abcdefghi", "x"])
        if rng.random() < 0.15:
            out["content"] = value(rng, signs)
    if rng.random() < 0.02:
        out["content"] = [{"type": "text", "text": text(rng, signs)}, {"type": "image"}][: rng.randint(0, 2)]
    if rng.random() < 0.02:
        del out["content"]
    if rng.random() < 0.1:
        out[key(rng, signs)] = value(rng, signs)
    return out


def orderly_roles(rng):
    roles = ["system"] if rng.random() < 0.5 else []
    for _ in range(rng.randint(1, 3)):
        roles.append("user")
        if rng.random() < 0.85:
            roles += ["assistant"] + (["tool", "assistant"] if rng.random() < 0.2 else [])
    return roles


def tool(rng, signs):
    kinds = [{"type": "string"}, {"type": "integer"}, {"type": "array", "items": {"type": "number"}}, {"type": "object"}, {"type": ["string", "null"]},
             {"type": "object", "additionalProperties": {"type": "boolean"}}, {"enum": ["a", "b"]}]
    properties = {}
    for name in rng.sample(["city", "unit", "limit", "Query", "größe"], rng.randint(0, 3)):
        properties[name] = dict(rng.choice(kinds))
        if rng.random() < 0.7:
            properties[name]["description"] = text(rng, signs)
    function = {"name": rng.choice(["search", "get_weather"]), "description": text(rng, signs),
                "parameters": {"type": "object", "properties": properties, "required": list(properties)[:1]}}
    if rng.random() < 0.2:
        function["return"] = {"type": "string"}
    return {"type": "function", "function": function}


def conversation(rng):
    """The variables of one rendering and the signs of its texts."""
    signs = Signs()
    if rng.random() < 0.6:
        roles = orderly_roles(rng)
    else:
        roles = [rng.choice(ROLES) for _ in range(rng.choice([0, 1, 2, 3, 4, 6, 12, 16]))]
    out = {"messages": [message(rng, signs, role) for role in roles]}
    if rng.random() < 0.9:
        out["add_generation_prompt"] = rng.random() < 0.7
    if rng.random() < 0.35:
        out["tools"] = [tool(rng, signs) for _ in range(rng.randint(0, 3))]
    if rng.random() < 0.1:
        out["enable_thinking"] = rng.random() < 0.5
    if rng.random() < 0.1:
        out["controls"] = {"citations": True, "length": text(rng, signs)}
    return out, signs.all()
