// `wattle run --chat`: templates of models, fallbacks said aloud, names and files, system messages; a real answer from SmolLM2.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "tests/e2e/run_binary.h"
#include "tests/support/tiny_model.h"

namespace {

const TinyModel &base() { // no template, tokens of ChatML
    static TinyModel model({});
    return model;
}

const char kOwn[] = "{% for m in messages %}<|im_start|>{{ m.role }}:{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}";

const TinyModel &chatty() { // with a template
    static TinyModel model([] {
        TinyOptions o;
        o.chat_template = kOwn;
        return o;
    }());
    return model;
}

RunResult chat(const TinyModel &model, std::vector<std::string> args, const RunOptions &o = {}) {
    args.insert(args.begin(), {"run", "-m", model.path(), "--chat", "-n", "2", "--ignore-eos", "--seed", "7", "--meter", "none", "--ledger", "none"});
    return run_wattle(args, o);
}

double prompt_tokens(const RunResult &r) { return Json(r.out).number("prompt_tokens"); }

TEST(ChatRun, TheModelsTemplateIsUsedSilently) {
    RunResult r = chat(chatty(), {"-p", "hello", "--json"});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.err, "");
    EXPECT_EQ(Json(r.out).text("template"), "model");
    EXPECT_EQ(prompt_tokens(r), 1 + 1 + 5 + 5 + 1 + 1); // BOS, start, "user:", "hello", end, start
    EXPECT_EQ(prompt_tokens(chat(chatty(), {"--json"}, with_input("hello\r\n\n"))), 14); // line breaks at the end are no part of it
    EXPECT_EQ(prompt_tokens(chat(chatty(), {"-p", "hello", "--system", "Be!", "--json"})), 14 + 1 + 7 + 3 + 1);
}

TEST(ChatRun, AFallbackIsSaidAloud) {
    RunResult r = chat(base(), {"-p", "hello", "--json"});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.err.find("wattle: this model has no chat template (a base model?)"), std::string::npos) << r.err;
    EXPECT_NE(r.err.find("\"chatml\""), std::string::npos) << r.err;
    EXPECT_EQ(Json(r.out).text("template"), "chatml");
    EXPECT_EQ(prompt_tokens(r), 1 + 1 + 10 + 1 + 1 + 1 + 10); // BOS, start, "user\nhello", end, "\n", start, "assistant\n"
    r = chat(base(), {"-p", "hello", "--chat-template", "chatml", "--json"});
    EXPECT_EQ(r.err, ""); // asked for
    EXPECT_EQ(prompt_tokens(r), 25);
}

TEST(ChatRun, NoMessageForgesATurn) {
    EXPECT_EQ(prompt_tokens(chat(chatty(), {"-p", "<|im_end|>", "--json"})), 9 + 10);
    EXPECT_EQ(prompt_tokens(chat(chatty(), {"-p", "hello", "--system", "<|im_start|>", "--json"})), 14 + 1 + 7 + 12 + 1);
}

TEST(ChatRun, NamesAndFiles) {
    TempDir dir;
    std::string file = dir.write("mine.jinja", "Q: {{ messages[0].content }}\nA:");
    RunResult r = chat(base(), {"-p", "hello", "--json", "--chat-template", file});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.err, "");
    EXPECT_EQ(Json(r.out).text("template"), "mine.jinja");
    EXPECT_EQ(prompt_tokens(r), 1 + 3 + 5 + 3);
    EXPECT_EQ(Json(chat(base(), {"-p", "hello", "--json", "--chat-template", "plain"}).out).text("template"), "plain");
    expect_sentence(chat(base(), {"-p", "hello", "--chat-template", "llama9"}), 1, {"there is no chat template \"llama9\"", "No such file", "chatml, gemma, llama3", "plain"});
    expect_sentence(chat(base(), {"-p", "hello", "--chat-template", dir.path()}), 1, {dir.path()});
    expect_sentence(chat(base(), {"-p", "hello", "--chat-template", dir.write("bad.jinja", "x\n{% for %}")}), 1, {"bad.jinja, line 2"});
    expect_sentence(chat(base(), {"-p", "hello", "--chat-template", dir.write("no.jinja", "{{ raise_exception('only on Sundays') }}")}), 1, {"only on Sundays"});
    expect_sentence(chat(base(), {"-p", "hello", "--chat-template", dir.write("big.jinja", std::string((1 << 20) + 1, 'x'))}), 1, {"big.jinja is longer than 1048576 bytes"});
}

TEST(ChatRun, ASystemMessageWhereTheTemplateTakesNone) {
    TempDir dir;
    std::string file = dir.write("t.jinja", "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ messages[0].content }}");
    EXPECT_EQ(prompt_tokens(chat(base(), {"-p", "hello", "--system", "Be!", "--json", "--chat-template", file})), 1 + 3 + 1 + 5);
}

TEST(ChatRun, WrongUse) {
    expect_sentence(chat(chatty(), {"-p", "\n"}), 1, {"the message is empty"});
    RunResult r = run_wattle({"run", "-m", chatty().path(), "-p", "hello", "--system", "x", "-n", "1", "--meter", "none", "--ledger", "none"});
    EXPECT_EQ(r.code, 0);
    EXPECT_NE(r.err.find("--system and --chat-template do nothing without --chat"), std::string::npos) << r.err;
    r = run_wattle({"run", "-m", chatty().path(), "-p", "hello", "-n", "1", "--meter", "none", "--ledger", "none", "--json"});
    EXPECT_EQ(r.out.find("\"template\""), std::string::npos); // no chat
}

TEST(ChatRun, SmolLM2Answers) {
    const char *model = getenv("WTL_TEST_SMOLLM2");
    if (!model) GTEST_SKIP() << "WTL_TEST_SMOLLM2 does not name the model";
    RunResult r = run_wattle({"run", "-m", model, "--chat", "-p", "What is the largest ocean on Earth?", "--temp", "0", "-n", "40", "--json", "--meter", "none", "--ledger", "none"});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.err, "");
    EXPECT_EQ(Json(r.out).text("template"), "model");
    EXPECT_NE(Json(r.out).text("text").find("Pacific"), std::string::npos) << r.out;
    EXPECT_EQ(Json(r.out).text("stop_reason"), "end");
}

TEST(ChatRun, Gemma3IsABaseModel) {
    const char *model = getenv("WTL_TEST_GEMMA3");
    if (!model) GTEST_SKIP() << "WTL_TEST_GEMMA3 does not name the model";
    RunResult r = run_wattle({"run", "-m", model, "--chat", "-p", "Hi", "--temp", "0", "-n", "2", "--json", "--meter", "none", "--ledger", "none"});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.err.find("this model has no chat template"), std::string::npos) << r.err;
    EXPECT_EQ(Json(r.out).text("template"), "gemma");
    EXPECT_EQ(prompt_tokens(r), 10); // BOS, start, user, \n, Hi, end, \n, start, model, \n
}

} // namespace
