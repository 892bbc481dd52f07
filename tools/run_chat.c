// `wattle run --chat`. See run_chat.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/run_chat.h"

#include "tools/chat_prompt.h"

// The line break at the end of a file or of what `echo` printed is no part of the message.
static size_t without_line_breaks(const cli_text *text) {
    size_t len = text->len;
    while (len && (text->bytes[len - 1] == '\n' || text->bytes[len - 1] == '\r')) len--;
    return len;
}

static json_t *conversation(const run_chat_options *o, const cli_text *text) {
    json_t *messages = json_array(), *user = json_pack("{s:s, s:o}", "role", "user", "content", json_stringn(text->bytes, without_line_breaks(text)));
    if (o->system) json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "system", "content", o->system));
    size_t n = json_array_size(messages);
    if (user) json_array_append_new(messages, user);
    if (json_array_size(messages) == n + 1 && n == (o->system ? 1 : 0)) return messages;
    json_decref(messages);
    return NULL;
}

int run_chat_open(run_chat *chat, const run_chat_options *options, const wtl_engine *engine, const cli_text *text, cli_list *stops) {
    wtl_error err = {0};
    if (without_line_breaks(text) == 0) return cli_fail("the message is empty");
    if (chat_prompt_open(engine, options->chat_template, &chat->chat, &err) != WTL_OK) return cli_fail("%s", err.message);
    wtl_chat_info info = wtl_chat_describe(chat->chat);
    if (info.fallback) cli_warn("%s", info.reason);
    json_t *messages = conversation(options, text);
    if (!messages) return cli_fail("out of memory for a message of %zu bytes", text->len);
    wtl_status status = chat_prompt_from_json(chat->chat, messages, NULL, true, &chat->prompt, &err);
    json_decref(messages);
    if (status != WTL_OK) return cli_fail("%s", err.message);
    if (!info.stop) return CLI_GO;
    if (stops->n == CLI_COUNT(stops->items)) return cli_wrong("--stop: the chat template \"%s\" needs one of the %zu places", info.name, stops->n);
    stops->items[stops->n++] = info.stop;
    return CLI_GO;
}

const char *run_chat_template(const run_chat *chat) { return chat->chat ? wtl_chat_describe(chat->chat).name : NULL; }

void run_chat_close(run_chat *chat) {
    wtl_chat_prompt_free(&chat->prompt);
    wtl_chat_close(&chat->chat);
}
