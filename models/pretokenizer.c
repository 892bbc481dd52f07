// Cuts text into the pieces inside which BPE merges, by running a model's patterns over it with PCRE2.
//
// Compiled once per tokenizer, with the JIT where the system allows it and the interpreter otherwise. Text arrives as
// well-formed UTF-8 (checked by the caller, so PCRE2 does not check again). No text is ever lost: whatever a pattern
// leaves, or gives up on, goes on as a piece.
// SPDX-License-Identifier: Apache-2.0
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>
#include <utf8proc.h>

#include "models/tokenizer_impl.h"
#include "runtime/base/alloc.h"
#include "runtime/base/checked.h"

struct pretokenizer {
    const pretokenizer_spec *spec;
    pcre2_general_context *memory;
    pcre2_match_context *limits;
    pcre2_code *codes[PRETOKENIZER_PATTERNS_MAX];
    int n_codes;
};

struct pretokenizer_scan {
    const pretokenizer *pre;
    pcre2_match_data *matches[PRETOKENIZER_PATTERNS_MAX]; // one per level: an outer one waits while inner ones work
    pretokenizer_sink sink;
    void *user;
    wtl_error *err;
};

static void *memory_alloc(PCRE2_SIZE bytes, void *user) {
    (void)user;
    return wtl_malloc(bytes);
}

static void memory_free(void *p, void *user) {
    (void)user;
    wtl_free(p);
}

static wtl_status compile(pretokenizer *pre, bool jit, wtl_error *err) {
    pcre2_compile_context *context = pcre2_compile_context_create(pre->memory);
    if (!context) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for pre-tokenizer %s", pre->spec->name);
    wtl_status status = WTL_OK;
    for (int i = 0; !status && i < PRETOKENIZER_PATTERNS_MAX && pre->spec->patterns[i]; i++) {
        int code;
        PCRE2_SIZE at;
        pre->codes[i] = pcre2_compile((PCRE2_SPTR)pre->spec->patterns[i], PCRE2_ZERO_TERMINATED,
                                      PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &code, &at, context);
        if (!pre->codes[i]) {
            bool memory = code == PCRE2_ERROR_HEAP_FAILED;
            status = wtl_fail(err, memory ? WTL_ERR_NO_MEMORY : WTL_ERR_UNSUPPORTED,
                              memory ? "out of memory for pre-tokenizer %s"
                                     : "this PCRE2 does not understand the pattern of pre-tokenizer %s",
                              pre->spec->name);
            break;
        }
        if (jit) (void)pcre2_jit_compile(pre->codes[i], PCRE2_JIT_COMPLETE); // refused: the interpreter runs instead
        pre->n_codes = i + 1;
    }
    pcre2_compile_context_free(context);
    return status;
}

wtl_status pretokenizer_open(const pretokenizer_spec *spec, bool jit, pretokenizer **out, wtl_error *err) {
    *out = NULL;
    pretokenizer *pre = wtl_calloc(1, sizeof *pre);
    if (!pre) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for pre-tokenizer %s", spec->name);
    pre->spec = spec;
    pre->memory = pcre2_general_context_create(memory_alloc, memory_free, NULL);
    if (pre->memory) pre->limits = pcre2_match_context_create(pre->memory);
    wtl_status status = WTL_OK;
    if (!pre->limits) status = wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for pre-tokenizer %s", spec->name);
    else {
        // The patterns are linear, so a long run of spaces may take as many steps as it has characters.
        pcre2_set_match_limit(pre->limits, UINT32_MAX);
        status = compile(pre, jit, err);
    }
    if (status) pretokenizer_close(&pre);
    *out = pre;
    return status;
}

void pretokenizer_close(pretokenizer **pre) {
    if (!pre || !*pre) return;
    for (int i = 0; i < PRETOKENIZER_PATTERNS_MAX; i++) pcre2_code_free((*pre)->codes[i]);
    pcre2_match_context_free((*pre)->limits);
    pcre2_general_context_free((*pre)->memory);
    wtl_free(*pre);
    *pre = NULL;
}

const pretokenizer_spec *pretokenizer_of(const pretokenizer *pre) { return pre->spec; }

wtl_status pretokenizer_scan_open(const pretokenizer *pre, pretokenizer_scan **out, wtl_error *err) {
    *out = NULL;
    pretokenizer_scan *scan = wtl_calloc(1, sizeof *scan);
    bool ok = scan != NULL;
    if (ok) scan->pre = pre;
    for (int i = 0; ok && i < pre->n_codes; i++) {
        scan->matches[i] = pcre2_match_data_create(1, pre->memory); // the whole match is all that is asked for
        ok = scan->matches[i] != NULL;
    }
    if (!ok) {
        pretokenizer_scan_close(&scan);
        return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for the state of a pre-tokenizer");
    }
    *out = scan;
    return WTL_OK;
}

