// Values, text with taint marks, and the working state of one compilation or rendering.
//
// Everything lives in the arena of its jctx and dies with it; nothing is freed singly. A failure anywhere calls jinja_fail(), which
// jumps back to the entry point (jinja_compile, jinja_render) that opened the arena: no function in between owns anything else, so
// nothing leaks, and no result has to be checked. Steps, depth, memory and output are counted here, so that no loop escapes them.
//
// Text is bytes of UTF-8 plus marks: none tainted, all tainted, or one mark byte beside each byte of text. Slices share both.
// A byte that is not UTF-8 counts as one character and passes through.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_MODELS_CHAT_TEMPLATE_VALUE_H
#define WTL_MODELS_CHAT_TEMPLATE_VALUE_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "runtime/base/status.h"

// ---- The working state -----------------------------------------------------------------------------------------------------
typedef struct jchunk jchunk;
typedef struct jscope jscope;
typedef struct jbuild jbuild;
typedef struct jval jval;

typedef struct jctx {
    jmp_buf escape; // where jinja_fail() goes
    wtl_status status;
    wtl_error *err;
    const char *name; // of the template, for messages
    const char *source;
    size_t source_len;
    uint32_t at; // byte offset in the source of what is being parsed or evaluated
    jchunk *chunks;
    uint64_t memory_left, output_max, fuel;
    uint32_t depth, depth_max;
    // Rendering only.
    jscope *root, *scope;
    jbuild *out;
    const jval *variables, *globals; // dicts
    const struct tm *now;
    bool may_mutate;
} jctx;

// Ends the compilation or rendering. The message gets "NAME, line L, column C: " in front (not for WTL_ERR_INVALID).
_Noreturn void jinja_fail(jctx *c, wtl_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));
void *jinja_alloc(jctx *c, size_t bytes); // zeroed
void *jinja_array(jctx *c, size_t count, size_t bytes);
void jinja_free_all(jctx *c);
void jinja_charge(jctx *c, uint64_t steps);      // LIMIT when the fuel is gone
void jinja_charge_bytes(jctx *c, size_t bytes);  // one step for 64
void jinja_enter(jctx *c);                       // one level deeper; LIMIT beyond the bound
static inline void jinja_leave(jctx *c) { c->depth--; }

// ---- Text ------------------------------------------------------------------------------------------------------------------
enum { TAINT_NONE, TAINT_ALL, TAINT_MIXED };
typedef struct jbuffer { // room behind a text, so that x = x + y in a loop is not quadratic
    char *p;
    uint8_t *mask;
    size_t used, cap;
} jbuffer;
typedef struct jstr {
    const char *p;
    size_t len, n_chars;  // n_chars SIZE_MAX: not counted yet
    const uint8_t *mask;  // TAINT_MIXED only: one byte for each byte of p
    jbuffer *buffer;      // p ends in it, or NULL
    uint8_t taint;
    bool markup;          // what the escape and safe filters give: joining it with other text escapes that
} jstr;

struct jbuild { // a text being written
    jctx *c;
    char *p;
    uint8_t *mask;
    size_t len, cap;
    uint8_t taint;
};
void build_open(jbuild *b, jctx *c);
void build_bytes(jbuild *b, const char *p, size_t len, const uint8_t *mask, uint8_t taint);
void build_part(jbuild *b, const jstr *s, size_t from, size_t to); // bytes [from, to)
void build_text(jbuild *b, const jstr *s);
void build_literal(jbuild *b, const char *s);
void build_char(jbuild *b, uint32_t cp, bool tainted);
void build_fill(jbuild *b, const jstr *s, size_t times);
jstr *build_done(jbuild *b);

