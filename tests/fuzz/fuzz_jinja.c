// Fuzz entry of the template interpreter: any bytes as a template, rendered with values that have something of everything.
//
// fuzz_jinja() is shared by the libFuzzer program (WTL_LIBFUZZER) and by the replay in the ordinary tests. What is checked beside memory:
// an error has words and leaves nothing, marks are in order and inside the text.
// SPDX-License-Identifier: Apache-2.0
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "models/chat_template/chat_template.h"

int fuzz_jinja(const uint8_t *data, size_t bytes); // 1: compiled, 2: rendered too

static void key(jinja_values *v, const char *name) { jinja_key(v, name, strlen(name)); }
static void text(jinja_values *v, const char *s) { jinja_text(v, s, strlen(s), false); }

static void message(jinja_values *v, const char *role, const char *content) {
    jinja_begin_map(v);
    key(v, "role"), text(v, role);
    key(v, "content"), text(v, content);
    jinja_end(v);
}

static jinja_values *values_make(void) {
    jinja_values *v = NULL;
    if (jinja_values_open(&v, NULL)) abort();
    jinja_begin_map(v);
    key(v, "messages"), jinja_begin_list(v);
    message(v, "system", "You are <|x|> it's \"\\\n");
    message(v, "user", " Stra\xC3\x9F""e \xCE\xA3 \xF0\x9F\x98\x80 {{ x }} ");
    message(v, "assistant", "");
    jinja_end(v);
    key(v, "s"), text(v, "Hello, World");
    key(v, "n"), jinja_int(v, 5);
    key(v, "big"), jinja_int(v, INT64_MIN);
    key(v, "f"), jinja_real(v, -2.5);
    key(v, "b"), jinja_bool(v, true);
    key(v, "z"), jinja_null(v);
    key(v, "l"), jinja_begin_list(v), jinja_int(v, 3), jinja_int(v, 1), jinja_int(v, 2), jinja_end(v);
    key(v, "d"), jinja_begin_map(v), key(v, "b"), jinja_int(v, 1), key(v, "a"), text(v, "q"), jinja_end(v);
    jinja_end(v);
    if (jinja_values_check(v, NULL)) abort();
    return v;
}

static void check_output(const jinja_output *out) {
    size_t last = 0;
    if (out->text[out->len] != '\0') abort();
    for (size_t i = 0; i < out->n_tainted; i++) {
        if (out->tainted[i].begin >= out->tainted[i].end || out->tainted[i].end > out->len) abort();
        if (i && out->tainted[i].begin <= last) abort();
        last = out->tainted[i].end;
    }
}

int fuzz_jinja(const uint8_t *data, size_t bytes) {
    jinja_template *t = NULL;
    jinja_output out = {0};
    wtl_error err = {.status = WTL_OK};
    struct tm now = {.tm_year = 124, .tm_mon = 6, .tm_mday = 4};
    wtl_status status = jinja_compile("fuzz", (const char *)data, bytes, &t, &err);
    if (status) {
        if (t || err.status != status || !err.message[0]) abort();
        return 0;
    }
    jinja_mentions(t, "tools");
    jinja_values *values = values_make();
    jinja_limits limits = {.fuel = 20000, .memory_bytes = 8 << 20, .output_bytes = 1 << 20, .may_mutate = bytes > 0 && data[0] % 2};
    status = jinja_render(t, values, NULL, &now, &limits, &out, &err);
    if (status ? out.text != NULL || err.status != status : out.text == NULL) abort();
    if (!status) check_output(&out);
    jinja_output_free(&out);
    jinja_values_close(&values);
    jinja_template_free(&t);
    return status ? 1 : 2;
}

#ifdef WTL_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    fuzz_jinja(data, bytes);
    return 0;
}
#endif
