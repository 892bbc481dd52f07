// The prefix cache of the built server: cached_tokens is the longest common prefix worked out by hand, answers are the same bits with and
// without it, memory stays within its bound, and what was kept survives a restart but not damage.
// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/serve_rig.h"

namespace {

using Tokens = std::vector<int64_t>;

// What the server reads for these messages, start token included.
Tokens prompt_tokens(const ServerRig &server, const std::string &messages) {
    auto prompt = parse_json(server.post("/apply-template", "{\"messages\": [" + messages + "]}").body);
    json_t *ask = json_pack("{s:O, s:b}", "content", dig(prompt.get(), "prompt"), "add_special", 1);
    char *text = json_dumps(ask, 0);
    Json got(server.post("/tokenize", text).body);
    free(text);
    json_decref(ask);
    return got.integers("tokens");
}
size_t common(const Tokens &a, const Tokens &b) {
    size_t n = 0;
    while (n < a.size() && n < b.size() && a[n] == b[n]) n++;
    return n;
}

// What came of a request, and the tokens whose keys and values it left behind: all but the last one chosen.
struct Answer {
    std::string text, logprobs;
    int64_t cached = -1, prompt = -1;
    Tokens kept;
};
Answer ask(const ServerRig &server, const std::string &messages, const std::string &more = "") {
    Answer a;
    HttpReply r = server.post("/v1/chat/completions", chat_body(messages, std::string(kLetters) + R"(, "max_tokens": 10, "temperature": 0, "logprobs": true, "top_logprobs": 2)" + more));
    EXPECT_EQ(r.status, 200) << r.body;
    auto o = parse_json(r.body);
    a.text = dig_text(o.get(), "choices.0.message.content");
    char *text = json_dumps(dig(o.get(), "choices.0.logprobs"), 0);
    a.logprobs = text ? text : "";
    free(text);
    a.cached = (int64_t)dig_number(o.get(), "usage.prompt_tokens_details.cached_tokens");
    a.prompt = (int64_t)dig_number(o.get(), "usage.prompt_tokens");
    EXPECT_EQ(dig_number(o.get(), "timings.cache_n"), (double)a.cached);
    EXPECT_EQ(dig_number(o.get(), "usage.energy.cached.tokens"), (double)a.cached);
    a.kept = prompt_tokens(server, messages);
    EXPECT_EQ(a.prompt, (int64_t)a.kept.size()) << "/apply-template and /tokenize show what is read";
    for (size_t i = 0; i + 1 < a.text.size(); i++) a.kept.push_back((unsigned char)a.text[i]);
    return a;
}

// Conversations as people have them; for each, how many tokens the cache must give, and the answers.
std::vector<Answer> converse(const ServerRig &server, bool with_cache) {
    std::vector<Answer> all;
    auto turn = [&](const char *what, const std::string &messages) {
        Tokens prompt = prompt_tokens(server, messages);
        size_t wanted = 0; // the last token of a prompt is always read: its logits choose the first of the answer
        for (const Answer &a : all) wanted = std::max(wanted, std::min(common(a.kept, prompt), prompt.size() - 1));
        all.push_back(ask(server, messages));
        EXPECT_EQ(all.back().cached, with_cache ? (int64_t)wanted : 0) << what;
        return all.back();
    };
    const std::string system = says("system", "You answer questions about ships and harbours in few words."), first = system + "," + says("user", "How long is a knot?");
    Answer one = turn("cold", first);
    Answer two = turn("second turn", first + "," + says("assistant", one.text) + "," + says("user", "And a mile?"));
    if (with_cache) {
        EXPECT_GE(two.cached, one.prompt + 9) << "the answer counts too";
    }
    Answer other = turn("another user, the same system prompt", system + "," + says("user", "Where is Kiel?"));
    if (with_cache) {
        EXPECT_GT(other.cached, 60);
        EXPECT_LT(other.cached, 100);
    }
    Answer again = turn("regenerate", first);
    if (with_cache) {
        EXPECT_EQ(again.cached, again.prompt - 1);
    }
    EXPECT_EQ(again.text, one.text);
    EXPECT_EQ(again.logprobs, one.logprobs);
    turn("edited", system + "," + says("user", "How long is a rope?") + "," + says("assistant", one.text) + "," + says("user", "And a mile?"));
    turn("nothing in common but the start", says("user", "Hi"));
    return all;
}

TEST(ServeCache, CountsTheLongestCommonPrefixAndChangesNoBit) {
    TinyModel model(chat_options());
    ServerRig with(model.path(), {"--meter", "none"}), without(model.path(), {"--meter", "none", "--no-prefix-cache"});
    std::vector<Answer> a = converse(with, true), b = converse(without, false);
    ASSERT_EQ(a.size(), b.size());
    int64_t cached = 0;
    for (size_t i = 0; i < a.size(); i++) {
        EXPECT_EQ(a[i].text, b[i].text) << i;
        EXPECT_EQ(a[i].logprobs, b[i].logprobs) << i;
        EXPECT_NE(a[i].logprobs, "");
        cached += a[i].cached;
    }
    EXPECT_EQ(metric(with.get("/metrics").body, "wattle_tokens_total{model=\"" + dig_text(parse_json(with.get("/v1/models").body).get(), "data.0.id") + "\",kind=\"prompt_cached\"}"), (double)cached);
}

TEST(ServeCache, ManyAtOnceOverOneSystemPrompt) {
    TinyModel model(chat_options());
    ServerRig server(model.path(), {"--meter", "none", "-np", "4"});
    auto messages = [](int i) { return says("system", std::string(150, 's')) + "," + says("user", "question " + std::to_string(i)); };
    std::vector<Answer> alone, together(8);
    for (int i = 0; i < 8; i++) alone.push_back(ask(server, messages(i)));
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; i++) threads.emplace_back([&, i] { together[(size_t)i] = ask(server, messages(i)); });
    for (auto &t : threads) t.join();
    for (size_t i = 0; i < 8; i++) {
        EXPECT_EQ(together[i].text, alone[i].text);
        EXPECT_EQ(together[i].logprobs, alone[i].logprobs);
        EXPECT_EQ(together[i].cached, together[i].prompt - 1);
    }
}

