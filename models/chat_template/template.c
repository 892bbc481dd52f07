// The entry points: compile, render, and what becomes of the memory of each.
// SPDX-License-Identifier: Apache-2.0
#include "models/chat_template/chat_template.h"

#include <string.h>

#include "models/chat_template/ast.h"
#include "models/chat_template/values.h"
#include "runtime/base/alloc.h"
#include "runtime/base/checked.h"

#define SOURCE_MAX ((size_t)16 << 20)
#define COMPILE_MEMORY ((uint64_t)1 << 30)
#define COMPILE_FUEL ((uint64_t)200 << 20)
#define COMPILE_DEPTH 200
#define RENDER_MEMORY ((uint64_t)1 << 30)
#define RENDER_OUTPUT ((uint64_t)64 << 20)
#define RENDER_FUEL ((uint64_t)100 * 1000 * 1000)
#define RENDER_DEPTH 400

struct jinja_template {
    char *name, *source;
    size_t source_len;
    jctx c; // its arena holds the tree
    jnode *body;
    jdict *names;
};

// A copy with \n line ends, without the last one: that is how Jinja's lexer starts.
static bool copy_source(jinja_template *t, const char *source, size_t len) {
    t->source = wtl_malloc(len + 1);
    if (!t->source) return false;
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (source[i] == '\r' && i + 1 < len && source[i + 1] == '\n') continue;
        t->source[n++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (n && t->source[n - 1] == '\n') n--;
    t->source[n] = '\0';
    t->source_len = n;
    return true;
}

static void parse(jinja_template *t, wtl_error *err) {
    t->c = (jctx){.err = err, .name = t->name, .source = t->source, .source_len = t->source_len, .memory_left = COMPILE_MEMORY, .output_max = SOURCE_MAX,
                  .fuel = COMPILE_FUEL, .depth_max = COMPILE_DEPTH};
    if (setjmp(t->c.escape)) return;
    t->names = dict_new(&t->c);
    t->body = parser_run(&t->c, lexer_run(&t->c), t->names);
}

wtl_status jinja_compile(const char *name, const char *source, size_t len, jinja_template **out, wtl_error *err) {
    *out = NULL;
    if (len > SOURCE_MAX) return wtl_fail(err, WTL_ERR_LIMIT, "%.80s: a template of %zu bytes is longer than %zu", name, len, SOURCE_MAX);
    jinja_template *t = wtl_calloc(1, sizeof *t);
    if (!t) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory");
    t->name = wtl_strndup(name, strlen(name));
    wtl_status status = t->name && copy_source(t, source, len) ? WTL_OK : wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory");
    if (!status) {
        parse(t, err);
        status = t->c.status;
    }
    t->c.err = NULL;
    if (status) jinja_template_free(&t);
    *out = t;
    return status;
}

void jinja_template_free(jinja_template **tmpl) {
    jinja_template *t = *tmpl;
    *tmpl = NULL;
    if (!t) return;
    jinja_free_all(&t->c);
    wtl_free(t->name);
    wtl_free(t->source);
    wtl_free(t);
}

bool jinja_mentions(const jinja_template *t, const char *variable) {
    jstr name = {.p = variable, .len = strlen(variable), .n_chars = SIZE_MAX};
    const jdict *d = t->names;
    for (size_t i = 0; i < d->n_entries; i++)
        if (str_same(d->entries[i].key.s, &name)) return true;
    return false;
}

static size_t count_spans(const jbuild *b, jinja_span *out) {
    size_t n = 0;
    for (size_t i = 0; i < b->len;) {
        bool tainted = b->taint == TAINT_MIXED ? b->mask[i] : b->taint == TAINT_ALL;
        size_t from = i;
        if (b->taint != TAINT_MIXED) i = b->len;
        else
            while (i < b->len && b->mask[i] == tainted) i++;
        if (!tainted) continue;
        if (out) out[n] = (jinja_span){from, i};
        n++;
    }
    return n;
}

static wtl_status give_output(const jbuild *b, jinja_output *out, wtl_error *err) {
    size_t n = count_spans(b, NULL);
    out->text = wtl_strndup(b->p ? b->p : "", b->len);
    out->tainted = wtl_calloc(n ? n : 1, sizeof *out->tainted);
    if (!out->text || !out->tainted) {
        jinja_output_free(out);
        return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory");
    }
    out->len = b->len;
    out->n_tainted = count_spans(b, out->tainted);
    return WTL_OK;
}

typedef struct rendering {
    jctx c;
    jbuild out;
    jval variables, globals;
} rendering;

static void run(rendering *r, const jinja_template *t, const jinja_values *values, const jinja_values *globals) {
    jctx *c = &r->c;
    if (setjmp(c->escape)) return;
    build_open(&r->out, c);
    c->out = &r->out;
    if (values) r->variables = values_load(c, values);
    if (globals) r->globals = values_load(c, globals);
    c->variables = values ? &r->variables : NULL;
    c->globals = globals ? &r->globals : NULL;
    c->root = c->scope = scope_new(c, NULL);
    exec_body(c, t->body);
}

wtl_status jinja_render(const jinja_template *t, const jinja_values *values, const jinja_values *globals, const struct tm *now,
                        const jinja_limits *limits, jinja_output *out, wtl_error *err) {
    *out = (jinja_output){0};
    jinja_limits given = limits ? *limits : (jinja_limits){0};
    wtl_status status = values ? jinja_values_check(values, err) : WTL_OK;
    if (!status && globals) status = jinja_values_check(globals, err);
    if (status) return status;
    rendering *r = wtl_calloc(1, sizeof *r);
    if (!r) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory");
    r->c = (jctx){.err = err, .name = t->name, .source = t->source, .source_len = t->source_len, .now = now,
                  .memory_left = given.memory_bytes ? given.memory_bytes : RENDER_MEMORY, .output_max = given.output_bytes ? given.output_bytes : RENDER_OUTPUT,
                  .fuel = given.fuel ? given.fuel : RENDER_FUEL, .depth_max = given.depth ? given.depth : RENDER_DEPTH, .may_mutate = given.may_mutate};
    run(r, t, values, globals);
    status = r->c.status ? r->c.status : give_output(&r->out, out, err);
    jinja_free_all(&r->c);
    wtl_free(r);
    return status;
}

void jinja_output_free(jinja_output *out) {
    wtl_free(out->text);
    wtl_free(out->tainted);
    *out = (jinja_output){0};
}
