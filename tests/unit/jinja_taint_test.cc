// Marks: every byte that comes from an untrusted text is tainted, through every operation; the author's text is not.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/support/jinja_rig.h"

using jinja_rig::Render;
using jinja_rig::Rendered;

namespace {

TEST(JinjaTaint, MarksFollowTheBytes) {
    struct {
        const char *source, *text, *marks;
    } cases[] = {
        {"<s>{{ x }}</s>", "<s>qQ</s>", "...tt...."},
        {"{{ '<s>' + x + '</s>' }}", "<s>qQ</s>", "...tt...."},
        {"{{ '<s>' ~ x ~ 1 }}", "<s>qQ1", "...tt."},
        {"{{ ('<' + x + '>')[1:3] }}", "qQ", "tt"},
        {"{{ ('<' + x + '>')[::-1] }}", ">Qq<", ".tt."},
        {"{{ ('<' + x + '>')|upper }}", "<QQ>", ".tt."},
        {"{{ ('a' + x + 'a').split('q')|join }}", "aQa", ".t."},
        {"{{ '-'.join([x, 'a', x]) }}", "qQ-a-qQ", "tt...tt"},
        {"{{ [x, 'a']|join('|') }}", "qQ|a", "tt.."},
        {"{{ 'a-b'|replace('-', x) }}", "aqQb", ".tt."},
        {"{{ ('<' ~ x)|replace('<', '<<') }}", "<<qQ", "..tt"},
        {"{{ '<%s>' % x }}", "<qQ>", ".tt."},
        {"{{ '<{}>'.format(x) }}", "<qQ>", ".tt."},
        {"{{ '<{0:>3}>'.format(x) }}", "< qQ>", "..tt."},
        {"{{ x * 2 }}", "qQqQ", "tttt"},
        {"{{ x|tojson }}", "\"qQ\"", "tttt"},
        {"{{ {'a': x}|tojson }}", "{\"a\": \"qQ\"}", "......tttt."},
        {"{{ 'ab'|indent(1) ~ ('\n' ~ x)|indent(1) }}", "ab\n qQ", "....tt"},
        {"{{ '%c%c' % (113, 81) }}", "qQ", "tt"},
        {"{% set ns = namespace(s='') %}{% for i in range(3) %}{% set ns.s = ns.s + 'a' + x %}{% endfor %}{{ ns.s }}", "aqQaqQaqQ", ".tt.tt.tt"},
        {"{% macro m(v) %}<{{ v }}{{ caller() if caller }}>{% endmacro %}{{ m(x) }}{% call m('') %}{{ x }}{% endcall %}", "<qQ><qQ>", ".tt..tt."},
        {"{% set y %}<{{ x }}>{% endset %}{{ y }}", "<qQ>", ".tt."},
        {"{% filter upper %}a{{ x }}{% endfilter %}", "AQQ", ".tt"},
        {"{{ d.keys()|join }}{{ d|first }}{% for k in d %}{{ k }}{% endfor %}", "qqq", "ttt"},
        {"{{ {'a': 'b'}[k] }}{{ k }}", "ba", ".t"},
    };
    for (const auto &c : cases) {
        Rendered r = Render(c.source, R"({"x": "qQ", "k": "a", "d": {"q": 1}})");
        EXPECT_EQ(r.text, c.text) << c.source << "\n" << r.error;
        EXPECT_EQ(r.marks, c.marks) << c.source << "\n" << r.text;
    }
}

// No literal of these templates has a q: each one in the output is the user's, whatever was done to it.
TEST(JinjaTaint, NoUntrustedByteGetsOutUnmarked) {
    const char *values = R"({"x": "qQ qq\n\tq<q>'q\"\\é", "l": ["q", "Qa", "qb"], "d": {"q": "Q", "z": {"qq": ["q", {"k": "q"}]}}, "m": [{"r": "q", "c": "q1"}, {"r": "Q", "c": "q2"}], "w": "{}q%s"})";
    const char *operations[] = {
        "x", "x|upper", "x|lower", "x|title", "x|capitalize", "x.swapcase()", "x.title()", "x.casefold()", "x.capitalize()", "x|trim", "x.strip('\\n')", "x[1:]", "x[::-1]", "x[0]", "x[::3]", "x|reverse",
        "x|list", "x|list|join('-')", "x.split()", "x.split('<')", "x.rsplit('<', 1)", "x.splitlines()", "x.partition(' ')", "x.rpartition(' ')", "x|replace('e', 'f')", "'aXa'|replace('X', x)",
        "'a'.replace('', x)", "x.replace('<', x, 1)", "x|indent", "x|indent(x)", "'a\nb'|indent(x)", "x|truncate(6)", "x|truncate(6, true, '')", "('a' * 40)|truncate(30, true, x, 0)", "x|center(40)", "x.center(40, 'w')",
        "'a'.center(9, x[0])", "x.ljust(30, x[0])", "x.zfill(40)", "x.expandtabs()", "x|e", "x|forceescape", "x|safe", "(x|safe) + x", "x|urlencode", "d|urlencode", "x|tojson", "x|tojson(ensure_ascii=true)", "d|tojson", "d|tojson(indent=2)",
        "d|tojson(indent=x)", "d|tojson(separators=(x, x))", "m|tojson(sort_keys=true)", "x|string", "[x]", "[x]|string", "(x, x)", "{x: x}", "d", "m", "d.items()", "d.keys()", "d.values()", "d|dictsort", "l|sort", "l|sort(reverse=true)", "l|unique|list",
        "l|join(x)", "x.join(l)", "l|map('upper')|list", "m|map(attribute='c')|list", "m|map(attribute='zz', default=x)|list", "m|selectattr('r', 'eq', 'q')|list", "l|select('in', x)|list", "l|batch(2)|list", "l|batch(2, x)|list", "l|slice(2)|list",
        "m|groupby('r')", "l|first", "l|last", "l|min", "l|max", "l|sum(start=[])|string if false else l", "x ~ 1", "'a' ~ x", "'a' + x", "x + 'a'", "x * 3", "'%s' % x", "'%r' % x", "'%a' % x", "'%10s|%-10s' % (x, x)", "'%(k)s' % {'k': x}", "x[:2] ~ '%s' % 1",
        "'{}'.format(x)", "'{!r}'.format(x)", "'{:>30}'.format(x)", "'{:{f}>30}'.format('a', f=x[0])", "'{k}'.format(k=x)", "'{0[z]}'.format(d)", "w.format(x)", "w % x", "w|format(x)", "'%s'|format(x)", "foo|default(x)", "none or x", "x and x", "x if true else 1", "dict(a=x)", "dict(d)",
        "namespace(a=x)", "namespace(a=x).a", "cycler(x, x).next()", "x.removeprefix('w')", "x.removesuffix('w')", "l|reverse|list", "d|list", "d|items|list", "d.get('z')", "d.pop", "x is defined and x", "(x, 1)[0]", "[x][-1]", "{'a': x}.a", "l + l", "l * 2", "x|wordcount ~ x",
        "strftime_now(x)", "x.encode", "x.lstrip(' ')", "(x ~ 'a')|upper|lower|title|replace('a', x)|list|join|tojson|e", "'%c' % x[0]", "'%5c' % x[0]", "undefined_thing ~ x"};
    size_t seen = 0;
    for (const char *operation : operations) {
        Rendered r = Render("{{ " + std::string(operation) + " }}", values);
        ASSERT_EQ(r.status, WTL_OK) << operation << ": " << r.error;
        for (size_t i = 0; i < r.text.size(); i++) {
            if (r.text[i] != 'q' && r.text[i] != 'Q') continue;
            seen++;
            // "unquoted" words of our own would be the only other source: there are none.
            EXPECT_EQ(r.marks[i], 't') << operation << " gave " << r.text << " at " << i;
        }
    }
    EXPECT_GT(seen, 800u);
}

TEST(JinjaTaint, TrustedValuesStayTrusted) {
    Rendered r = Render("{{ x|upper ~ [x] ~ x|tojson }}", R"({"x": "ab"})", nullptr, true);
    EXPECT_EQ(r.text, "AB['ab']\"ab\"");
    EXPECT_EQ(r.marks, std::string(r.text.size(), '.'));
}

} // namespace
