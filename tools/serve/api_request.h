// The body of a request for generation, read and checked.
//
// Every parameter that the interface knows is checked for its type and range; what is wrong names the parameter. null is the same as absent,
// unknown keys are tolerated, and what is known but cannot be done (grammar, suffix, ...) is refused by name. Defaults are llama-server's.
// Pure: knows neither connections nor the engine, so tests feed it text. Used by the routes in api_generate.c.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_API_REQUEST_H
#define WTL_TOOLS_SERVE_API_REQUEST_H

#include "runtime/wattle.h"
#include "tools/serve/api_error.h"
#include "tools/serve/reply_calls.h"
#include "tools/serve/reply_guard.h"
#include "tools/serve/text_buffer.h"

typedef enum api_kind {
    API_CHAT = 1,        // /v1/chat/completions
    API_COMPLETIONS = 2, // /v1/completions
    API_COMPLETION = 4,  // /completion, llama-server's own
} api_kind;

typedef struct api_limits { // what this server has
    const wtl_vocab *vocab; // NULL: no text in logit_bias
    int32_t n_vocab;
    int64_t n_predict;      // tokens of a reply when the request does not say; <= 0: no limit
    bool has_energy;        // joules can be counted
    const struct wtl_chat_info *chat; // the template; NULL: nothing is known of it, and no call is looked for
} api_limits;

enum { API_STOPS_MAX = 32, API_STOP_BYTES = 1024, API_CHOICES_MAX = 128, API_BIAS_MAX = 65536, API_LABEL_BYTES = 256 };

typedef struct api_request {
    api_kind kind;
    json_t *root;      // owned; strings below are borrowed from it
    json_t *messages;  // chat: a list, not empty
    json_t *variables; // chat, owned: what the template sees besides; NULL: nothing
    json_t *prompt;    // others: text, tokens, or a list
    bool stream, include_usage, continuous_usage, echo, ignore_eos, return_tokens;
    bool prompt_only;  // completions: max_tokens 0 with echo: nothing is generated
    reply_rule rule;   // what the reply must look like: response_format, json_schema, tools
    reply_syntax syntax; // of tool calls in it
    json_t *tool_names; // chat, owned: list of texts
    int64_t max_tokens; // of each choice; 0: no limit
    int64_t n;
    int64_t n_top_logprobs; // -1: none
    int64_t seed;      // as given, or drawn
    double max_joules; // 0: no limit
    const char *stops[API_STOPS_MAX + 1]; // one more for the chat's own
    size_t n_stops;
    wtl_logit_bias *bias; // owned
    size_t n_bias;
    const char *user, *conversation; // labels; NULL: none
    // As read; see api_request_sampling.
    double temperature, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
    int64_t top_k, repeat_last_n;
} api_request;

// False: *e says why. Frees nothing of *out on failure but leaves it empty. api_request_free in any case.
bool api_request_parse(api_kind kind, const api_limits *limits, const char *body, size_t len, api_request *out, api_error *e);
void api_request_free(api_request *r);
wtl_sampler_options api_request_sampling(const api_request *r); // bias borrowed from r

// A JSON object from a body. NULL: *e says why. Shared with the smaller routes.
json_t *api_body_object(const char *body, size_t len, api_error *e);

// ---- Prompts (api_prompt.c) --------------------------------------------------------------------------------------------
typedef struct api_tokens {
    int32_t *ids; // malloc'ed, room for cap
    size_t n, cap;
} api_tokens;
void api_tokens_free(api_tokens *t);

// "prompt" as a number of prompts: a text or a list of tokens (and texts) is one, a list of texts or of lists of tokens several.
bool api_prompt_count(const json_t *prompt, size_t *n, api_error *e);
// Tokens of the i-th of them: never empty, a prompt without tokens becomes BOS.
bool api_prompt_tokens(const wtl_vocab *vocab, const json_t *prompt, size_t i, api_tokens *out, api_error *e);
// The i-th as text, for echo. False: out of memory.
bool api_prompt_text(const wtl_vocab *vocab, const json_t *prompt, size_t i, const api_tokens *tokens, text_buffer *out);

// What an answer is sampled from: one prompt, or several (each gets n choices).
typedef struct api_prompts {
    api_tokens *tokens; // [n], owned
    size_t n;
    bool thinks;        // chat: the prompt ends inside the template's think tag
    text_buffer *echo;  // [n] owned: the prompts' texts, to stand in front of their choices; NULL: not asked for
} api_prompts;
void api_prompts_free(api_prompts *prompts);

// Whether a text of so many bytes can fit n_ctx tokens at all, by the longest token there is: asked before work is done for it, since tokenising
// megabytes takes seconds. False: *e has a lower bound of its tokens.
bool api_text_may_fit(const wtl_vocab *vocab, size_t len, int32_t n_ctx, const char *param, api_error *e);
// A prompt with more tokens than a context holds.
bool api_fail_too_long(api_error *e, const char *param, bool at_least, int64_t n_tok, int32_t n_ctx);
size_t api_text_bytes(const json_t *value); // of all strings in it, at any depth

// Tokens of a text; flags as wtl_tokenize.
bool api_tokenize(const wtl_vocab *vocab, const char *text, size_t len, unsigned flags, api_tokens *out, api_error *e);

#endif
