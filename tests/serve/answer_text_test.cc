// The bytes of answers: events and bodies are JSON in the forms of the two interfaces, texts come out whole, joules come once.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>
extern "C" {
#include "tools/serve/answer_state.h"
}
#include "tests/support/tiny_model.h"

namespace {

using std::string;
using std::vector;

// Strings in an object, by path: "choices.0.delta.content".
const json_t *at(const json_t *value, const string &path) {
    size_t from = 0;
    while (value && from <= path.size()) {
        const size_t dot = std::min(path.find('.', from), path.size());
        const string key = path.substr(from, dot - from);
        value = json_is_array(value) ? json_array_get(value, std::stoul(key)) : json_object_get(value, key.c_str());
        from = dot + 1;
    }
    return value;
}

string text_at(const json_t *value, const string &path) {
    const json_t *found = at(value, path);
    return json_is_string(found) ? string(json_string_value(found), json_string_length(found)) : "(no string)";
}

// An answer filled by hand: one prompt of 7 tokens, 4 of them cached.
struct Rig {
    answer a{};
    vector<answer_choice> choices;
    vector<answer_part> parts;
    json_t *energy = json_pack("{s:f, s:{s:{s:f}, s:{s:n}}}", "energy_joules", 3.5, "phases", "prefill", "joules", 1.25, "decode", "joules");
    json_t *extra = nullptr;

