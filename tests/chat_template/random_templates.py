# Random templates for differential.py, from a small grammar: expressions of a wanted kind (with mistakes now and then), filters, tests,
# methods, slices, and the statements around them. Variables: those of conversations.py.
# SPDX-License-Identifier: Apache-2.0


ROUNDINGS = ["", "1", "2", "0, method='floor'", "1, 'ceil'"]


class Grammar:
    def __init__(self, rng):
        self.rng = rng
        self.names = []  # loop variables and what was set, with their kinds

    def pick(self, *choices):
        return self.rng.choice(choices)

    # ---- expressions ----
    def expr(self, kind, depth=0):
        if self.rng.random() < 0.03:
            kind = self.pick("str", "int", "bool", "list", "map", "none")
        known = [name for name, k in self.names if k == kind]
        if known and self.rng.random() < 0.35:
            return self.rng.choice(known)
        return getattr(self, "of_" + kind)(depth + 1 if depth < 5 else 9)

    def of_none(self, depth):
        return self.pick("none", "missing", "messages[0].nothing", "{}.x")

    def of_any(self, depth):
        return self.expr(self.pick("str", "str", "int", "float", "bool", "list", "map"), depth)

    def of_str(self, depth):
        simple = ["'text'", '"double"', "' padded '", "'a,b,c'", "'Mixed Case'", "''", "'line\\nbreak'", "'ünï'", "bos_token", "messages[0].role", "messages[-1].content",
                  "(messages | map(attribute='role') | join(' '))", "'<|im_start|>'"]
        if depth > 4:
            return self.rng.choice(simple)
        s = lambda: self.expr("str", depth)
        i = lambda: self.expr("int", depth)
        return self.rng.choice([
            lambda: self.rng.choice(simple),
            lambda: self.rng.choice(simple),
            lambda: f"({s()} ~ {self.expr('any', depth)})",
            lambda: f"({s()} + {s()})",
            lambda: f"({s()} * {self.pick(0, 1, 2)})",
            lambda: f"{s()}{self.slice()}",
            lambda: f"{s()}[{self.pick(0, -1, 1, 5)}]",
            lambda: f"({s()} if {self.expr('bool', depth)} else {s()})",
            lambda: f"({s()} | {self.pick('upper', 'lower', 'title', 'capitalize', 'trim', 'string', 'safe', 'reverse', 'first', 'last', 'escape')})",
            lambda: f"({s()} | replace({s()}, {s()}))",
            lambda: f"({s()} | default({s()}, {self.pick('true', 'false')}))",
            lambda: f"({s()} | indent({self.pick(0, 1, 4)}, {self.pick('true', 'false')}))",
            lambda: f"({self.expr('any', depth)} | tojson({self.pick('', 'indent=2', 'ensure_ascii=true', 'sort_keys=true', 'indent=4, ensure_ascii=false')}))",
            lambda: f"({self.expr('any', depth)} | string)",
            lambda: f"({self.expr('list', depth)} | join({s()}))",
            lambda: f"{s()}.{self.pick('upper', 'lower', 'title', 'capitalize', 'strip', 'lstrip', 'rstrip', 'swapcase')}()",
            lambda: f"{s()}.{self.pick('strip', 'lstrip', 'rstrip')}({s()})",
            lambda: f"{s()}.replace({s()}, {s()})",
            lambda: f"{s()}.{self.pick('removeprefix', 'removesuffix')}({s()})",
            lambda: f"{s()}.join({self.expr('list', depth)} | map('string'))",
            lambda: f"({i()} | string)",
        ])()

    def of_int(self, depth):
        if depth > 4:
            return str(self.pick(0, 1, 2, 3, 10, -1))
        i = lambda: self.expr("int", depth)
        return self.rng.choice([
            lambda: str(self.pick(0, 1, 2, 3, 7, 10, 255, 1000000)),
            lambda: str(self.pick(0, 1, 2, 3, 7, 10, 255, 1000000)),
            lambda: f"({i()} {self.pick('+', '-', '*')} {i()})",
            lambda: f"({i()} {self.pick('//', '%')} {self.pick(i(), 3, -2, 7)})",
            lambda: f"({i()} % 5 ** {self.pick(0, 1, 2, 3)})",
            lambda: f"({self.pick(self.expr('str', depth), self.expr('list', depth), self.expr('map', depth))} | {self.pick('length', 'count')})",
            lambda: f"({self.expr('str', depth)} | int({self.pick('', '7')}))",
            lambda: f"({self.expr('float', depth)} | int)",
            lambda: f"({i()} | abs)",
            lambda: f"-{i()}",
            lambda: f"({self.expr('list', depth)} | map('length') | sum)",
            lambda: f"([{i()}, {i()}] | {self.pick('max', 'min', 'sum', 'first', 'last')})",
            lambda: f"{self.expr('str', depth)}.{self.pick('find', 'count', 'rfind', 'index')}({self.expr('str', depth)})",
            lambda: f"({i()} if {self.expr('bool', depth)} else {i()})",
        ])()

    def of_float(self, depth):
        if depth > 4:
            return self.pick("1.5", "0.1", "2.0", "1e3")
        return self.rng.choice([
            lambda: self.pick("1.5", "0.1", "2.0", "1e3", "3.14159", "1e-7", "12345678.9"),
            lambda: f"({self.expr('int', depth)} / {self.pick(2, 3, 7)})",
            lambda: f"({self.expr('float', depth)} {self.pick('+', '-', '*')} {self.expr('int', depth)})",
            lambda: f"({self.expr('float', depth)} | round({self.rng.choice(ROUNDINGS)}))",
            lambda: f"({self.expr('str', depth)} | float({self.pick('', '2.5')}))",
            lambda: f"({self.expr('float', depth)} | abs)",
        ])()

    def of_bool(self, depth):
        if depth > 4:
            return self.pick("true", "false", "messages")
        e = lambda: self.expr("any", depth)
        tests = ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping", "iterable", "sequence", "true", "false", "lower", "upper"]
        return self.rng.choice([
            lambda: self.pick("true", "false", "not messages", "add_generation_prompt"),
            lambda: f"({e()} {self.pick('==', '!=')} {e()})",
            lambda: f"({self.expr('int', depth)} {self.pick('<', '>', '<=', '>=')} {self.expr('int', depth)})",
            lambda: f"({self.expr('str', depth)} {self.pick('<', '>', 'in', 'not in')} {self.expr('str', depth)})",
            lambda: f"({e()} {self.pick('in', 'not in')} {self.expr('list', depth)})",
            lambda: f"({e()} is {self.pick('', 'not ')}{self.rng.choice(tests)})",
            lambda: f"({self.expr('int', depth)} is {self.pick('odd', 'even', 'divisibleby 3', 'eq 2', 'gt 1', 'lt 5', 'in [1, 2]', 'equalto 1')})",
            lambda: f"(not {self.expr('bool', depth)})",
            lambda: f"({self.expr('bool', depth)} {self.pick('and', 'or')} {self.expr('bool', depth)})",
            lambda: f"{self.expr('str', depth)}.{self.pick('startswith', 'endswith')}({self.expr('str', depth)})",
            lambda: f"{self.expr('str', depth)}.{self.pick('isdigit', 'isalpha', 'isspace', 'islower', 'isupper', 'isalnum')}()",
        ])()

    def of_list(self, depth):
        if depth > 4:
            return self.pick("[]", "[1, 2]", "['a', 'b']", "messages")
        l = lambda: self.expr("list", depth)
        return self.rng.choice([
            lambda: self.pick("[]", "messages", "['b', 'a', 'B', 'a']", "[3, 1, 2]", "range(4) | list", "(1, 'x')", "[none, '', 0, 'z']"),
            lambda: "[" + ", ".join(self.expr("any", depth) for _ in range(self.pick(0, 1, 2, 3))) + "]",
            lambda: f"({l()} + {l()})",
            lambda: f"{l()}{self.slice()}",
            lambda: f"{self.expr('str', depth)}.split({self.pick('', self.expr('str', depth), chr(39) + ',' + chr(39) + ', 1')})",
            lambda: f"{self.expr('str', depth)}.splitlines()",
            lambda: f"({self.expr('map', depth)}.{self.pick('keys', 'values', 'items')}() | list)",
            lambda: f"({self.expr('map', depth)} | {self.pick('dictsort', 'list', 'items | list')})",
            lambda: f"({l()} | {self.pick('list', 'reverse | list', 'unique | list', 'sort', 'select | list', 'reject | list', 'batch(2) | list')})",
            lambda: f"({l()} | map({self.pick(*map(repr, ['string', 'upper', 'length', 'trim', 'tojson', 'first']))}) | list)",
            lambda: f"(messages | map(attribute={self.pick(*map(repr, ['role', 'content', 'missing']))}) | list)",
            lambda: f"(messages | {self.pick('selectattr', 'rejectattr')}('role', {self.pick(*map(repr, ['equalto', 'ne', 'eq']))}, {self.pick(*map(repr, ['user', 'tool']))}) | list)",
            lambda: f"({l()} | {self.pick('select', 'reject')}({self.pick(*map(repr, ['string', 'mapping', 'none', 'defined', 'number']))}) | list)",
        ])()

    def of_map(self, depth):
        if depth > 4:
            return self.pick("{}", "{'a': 1}", "messages[0]")
        return self.rng.choice([
            lambda: self.pick("{}", "messages[0]", "messages[-1]", "{'b': 2, 'a': [1], 'C': none}", "dict(x=1, y='z')"),
            lambda: "{" + ", ".join(f"{self.pick(*map(repr, ['a', 'b', 'key', '']))}: {self.expr('any', depth)}" for _ in range(self.pick(0, 1, 2))) + "}",
        ])()

    def slice(self):
        part = lambda: str(self.pick("", "", 0, 1, 2, -1, -2, 5))
        return f"[{part()}:{part()}{self.pick('', '', ':' + self.pick('', '1', '2', '-1', '-2'))}]"

    # ---- statements ----
    def space(self):
        return self.pick("", "", " ", "\n", "  \n", "\n\n", "text", " words here\n", "\t")

    def tag(self, body):
        return "{%" + self.pick("", "", "", "-", "+") + f" {body} " + self.pick("", "", "", "-") + "%}"

    def block(self, depth):
        return "".join(self.space() + self.statement(depth) + self.space() for _ in range(self.pick(1, 1, 2, 3)))

    def statement(self, depth):
        kinds = ["output"] * 4 + ["if", "for", "set", "setblock", "comment", "raw", "filter", "namespace", "macro"]
        kind = "output" if depth > 2 else self.rng.choice(kinds)
        return getattr(self, "make_" + kind)(depth + 1)

    def make_output(self, depth):
        return "{{" + self.pick("", "", "-") + f" {self.expr('any', 1)} " + self.pick("", "", "-") + "}}"

    def make_if(self, depth):
        out = self.tag("if " + self.expr("bool", 2)) + self.block(depth)
        if self.rng.random() < 0.4:
            out += self.tag("elif " + self.expr("bool", 2)) + self.block(depth)
        if self.rng.random() < 0.5:
            out += self.tag("else") + self.block(depth)
        return out + self.tag("endif")

    def make_for(self, depth):
        over, kind = self.pick(("messages", "map"), (self.expr("list", 2), "any"), (self.expr("str", 2), "str"), ("range(3)", "int"))
        name = self.pick("x", "m", "item")
        saved = list(self.names)
        self.names = [n for n in self.names if n[0] != name] + [(name, kind), ("loop.index", "int"), ("loop.last", "bool"), ("loop.index0", "int"), ("loop.length", "int")]
        condition = f" if {self.expr('bool', 3)}" if self.rng.random() < 0.2 else ""
        if "loop" in condition:
            condition = ""
        out = self.tag(f"for {name} in {over}{condition}") + self.block(depth)
        if self.rng.random() < 0.2:
            out += self.tag("if " + self.expr("bool", 3)) + self.tag(self.pick("break", "continue")) + self.tag("endif") + self.space()
        self.names = saved
        if self.rng.random() < 0.2:
            out += self.tag("else") + self.block(depth)
        return out + self.tag("endfor")

    def make_set(self, depth):
        kind = self.pick("str", "int", "list", "bool", "map")
        value = self.expr(kind, 1)
        name = self.pick("p", "q", "r")
        self.names = [n for n in self.names if n[0] != name] + [(name, kind)]
        return self.tag(f"set {name} = {value}")

    def make_setblock(self, depth):
        body = self.block(depth)
        name = self.pick("p", "q", "r")
        filters = self.pick("", "", " | upper", " | trim")
        self.names = [n for n in self.names if n[0] != name] + [(name, "str")]
        return self.tag(f"set {name}{filters}") + body + self.tag("endset")

    def make_comment(self, depth):
        return "{#" + self.pick("", "-") + " a remark " + self.pick("", "-") + "#}"

    def make_raw(self, depth):
        return self.tag("raw") + self.pick("{{ no }}", "{% no %}", " {# no #} ", "") + self.tag("endraw")

    def make_filter(self, depth):
        return self.tag("filter " + self.pick("upper", "trim", "replace('e', '3')", "indent(2)", "lower | trim")) + self.block(depth) + self.tag("endfilter")

    def make_namespace(self, depth):
        return (self.tag(f"set ns = namespace(v={self.expr('int', 3)})") + self.tag(f"for i in range({self.pick(1, 2, 3)})") + self.tag(f"set ns.v = ns.v + i + {self.expr('int', 4)}") +
                self.tag("endfor") + "{{ ns.v }}")

    def make_macro(self, depth):
        saved = self.names
        self.names = [("u", "any"), ("w", "str")]
        body = self.block(depth)
        self.names = saved
        return self.tag("macro f(u, w='dflt')") + body + self.tag("endmacro") + f"{{{{ f({self.expr('any', 3)}{self.pick('', ', w=' + self.expr('str', 3), ', ' + self.expr('str', 3))}) }}}}"


def template(rng):
    out = Grammar(rng).block(0)
    if rng.random() < 0.08:  # a slip of the finger
        at = rng.randrange(len(out))
        out = out[:at] + rng.choice(["", "", "x", " ", "%", "}", "-", "'", "("]) + out[at + 1:]
    return out
