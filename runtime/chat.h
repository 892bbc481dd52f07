// Conversations to tokens: chat templates. Public beside wattle.h.
//
//     wtl_chat_options options = {.engine = engine};            // the model's own template, else a named fallback
//     wtl_chat_open(&options, &chat, &err);
//     wtl_chat_input_open(&in, &err);                            // the template's variables, written like JSON
//     wtl_chat_begin_map(in);
//       wtl_chat_key(in, "messages", ...); wtl_chat_begin_list(in);
//         wtl_chat_begin_map(in);
//           wtl_chat_key(in, "role", ...); wtl_chat_text(in, "user", 4);
//           wtl_chat_key(in, "content", ...); wtl_chat_text(in, "Hi", 2);
//         wtl_chat_end(in);
//       wtl_chat_end(in);
//       wtl_chat_key(in, "add_generation_prompt", ...); wtl_chat_bool(in, true);
//     wtl_chat_end(in);
//     wtl_chat_render(chat, in, &prompt, &err);                  // prompt->tokens[0 .. n_tokens)
//
// Every text of the input is untrusted: what comes out of it is never taken for a control token, whatever the template does with it, so
// no message can forge a turn. (The role of a message, where it is a word that every API knows, may be part of a token: templates build
// "<|user|>" from it.) Templates come with models, so they are untrusted too: rendering is bounded in steps, depth, memory and
// output, and sees nothing but its input.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_CHAT_H
#define WTL_RUNTIME_CHAT_H

#include "runtime/wattle.h"

#ifdef __cplusplus
extern "C" {
#endif

// ---- The variables of one rendering: a map, written front to back --------------------------------------------------------
typedef struct wtl_chat_input wtl_chat_input;
// Owns: caller closes. Thread: one at a time. Errors: NO_MEMORY. The first mistake (a key outside of a map, too deep, out of memory) is kept and
// reported by wtl_chat_render; the calls after it do nothing. Texts are UTF-8 and are copied; a key given twice: the last one wins.
wtl_status wtl_chat_input_open(wtl_chat_input **out, wtl_error *err);
void wtl_chat_input_close(wtl_chat_input **in);
void wtl_chat_begin_map(wtl_chat_input *in);
void wtl_chat_begin_list(wtl_chat_input *in);
void wtl_chat_end(wtl_chat_input *in); // of the innermost map or list
void wtl_chat_key(wtl_chat_input *in, const char *key, size_t len);
void wtl_chat_text(wtl_chat_input *in, const char *text, size_t len);
void wtl_chat_int(wtl_chat_input *in, int64_t value);
void wtl_chat_real(wtl_chat_input *in, double value);
void wtl_chat_bool(wtl_chat_input *in, bool value);
void wtl_chat_null(wtl_chat_input *in);

// ---- Templates -----------------------------------------------------------------------------------------------------------
typedef struct wtl_chat wtl_chat;

typedef struct wtl_chat_options {
    const wtl_engine *engine; // borrowed: its vocabulary, and its template unless one is given
    const wtl_vocab *vocab;   // instead of an engine
    const char *name;         // a built-in template (wtl_chat_builtin); NULL: none asked for
    const char *source;       // a template's text, borrowed for the call; NULL: none given
    size_t source_len;
    const char *source_name;  // what errors call it ("chat.jinja"); NULL: "template"
} wtl_chat_options;

// Compiles: source, else name, else the model's own, else a built-in one that fits the vocabulary (wtl_chat_info.fallback says so).
// Owns: caller closes. Thread: any; a chat is immutable. Errors: INVALID (both name and source; unknown name, with the list of names),
// FORMAT (syntax, with line and column), LIMIT, NO_MEMORY.
wtl_status wtl_chat_open(const wtl_chat_options *options, wtl_chat **out, wtl_error *err);
void wtl_chat_close(wtl_chat **chat);
const char *wtl_chat_builtin(size_t i); // names: "chatml", "gemma", "llama3", "plain", ...; NULL behind the last

typedef struct wtl_chat_info { // strings borrowed from the chat
    const char *name;      // "model" (its own), a built-in's name, or source_name
    const char *source;    // the template's text, terminated
    bool fallback;         // the model has none and none was given: a built-in was taken
    const char *reason;    // why a fallback, one sentence ("this model has no chat template (a base model?): ..."); ""
    const char *think_open, *think_close; // "<think>", "</think>" when the template has them, else NULL
    const char *stop;      // text that ends a reply besides the model's end tokens ("\nUser:" of "plain"), or NULL
    bool takes_system;     // a conversation with a system message renders, and has it (probed at opening)
    bool takes_tools;      // the template looks at "tools"
} wtl_chat_info;
wtl_chat_info wtl_chat_describe(const wtl_chat *chat);

typedef struct wtl_chat_prompt {
    char *text;          // as rendered, terminated
    size_t text_len;
    wtl_span *untrusted; // [n_untrusted] bytes that came from the input
    size_t n_untrusted;
    int32_t *tokens;     // [n_tokens]; BOS in front where the model wants it and the template did not write it
    size_t n_tokens;
    bool thinks;         // the text ends inside think_open: the reply begins with reasoning
} wtl_chat_prompt;

// Renders and tokenises. The template also sees bos_token and eos_token ("" where the model has none), unk_token and pad_token where it has
// them, tools and documents as null unless given, and strftime_now(format): the local time. Owns: *out is the caller's, wtl_chat_prompt_free. Thread: any.
// Errors: INVALID (the input is no complete map, or the template raised: its words, e.g. "roles must alternate", with line),
// FORMAT (the template fails on this input, line and column), LIMIT (a bound of the rendering), NO_MEMORY.
wtl_status wtl_chat_render(const wtl_chat *chat, const wtl_chat_input *in, wtl_chat_prompt *out, wtl_error *err);
void wtl_chat_prompt_free(wtl_chat_prompt *prompt);

#ifdef __cplusplus
}
#endif
#endif
