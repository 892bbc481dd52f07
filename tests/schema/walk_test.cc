// What a compiled schema lets through, keyword by keyword, and that whatever it lets through can be completed.
// SPDX-License-Identifier: Apache-2.0
#include "tests/schema/walk_rig.h"

#include <vector>

namespace {

using std::string;
using std::vector;

struct Case {
    const char *schema;
    vector<string> complete, may_end, beginning, no;
};

void check(const vector<Case> &cases) {
    for (const Case &c : cases) {
        Schema schema(c.schema);
        ASSERT_TRUE(schema.ok()) << c.schema << ": " << schema.error.message;
        for (const string &text : c.complete) EXPECT_EQ(schema.judge(text), COMPLETE) << c.schema << " and " << text;
        for (const string &text : c.may_end) EXPECT_EQ(schema.judge(text), MAY_END) << c.schema << " and " << text;
        for (const string &text : c.beginning) EXPECT_EQ(schema.judge(text), BEGINNING) << c.schema << " and " << text;
        for (const string &text : c.no) EXPECT_EQ(schema.judge(text), NO) << c.schema << " and " << text;
        for (uint64_t seed = 0; seed < 20; seed++) EXPECT_NE(schema.random_document(seed), "") << c.schema << ": a dead end with seed " << seed;
    }
}

TEST(Walk, Types) {
    check({
        {R"({"type":"boolean"})", {"true", " false"}, {}, {"tr"}, {"null", "1", "\"", "{", "[", "truex"}},
        {R"({"type":"null"})", {"null"}, {}, {}, {"true", "0"}},
        {R"({"type":"integer"})", {}, {"0", "-12", "123456789012345678"}, {"-"}, {"01", "1.", "1e", "\"", "1234567890123456789"}},
        {R"({"type":"number"})", {}, {"0", "-1.5", "1e9", "2.5E-07"}, {"1.", "1e", "1e+"}, {"00", ".5", "+1", "1e100", "n"}},
        {R"({"type":"string"})", {R"("")", R"("a\u00e9\n")"}, {}, {"\"", R"("\ud83d)"}, {"1", R"("\udc00)", R"("\u0000)", "\"\n"}},
        {R"({"type":["string","null"]})", {"null", R"("x")"}, {}, {}, {"1", "t", "{"}},
        {R"({"type":["integer","number"]})", {}, {"1.5"}, {}, {}},
        {R"({"type":"array"})", {"[]", R"([1, "a", {"b": [null]}])"}, {}, {"["}, {"{", "[,", "[1,]"}},
        {R"({"type":"object"})", {"{}", R"({"a": 1, "b\u0041": [2]})"}, {}, {}, {"[", "{1", "{,"}},
        {"true", {"null", "{}"}, {"1"}, {}, {}},
        {"{}", {R"("a")"}, {"1"}, {}, {}},
        {R"({"title":"T","description":"d","default":1,"examples":[1],"format":"email","type":"string"})", {R"("no address")"}, {}, {}, {"1"}},
    });
}

