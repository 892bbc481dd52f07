// Chats: which template is taken, what the built-in ones write, BOS, thoughts, stop texts, refusals.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat.h"

#include <gtest/gtest.h>

#include <memory>

#include "runtime/base/alloc.h"
#include "tests/support/chat_input.h"
#include "tests/support/tiny_vocab.h"

namespace {

struct VocabClose {
    void operator()(wtl_vocab *v) const { wtl_vocab_close(&v); }
};
using Vocab = std::unique_ptr<wtl_vocab, VocabClose>;

Vocab OpenVocab(const GgufWriter &w) {
    TempFile file(w.build());
    wtl_vocab *v = nullptr;
    wtl_error err;
    EXPECT_EQ(wtl_vocab_open(file.path(), &v, &err), WTL_OK) << err.message;
    return Vocab(v);
}

// A byte-level vocabulary with these control tokens.
Vocab Bpe(const std::vector<std::string> &controls, const std::string &chat_template = "", bool adds_bos = false) {
    TinyVocab v = TinyBpe();
    int32_t bos = v.add("<bos>", 3), eos = v.add("<eos>", 3);
    for (const auto &c : controls)
        if (v.find(c) < 0) v.add(c, 3);
    GgufWriter w = v.writer("gpt2", "gpt-2");
    w.u32("tokenizer.ggml.bos_token_id", bos).u32("tokenizer.ggml.eos_token_id", eos).boolean("tokenizer.ggml.add_bos_token", adds_bos);
    if (!chat_template.empty()) w.str("tokenizer.chat_template", chat_template);
    return OpenVocab(w);
}

int32_t IdOf(const Vocab &v, const std::string &name) {
    int32_t id = -1;
    size_t n = 0;
    wtl_error err;
    wtl_tokenize(v.get(), name.data(), name.size(), WTL_PARSE_SPECIAL, &id, 1, &n, &err);
    return n == 1 ? id : -1;
}

struct Chat {
    explicit Chat(const Vocab &vocab, const char *name = nullptr, const char *source = nullptr) {
        wtl_chat_options o = {};
        o.vocab = vocab.get();
        o.name = name;
        o.source = source;
        o.source_len = source ? strlen(source) : 0;
        status = wtl_chat_open(&o, &get, &err);
        if (!status) info = wtl_chat_describe(get);
    }
    ~Chat() { wtl_chat_close(&get); }
    Chat(const Chat &) = delete;
    Chat &operator=(const Chat &) = delete;
    wtl_chat *get = nullptr;
    wtl_status status;
    wtl_error err = {};
    wtl_chat_info info = {};
};

const Turns kTalk = {{"system", "Be brief."}, {"user", "Hi"}, {"assistant", "Hello"}, {"user", " Bye "}};

TEST(Chat, BuiltInTemplatesWriteWhatTheyShould) {
    Vocab v = Bpe({});
    const std::pair<const char *, const char *> want[] = {
        {"chatml", "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\n Bye <|im_end|>\n<|im_start|>assistant\n"},
        {"gemma", "<start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"},
        {"llama3", "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
                   "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"},
        {"mistral", "[INST] Be brief.\n\nHi [/INST] Hello<eos>[INST] Bye [/INST]"},
        {"phi3", "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello<|end|>\n<|user|>\n Bye <|end|>\n<|assistant|>\n"},
        {"zephyr", "<|system|>\nBe brief.<eos>\n<|user|>\nHi<eos>\n<|assistant|>\nHello<eos>\n<|user|>\n Bye <eos>\n<|assistant|>\n"},
        {"plain", "Be brief.\n\nUser: Hi\nAssistant: Hello\nUser: Bye\nAssistant:"},
    };
    size_t n = 0;
    for (auto [name, text] : want) {
        Chat chat(v, name);
        ASSERT_EQ(chat.status, WTL_OK) << name << ": " << chat.err.message;
        Prompt p(chat.get, kTalk);
        EXPECT_EQ(p.text, text) << name << ": " << p.words;
        EXPECT_TRUE(chat.info.takes_system) << name;
        EXPECT_FALSE(chat.info.fallback);
        EXPECT_STREQ(chat.info.name, name);
        EXPECT_STREQ(wtl_chat_builtin(n++), name);
        EXPECT_EQ(Prompt(chat.get, {{"system", "alone"}}).status, WTL_OK);
        EXPECT_NE(Prompt(chat.get, {{"system", "alone"}}).text.find("alone"), std::string::npos) << name;
        EXPECT_EQ(Prompt(chat.get, {}).status, WTL_OK) << name;
    }
    EXPECT_EQ(wtl_chat_builtin(n), nullptr);
    EXPECT_EQ(wtl_chat_builtin(n + 100), nullptr);
}

TEST(Chat, FallbackFitsTheVocabularyAndIsSaid) {
    const std::pair<std::vector<std::string>, const char *> cases[] = {
        {{"<|im_start|>", "<|im_end|>"}, "chatml"}, {{"<start_of_turn>", "<end_of_turn>"}, "gemma"}, {{"<|start_header_id|>", "<|eot_id|>"}, "llama3"},
        {{"[INST]", "[/INST]"}, "mistral"},         {{"<|user|>", "<|assistant|>", "<|end|>"}, "phi3"},   {{"<|user|>", "<|assistant|>"}, "zephyr"},
        {{"<|im_start|>x"}, "plain"}};
    for (const auto &[controls, name] : cases) {
        Chat chat(Bpe(controls));
        ASSERT_EQ(chat.status, WTL_OK) << chat.err.message;
        EXPECT_STREQ(chat.info.name, name);
        EXPECT_TRUE(chat.info.fallback);
        EXPECT_NE(std::string(chat.info.reason).find("this model has no chat template"), std::string::npos) << chat.info.reason;
        EXPECT_NE(std::string(chat.info.reason).find(name), std::string::npos) << chat.info.reason;
    }
}

TEST(Chat, TheModelsOwnTemplateIsTaken) {
    const char *own = "{% for m in messages %}({{ m.role }}) {{ m.content }}{% endfor %}{% if tools %}T{% endif %}";
    Vocab v = Bpe({"<|im_start|>"}, own);
    Chat chat(v);
    ASSERT_EQ(chat.status, WTL_OK) << chat.err.message;
    EXPECT_STREQ(chat.info.name, "model");
    EXPECT_STREQ(chat.info.source, own);
    EXPECT_STREQ(chat.info.reason, "");
    EXPECT_FALSE(chat.info.fallback);
    EXPECT_TRUE(chat.info.takes_tools);
    EXPECT_EQ(chat.info.think_open, nullptr);
    EXPECT_EQ(chat.info.stop, nullptr);
    EXPECT_EQ(Prompt(chat.get, {{"user", "Hi"}}).text, "(user) Hi");
    EXPECT_STREQ(Chat(v, "plain").info.name, "plain");        // asked for by name
    EXPECT_STREQ(Chat(v, nullptr, "x").info.name, "template"); // given
    EXPECT_EQ(Prompt(Chat(v, nullptr, "x").get, {}).text, "x");
}

TEST(Chat, NeverTwoBos) {
    const char *with = "{{ bos_token }}{{ messages[0].content }}", *without = "{{ messages[0].content }}";
    for (bool adds : {true, false})
        for (const char *source : {with, without}) {
            Vocab v = Bpe({}, "", adds);
            int32_t bos = IdOf(v, "<bos>");
            std::vector<int32_t> tokens = Prompt(Chat(v, nullptr, source).get, {{"user", "a"}}).tokens;
            bool expected = adds || source == with;
            EXPECT_EQ(tokens, expected ? (std::vector<int32_t>{bos, 'a'}) : (std::vector<int32_t>{'a'})) << adds << source;
            // A message that spells BOS is no BOS.
            EXPECT_EQ(Prompt(Chat(v, nullptr, source).get, {{"user", "<bos>"}}).tokens.size(), expected + 5u) << adds << source;
        }
    Vocab v = Bpe({}, "", true);
    EXPECT_EQ(Prompt(Chat(v, nullptr, "").get, {}).tokens, std::vector<int32_t>{IdOf(v, "<bos>")});
}

TEST(Chat, StopTextWhereTheModelHasNoTokenForIt) {
    EXPECT_STREQ(Chat(Bpe({}), "plain").info.stop, "\nUser:");
    EXPECT_STREQ(Chat(Bpe({}), "llama3").info.stop, "<|eot_id|>");
    EXPECT_EQ(Chat(Bpe({"<|eot_id|>"}), "llama3").info.stop, nullptr);
    EXPECT_EQ(Chat(Bpe({}), "mistral").info.stop, nullptr); // EOS
}

TEST(Chat, Thoughts) {
    const char *source = "{{ messages[0].content }}{% if add_generation_prompt %}<think>\n{% endif %}";
    Vocab v = Bpe({});
    Chat chat(v, nullptr, source);
    ASSERT_EQ(chat.status, WTL_OK) << chat.err.message;
    EXPECT_STREQ(chat.info.think_open, "<think>");
    EXPECT_STREQ(chat.info.think_close, "</think>");
    EXPECT_TRUE(Prompt(chat.get, {{"user", "Hi"}}).thinks);
    EXPECT_FALSE(Prompt(chat.get, {{"user", "Hi"}}, false).thinks);
    EXPECT_FALSE(Prompt(chat.get, {{"user", "Hi <think>"}}, false).thinks); // said by a person
    EXPECT_TRUE(Prompt(chat.get, {{"user", "<think>"}}).thinks);
}

TEST(Chat, SystemMessagesAreProbed) {
    Vocab v = Bpe({});
    EXPECT_TRUE(Chat(v, nullptr, "{{ messages[0].content }}").info.takes_system);
    EXPECT_FALSE(Chat(v, nullptr, "{{ messages[1].content }}").info.takes_system); // drops it
    EXPECT_FALSE(Chat(v, nullptr, "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}").info.takes_system);
    EXPECT_FALSE(Chat(v, nullptr, "x").info.takes_tools);
}

TEST(Chat, VariablesThatTemplatesCountOn) {
    Vocab v = Bpe({});
    Chat chat(v, nullptr, "{{ bos_token }}|{{ eos_token }}|{{ tools is none }}|{{ documents is none }}|{{ unk_token is defined }}|{{ strftime_now('%Y') | length }}");
    ASSERT_EQ(chat.status, WTL_OK) << chat.err.message;
    EXPECT_EQ(Prompt(chat.get, {}).text, "<bos>|<eos>|True|True|False|4");
    Vocab bare = OpenVocab(TinyBpe().writer("gpt2", "gpt-2"));
    EXPECT_EQ(Prompt(Chat(bare, nullptr, "[{{ bos_token }}{{ eos_token + 'x' }}]").get, {}).text, "[x]");
}

// Templates build marks from roles: the well-known ones count as the template's own words, others do not.
TEST(Chat, RolesMayBePartOfAMark) {
    Vocab v = Bpe({"<|user|>", "<|x|>"});
    Chat chat(v, nullptr, "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}");
    ASSERT_EQ(chat.status, WTL_OK) << chat.err.message;
    EXPECT_EQ(Prompt(chat.get, {{"user", "a"}}).tokens, (std::vector<int32_t>{IdOf(v, "<|user|>"), 'a'}));
    EXPECT_EQ(Prompt(chat.get, {{"x", "a"}}).tokens.size(), 6u); // text
    EXPECT_EQ(Prompt(chat.get, {{"user|><|user", "a"}}).tokens.size(), 17u);
    Chat contents(v, nullptr, "{% for m in messages %}<|{{ m.content }}|>{% endfor %}");
    EXPECT_EQ(Prompt(contents.get, {{"user", "user"}}).tokens.size(), 8u);
}

TEST(Chat, RefusalsAreSentences) {
    Vocab v = Bpe({});
    wtl_chat *chat = nullptr;
    wtl_error err;
    EXPECT_EQ(wtl_chat_open(nullptr, &chat, &err), WTL_ERR_INVALID);
    Chat unknown(v, "llama9");
    EXPECT_EQ(unknown.status, WTL_ERR_INVALID);
    EXPECT_NE(std::string(unknown.err.message).find("\"llama9\"; there are chatml, gemma, llama3"), std::string::npos) << unknown.err.message;
    EXPECT_EQ(Chat(v, "chatml", "x").status, WTL_ERR_INVALID);
    Chat broken(v, nullptr, "a\n  {% if %}");
    EXPECT_EQ(broken.status, WTL_ERR_FORMAT);
    EXPECT_NE(std::string(broken.err.message).find("line 2"), std::string::npos) << broken.err.message;
    Chat model(Bpe({}, "{{ x"));
    EXPECT_EQ(model.status, WTL_ERR_FORMAT);
    EXPECT_NE(std::string(model.err.message).find("the model's chat template"), std::string::npos) << model.err.message;
    Prompt raised(Chat(v, nullptr, "{{ raise_exception('roles must alternate') }}").get, {});
    EXPECT_EQ(raised.status, WTL_ERR_INVALID);
    EXPECT_NE(raised.words.find("roles must alternate"), std::string::npos) << raised.words;
    EXPECT_EQ(Prompt(Chat(v, nullptr, "{{ none + 1 }}").get, {}).status, WTL_ERR_FORMAT);
    EXPECT_EQ(Prompt(Chat(v, nullptr, "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}").get, {}).status, WTL_ERR_LIMIT);
    wtl_chat_input *in = nullptr;
    wtl_chat_prompt prompt = {};
    ASSERT_EQ(wtl_chat_input_open(&in, &err), WTL_OK);
    Chat fine(v, "plain");
    EXPECT_EQ(wtl_chat_render(fine.get, in, &prompt, &err), WTL_ERR_INVALID); // nothing was written
    wtl_chat_begin_map(in);
    EXPECT_EQ(wtl_chat_render(fine.get, in, &prompt, &err), WTL_ERR_INVALID); // not ended
    wtl_chat_input_close(&in);
    wtl_chat_input_close(&in);
    wtl_chat_prompt_free(&prompt);
    wtl_chat_prompt_free(nullptr);
}

TEST(Chat, EveryAllocationMayFail) {
    struct FailNth {
        long left;
        static bool Hook(void *user, size_t) { return ((FailNth *)user)->left-- != 0; }
    };
    Vocab v = Bpe({"<|im_start|>"});
    bool done = false;
    int refused = 0;
    for (long n = 0; !done && n < 3000; n++) {
        FailNth fail{n};
        wtl_alloc_set_hook(FailNth::Hook, &fail);
        wtl_status status;
        {
            wtl_chat_options o = {};
            o.vocab = v.get();
            wtl_chat *chat = nullptr;
            wtl_chat_input *in = nullptr;
            wtl_chat_prompt prompt = {};
            wtl_error err;
            status = wtl_chat_open(&o, &chat, &err);
            EXPECT_EQ(chat != nullptr, status == WTL_OK);
            if (!status) status = wtl_chat_input_open(&in, &err);
            if (!status) {
                wtl_chat_begin_map(in);
                wtl_chat_key(in, "messages", 8);
                wtl_chat_begin_list(in);
                wtl_chat_begin_map(in);
                wtl_chat_key(in, "role", 4), wtl_chat_text(in, "user", 4);
                wtl_chat_key(in, "content", 7), wtl_chat_text(in, "Hi there", 8);
                wtl_chat_end(in), wtl_chat_end(in), wtl_chat_end(in);
                status = wtl_chat_render(chat, in, &prompt, &err);
                EXPECT_EQ(prompt.tokens != nullptr, status == WTL_OK);
            }
            wtl_chat_prompt_free(&prompt);
            wtl_chat_input_close(&in);
            wtl_chat_close(&chat);
        }
        wtl_alloc_set_hook(nullptr, nullptr);
        EXPECT_TRUE(status == WTL_OK || status == WTL_ERR_NO_MEMORY) << n << " " << status;
        refused += status != WTL_OK;
        done = !status && fail.left >= 0;
    }
    EXPECT_TRUE(done);
    EXPECT_GT(refused, 10);
}

} // namespace