void pretokenizer_scan_close(pretokenizer_scan **scan) {
    if (!scan || !*scan) return;
    for (int i = 0; i < PRETOKENIZER_PATTERNS_MAX; i++) pcre2_match_data_free((*scan)->matches[i]);
    wtl_free(*scan);
    *scan = NULL;
}

// Next match of pattern `level` in text[from..len): true and its ends, false when there is none. A pattern that gives up
// (stack of the JIT, heap limit) is tried once more by the interpreter and then counts as not matching.
static bool next_match(pretokenizer_scan *scan, int level, const char *text, size_t len, size_t from, size_t *start,
                       size_t *end, wtl_status *status) {
    const pretokenizer *pre = scan->pre;
    PCRE2_SPTR subject = (PCRE2_SPTR)text;
    pcre2_match_data *match = scan->matches[level];
    int rc = pcre2_match(pre->codes[level], subject, len, from, PCRE2_NO_UTF_CHECK, match, pre->limits);
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH && rc != PCRE2_ERROR_NOMEMORY)
        rc = pcre2_match(pre->codes[level], subject, len, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match, pre->limits);
    if (rc == PCRE2_ERROR_NOMEMORY) {
        *status = wtl_fail(scan->err, WTL_ERR_NO_MEMORY, "out of memory while splitting %zu bytes of text", len);
        return false;
    }
    if (rc < 0) return false;
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(match);
    *start = ends[0];
    *end = ends[1];
    return *end > *start && *start >= from && *end <= len;
}

// Depth is the number of patterns at most.
static wtl_status split(pretokenizer_scan *scan, int level, const char *text, size_t len) {
    if (level == scan->pre->n_codes) return scan->sink(scan->user, text, len);
    wtl_status status = WTL_OK;
    for (size_t at = 0; !status && at < len;) {
        size_t start = len, end = len;
        if (!next_match(scan, level, text, len, at, &start, &end, &status)) start = end = len;
        if (!status && start > at) status = split(scan, level + 1, text + at, start - at);
        if (!status && end > start) status = split(scan, level + 1, text + start, end - start);
        at = end;
    }
    return status;
}

wtl_status pretokenizer_run(pretokenizer_scan *scan, const char *text, size_t len, pretokenizer_sink sink, void *user,
                            wtl_error *err) {
    scan->sink = sink;
    scan->user = user;
    scan->err = err;
    return split(scan, 0, text, len);
}

// Ordering combining marks takes time quadratic in the length of their run; longer ones than any writing system has are
// left as they are.
#define COMBINING_RUN_MAX 128

static bool may_change(const char *text, size_t len, bool *overlong) {
    size_t i = 0;
    while (i < len && (uint8_t)text[i] < 0xCC) i++; // below U+0300 everything is composed and in order
    bool changes = i < len;
    for (size_t run = 0; i < len;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(len - i), &code);
        if (n <= 0) break;
        run = utf8proc_get_property(code)->combining_class ? run + 1 : 0;
        if (run > COMBINING_RUN_MAX) *overlong = true;
        i += (size_t)n;
    }
    return changes;
}

wtl_status pretokenizer_compose(const char *text, size_t len, char **out, size_t *out_len, wtl_error *err) {
    *out = NULL;
    *out_len = 0;
    bool overlong = false;
    if (!may_change(text, len, &overlong) || overlong) return WTL_OK;
    const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    const utf8proc_uint8_t *s = (const utf8proc_uint8_t *)text;
    utf8proc_ssize_t n = utf8proc_decompose(s, (utf8proc_ssize_t)len, NULL, 0, options);
    size_t bytes;
    if (n < 0 || !wtl_mul_size((size_t)n + 1, sizeof(utf8proc_int32_t), &bytes)) return WTL_OK;
    utf8proc_int32_t *codes = wtl_malloc(bytes);
    if (!codes) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for composing %zu bytes of text", len);
    utf8proc_ssize_t got = utf8proc_decompose(s, (utf8proc_ssize_t)len, codes, n, options);
    if (got == n) got = utf8proc_reencode(codes, n, options); // in place, terminated
    if (got < 0 || ((size_t)got == len && memcmp(codes, text, len) == 0)) {
        wtl_free(codes);
        return WTL_OK;
    }
    *out = (char *)codes;
    *out_len = (size_t)got;
    return WTL_OK;
}