TEST(ServeCache, StaysWithinItsMemoryAndForgetsTheOldest) {
    TinyModel model(chat_options()); // 512 bytes of keys and values for a token: 1 MiB is 2048 tokens
    ServerRig server(model.path(), {"--meter", "none", "--kv-memory", "1", "-np", "1"});
    auto distinct = [](int i) { return says("user", std::to_string(i) + std::string(400, (char)('a' + i))); };
    double blocks = -1;
    for (int i = 0; i < 12; i++) {
        EXPECT_LT(ask(server, distinct(i)).cached, 10);
        std::string m = server.get("/metrics").body;
        EXPECT_LE(metric(m, "wattle_kv_bytes"), 1 << 20);
        EXPECT_GT(metric(m, "wattle_kv_bytes"), 1 << 18);
        double n = metric(m, "wattle_kv_blocks{state=\"used\"}") + metric(m, "wattle_kv_blocks{state=\"cached\"}") + metric(m, "wattle_kv_blocks{state=\"free\"}");
        if (blocks < 0) blocks = n;
        EXPECT_EQ(n, blocks) << "no block is lost";
    }
    EXPECT_GT(metric(server.get("/metrics").body, "wattle_kv_evicted_blocks_total"), 0);
    EXPECT_GT(ask(server, distinct(11)).cached, 400);
    EXPECT_LT(ask(server, distinct(0)).cached, 10);
}

TEST(ServeCache, SurvivesARestartButNotDamage) {
    TinyModel model(chat_options());
    TempDir dir;
    const std::string kept = dir.path("kept"), messages = says("user", std::string(200, 'q'));
    const std::vector<std::string> args = {"--meter", "none", "--kv-dir", kept};
    Answer first;
    for (int run = 0; run < 4; run++) {
        if (run >= 2) { // damaged in the middle, then cut short
            int n = 0;
            for (auto &f : std::filesystem::directory_iterator(kept)) {
                const std::string path = f.path();
                std::string bytes = read_whole(path);
                if (run == 2) bytes[bytes.size() / 2] = (char)(bytes[bytes.size() / 2] ^ 0x55);
                else bytes.resize(bytes.size() / 3);
                std::ofstream(path, std::ios::binary) << bytes;
                n++;
            }
            ASSERT_EQ(n, 1);
        }
        ServerRig server(model.path(), args);
        Answer a = ask(server, messages);
        if (run == 0) first = a;
        EXPECT_EQ(a.cached, run == 1 ? a.prompt - 1 : 0) << run << server.log();
        EXPECT_EQ(a.logprobs, first.logprobs);
        EXPECT_EQ(server.log().find("cached tokens were not loaded") != std::string::npos, run >= 2) << server.log();
        server.signal(SIGTERM);
        EXPECT_EQ(server.wait_exit(), 0);
        EXPECT_EQ(server.log().find("not saved"), std::string::npos) << server.log();
    }
}

} // namespace