jstr *str_make(jctx *c, const char *p, size_t len, bool tainted); // borrows p
jstr *str_literal(jctx *c, const char *s);
jstr *str_part(jctx *c, const jstr *s, size_t from, size_t to);   // bytes
jstr *str_concat(jctx *c, const jstr *a, const jstr *b);
jstr *str_escape(jctx *c, const jstr *s);                          // HTML, as markup
jstr *str_plain(jctx *c, const jstr *s);                           // the same without the markup flag
bool str_tainted(const jstr *s, size_t from, size_t to);           // any byte of it
size_t str_chars(jctx *c, const jstr *s);
size_t str_offset(jctx *c, const jstr *s, size_t n_chars);         // byte offset of a character index
bool str_same(const jstr *a, const jstr *b);
bool str_is(const jstr *s, const char *literal);
int str_compare(const jstr *a, const jstr *b);
size_t str_find(jctx *c, const jstr *s, const jstr *what, size_t from, size_t to);  // SIZE_MAX: not there
size_t str_rfind(jctx *c, const jstr *s, const jstr *what, size_t from, size_t to);

uint32_t utf8_next(const char *p, size_t len, size_t *i);  // advances; a broken byte gives 0x110000 + byte
size_t utf8_back(const char *p, size_t i);                 // start of the character that ends at i
size_t utf8_write(char *out, uint32_t cp);                 // at most 4 bytes

// ---- Values ----------------------------------------------------------------------------------------------------------------
typedef enum jtype {
    V_MISSING, // not a value: an argument that was not given, a variable not set
    V_UNDEFINED, V_NONE, V_BOOL, V_INT, V_REAL, V_STR, V_LIST, V_TUPLE, V_DICT,
    V_VIEW,      // dict.keys(), values(), items()
    V_ITER,      // generators: walked once, always true
    V_RANGE, V_NAMESPACE, V_MACRO, V_FUNCTION, V_METHOD, V_LOOP, V_CYCLER, V_JOINER,
} jtype;

typedef struct jlist jlist;
typedef struct jdict jdict;
typedef struct jview jview;
typedef struct jiter jiter;
typedef struct jrange jrange;
typedef struct jundef jundef;
typedef struct jmacro jmacro;
typedef struct jfunction jfunction;
typedef struct jmethod jmethod;
typedef struct jloop jloop;
typedef struct jcycler jcycler;
typedef struct jnode jnode;

struct jval {
    jtype type;
    union {
        bool b;
        int64_t i;
        double f;
        jstr *s;
        jlist *list; // also tuples
        jdict *dict; // also namespaces
        jview *view;
        jiter *iter;
        jrange *range;
        jundef *undef;
        jmacro *macro;
        const jfunction *function;
        jmethod *method;
        jloop *loop;
        jcycler *cycler; // also joiners
        void *p;
    };
};

struct jlist {
    jval *items;
    size_t n, cap;
    bool group; // a tuple of groupby: has .grouper and .list
};
typedef struct jentry {
    jval key, value;
    uint64_t hash;
    bool live;
} jentry;
struct jdict {
    jentry *entries; // in order of insertion, dead ones among them
    size_t n_entries, cap, n;
    uint32_t *index; // hash -> entry + 1; NULL while small
    size_t index_cap;
};
typedef enum { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS } jview_kind;
struct jview {
    jdict *dict;
    jview_kind kind;
};
struct jiter {
    jlist *items;
    size_t pos;
    const char *kind; // what Python calls it
};
struct jrange {
    int64_t start, stop, step, n;
};
struct jundef {
    const char *hint; // a whole message, or NULL
    jval object;      // whose attribute it would be, or V_MISSING
    jval name;
    bool unsafe;
};
struct jscope {
    jscope *parent;
    struct jvar {
        const jstr *name;
        jval value;
    } *vars;
    size_t n, cap;
};
struct jmacro {
    const jnode *node;
    jscope *scope; // where it was defined
};
typedef struct jargs {
    jval *pos;
    size_t n_pos;
    struct jkeyword {
        const jstr *name;
        jval value;
    } *kw;
    size_t n_kw;
} jargs;
struct jfunction {
    const char *name;
    jval (*call)(jctx *c, const jargs *args);
};
struct jmethod {
    jval self;
    const char *name;
    jval (*call)(jctx *c, jval self, const jargs *args);
};
struct jloop {
    const jlist *source; // what is walked
    size_t next;         // of the source
    jlist *items;        // what the loop's `if` has let through so far: it is asked as late as Jinja asks it
    size_t index0;
    uint32_t depth0;
    const jnode *node;   // the for statement
    jscope *scope;       // around it
    jval changed;        // last values of loop.changed()
};
struct jcycler {
    jlist *items;
    size_t pos;
    jval separator;
    bool used;
};

