// What the end-to-end tests of `wattle serve` share: a tiny model that chats, paths into JSON with list positions, events of a stream.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_SERVE_RIG_H
#define WTL_TESTS_SERVE_RIG_H

#include <cctype>
#include <memory>

#include "tests/serve/server_rig.h"
#include "tests/support/tiny_model.h"

// Every byte is a token, and names of control tokens are one each: counts can be worked out by hand.
inline const char *const kChatTemplate = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
                                         "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

inline TinyOptions chat_options(int n_ctx = 512) {
    TinyOptions o;
    o.n_layers = 2;
    o.n_embd = 128;
    o.n_heads = 2;
    o.n_heads_kv = 1;
    o.n_ff = 256;
    o.type = WTL_DTYPE_Q8_0; // with quantised weights a token has the same bits in any company
    o.n_ctx = n_ctx;
    o.chat_template = kChatTemplate;
    return o;
}

// A model whose answers of thousands of tokens take many seconds with kSlowArgs, long enough to be interrupted.
inline TinyOptions slow_options() {
    TinyOptions o;
    o.n_layers = 8;
    o.n_ctx = 8192;
    o.chat_template = kChatTemplate;
    return o;
}
inline std::vector<std::string> slow_args(std::vector<std::string> more) {
    more.insert(more.begin(), {"--backend", "ref", "-t", "1"});
    return more;
}

// Answers of the letters a to h only, so that no byte of a text is lost in a replacement character.
inline const char *const kLetters =
    R"("logit_bias": {"97": 100, "98": 100, "99": 100, "100": 100, "101": 100, "102": 100, "103": 100, "104": 100})";

// "choices.0.delta.content"; nullptr where there is none.
inline json_t *dig(json_t *v, const std::string &path) {
    std::stringstream parts(path);
    for (std::string part; v && std::getline(parts, part, '.');) v = isdigit((unsigned char)part[0]) ? json_array_get(v, std::stoul(part)) : json_object_get(v, part.c_str());
    return v;
}
inline std::string dig_text(json_t *v, const std::string &path) {
    json_t *s = dig(v, path);
    return json_is_string(s) ? std::string(json_string_value(s), json_string_length(s)) : "";
}
inline double dig_number(json_t *v, const std::string &path) {
    json_t *n = dig(v, path);
    EXPECT_TRUE(json_is_number(n)) << path << " is no number";
    return json_number_value(n);
}
// A whole object of the answer, freed with it.
inline std::shared_ptr<json_t> parse_json(const std::string &text) {
    std::shared_ptr<json_t> v(json_loads(text.c_str(), JSON_ALLOW_NUL, nullptr), json_decref);
    EXPECT_NE(v, nullptr) << text.substr(0, 1000);
    return v;
}

// The events of a stream without their "data: "; comments are left out, anything else is a mistake.
inline std::vector<std::string> events(const std::string &body) {
    std::vector<std::string> out;
    std::stringstream lines(body);
    for (std::string line; std::getline(lines, line);) {
        if (line.empty() || line[0] == ':') continue;
        EXPECT_EQ(line.rfind("data: ", 0), 0u) << line;
        if (line.rfind("data: ", 0) == 0) out.push_back(line.substr(6));
    }
    return out;
}

inline std::string chat_body(const std::string &messages, const std::string &more) { return "{\"messages\": [" + messages + "], " + more + "}"; }
inline std::string says(const std::string &role, const std::string &content) { return "{\"role\": \"" + role + "\", \"content\": \"" + content + "\"}"; }

// The value of one line of /metrics, whose only label may be the model; -1: there is none.
inline double metric(const std::string &text, const std::string &name) {
    size_t at = text.find("\n" + name + " ");
    if (at == std::string::npos) at = text.find("\n" + name + "{model=");
    return at == std::string::npos ? -1 : strtod(text.c_str() + text.find(' ', at + 1), nullptr);
}

// Polls a condition that another process brings about.
template <typename F> bool eventually(F holds, int tries = 1500) {
    for (int i = 0; i < tries; i++) {
        if (holds()) return true;
        usleep(20000);
    }
    return false;
}

#endif
