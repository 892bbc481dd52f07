// The text of a reply: however it is cut into tokens, the same answer and reasoning come out, and nothing of a stop string ever does.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>
extern "C" {
#include "tools/serve/reply_text.h"
}

namespace {

using std::string;
using std::vector;

struct Rig {
    vector<string> stops;
    bool tags = false, thinks = false;
};

struct Result {
    string content, reasoning, stopped;
    bool operator==(const Result &other) const { return content == other.content && reasoning == other.reasoning && stopped == other.stopped; }
};

// Feeds the pieces and looks after each that what was released only grows.
Result feed(const Rig &setup, const vector<string> &pieces) {
    vector<const char *> stops;
    for (const string &s : setup.stops) stops.push_back(s.c_str());
    reply_text t{};
    t.stops = stops.data();
    t.n_stops = stops.size();
    if (setup.tags) t.think_open = "<think>", t.think_close = "</think>";
    t.thinks = setup.thinks;
    reply_text_begin(&t);
    string content, reasoning;
    auto look = [&] {
        string now_content(t.content.bytes ? t.content.bytes : "", t.content.len), now_reasoning(t.reasoning.bytes ? t.reasoning.bytes : "", t.reasoning.len);
        EXPECT_EQ(now_content.compare(0, content.size(), content), 0);
        EXPECT_EQ(now_reasoning.compare(0, reasoning.size(), reasoning), 0);
        content = now_content;
        reasoning = now_reasoning;
    };
    for (const string &p : pieces) {
        reply_text_push(&t, p.data(), p.size());
        look();
    }
    reply_text_finish(&t);
    look();
    EXPECT_FALSE(reply_text_failed(&t));
    Result r{content, reasoning, t.stopped ? t.stopped : ""};
    reply_text_free(&t);
    return r;
}

vector<string> cut(std::mt19937_64 &random, const string &text) {
    vector<string> pieces;
    for (size_t at = 0; at < text.size();) {
        size_t n = 1 + random() % (random() % 4 == 0 ? 12 : 3);
        pieces.push_back(text.substr(at, n));
        at += n;
    }
    return pieces;
}

TEST(ReplyText, Plain) {
    EXPECT_EQ(feed({}, {"Hel", "lo"}), (Result{"Hello", "", ""}));
    EXPECT_EQ(feed({}, {"a\xe2\x82", "\xac", "b"}), (Result{"a\xe2\x82\xac" "b", "", ""}));
    EXPECT_EQ(feed({}, {"a\xe2\x82"}), (Result{"a\xef\xbf\xbd", "", ""}));
    EXPECT_EQ(feed({}, {}), (Result{"", "", ""}));
}

TEST(ReplyText, StopStrings) {
    EXPECT_EQ(feed({{"END"}}, {"abE", "N", "Dxyz"}), (Result{"ab", "", "END"}));
    EXPECT_EQ(feed({{"END"}}, {"abE", "N"}), (Result{"abEN", "", ""})) << "held back, released at the end";
    EXPECT_EQ(feed({{"END"}}, {"END"}), (Result{"", "", "END"}));
    EXPECT_EQ(feed({{"bcd", "c"}}, {"abcd"}), (Result{"ab", "", "c"})) << "c was complete first";
    EXPECT_EQ(feed({{"c", "bc"}}, {"abc"}), (Result{"a", "", "bc"})) << "complete together: the longer";
    EXPECT_EQ(feed({{"aab"}}, {"a", "a", "a", "b"}), (Result{"a", "", "aab"}));
    EXPECT_EQ(feed({{"\xe2\x82\xac"}}, {"5\xe2", "\x82", "\xac!"}), (Result{"5", "", "\xe2\x82\xac"}));
}

TEST(ReplyText, ReasoningApart) {
    const Rig tags{{}, true, false}, open{{}, true, true};
    EXPECT_EQ(feed(tags, {"<think>\nhm, \n</think>\n\nYes."}), (Result{"Yes.", "hm,", ""}));
    EXPECT_EQ(feed(tags, {"\n<thi", "nk>hm</th", "ink>Yes."}), (Result{"Yes.", "hm", ""}));
    EXPECT_EQ(feed(open, {"hm</think>Yes."}), (Result{"Yes.", "hm", ""}));
    EXPECT_EQ(feed(open, {"hm"}), (Result{"", "hm", ""}));
    EXPECT_EQ(feed(tags, {"  Yes."}), (Result{"  Yes.", "", ""})) << "no tag: white space stays";
    EXPECT_EQ(feed(tags, {"<thin ice"}), (Result{"<thin ice", "", ""}));
    EXPECT_EQ(feed(tags, {"<thi"}), (Result{"<thi", "", ""}));
    EXPECT_EQ(feed(tags, {"a <think>b</think>"}), (Result{"a <think>b</think>", "", ""})) << "only at the front";
    EXPECT_EQ(feed(tags, {"<think>\n\n</think>\n\nYes."}), (Result{"Yes.", "", ""}));
    EXPECT_EQ(feed({{}, false, false}, {"<think>a</think>b"}), (Result{"<think>a</think>b", "", ""}));
    EXPECT_EQ(feed({{"stop"}, true, false}, {"<think>a stop b</think>c"}), (Result{"", "a", "stop"}));
}

// What a reader who sees the whole text at once would say.
size_t earliest_end(const string &text, const vector<string> &stops, string *which) {
    for (size_t end = 1; end <= text.size(); end++) {
        which->clear();
        for (const string &s : stops)
            if (end >= s.size() && text.compare(end - s.size(), s.size(), s) == 0 && s.size() > which->size()) *which = s;
        if (!which->empty()) return end - which->size();
    }
    return text.size();
}

TEST(ReplyText, AnyCutGivesTheSame) {
    const uint64_t seed = std::random_device{}();
    std::mt19937_64 random(seed);
    const vector<string> parts = {"a", "b", "ab", "<think>", "</think>", "<th", "ink>", "</", "\n", " ", "\xc3\xa9", "\xf0\x9f\x8c\xbf", "\xe2\x82\xac", "STOP", "ST", "x"};
    size_t n_stopped = 0, n_reasoned = 0;
    for (int round = 0; round < 4000; round++) {
        Rig setup;
        for (uint64_t n = random() % 4; n > 0; n--) {
            string stop;
            for (uint64_t k = 1 + random() % 2; k > 0; k--) stop += parts[random() % parts.size()];
            setup.stops.push_back(stop);
        }
        setup.tags = random() % 2;
        setup.thinks = setup.tags && random() % 3 == 0;
        string text;
        if (setup.tags && random() % 2) text = "<think>";
        for (uint64_t n = random() % 14; n > 0; n--) text += parts[random() % parts.size()];
        const Result whole = feed(setup, {text});
        ASSERT_EQ(feed(setup, cut(random, text)), whole) << "seed " << seed << " text " << text;
        string which;
        const size_t end = earliest_end(text, setup.stops, &which);
        ASSERT_EQ(whole.stopped, which) << "seed " << seed << " text " << text;
        if (!setup.tags) {
            ASSERT_EQ(whole.content, text.substr(0, end)) << "seed " << seed;
        }
        n_stopped += !which.empty();
        n_reasoned += !whole.reasoning.empty();
    }
    EXPECT_GT(n_stopped, 200u);
    EXPECT_GT(n_reasoned, 200u);
}

} // namespace