static inline jval val_none(void) { return (jval){.type = V_NONE}; }
static inline jval val_missing(void) { return (jval){.type = V_MISSING}; }
static inline jval val_bool(bool b) { return (jval){.type = V_BOOL, .b = b}; }
static inline jval val_int(int64_t i) { return (jval){.type = V_INT, .i = i}; }
static inline jval val_real(double f) { return (jval){.type = V_REAL, .f = f}; }
static inline jval val_str(jstr *s) { return (jval){.type = V_STR, .s = s}; }
static inline jval val_list(jlist *l) { return (jval){.type = V_LIST, .list = l}; }
static inline jval val_tuple(jlist *l) { return (jval){.type = V_TUPLE, .list = l}; }
static inline jval val_dict(jdict *d) { return (jval){.type = V_DICT, .dict = d}; }
static inline bool val_given(jval v) { return v.type != V_MISSING; }

const char *val_type_name(jval v); // as Python calls it
jval val_undefined_name(jctx *c, const jstr *name);
jval val_undefined_hint(jctx *c, const char *hint);
jval val_undefined_attr(jctx *c, jval object, jval name);
jval val_unsafe(jctx *c, jval object, const jstr *name);
_Noreturn void fail_undefined(jctx *c, jval undefined);
_Noreturn void fail_type(jctx *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
_Noreturn void fail_value(jctx *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

// ---- Containers (container.c) ----------------------------------------------------------------------------------------------
jlist *list_new(jctx *c, size_t cap);
void list_push(jctx *c, jlist *l, jval v);
jval pair_make(jctx *c, jval a, jval b);
jdict *dict_new(jctx *c);
void dict_set(jctx *c, jdict *d, jval key, jval value);
jval *dict_get(jctx *c, const jdict *d, jval key);        // NULL: not there
jval *dict_get_text(jctx *c, const jdict *d, const jstr *key);
jval *dict_get_literal(jctx *c, const jdict *d, const char *key);
bool dict_remove(jctx *c, jdict *d, jval key);
bool val_hashable(jctx *c, jval v);
jval iter_make(jctx *c, jlist *items, const char *kind);
jval range_make(jctx *c, int64_t start, int64_t stop, int64_t step);
jval range_item(const jrange *r, int64_t i);
bool val_iterable(jval v);
jlist *val_items(jctx *c, jval v);                        // walks it; a fresh or borrowed list that must not be changed
int64_t val_length(jctx *c, jval v, bool *has_length);

// ---- Operators (operators.c) -----------------------------------------------------------------------------------------------
bool val_true(jctx *c, jval v);
bool val_equal(jctx *c, jval a, jval b);
bool val_less(jctx *c, jval a, jval b, const char *op); // a < b; op for the message
bool val_contains(jctx *c, jval container, jval item);
bool val_same(jval a, jval b);                          // `is`
bool val_is_int(jval v, int64_t *out);                  // int or bool
bool val_is_number(jval v, double *out);
jval val_binary(jctx *c, int op, jval a, jval b);
jval val_negate(jctx *c, jval v);
jval val_positive(jctx *c, jval v);
void val_sort(jctx *c, jval *items, jval *keys, size_t n, bool reverse); // stable; keys may be items

// ---- Attributes, items, slices (access.c) ----------------------------------------------------------------------------------
jval val_attr(jctx *c, jval object, const jstr *name);
jval val_item(jctx *c, jval object, jval key);
jval val_slice(jctx *c, jval object, jval start, jval stop, jval step);
jval val_path(jctx *c, jval object, jval attribute, jval fallback); // "a.b.0" of filters

// ---- Calls (call.c) --------------------------------------------------------------------------------------------------------
jval val_call(jctx *c, jval callee, const jargs *args);
bool val_callable(jval v);
// Fills out[n] from positional and keyword arguments; V_MISSING where not given. The first `required` must be.
void args_bind(jctx *c, const char *what, const jargs *args, const char *const *names, size_t n, size_t required, jval *out);
void args_none(jctx *c, const char *what, const jargs *args);
int64_t arg_int(jctx *c, const char *what, jval v);
jstr *arg_str(jctx *c, const char *what, jval v);
const jfunction *find_global(const jstr *name);
jval loop_attr(jctx *c, jval loop, const jstr *name);

typedef struct jfilter {
    const char *name;
    jval (*call)(jctx *c, jval v, const jargs *args);
} jfilter;
typedef struct jtest {
    const char *name;
    bool (*call)(jctx *c, jval v, const jargs *args);
} jtest;
const jfilter *find_filter(const jstr *name);
const jtest *find_test(const jstr *name);
// Methods by type; NULL: Python's type has none of that name. known: it has one, which templates may not use (or which is not here).
jmethod *find_method(jctx *c, jval self, const jstr *name, bool *unsafe);

// ---- As text (python_text.c, python_case.c, json.c, format_*.c, strftime.c) ------------------------------------------------
jstr *val_str_of(jctx *c, jval v);
jstr *val_repr_of(jctx *c, jval v);
void val_write(jbuild *b, jval v);      // str()
void val_write_repr(jbuild *b, jval v); // repr()
size_t real_repr(char out[40], double f);
jstr *str_upper(jctx *c, const jstr *s);
jstr *str_lower(jctx *c, const jstr *s);
jstr *str_swapcase(jctx *c, const jstr *s);
jstr *str_capitalize(jctx *c, const jstr *s);
jstr *str_title(jctx *c, const jstr *s);
jstr *str_casefold(jctx *c, const jstr *s);
jstr *str_title_filter(jctx *c, const jstr *s); // of the filter, which splits at fewer characters than str.title
bool cp_space(uint32_t cp);
bool cp_printable(uint32_t cp);
bool cp_alpha(uint32_t cp);
bool cp_decimal(uint32_t cp);
bool cp_digit(uint32_t cp);
bool cp_numeric(uint32_t cp);
bool cp_upper(uint32_t cp);
bool cp_lower(uint32_t cp);
bool cp_title(uint32_t cp);
jstr *json_dump(jctx *c, jval v, bool ensure_ascii, jval indent, jval separators, bool sort_keys);
jstr *format_percent(jctx *c, const jstr *format, jval args);
jstr *format_braces(jctx *c, const jstr *format, const jargs *args);
jstr *format_time(jctx *c, const jstr *format);
jstr *str_strip(jctx *c, const jstr *s, const jstr *chars, bool left, bool right);
jstr *str_replace(jctx *c, const jstr *s, const jstr *old, const jstr *by, int64_t count);
jlist *str_split(jctx *c, const jstr *s, const jstr *sep, int64_t max);
jlist *str_rsplit(jctx *c, const jstr *s, const jstr *sep, int64_t max);
jlist *str_lines(jctx *c, const jstr *s, bool keep_ends);
jstr *str_center(jctx *c, const jstr *s, int64_t width, const jstr *fill);
jstr *str_join(jctx *c, const jstr *sep, jlist *items);
bool parse_int(const jstr *s, int64_t base, int64_t *out, bool *too_big);
bool parse_real(jctx *c, const jstr *s, double *out);

#endif
