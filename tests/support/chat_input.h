// Conversations for tests of chats, in one line: Conversation({{"user", "Hi"}}).
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_CHAT_INPUT_H
#define WTL_TESTS_CHAT_INPUT_H

#include <string>
#include <utility>
#include <vector>

#include "runtime/chat.h"

using Turns = std::vector<std::pair<std::string, std::string>>; // role, content

class Conversation {
  public:
    explicit Conversation(const Turns &turns, bool generation = true) {
        wtl_chat_input_open(&in_, nullptr);
        wtl_chat_begin_map(in_);
        key("messages");
        wtl_chat_begin_list(in_);
        for (const auto &[role, content] : turns) {
            wtl_chat_begin_map(in_);
            key("role"), text(role), key("content"), text(content);
            wtl_chat_end(in_);
        }
        wtl_chat_end(in_);
        key("add_generation_prompt");
        wtl_chat_bool(in_, generation);
        wtl_chat_end(in_);
    }
    ~Conversation() { wtl_chat_input_close(&in_); }
    Conversation(const Conversation &) = delete;
    Conversation &operator=(const Conversation &) = delete;
    const wtl_chat_input *get() const { return in_; }

  private:
    void key(const std::string &s) { wtl_chat_key(in_, s.data(), s.size()); }
    void text(const std::string &s) { wtl_chat_text(in_, s.data(), s.size()); }
    wtl_chat_input *in_ = nullptr;
};

// A rendered prompt; status and the error's words when there is none.
struct Prompt {
    Prompt(const wtl_chat *chat, const Turns &turns, bool generation = true) {
        Conversation c(turns, generation);
        wtl_chat_prompt out = {};
        wtl_error err = {};
        status = wtl_chat_render(chat, c.get(), &out, &err);
        words = err.message;
        if (status) return;
        text.assign(out.text, out.text_len);
        tokens.assign(out.tokens, out.tokens + out.n_tokens);
        untrusted.assign(out.untrusted, out.untrusted + out.n_untrusted);
        thinks = out.thinks;
        wtl_chat_prompt_free(&out);
    }
    wtl_status status;
    std::string text, words;
    std::vector<int32_t> tokens;
    std::vector<wtl_span> untrusted;
    bool thinks = false;
};

#endif