TEST(Walk, Maps) {
    check({
        {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["a","b"],"additionalProperties":false})",
         {R"({"a":1,"b":""})", R"({ "a" : 1 , "b" : "x" })"}, {}, {R"({"a")", R"({"a":1)", R"({"a":1,")"}, {"{}", R"({"b)", R"({"a":1})", R"({"a":1,"a)", R"({"a":"x)", R"({"c)", R"({"a":1,"b":"","c)"}},
        {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"},"c":{"type":"integer"}},"required":["b"]})",
         {R"({"a":1,"b":2,"c":3})", R"({"b":2})", R"({"b":2,"c":3})"}, {}, {}, {"{}", R"({"c)", R"({"a":1,"c)", R"({"b":2,"a)", R"({"x)", R"({"b":2,"x)"}},
        {R"({"type":"object","properties":{"ab":true},"additionalProperties":{"type":"integer"}})",
         {"{}", R"({"ab":"x"})", R"({"x":1})", R"({"ab":null,"x":1,"y":2})", R"({"abc":1})", R"({"a":1})"}, {}, {R"({"x":1,"ab)"}, {R"({"x":"s)", R"({"x":1,"ab")", R"({"\u)", R"({"\/)"}},
        {R"({"type":"object","properties":{"say \"hi\"\n":{"type":"null"},"\u0001":{"type":"null"},"é":{"type":"null"}},"required":["say \"hi\"\n"],"additionalProperties":false})",
         {R"({"say \"hi\"\n":null})", R"({"say \"hi\"\n":null,"\u0001":null,"é":null})"}, {}, {}, {R"({"say hi)", R"({"\u)"}},
        {R"({"type":"object","additionalProperties":false})", {"{}"}, {}, {}, {"{\""}},
        {R"({"type":"object","required":["k"]})", {R"({"k":1})", R"({"k":1,"l":2})"}, {}, {}, {"{}", R"({"l)"}},
        {R"({"properties":{"a":{"properties":{"b":{"type":"boolean"}},"required":["b"]}},"required":["a"]})", {R"({"a":{"b":true}})"}, {}, {}, {R"({"a":{})", "[", "1"}},
        {R"({"type":"object","properties":{"never":false,"a":{"type":"null"}}})", {"{}", R"({"a":null})"}, {}, {}, {R"({"n)"}},
    });
}

TEST(Walk, Lists) {
    check({
        {R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":2})", {"[1]", "[1, 2]"}, {}, {"[", "[1,"}, {"[]", "[1,2,", "[\"", "[ ]"}},
        {R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":false})", {"[]", "[1]", R"([1,"a"])"}, {}, {}, {R"(["a)", R"([1,"a",)", "[1,2"}},
        {R"({"type":"array","prefixItems":[{"type":"integer"}],"items":{"type":"string"},"minItems":2})", {R"([1,"a"])", R"([1,"a","b"])"}, {}, {}, {"[]", "[1]", "[1,2"}},
        {R"({"type":"array","items":[{"type":"integer"}],"additionalItems":false})", {"[]", "[1]"}, {}, {}, {"[1,"}},
        {R"({"type":"array","items":false})", {"[]"}, {}, {}, {"[1"}},
        {R"({"type":"array","maxItems":0})", {"[]"}, {}, {}, {"[1", "[\""}},
    });
}

TEST(Walk, StringsAndLiterals) {
    check({
        {R"({"type":"string","minLength":2,"maxLength":3})", {R"("ab")", R"("aé€")", R"("\n\u00e9\"")", "\"\xf0\x9f\x98\x80\xf0\x9f\x98\x80\"", R"("\ud83d\ude00b")"}, {}, {R"("a)", R"("\ud83d\ude00)"},
         {R"("")", R"("a")", R"("abcd)", R"("\ud83d\ude00")", "\"abc\xf0", R"("abc\)"}},
        {R"({"enum":["red","reddish",1,12,1.5,null,{"a":[1,"x"]}]})", {R"("red")", R"("reddish")", "null", R"({"a":[1,"x"]})"}, {"1", "12", "1.5"}, {R"("red)"}, {R"("redd")", "2", "123", "13", "true", R"({"a": )"}},
        {R"({"const":"é\n"})", {R"("é\n")"}, {}, {}, {R"("e)", R"("\u)"}},
        {R"({"const":0.1})", {}, {"0.1"}, {}, {"0.10"}},
        {R"({"type":"string","enum":["a",1,"bbb"],"maxLength":2})", {R"("a")"}, {}, {}, {"1", R"("b)"}},
        {R"({"enum":[1,5,50],"minimum":5})", {}, {"5", "50"}, {}, {"1"}},
        {R"({"type":"array","items":{"enum":[1,12]}})", {"[1,12]", "[12 ]"}, {}, {}, {"[13", "[1 2"}},
    });
}

TEST(Walk, NumbersInBounds) {
    check({
        {R"({"type":"integer","minimum":3,"maximum":120})", {}, {"3", "12", "120", "9", "10"}, {"1"}, {"121", "0", "-", "2x", "3.", "1e", "1000", "03"}},
        {R"({"type":"integer","minimum":-5,"exclusiveMaximum":5})", {}, {"-5", "4", "0", "-0"}, {"-"}, {"5", "-6", "-12", "10"}},
        {R"({"type":"integer","minimum":1000})", {}, {"1000", "9999999"}, {"1", "999"}, {"0", "-"}},
        {R"({"type":"number","minimum":0,"maximum":1})", {}, {"0", "1", "0.5", "1.0", "0.999", "-0.0"}, {"0."}, {"1.1", "2", "-0.1", "1e"}},
        {R"({"type":"number","exclusiveMinimum":0.1,"maximum":0.25})", {}, {"0.11", "0.25", "0.2"}, {"0.1", "0.10", "0"}, {"0.0", "0.26", "1", "0.251"}},
        {R"({"type":"number","minimum":0.3,"maximum":0.3})", {}, {"0.3", "0.30"}, {"0."}, {"0.31", "0.2"}},
    });
}

TEST(Walk, Patterns) {
    check({
        {R"({"type":"string","pattern":"^[A-Z]{2}-\\d+$"})", {R"("AB-1")", R"("ZZ-0099")"}, {}, {R"("A)", R"("AB-)"}, {R"("a)", R"("AB1)", R"("AB-")", R"("AB-1x)", R"("\)"}},
        {R"({"type":"string","pattern":"^(foo|ba[rz])?$"})", {R"("")", R"("foo")", R"("baz")"}, {}, {}, {R"("fo")", R"("bax)", R"("foob)"}},
        {R"({"type":"string","pattern":"b"})", {R"("b")", R"("abc")"}, {}, {}, {R"("a")"}},
        {R"({"type":"string","pattern":"^a|b$"})", {R"("ax")", R"("xb")"}, {}, {}, {R"("x")"}},
        {R"({"type":"string","pattern":"^.\\n\"$"})", {R"("x\n\"")"}, {}, {}, {R"("x\r)", R"("xn)"}},
        {R"({"type":"string","pattern":"^[^a-c]+$","maxLength":2})", {R"("de")", R"("é")", R"("\t\"")"}, {}, {}, {R"("a)", R"("dee)", R"("\u)"}},
        {R"({"type":"string","pattern":"^(ab)+$","minLength":3,"maxLength":5})", {R"("abab")"}, {}, {R"("ab)"}, {R"("ab")", R"("ababa)"}},
        {R"({"type":"string","pattern":"^[à-ü]\\u20ac$"})", {R"("é€")"}, {}, {}, {"\"\xc4", "\"a"}},
        {R"({"type":"string","pattern":"^\\w{1,3}?\\s*$"})", {R"("a_9  ")", R"("a")"}, {}, {}, {R"("")", R"("abcd)"}},
    });
}

TEST(Walk, AlternativesAndReferences) {
    check({
        {R"({"anyOf":[{"type":"integer"},{"type":"string","maxLength":1},{"type":"string","enum":["long"]}]})", {R"("a")", R"("long")"}, {"7"}, {R"("lo)"}, {R"("lo")", R"("ab)", "null"}},
        {R"({"type":"array","items":{"anyOf":[{"type":"object","properties":{"k":{"const":"a"},"v":{"type":"integer"}},"required":["k","v"]},{"type":"object","properties":{"k":{"const":"b"}},"required":["k"]}]}})",
         {R"([{"k":"a","v":1},{"k":"b"}])"}, {}, {}, {R"([{"k":"a"})", R"([{"k":"b",)", R"([{"k":"c)"}},
        {R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},"required":["v","next"],"additionalProperties":false}}})",
         {R"({"v":1,"next":null})", R"({"v":1,"next":{"v":2,"next":null}})"}, {}, {}, {R"({"v":1})", R"({"v":1,"next":1)"}},
        {R"({"type":"object","properties":{"children":{"type":"array","items":{"$ref":"#"}}}})", {"{}", R"({"children":[{},{"children":[]}]})"}, {}, {}, {R"({"children":[1)"}},
        {R"({"definitions":{"a/b":{"type":"null"}},"properties":{"x":{"$ref":"#/definitions/a~1b","description":"d"}},"required":["x"]})", {R"({"x":null})"}, {}, {}, {R"({"x":1)"}},
        {R"({"oneOf":[{"type":"integer"},{"type":"string"}]})", {R"("a")"}, {"1"}, {}, {"null"}},
        {R"({"oneOf":[{"$ref":"#/$defs/c"},{"$ref":"#/$defs/d"}],"discriminator":{"propertyName":"t"},"$defs":{"c":{"type":"object","properties":{"t":{"const":"c","default":"c"},"n":{"type":"integer"}}},"d":{"type":"object","properties":{"t":{"const":"d"}}}}})",
         {R"({"t":"c","n":1})", R"({"t":"d"})"}, {}, {}, {"{}", R"({"t":"d",)"}},
        {R"({"allOf":[{"$ref":"#/$defs/base"},{"properties":{"b":{"type":"integer"}},"required":["b"]}],"$defs":{"base":{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}}})",
         {R"({"a":"","b":1})"}, {}, {}, {R"({"a":""})", "{}"}},
        {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"anyOf":[{"required":["a"]},{"required":["b"]}]})", {R"({"a":1})", R"({"b":1})", R"({"a":1,"b":2})"}, {}, {}, {"{}"}},
        {R"({"allOf":[{"type":["integer","string"],"minimum":3},{"type":["number","null"],"maximum":5}]})", {}, {"4"}, {}, {"6", "\"", "n", "4."}},
        {R"({"allOf":[{"type":"object","properties":{"a":true},"additionalProperties":false},{"type":"object","properties":{"b":{"type":"null"}}}]})", {"{}", R"({"a":1})"}, {}, {}, {R"({"b)"}},
        {R"({"type":"string","nullable":true})", {"null", R"("a")"}, {}, {}, {"1"}},
    });
}

// {"schema", place, words}: what cannot be kept is refused by name.
TEST(Schema, RefusesByName) {
    const struct {
        const char *schema, *path, *words;
    } cases[] = {
        {R"({"type":"object","properties":{"a":{"not":{}}}})", ".properties.a.not", "not supported"},
        {R"x({"type":"array","items":{"type":"string","pattern":"^(?=a)"}})x", ".items.pattern", "kind that is not supported"},
        {R"({"pattern":"a("})", ".pattern", "without its end"},
        {R"({"pattern":"\\bword"})", ".pattern", "escape that is not supported"},
        {R"({"pattern":"^a{5}$","maxLength":4})", ".pattern", "fits no string"},
        {R"({"pattern":"(a{1000}){1000}"})", ".pattern", "too large"},
        {R"({"type":"array","uniqueItems":true})", ".uniqueItems", "not supported"},
        {R"({"type":"integer","multipleOf":5})", ".multipleOf", "not supported"},
        {R"({"patternProperties":{"^a":{}}})", ".patternProperties", "not supported"},
        {R"({"type":"text"})", ".type", "null, boolean"},
        {R"({"type":"string","minLength":-1})", ".minLength", "not negative"},
        {R"({"type":"string","minLength":3,"maxLength":2})", ".minLength", "more than maxLength"},
        {R"({"type":"integer","minimum":5,"maximum":4})", ".minimum", "no number"},
        {R"({"type":"integer","minimum":0.2,"maximum":0.8})", ".minimum", "no number"},
        {R"({"type":"number","minimum":1e300})", ".minimum", "beyond"},
        {R"({"enum":[]})", ".enum", "not empty"},
        {R"({"type":"string","const":1})", ".const", "no value"},
        {R"({"$ref":"https://example.com/x"})", ".$ref", "only references inside"},
        {R"({"$ref":"#/$defs/x"})", ".$ref", "leads nowhere"},
        {R"({"allOf":[{"pattern":"a"},{"pattern":"b"}]})", ".pattern", "cannot be combined"},
        {R"({"oneOf":[{"type":"object","properties":{"a":true}},{"type":"object","properties":{"b":true}}]})", ".oneOf", "use anyOf"},
        {R"({"anyOf":[]})", ".anyOf", "not empty"},
        {R"({"properties":{"a":1}})", ".properties.a", "object or a boolean"},
        {R"({"required":"a"})", ".required", "list of names"},
        {"false", "", "no value at all"},
        {R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})", "", "no value at all"},
        {R"({"allOf":[{"type":"string"},{"type":"integer"}]})", "", "no value at all"},
        {R"({"$ref":"#"})", "", "no value at all"},
        {R"({"allOf":[{"$ref":"#"}]})", "", "too"},
        {"3", "", "object or a boolean"},
    };
    for (const auto &c : cases) {
        Schema schema(c.schema);
        EXPECT_FALSE(schema.ok()) << c.schema;
        EXPECT_STREQ(schema.error.path, c.path) << c.schema << ": " << schema.error.message;
        EXPECT_NE(string(schema.error.message).find(c.words), string::npos) << c.schema << ": " << schema.error.message;
    }
}

TEST(Schema, HostileOnesAreBounded) {
    string deep = "true", wide = "{\"type\":\"object\",\"properties\":{", choices = "{\"anyOf\":[", doubling = "{\"$defs\":{\"a0\":{\"type\":\"null\"}";
    for (int i = 0; i < 500; i++) deep = "{\"items\":" + deep + "}";
    for (int i = 0; i < 2000; i++) wide += (i ? ",\"k" : "\"k") + std::to_string(i) + "\":true";
    for (int i = 0; i < 1000; i++) choices += (i ? ",{\"const\":" : "{\"const\":") + std::to_string(i) + "}";
    for (int i = 1; i < 40; i++) { // written out it would have 2^40 parts
        const string before = "{\"$ref\":\"#/$defs/a" + std::to_string(i - 1) + "\"}";
        doubling += ",\"a" + std::to_string(i) + "\":{\"allOf\":[{\"properties\":{\"x\":" + before + "}},{\"properties\":{\"x\":" + before + ",\"y\":" + before + "}}]}";
    }
    for (const string &text : {deep, wide + "}}", choices + "]}", doubling + "},\"$ref\":\"#/$defs/a39\"}"}) {
        Schema schema(text);
        EXPECT_FALSE(schema.ok()) << text.substr(0, 80);
        EXPECT_NE(schema.error.message[0], '\0');
    }
}

TEST(Walk, DeepOnesComeToAnEnd) { // nesting without end is refused before it can no longer be closed
    Schema schema(R"({"type":"object","properties":{"c":{"type":"array","items":{"$ref":"#"},"minItems":1},"d":{"type":"object","properties":{"e":{"type":"array"}},"required":["e"]}},"required":["d"]})");
    ASSERT_TRUE(schema.ok()) << schema.error.message;
    string text;
    while (schema.judge(text + R"({"c":[)") == BEGINNING) text += R"({"c":[)";
    EXPECT_GT(text.size(), 6u * 20);
    EXPECT_EQ(schema.judge(text + R"({"d":{"e":[]}})"), BEGINNING);
}

TEST(Walk, NoMoreBranchesThanItMayHave) { // 2^k readings of one text stay few
    Schema schema(R"({"type":"array","items":{"anyOf":[{"type":"string","maxLength":5},{"type":"string","maxLength":9},{"type":"array","items":{"anyOf":[{"type":"integer"},{"type":"number"}]}}]}})");
    ASSERT_TRUE(schema.ok());
    string text = "[";
    for (int i = 0; i < 200; i++) text += R"("abc",[1,2],)";
    EXPECT_EQ(schema.judge(text + R"("abcdefghi"])"), COMPLETE);
}

} // namespace
