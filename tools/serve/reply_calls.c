// Finding calls in text. See reply_calls.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/reply_calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { PLACE_TEXT, PLACE_CALL }; // outside; behind the opening marker

static const char PYTHON_TAG[] = "<|python_tag|>"; // stands in front of Llama 3's calls where it is no control token

const char *reply_calls_open(reply_syntax syntax) { return syntax == CALLS_TAGS ? "<tool_call>" : syntax == CALLS_LIST ? "[TOOL_CALLS]" : ""; }
const char *reply_calls_close(reply_syntax syntax) { return syntax == CALLS_TAGS ? "</tool_call>" : ""; }

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static void put_content(reply_calls *c, size_t from, size_t to) {
    if (to > from) text_put(&c->content, c->raw.bytes + from, to - from);
}

// ---- One call ----------------------------------------------------------------------------------------------------------------
// Nine letters and digits, as strict templates want them, behind a word that clients of the API know.
static char *new_id(reply_syntax syntax) {
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    static _Atomic unsigned counter;
    unsigned char drawn[24];
    const unsigned own = ++counter; // tells calls apart where there are no random numbers
    if (getrandom(drawn, sizeof drawn, 0) != sizeof drawn) memset(drawn, 0, sizeof drawn);
    for (size_t i = 0; i < sizeof own; i++) drawn[i] ^= (unsigned char)(own >> 8 * i);
    char text[40];
    int n = snprintf(text, sizeof text, "%s", syntax == CALLS_LIST ? "" : "call_");
    for (size_t i = 0; i < (syntax == CALLS_LIST ? 9 : sizeof drawn); i++) text[n++] = letters[drawn[i] % (sizeof letters - 1)];
    text[n] = '\0';
    return strdup(text);
}

static bool is_named(const reply_calls *c, const json_t *name) {
    for (size_t i = 0; i < json_array_size(c->names); i++)
        if (json_equal(json_array_get(c->names, i), name)) return true;
    return false;
}

// A call in JSON; NULL arguments are none.
static bool looks_like_call(const reply_calls *c, const json_t *value) {
    const json_t *name = json_object_get(value, "name");
    if (!json_is_string(name) || c->n_calls == REPLY_CALLS_MAX || strlen(json_string_value(name)) != json_string_length(name)) return false;
    return c->syntax != CALLS_BARE || is_named(c, name);
}