    Rig(api_kind kind, size_t n = 1, size_t n_prompts = 1) : choices(n * n_prompts), parts(n_prompts) {
        a.request.kind = kind;
        a.request.n = (int64_t)n;
        a.request.n_top_logprobs = -1;
        a.request.seed = 5;
        a.choices = choices.data();
        a.n_choices = choices.size();
        a.parts = parts.data();
        a.n_parts = parts.size();
        a.model = "some \"model\"";
        a.created_s = 1700000000;
        strcpy(a.id, "chatcmpl-x");
        for (answer_part &p : parts) {
            p.n_prompt_tok = 7;
            p.facts = {};
            p.facts.n_cached_tok = 4;
            p.facts.n_prefilled_tok = 3;
            p.facts.n_decoded_tok = 11;
            p.facts.n_drafted_tok = 6;
            p.facts.n_accepted_tok = 4;
            p.facts.arrived_ns = 1000000;
            p.facts.started_ns = 2000000;
            p.facts.first_token_ns = 32000000;
            p.facts.last_token_ns = 132000000;
        }
        for (answer_choice &c : choices) reply_text_begin(&c.text);
    }
    ~Rig() {
        for (answer_choice &c : choices) {
            reply_text_free(&c.text);
            reply_calls_free(&c.calls);
            free(c.tokens);
            free(c.tops);
        }
        text_free(&a.out);
        json_decref(energy);
        json_decref(extra);
    }
    const json_t *make_extra() {
        extra = json_pack("{s:o, s:O, s:o}", "usage", answer_usage(&a, energy), "energy", energy, "timings", answer_timings(&a));
        return extra;
    }
    string take() {
        EXPECT_FALSE(a.out.failed);
        string s(a.out.bytes ? a.out.bytes : "", a.out.len);
        a.out.len = 0;
        return s;
    }
    void push(size_t i, const string &text) { reply_text_push(&choices[i].text, text.data(), text.size()); }
};

// Events as clients cut them; each must be one JSON object.
struct Events {
    vector<json_t *> all;
    bool done = false;
    explicit Events(const string &bytes) {
        for (size_t from = 0; from < bytes.size();) {
            const size_t end = bytes.find("\n\n", from);
            if (end == string::npos) {
                ADD_FAILURE() << "an event without its end";
                return;
            }
            const string event = bytes.substr(from, end - from);
            from = end + 2;
            EXPECT_EQ(event.substr(0, 6), "data: ");
            EXPECT_EQ(event.find('\n'), string::npos);
            if (event == "data: [DONE]") {
                done = true;
                continue;
            }
            json_error_t err;
            json_t *object = json_loads(event.c_str() + 6, JSON_REJECT_DUPLICATES, &err);
            EXPECT_TRUE(object) << err.text << " in " << event;
            all.push_back(object);
        }
    }
    ~Events() {
        for (json_t *e : all) json_decref(e);
    }
};

TEST(AnswerText, ChatStream) {
    Rig rig(API_CHAT);
    rig.push(0, "Say \"hi\"\n\x01");
    answer_put_new_text(&rig.a, 0);
    rig.push(0, " \xf0\x9f\x8c\xbf");
    answer_put_new_text(&rig.a, 0);
    rig.choices[0].finish = WTL_FINISH_END;
    answer_put_finish(&rig.a, 0, rig.make_extra());
    answer_put_done(&rig.a);
    Events events(rig.take());
    ASSERT_EQ(events.all.size(), 4u);
    EXPECT_TRUE(events.done);
    EXPECT_EQ(text_at(events.all[0], "choices.0.delta.role"), "assistant");
    EXPECT_EQ(text_at(events.all[1], "choices.0.delta.content"), "Say \"hi\"\n\x01");
    EXPECT_EQ(at(events.all[1], "choices.0.delta.role"), nullptr);
    EXPECT_EQ(text_at(events.all[2], "choices.0.delta.content"), " \xf0\x9f\x8c\xbf");
    EXPECT_EQ(text_at(events.all[3], "choices.0.finish_reason"), "stop");
    EXPECT_EQ(text_at(events.all[3], "choices.0.stop_reason"), "end");
    EXPECT_EQ(json_object_size(at(events.all[3], "choices.0.delta")), 0u);
    size_t n_usage = 0;
    for (const json_t *e : events.all) {
        EXPECT_EQ(text_at(e, "id"), "chatcmpl-x");
        EXPECT_EQ(text_at(e, "object"), "chat.completion.chunk");
        EXPECT_EQ(text_at(e, "model"), "some \"model\"");
        EXPECT_EQ(json_integer_value(at(e, "created")), 1700000000);
        EXPECT_EQ(json_array_size(at(e, "choices")), 1u);
        n_usage += at(e, "usage") != nullptr;
    }
    EXPECT_EQ(n_usage, 1u) << "twice would be added up twice";
    EXPECT_NE(at(events.all[3], "usage.energy"), nullptr);
    EXPECT_NE(at(events.all[3], "energy"), nullptr);
    EXPECT_NE(at(events.all[3], "timings"), nullptr);
}

TEST(AnswerText, UsageApartHasNoChoices) {
    Rig rig(API_CHAT);
    answer_put_usage(&rig.a, rig.make_extra());
    Events events(rig.take());
    ASSERT_EQ(events.all.size(), 1u);
    EXPECT_TRUE(json_is_array(at(events.all[0], "choices")));
    EXPECT_EQ(json_array_size(at(events.all[0], "choices")), 0u);
    EXPECT_NE(at(events.all[0], "usage.energy_joules"), nullptr);
}

TEST(AnswerText, RunningUsageHasNoJoules) {
    Rig rig(API_CHAT);
    rig.a.request.continuous_usage = true;
    rig.a.n_decoded = 3;
    rig.push(0, "a");
    answer_put_new_text(&rig.a, 0);
    rig.choices[0].finish = WTL_FINISH_LENGTH;
    answer_put_finish(&rig.a, 0, rig.make_extra());
    Events events(rig.take());
    ASSERT_EQ(events.all.size(), 3u);
    for (size_t i = 0; i < 2; i++) {
        EXPECT_EQ(json_integer_value(at(events.all[i], "usage.total_tokens")), 10);
        EXPECT_EQ(at(events.all[i], "usage.energy_joules"), nullptr);
    }
    EXPECT_NE(at(events.all[2], "usage.energy_joules"), nullptr);
}

TEST(AnswerText, ReasoningIsAFieldOfItsOwn) {
    Rig rig(API_CHAT);
    rig.a.has_tags = true;
    rig.choices[0].text.think_open = "<think>";
    rig.choices[0].text.think_close = "</think>";
    reply_text_begin(&rig.choices[0].text);
    rig.push(0, "<think>hm");
    answer_put_new_text(&rig.a, 0);
    rig.push(0, "m</think>Yes");
    answer_put_new_text(&rig.a, 0);
    rig.choices[0].n_reasoning_tok = 3;
    Events events(rig.take());
    ASSERT_EQ(events.all.size(), 4u);
    EXPECT_EQ(text_at(events.all[1], "choices.0.delta.reasoning_content"), "hm");
    EXPECT_EQ(text_at(events.all[2], "choices.0.delta.reasoning_content"), "m");
    EXPECT_EQ(text_at(events.all[3], "choices.0.delta.content"), "Yes");
    rig.choices[0].finish = WTL_FINISH_END;
    answer_put_body(&rig.a, rig.make_extra());
    json_t *body = json_loads(rig.take().c_str(), JSON_REJECT_DUPLICATES, nullptr);
    EXPECT_EQ(text_at(body, "choices.0.message.reasoning_content"), "hmm");
    EXPECT_EQ(text_at(body, "choices.0.message.content"), "Yes");
    EXPECT_EQ(json_integer_value(at(body, "usage.completion_tokens_details.reasoning_tokens")), 3);
    json_decref(body);
}

TEST(AnswerText, ChatBodyAndUsage) {
    Rig rig(API_CHAT, 2);
    rig.push(0, "one");
    rig.push(1, "two");
    rig.choices[0].finish = WTL_FINISH_STOP;
    rig.choices[1].finish = WTL_FINISH_ENERGY;
    answer_put_body(&rig.a, rig.make_extra());
    json_t *body = json_loads(rig.take().c_str(), JSON_REJECT_DUPLICATES, nullptr);
    ASSERT_TRUE(body);
    EXPECT_EQ(text_at(body, "object"), "chat.completion");
    EXPECT_EQ(text_at(body, "choices.1.message.content"), "two");
    EXPECT_EQ(text_at(body, "choices.0.finish_reason"), "stop");
    EXPECT_EQ(text_at(body, "choices.0.stop_reason"), "stop");
    EXPECT_EQ(text_at(body, "choices.1.finish_reason"), "length") << "one of the words that clients know";
    EXPECT_EQ(text_at(body, "choices.1.stop_reason"), "energy");
    EXPECT_TRUE(json_is_null(at(body, "choices.0.logprobs")));
    EXPECT_EQ(json_integer_value(at(body, "usage.prompt_tokens")), 7) << "with cached ones";
    EXPECT_EQ(json_integer_value(at(body, "usage.completion_tokens")), 11);
    EXPECT_EQ(json_integer_value(at(body, "usage.total_tokens")), 18);
    EXPECT_EQ(json_integer_value(at(body, "usage.prompt_tokens_details.cached_tokens")), 4);
    EXPECT_EQ(json_real_value(at(body, "usage.prompt_tokens_details.energy_joules")), 1.25);
    EXPECT_TRUE(json_is_null(at(body, "usage.completion_tokens_details.energy_joules"))) << "unknown is null";
    EXPECT_EQ(at(body, "usage.completion_tokens_details.reasoning_tokens"), nullptr);
    EXPECT_EQ(json_real_value(at(body, "usage.energy_joules")), 3.5);
    EXPECT_TRUE(json_equal((json_t *)at(body, "usage.energy"), (json_t *)at(body, "energy")));
    EXPECT_EQ(json_integer_value(at(body, "timings.cache_n")), 4);
    EXPECT_EQ(json_integer_value(at(body, "timings.prompt_n")), 3);
    EXPECT_DOUBLE_EQ(json_real_value(at(body, "timings.prompt_ms")), 30);
    EXPECT_DOUBLE_EQ(json_real_value(at(body, "timings.prompt_per_second")), 100);
    EXPECT_EQ(json_integer_value(at(body, "timings.predicted_n")), 11);
    EXPECT_DOUBLE_EQ(json_real_value(at(body, "timings.predicted_ms")), 100);
    EXPECT_DOUBLE_EQ(json_real_value(at(body, "timings.predicted_per_second")), 90) << "9 of 11 came from decode steps";
    EXPECT_EQ(json_integer_value(at(body, "timings.draft_n")), 6);
    EXPECT_EQ(json_integer_value(at(body, "timings.draft_n_accepted")), 4);
    json_decref(body);
}

TEST(AnswerText, NothingRanIsNullNotZeroDivision) {
    Rig rig(API_CHAT);
    rig.parts[0].facts = {};
    json_t *timings = answer_timings(&rig.a);
    ASSERT_TRUE(timings);
    EXPECT_TRUE(json_is_null(at(timings, "prompt_per_second")));
    EXPECT_TRUE(json_is_null(at(timings, "predicted_per_second")));
    json_decref(timings);
    json_t *usage = answer_usage(&rig.a, rig.energy);
    EXPECT_EQ(json_integer_value(at(usage, "prompt_tokens_details.cached_tokens")), 0);
    json_decref(usage);
}

TEST(AnswerText, Completions) {
    Rig rig(API_COMPLETIONS, 1, 2);
    rig.push(0, "one");
    rig.push(1, "two");
    answer_put_new_text(&rig.a, 1);
    Events events(rig.take());
    ASSERT_EQ(events.all.size(), 1u) << "no role here";
    EXPECT_EQ(text_at(events.all[0], "object"), "text_completion");
    EXPECT_EQ(text_at(events.all[0], "choices.0.text"), "two");
    EXPECT_EQ(json_integer_value(at(events.all[0], "choices.0.index")), 1);
    rig.choices[0].finish = rig.choices[1].finish = WTL_FINISH_CONTEXT;
    answer_put_body(&rig.a, rig.make_extra());
    json_t *body = json_loads(rig.take().c_str(), JSON_REJECT_DUPLICATES, nullptr);
    EXPECT_EQ(text_at(body, "choices.0.text"), "one");
    EXPECT_EQ(text_at(body, "choices.1.stop_reason"), "context");
    EXPECT_EQ(json_integer_value(at(body, "usage.prompt_tokens")), 14);
    EXPECT_EQ(json_integer_value(at(body, "usage.completion_tokens")), 22);
    json_decref(body);
}

TEST(AnswerText, Native) {
    Rig rig(API_COMPLETION);
    rig.push(0, "ab");
    answer_put_new_text(&rig.a, 0);
    static const char *stops[] = {"END"};
    rig.a.request.stops[0] = stops[0];
    rig.a.request.n_stops = 1;
    rig.choices[0].text.stopped = stops[0];
    rig.choices[0].finish = WTL_FINISH_STOP;
    const json_t *extra = rig.make_extra();
    answer_put_finish(&rig.a, 0, extra);
    answer_put_done(&rig.a);
    Events events(rig.take());
    ASSERT_EQ(events.all.size(), 2u);
    EXPECT_FALSE(events.done) << "llama-server's own stream has no [DONE]";
    EXPECT_EQ(text_at(events.all[0], "content"), "ab");
    EXPECT_TRUE(json_is_false(at(events.all[0], "stop")));
    EXPECT_EQ(text_at(events.all[1], "content"), "");
    EXPECT_TRUE(json_is_true(at(events.all[1], "stop")));
    EXPECT_EQ(text_at(events.all[1], "stop_type"), "word");
    EXPECT_EQ(text_at(events.all[1], "stopping_word"), "END");
    EXPECT_EQ(text_at(events.all[1], "generation_settings.stop.0"), "END");
    EXPECT_EQ(json_integer_value(at(events.all[1], "generation_settings.seed")), 5);
    EXPECT_NE(at(events.all[1], "timings"), nullptr);
    answer_put_body(&rig.a, extra);
    json_t *body = json_loads(rig.take().c_str(), JSON_REJECT_DUPLICATES, nullptr);
    EXPECT_EQ(text_at(body, "content"), "ab");
    EXPECT_EQ(json_integer_value(at(body, "tokens_evaluated")), 7);
    EXPECT_EQ(json_integer_value(at(body, "tokens_cached")), 4);
    json_decref(body);
}

TEST(AnswerText, Errors) {
    Rig rig(API_CHAT);
    api_fail(&rig.a.error, 500, nullptr, "the \"device\" failed");
    answer_put_error(&rig.a);
    answer_put_done(&rig.a);
    Events events(rig.take());
    ASSERT_EQ(events.all.size(), 1u);
    EXPECT_TRUE(events.done);
    EXPECT_EQ(text_at(events.all[0], "error.message"), "the \"device\" failed");
}

TEST(AnswerText, ToolCalls) {
    Rig rig(API_CHAT);
    answer_choice &c = rig.choices[0];
    const string text = "Wait. <tool_call>{\"name\":\"f\",\"arguments\":{\"a\":\"\\\"\"}}</tool_call><tool_call>{\"name\":\"g\"}</tool_call>";
    c.calls.syntax = CALLS_TAGS;
    reply_calls_push(&c.calls, text.data(), text.size());
    reply_calls_finish(&c.calls);
    c.finish = WTL_FINISH_END;
    answer_put_new_text(&rig.a, 0);
    answer_put_new_text(&rig.a, 0); // nothing is new
    answer_put_finish(&rig.a, 0, nullptr);
    answer_put_done(&rig.a);
    Events events(rig.take());
    ASSERT_EQ(events.all.size(), 5u);
    EXPECT_EQ(text_at(events.all[1], "choices.0.delta.content"), "Wait.");
    EXPECT_EQ(json_integer_value(at(events.all[2], "choices.0.delta.tool_calls.0.index")), 0);
    EXPECT_EQ(text_at(events.all[2], "choices.0.delta.tool_calls.0.type"), "function");
    EXPECT_EQ(text_at(events.all[2], "choices.0.delta.tool_calls.0.function.name"), "f");
    EXPECT_EQ(text_at(events.all[2], "choices.0.delta.tool_calls.0.function.arguments"), "{\"a\":\"\\\"\"}");
    EXPECT_EQ(json_integer_value(at(events.all[3], "choices.0.delta.tool_calls.0.index")), 1);
    EXPECT_EQ(text_at(events.all[4], "choices.0.finish_reason"), "tool_calls");
    answer_put_body(&rig.a, nullptr);
    json_t *body = json_loads(rig.take().c_str(), JSON_REJECT_DUPLICATES, nullptr);
    EXPECT_EQ(text_at(body, "choices.0.message.content"), "Wait.");
    EXPECT_EQ(json_array_size(at(body, "choices.0.message.tool_calls")), 2u);
    EXPECT_EQ(text_at(body, "choices.0.message.tool_calls.1.function.arguments"), "{}");
    EXPECT_EQ(text_at(body, "choices.0.finish_reason"), "tool_calls");
    json_decref(body);
}

TEST(AnswerText, FinishWords) {
    const struct {
        wtl_finish finish;
        const char *name, *reason;
    } cases[] = {{WTL_FINISH_END, "end", "stop"},       {WTL_FINISH_STOP, "stop", "stop"},     {WTL_FINISH_LENGTH, "length", "length"}, {WTL_FINISH_CONTEXT, "context", "length"},
                 {WTL_FINISH_ENERGY, "energy", "length"}, {WTL_FINISH_CANCELLED, "aborted", "length"}, {WTL_FINISH_ERROR, "error", "length"}};
    for (const auto &c : cases) {
        EXPECT_STREQ(answer_finish_name(c.finish), c.name);
        answer_choice choice{};
        choice.finish = c.finish;
        EXPECT_STREQ(answer_finish_reason(&choice), c.reason);
    }
}

// ---- Log-probabilities: a vocabulary of single bytes -----------------------------------------------------------------------------------
struct Vocab {
    TinyModel model{small()};
    static TinyOptions small() {
        TinyOptions o;
        o.n_layers = 1;
        o.n_embd = o.n_ff = 32;
        o.n_heads = o.n_heads_kv = 1;
        o.head_dim = 32;
        return o;
    }
    wtl_vocab *v = nullptr;
    Vocab() {
        wtl_error err;
        EXPECT_EQ(wtl_vocab_open(model.path(), &v, &err), WTL_OK) << err.message;
    }
    ~Vocab() { wtl_vocab_close(&v); }
    int32_t id(char byte) const {
        for (int32_t i = 0; i < TinyModel::kVocab; i++) {
            size_t len;
            const char *bytes = wtl_token_bytes(v, i, false, &len);
            if (len == 1 && *bytes == byte) return i;
        }
        return -1;
    }
};

// Text and its tokens, one byte each, each with two candidates of which the second is impossible.
void push_tokens(Rig &rig, const Vocab &vocab, const string &text) {
    rig.a.vocab = vocab.v;
    rig.a.request.n_top_logprobs = 2;
    answer_choice &c = rig.choices[0];
    for (char byte : text) {
        c.tokens = (answer_token *)realloc(c.tokens, (c.n_tokens + 1) * sizeof *c.tokens);
        c.tops = (wtl_token_logprob *)realloc(c.tops, (c.n_tops + 2) * sizeof *c.tops);
        c.tokens[c.n_tokens++] = {vocab.id(byte), -0.5f, 2, c.n_tops, c.text.text_len};
        c.tops[c.n_tops++] = {vocab.id(byte), -0.5f};
        c.tops[c.n_tops++] = {vocab.id('z'), -INFINITY};
        rig.push(0, string(1, byte));
    }
}

TEST(AnswerText, ChatLogprobs) {
    Vocab vocab;
    Rig rig(API_CHAT);
    push_tokens(rig, vocab, "a\xc3\xa9");
    answer_put_new_text(&rig.a, 0);
    rig.choices[0].finish = WTL_FINISH_END;
    answer_put_finish(&rig.a, 0, nullptr);
    Events events(rig.take());
    ASSERT_EQ(events.all.size(), 3u);
    const json_t *list = at(events.all[1], "choices.0.logprobs.content");
    ASSERT_EQ(json_array_size(list), 3u);
    EXPECT_EQ(text_at(list, "0.token"), "a");
    EXPECT_EQ(json_real_value(at(list, "0.logprob")), -0.5);
    EXPECT_EQ(json_integer_value(at(list, "0.bytes.0")), 'a');
    EXPECT_EQ(text_at(list, "1.token"), "\xef\xbf\xbd") << "half a character; the bytes say which";
    EXPECT_EQ(json_integer_value(at(list, "1.bytes.0")), 0xc3);
    EXPECT_EQ(text_at(list, "2.top_logprobs.1.token"), "z");
    EXPECT_EQ(json_number_value(at(list, "2.top_logprobs.1.logprob")), -9999) << "JSON has no infinity";
    EXPECT_TRUE(json_is_null(at(events.all[2], "choices.0.logprobs"))) << "each token once";
}

TEST(AnswerText, CompletionLogprobs) {
    Vocab vocab;
    Rig rig(API_COMPLETIONS);
    rig.choices[0].offset_chars = 10; // an echoed prompt
    push_tokens(rig, vocab, "ab");
    answer_put_new_text(&rig.a, 0);
    push_tokens(rig, vocab, "\xc3\xa9" "c");
    answer_put_new_text(&rig.a, 0);
    Events events(rig.take());
    ASSERT_EQ(events.all.size(), 2u);
    const json_t *first = at(events.all[0], "choices.0.logprobs"), *second = at(events.all[1], "choices.0.logprobs");
    EXPECT_EQ(text_at(first, "tokens.1"), "b");
    EXPECT_EQ(json_array_size(at(first, "token_logprobs")), 2u);
    EXPECT_EQ(json_real_value(at(first, "top_logprobs.1.b")), -0.5);
    EXPECT_EQ(json_integer_value(at(first, "text_offset.0")), 10);
    EXPECT_EQ(json_integer_value(at(first, "text_offset.1")), 11);
    ASSERT_EQ(json_array_size(at(second, "text_offset")), 3u);
    EXPECT_EQ(json_integer_value(at(second, "text_offset.0")), 12);
    EXPECT_EQ(json_integer_value(at(second, "text_offset.2")), 13) << "in characters, not bytes";
}

TEST(AnswerText, PromptsAsTokens) {
    Vocab vocab;
    const int32_t a = vocab.id('a'), b = vocab.id('b');
    const string ids = "[" + std::to_string(a) + "," + std::to_string(b) + "]";
    const struct {
        string json;
        size_t i;
        string text; // "": refused
    } cases[] = {{"\"ab\"", 0, "ab"}, {ids, 0, "ab"}, {"[" + ids + ",[" + std::to_string(b) + "]]", 1, "b"}, {"[\"x\",\"ab\"]", 1, "ab"},
                 {"[" + std::to_string(a) + ",\"bc\"," + std::to_string(b) + "]", 0, "abcb"}, {"[-1]", 0, ""}, {"[1000000]", 0, ""}, {"[1,true]", 0, ""}, {"[true]", 0, ""}};
    for (const auto &c : cases) {
        json_t *prompt = json_loads(c.json.c_str(), JSON_DECODE_ANY, nullptr);
        api_tokens tokens{};
        api_error e{};
        const bool ok = api_prompt_tokens(vocab.v, prompt, c.i, &tokens, &e);
        EXPECT_EQ(ok, !c.text.empty()) << c.json;
        string got;
        for (size_t i = 0; i < tokens.n; i++) {
            size_t len;
            const char *bytes = wtl_token_bytes(vocab.v, tokens.ids[i], false, &len);
            got.append(bytes, len);
        }
        EXPECT_EQ(got, c.text) << c.json;
        if (!ok) {
            EXPECT_STREQ(e.param, "prompt") << c.json;
        }
        text_buffer echo{};
        if (ok) {
            EXPECT_TRUE(api_prompt_text(vocab.v, prompt, c.i, &tokens, &echo));
            EXPECT_NE(string(echo.bytes, echo.len).find(c.text), string::npos) << c.json;
        }
        text_free(&echo);
        api_tokens_free(&tokens);
        json_decref(prompt);
    }
}

TEST(AnswerText, HopelessLengthsAreSeenBeforeWork) {
    Vocab vocab; // its longest token is a control token's name
    api_error e{};
    EXPECT_TRUE(api_text_may_fit(vocab.v, 16 * 100, 100, "prompt", &e));
    EXPECT_FALSE(api_text_may_fit(vocab.v, 10000000, 100, "prompt", &e));
    EXPECT_STREQ(e.code, "context_length_exceeded");
    EXPECT_GT(e.n_prompt_tok, 100000);
    EXPECT_EQ(e.n_ctx, 100);
    json_t *nested = json_loads(R"([{"role":"user","content":[{"type":"text","text":"12345"}]}, "67"])", 0, nullptr);
    EXPECT_EQ(api_text_bytes(nested), 4u + 4u + 5u + 2u);
    json_decref(nested);
}

// ---- Joules of several prompts ---------------------------------------------------------------------------------------------------------
tel_energy measured(uint64_t uj) {
    tel_energy e{};
    e.status = TEL_MEASURED;
    e.method = TEL_METHOD_COUNTER;
    e.energy_uj = uj;
    e.bound_uj = 10;
    e.low_uj = uj - 10;
    e.high_uj = uj + 10;
    return e;
}

TEST(AnswerText, ReportsOfSeveralPromptsAddUp) {
    Rig rig(API_COMPLETIONS, 1, 3);
    for (size_t i = 0; i < 3; i++) {
        wtl_energy_report &r = rig.parts[i].report;
        r = {};
        r.settled = true;
        r.total = measured(100 * (i + 1));
        r.prefill.energy = measured(10 * (i + 1));
        r.decode.n_tok = (int32_t)i + 1;
        r.start_ns = 50 - i;
        r.end_ns = 100 + i;
    }
    wtl_energy_report sum;
    answer_report(&rig.a, &sum);
    EXPECT_EQ(sum.total.energy_uj, 600u);
    EXPECT_EQ(sum.total.bound_uj, 30u);
    EXPECT_EQ(sum.prefill.energy.energy_uj, 60u);
    EXPECT_EQ(sum.decode.n_tok, 6);
    EXPECT_EQ(sum.start_ns, 48u);
    EXPECT_EQ(sum.end_ns, 102u);
    EXPECT_TRUE(sum.settled);
    rig.parts[1].report.settled = false;
    rig.parts[2].report.total = tel_energy_unavailable("no counter", nullptr);
    answer_report(&rig.a, &sum);
    EXPECT_FALSE(sum.settled);
    EXPECT_EQ(sum.total.status, TEL_UNAVAILABLE) << "a part that is not known makes the sum unknown";
}

} // namespace
