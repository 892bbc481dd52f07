// Any map ({"type": "object"}, response_format json_object) against jansson: prefixes of documents pass, and what is called complete is what
// the reader reads.
// SPDX-License-Identifier: Apache-2.0
#include "tests/schema/walk_rig.h"

#include <vector>

namespace {

using std::string;

const Schema &any_map() {
    static const Schema schema(R"({"type":"object"})");
    return schema;
}

Verdict judge(const string &text) { return any_map().judge(text); }

bool jansson_reads(const string &text) {
    json_error_t err;
    json_t *value = json_loadb(text.data(), text.size(), 0, &err);
    const bool map = json_is_object(value);
    json_decref(value);
    return map;
}

// Random documents inside the automaton's bounds, also after one byte was inserted.
struct Writer {
    std::mt19937_64 random;
    explicit Writer(uint64_t seed) : random(seed) {}
    uint64_t below(uint64_t n) { return random() % n; }
    string space() { return below(5) ? "" : string(1, " \n\t\r"[below(4)]); }
    string text() {
        static const std::vector<string> parts = {"a", "Z", " ", "{", "}", "[", ",", ":", "\\\"", "\\\\", "\\/", "\\n", "\\u00e9", "\\uD83C\\uDf3F", "\xc3\xa9", "\xe2\x82\xac",
                                                  "\xf0\x9f\x8c\xbf", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf", "\x7f", "\\uffff", "\\u0001"};
        string s = "\"";
        for (uint64_t n = below(5); n > 0; n--) s += parts[below(parts.size())];
        return s + "\"";
    }
    string number() {
        string s = below(3) ? "" : "-";
        s += below(3) ? std::to_string(1 + below(99999)) : "0";
        if (!below(3)) s += "." + std::to_string(below(9999));
        if (!below(4)) s += string(1, "eE"[below(2)]) + (below(2) ? "" : string(1, "+-"[below(2)])) + std::to_string(below(9));
        return s;
    }
    string value(int depth) {
        switch (below(depth > 4 ? 5 : 7)) {
        case 0: return text();
        case 1: return number();
        case 2: return "true";
        case 3: return "false";
        case 4: return "null";
        case 5: {
            string s = "[" + space();
            for (uint64_t i = 0, n = below(4); i < n; i++) s += (i ? "," : "") + space() + value(depth + 1) + space();
            return s + "]";
        }
        default: return map(depth + 1);
        }
    }
    string map(int depth) {
        string s = "{" + space();
        for (uint64_t i = 0, n = below(4); i < n; i++) s += (i ? "," : "") + space() + text() + space() + ":" + space() + value(depth) + space();
        return s + "}";
    }
};

TEST(AnyMap, EveryBeginningOfADocumentPasses) {
    const uint64_t seed = std::random_device{}();
    Writer writer(seed);
    for (int round = 0; round < 3000; round++) {
        const string text = writer.map(0);
        ASSERT_TRUE(jansson_reads(text)) << "seed " << seed << ": " << text;
        json_walk *walk = json_walk_new(any_map().get());
        for (size_t i = 0; i < text.size(); i++) {
            ASSERT_FALSE(json_walk_complete(walk)) << "seed " << seed << ": " << text.substr(0, i);
            ASSERT_TRUE(json_walk_push(walk, &text[i], 1, nullptr)) << "seed " << seed << ": " << text.substr(0, i + 1);
        }
        ASSERT_TRUE(json_walk_complete(walk)) << "seed " << seed << ": " << text;
        json_walk_free(walk);
    }
}

bool has_long_exponent(const string &text) {
    for (size_t i = 0; i < text.size(); i++) {
        if ((text[i] | 0x20) != 'e') continue;
        size_t k = i + 1;
        if (k < text.size() && (text[k] == '+' || text[k] == '-')) k++;
        size_t n = 0;
        while (k + n < text.size() && isdigit((unsigned char)text[k + n])) n++;
        if (n > JSON_WALK_EXP_DIGITS) return true;
    }
    return false;
}

TEST(AnyMap, DamagedDocumentsAsTheReaderSees) {
    const uint64_t seed = std::random_device{}();
    Writer writer(seed);
    static const string bytes = "{}[],:\"\\0123456789eE+-.tfnulx \n\x01\x80\xc3\xe2\xed\xf4\xff/D8";
    size_t n_read = 0, n_refused = 0;
    for (int round = 0; round < 20000; round++) {
        string text = writer.map(0);
        const size_t at = writer.below(text.size());
        const char byte = bytes[writer.below(bytes.size())];
        switch (writer.below(4)) {
        case 0: text[at] = byte; break;
        case 1: text.erase(at, 1); break;
        case 2: text.insert(at, 1, byte); break;
        default: std::swap(text[at], text[writer.below(text.size())]); break;
        }
        if (has_long_exponent(text)) continue; // see Bounds
        const bool reads = jansson_reads(text);
        // White space around a document is none of the automaton's: it ends with the last brace.
        if (reads && (isspace((unsigned char)text.back()))) continue;
        ASSERT_EQ(judge(text) == COMPLETE, reads) << "seed " << seed << ": " << text;
        (reads ? n_read : n_refused)++;
    }
    EXPECT_GT(n_read, 500u);
    EXPECT_GT(n_refused, 5000u);
}

TEST(AnyMap, Bounds) {
    EXPECT_EQ(judge(" \n{"), BEGINNING);
    EXPECT_EQ(judge("   {"), NO) << "white space without end";
    EXPECT_EQ(judge("{" + string(6, ' ') + "\"a\""), BEGINNING);
    EXPECT_EQ(judge("{" + string(7, ' ')), NO);
    string deep = "{\"a\":";
    for (int i = 1; i < JSON_WALK_DEPTH; i++) deep += "[";
    EXPECT_EQ(judge(deep), BEGINNING);
    EXPECT_EQ(judge(deep + "["), NO);
    EXPECT_EQ(judge(deep + "{"), NO);
    string closed = deep;
    for (int i = 1; i < JSON_WALK_DEPTH; i++) closed += "]";
    EXPECT_EQ(judge(closed + "}"), COMPLETE);
    EXPECT_EQ(judge("{\"a\":" + string(JSON_WALK_INT_DIGITS, '9') + "}"), COMPLETE);
    EXPECT_TRUE(jansson_reads("{\"a\":-" + string(JSON_WALK_INT_DIGITS, '9') + "}"));
    EXPECT_EQ(judge("{\"a\":" + string(JSON_WALK_INT_DIGITS + 1, '9')), NO);
    EXPECT_EQ(judge("{\"a\":1." + string(JSON_WALK_FRAC_DIGITS + 1, '9')), NO);
    EXPECT_TRUE(jansson_reads("{\"a\":" + string(JSON_WALK_INT_DIGITS, '9') + "e99}"));
    EXPECT_EQ(judge("{\"a\":1e100"), NO);
}

TEST(AnyMap, OnlyAMapAndNothingBehindIt) {
    for (const char *text : {"[", "1", "\"a\"", "t", "x", "}"}) EXPECT_EQ(judge(text), NO) << text;
    EXPECT_EQ(judge("{}"), COMPLETE);
    EXPECT_EQ(judge("{} "), NO);
    EXPECT_EQ(judge("{}{"), NO);
    EXPECT_EQ(judge(""), BEGINNING);
}

TEST(AnyMap, NoDeadEnds) { // whatever passes can be completed: refused as soon as it cannot
    EXPECT_EQ(judge("{\"\\ud8"), BEGINNING);
    EXPECT_EQ(judge("{\"\\udc"), NO) << "a low surrogate alone";
    EXPECT_EQ(judge("{\"\\ud83cx"), NO);
    EXPECT_EQ(judge("{\"\\ud83c\\n"), NO);
    EXPECT_EQ(judge("{\"\\ud83c\""), NO);
    EXPECT_EQ(judge("{\"\\ud83c\\ud8"), NO);
    EXPECT_EQ(judge("{\"\\ud83c\\uDF3f\":0}"), COMPLETE);
    EXPECT_EQ(judge("{\"\\u000"), BEGINNING);
    EXPECT_EQ(judge("{\"\\u0000"), NO);
    EXPECT_EQ(judge("{\"\xe0\x80"), NO);
    EXPECT_EQ(judge("{\"\xed\xa0"), NO);
    EXPECT_EQ(judge("{\"\xc1"), NO);
}

} // namespace