static char *arguments_of(const json_t *value) {
    const json_t *arguments = json_object_get(value, "arguments");
    if (!arguments) arguments = json_object_get(value, "parameters");
    if (!arguments || json_is_null(arguments)) return strdup("{}");
    if (json_is_string(arguments)) return strdup(json_string_value(arguments)); // some models write the text of the object
    return json_dumps(arguments, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
}

static void add_call(reply_calls *c, const json_t *value) {
    const json_t *id = json_object_get(value, "id");
    reply_call *grown = realloc(c->calls, (c->n_calls + 1) * sizeof *grown);
    if (!grown) {
        c->failed = true;
        return;
    }
    c->calls = grown;
    reply_call *call = &grown[c->n_calls++];
    *call = (reply_call){.id = json_is_string(id) && json_string_length(id) ? strdup(json_string_value(id)) : new_id(c->syntax),
                         .name = strdup(json_string_value(json_object_get(value, "name"))), .arguments = arguments_of(value)};
    c->failed |= !call->id || !call->name || !call->arguments;
}

// ---- What stands behind a marker -----------------------------------------------------------------------------------------------
// Values in raw[from..to), one behind the other or in lists; between them white space and what separates. All must be calls. NULL: they are not.
static json_t *read_calls(const reply_calls *c, size_t from, size_t to) {
    json_t *all = json_array();
    while (all) {
        while (from < to && (is_space(c->raw.bytes[from]) || (json_array_size(all) && strchr(",;", c->raw.bytes[from]) && c->raw.bytes[from]))) from++;
        if (from == to) break;
        json_error_t e;
        json_t *value = json_loadb(c->raw.bytes + from, to - from, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, &e);
        bool good = value && e.position > 0;
        if (json_is_object(value)) good = good && looks_like_call(c, value) && json_array_append(all, value) == 0;
        for (size_t i = 0; i < json_array_size(value) && good; i++) good = looks_like_call(c, json_array_get(value, i));
        if (json_is_array(value)) good = good && json_array_extend(all, value) == 0;
        json_decref(value);
        if (!good) {
            json_decref(all);
            return NULL;
        }
        from += (size_t)e.position;
    }
    if (json_array_size(all)) return all;
    json_decref(all);
    return NULL;
}

// Takes raw[from..to) as calls; false: they are none.
static bool take_calls(reply_calls *c, size_t from, size_t to) {
    json_t *all = read_calls(c, from, to);
    for (size_t i = 0; i < json_array_size(all); i++) add_call(c, json_array_get(all, i));
    json_decref(all);
    return all != NULL;
}

// ---- Text --------------------------------------------------------------------------------------------------------------------
static size_t skip_space(const reply_calls *c, size_t at) {
    while (at < c->raw.len && is_space(c->raw.bytes[at])) at++;
    return at;
}

// Where text ends that is surely none of a marker's: white space in front of one is dropped, so it waits too.
static size_t sure_text(const reply_calls *c, const char *marker) {
    const size_t n = strlen(marker);
    size_t end = c->raw.len;
    for (size_t k = n - 1 < end - c->at ? n - 1 : end - c->at; k > 0; k--)
        if (memcmp(c->raw.bytes + end - k, marker, k) == 0) {
            end -= k;
            break;
        }
    while (end > c->at && is_space(c->raw.bytes[end - 1])) end--;
    return end;
}

// Outside of calls. True: a marker was found.
static bool in_text(reply_calls *c, bool last) {
    const char *open = reply_calls_open(c->syntax);
    const char *hit = memmem(c->raw.bytes + c->at, c->raw.len - c->at, open, strlen(open));
    size_t end = hit ? (size_t)(hit - c->raw.bytes) : last ? c->raw.len : sure_text(c, open);
    while (hit && end > c->at && is_space(c->raw.bytes[end - 1])) end--;
    if (c->n_calls && last && !hit && skip_space(c, c->at) == c->raw.len) c->at = end; // white space behind the last call
    put_content(c, c->at, end);
    c->at = hit ? (size_t)(hit - c->raw.bytes) : end;
    if (hit) c->place = PLACE_CALL;
    return hit != NULL;
}

// Behind a marker that stands at c->at. True: its end was found.
static bool in_call(reply_calls *c, bool last) {
    const char *close = reply_calls_close(c->syntax);
    const size_t from = c->at + strlen(reply_calls_open(c->syntax));
    const char *hit = *close ? memmem(c->raw.bytes + from, c->raw.len - from, close, strlen(close)) : NULL;
    if (!hit && !last) return false;
    const size_t to = hit ? (size_t)(hit - c->raw.bytes) : c->raw.len, behind = hit ? to + strlen(close) : to;
    if (!take_calls(c, from, to)) put_content(c, c->at, behind);
    c->at = behind;
    c->place = PLACE_TEXT;
    return true;
}

// The whole text is a call, or none of it. It waits for its end when it begins like one.
static void bare(reply_calls *c, bool last) {
    const size_t n_tag = sizeof PYTHON_TAG - 1;
    if (c->place == PLACE_CALL) { // it was none
        put_content(c, c->at, c->raw.len);
        c->at = c->raw.len;
        return;
    }
    size_t from = skip_space(c, 0);
    const size_t there = c->raw.len - from < n_tag ? c->raw.len - from : n_tag;
    const bool tag = memcmp(c->raw.bytes + from, PYTHON_TAG, there) == 0;
    if (tag && there == n_tag) from = skip_space(c, from + n_tag);
    const bool waits = from == c->raw.len || (tag && there < n_tag) || c->raw.bytes[from] == '{';
    if (waits && !last) return;
    c->place = PLACE_CALL;
    if (waits && take_calls(c, from, c->raw.len)) c->at = c->raw.len;
    bare(c, last);
}

static void work(reply_calls *c, bool last) {
    if (c->raw.len == 0) return;
    if (c->syntax == CALLS_BARE) {
        bare(c, last);
        return;
    }
    bool on = true;
    while (on) on = c->place == PLACE_TEXT ? in_text(c, last) : in_call(c, last);
}

void reply_calls_push(reply_calls *c, const char *text, size_t len) {
    if (len == 0) return;
    text_put(&c->raw, text, len);
    if (!c->raw.failed) work(c, false);
    c->failed |= c->raw.failed || c->content.failed;
}

void reply_calls_finish(reply_calls *c) {
    if (!c->raw.failed) work(c, true);
    c->failed |= c->raw.failed || c->content.failed;
}

void reply_calls_free(reply_calls *c) {
    for (size_t i = 0; i < c->n_calls; i++) {
        free(c->calls[i].id);
        free(c->calls[i].name);
        free(c->calls[i].arguments);
    }
    free(c->calls);
    text_free(&c->content);
    text_free(&c->raw);
    *c = (reply_calls){0};
}
