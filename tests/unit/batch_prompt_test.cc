// What a batch tells about a prompt's own tokens: in order, each once, the same figures however the prompt was cut into steps, and as when the model
// chose them itself.
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/batch_world.h"

using namespace batch_world;

namespace {

struct Told {
    Tokens tokens;
    std::vector<float> logprobs;
    std::vector<int32_t> likeliest;
};

// A request that asks for its prompt's logprobs.
struct Echo {
    Ask ask;
    Told told;
    Echo(const Tokens &prompt, int n, bool only = false) : ask(prompt, n) {
        ask.request.n_top_logprobs = 1;
        ask.request.prompt_only = only;
        ask.request.on_prompt = [](void *user, const wtl_batch_token *t) {
            Told &to = owners()[static_cast<Ask *>(user)]->told;
            to.tokens.push_back(t->token);
            to.logprobs.push_back(t->logprob);
            to.likeliest.push_back(t->top[0].token);
        };
        owners()[&ask] = this;
    }
    ~Echo() { owners().erase(&ask); }
    static std::map<Ask *, Echo *> &owners() {
        static std::map<Ask *, Echo *> all;
        return all;
    }
};

TEST(BatchPrompt, EveryTokenOnceWithTheSameFiguresHoweverItIsCut) {
    const Engine &engine = engine_of("llama");
    std::mt19937 rng(11);
    const Tokens prompt = random_tokens(rng, 90);
    Told first;
    for (int n_batch : {3, 16, 128}) {
        Batch b(small(engine, 3, 256, n_batch));
        Echo echo(prompt, 4), other(random_tokens(rng, 50), 4);
        Ask beside(random_tokens(rng, 60), 30);
        b.submit(beside);
        b.submit(echo.ask);
        b.submit(other.ask);
        b.drain();
        EXPECT_EQ(echo.told.tokens, Tokens(prompt.begin() + 1, prompt.end())) << "n_batch " << n_batch;
        EXPECT_EQ(other.told.tokens.size(), 49u);
        EXPECT_EQ(echo.ask.replies[0].tokens.size(), 4u);
        if (first.tokens.empty()) first = echo.told;
        EXPECT_EQ(echo.told.logprobs, first.logprobs) << "n_batch " << n_batch;
    }
}

TEST(BatchPrompt, AsTheModelChoosesThem) {
    const Engine &engine = engine_of("llama");
    std::mt19937 rng(12);
    Batch b(small(engine, 2, 256, 64));
    const Tokens prompt = random_tokens(rng, 40);
    Ask greedy(prompt, 40);
    greedy.request.ignore_eos = true;
    b.submit(greedy);
    b.drain();
    Tokens whole = prompt;
    whole.insert(whole.end(), greedy.replies[0].tokens.begin(), greedy.replies[0].tokens.end());
    for (int round = 0; round < 2; round++) { // cached by now, which must not matter
        Echo echo(whole, 5, true);
        b.submit(echo.ask);
        b.drain();
        ASSERT_EQ(echo.told.likeliest.size(), whole.size() - 1);
        for (size_t i = prompt.size(); i < whole.size(); i++) EXPECT_EQ(echo.told.likeliest[i - 1], whole[i]) << i;
        EXPECT_EQ(echo.ask.replies[0].finish, WTL_FINISH_LENGTH);
        EXPECT_TRUE(echo.ask.replies[0].tokens.empty());
    }
}

TEST(BatchPrompt, NeedsLogprobs) {
    const Engine &engine = engine_of("llama");
    std::mt19937 rng(13);
    Batch b(small(engine, 1));
    Echo echo(random_tokens(rng, 5), 1);
    echo.ask.request.n_top_logprobs = -1;
    wtl_error err = {};
    uint64_t id;
    EXPECT_EQ(wtl_batch_submit(b.b, &echo.ask.request, &id, &err), WTL_ERR_INVALID);
}

} // namespace
