// Source text to tokens, by the rules of Jinja's lexer with trim_blocks and lstrip_blocks on and keep_trailing_newline off.
//
// Whitespace control happens here and nowhere else: data tokens hold exactly what is printed. Input is hostile; nothing recurses.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "models/chat_template/ast.h"

typedef struct lexer {
    jctx *c;
    const char *s;
    size_t len, i;
    bool line_starting; // the last token ended with a newline
    jtokens out;
    char *stack; // brackets that are open
    size_t n_open, cap_open;
} lexer;

static _Noreturn void fail_at(lexer *x, size_t at, const char *words) {
    x->c->at = (uint32_t)at;
    jinja_fail(x->c, WTL_ERR_FORMAT, "%s", words);
}

static jtoken *emit(lexer *x, jtoken_kind kind, size_t at) {
    jinja_charge(x->c, 1);
    if (x->out.n == x->out.cap) {
        size_t cap = x->out.cap ? x->out.cap * 2 : 64;
        jtoken *items = jinja_array(x->c, cap, sizeof *items);
        if (x->out.n) memcpy(items, x->out.items, x->out.n * sizeof *items);
        x->out.items = items;
        x->out.cap = cap;
    }
    jtoken *t = &x->out.items[x->out.n++];
    *t = (jtoken){.kind = kind, .at = (uint32_t)at};
    return t;
}

static void emit_data(lexer *x, size_t from, size_t to) {
    if (from >= to) return;
    jstr *text = str_make(x->c, x->s + from, to - from, false);
    str_chars(x->c, text);
    emit(x, T_DATA, from)->text = text;
}

static size_t skip_space(const lexer *x, size_t i) {
    while (i < x->len) {
        size_t next = i;
        if (!cp_space(utf8_next(x->s, x->len, &next))) break;
        i = next;
    }
    return i;
}

static size_t strip_back(const lexer *x, size_t from, size_t to) {
    while (to > from) {
        size_t start = utf8_back(x->s, to), i = start;
        if (start < from || !cp_space(utf8_next(x->s, x->len, &i))) break;
        to = start;
    }
    return to;
}

static bool at_text(const lexer *x, size_t i, const char *text) {
    size_t n = strlen(text);
    return x->len - i >= n && !memcmp(x->s + i, text, n);
}

// What is left of data before a tag: a sign '-' strips all whitespace; lstrip_blocks takes spaces of the tag's own line.
static size_t data_end(const lexer *x, size_t from, size_t to, char sign, bool variable) {
    if (sign == '-') return strip_back(x, from, to);
    if (sign == '+' || variable) return to;
    size_t line = to;
    while (line > from && x->s[line - 1] != '\n') line--;
    if (line == from && !x->line_starting) return to;
    return strip_back(x, line, to) == line ? line : to;
}

// The end of a tag at i: "%}" with an optional sign, and what it swallows. 0: not here.
static size_t tag_end(const lexer *x, size_t i, const char *end) {
    bool variable = end[0] == '}';
    char sign = i < x->len ? x->s[i] : '\0';
    if ((sign == '-' || (sign == '+' && !variable)) && at_text(x, i + 1, end)) return sign == '-' ? skip_space(x, i + 3) : i + 3;
    if (!at_text(x, i, end)) return 0;
    i += 2;
    return !variable && i < x->len && x->s[i] == '\n' ? i + 1 : i;
}

static char sign_at(const lexer *x, size_t i) { return i < x->len && (x->s[i] == '-' || x->s[i] == '+') ? x->s[i] : '\0'; }

// "{%- raw %}" at i: the place behind it, or 0.
static size_t raw_begin(const lexer *x, size_t i) {
    i += 2;
    if (sign_at(x, i)) i++;
    i = skip_space(x, i);
    if (!at_text(x, i, "raw")) return 0;
    i = skip_space(x, i + 3);
    if (at_text(x, i, "-%}")) return skip_space(x, i + 3);
    return at_text(x, i, "%}") ? i + 2 : 0;
}

static void moved(lexer *x, size_t to) {
    x->line_starting = to > 0 && x->s[to - 1] == '\n';
    x->i = to;
}

static void lex_raw(lexer *x, size_t open) {
    size_t from = x->i;
    if (from >= x->len) return; // Jinja does not notice
    for (size_t i = from;; i++) {
        const char *hit = i < x->len ? memmem(x->s + i, x->len - i, "{%", 2) : NULL;
        if (!hit) fail_at(x, open, "Missing end of raw directive");
        i = (size_t)(hit - x->s);
        jinja_charge(x->c, 1);
        char sign = sign_at(x, i + 2);
        size_t k = skip_space(x, i + 2 + (sign != '\0'));
        jinja_charge_bytes(x->c, k - i);
        if (!at_text(x, k, "endraw")) continue;
        size_t end = tag_end(x, skip_space(x, k + 6), "%}");
        if (!end) continue;
        emit_data(x, from, data_end(x, from, i, sign, false));
        moved(x, end);
        return;
    }
}

static void lex_comment(lexer *x, size_t open) {
    size_t body = x->i;
    for (size_t i = body; i < x->len; i++) {
        const char *hit = memmem(x->s + i, x->len - i, "#}", 2);
        if (!hit) break;
        i = (size_t)(hit - x->s);
        bool sign = i > body && (x->s[i - 1] == '-' || x->s[i - 1] == '+');
        moved(x, tag_end(x, i - sign, "#}"));
        return;
    }
    if (body < x->len) fail_at(x, open, "Missing end of comment tag"); // nothing behind it: Jinja does not notice
}

// ---- Inside tags -----------------------------------------------------------------------------------------------------------
static bool is_digit(const lexer *x, size_t i) { return i < x->len && x->s[i] >= '0' && x->s[i] <= '9'; }

// (\d+_)*\d+ : digits with single underscores between. Returns the end, or i when there is no digit.
static size_t digits(const lexer *x, size_t i) {
    if (!is_digit(x, i)) return i;
    while (is_digit(x, i) || (i < x->len && x->s[i] == '_' && is_digit(x, i + 1))) i++;
    return i;
}

static size_t float_end(const lexer *x, size_t i) {
    if (i > 0 && x->s[i - 1] == '.') return 0;
    size_t end = digits(x, i), best = 0;
    if (end == i) return 0;
    if (end < x->len && x->s[end] == '.' && is_digit(x, end + 1)) best = end = digits(x, end + 1);
    if (end < x->len && (x->s[end] == 'e' || x->s[end] == 'E')) {
        size_t k = end + 1;
        if (k < x->len && (x->s[k] == '+' || x->s[k] == '-')) k++;
        if (is_digit(x, k)) best = digits(x, k);
    }
    return best;
}

static char *without_underscores(lexer *x, size_t from, size_t to) {
    char *text = jinja_alloc(x->c, to - from + 1), *out = text;
    for (size_t i = from; i < to; i++)
        if (x->s[i] != '_') *out++ = x->s[i];
    return text;
}

static int digit_value(char ch) {
    if (ch >= '0' && ch <= '9') return ch - '0';
    if (ch >= 'a' && ch <= 'f') return ch - 'a' + 10;
    return ch >= 'A' && ch <= 'F' ? ch - 'A' + 10 : 99;
}

static void lex_integer(lexer *x) {
    size_t from = x->i, i = from;
    char second = from + 1 < x->len ? (char)(x->s[from + 1] | 0x20) : '\0';
    int base = x->s[from] != '0' ? 10 : second == 'b' ? 2 : second == 'o' ? 8 : second == 'x' ? 16 : 0;
    size_t first = base == 10 || !base ? from : from + 2;
    int64_t value = 0;
    if (first != from) { // 0x needs at least one digit, else it is a zero before a name
        size_t d = first + (first < x->len && x->s[first] == '_');
        if (d >= x->len || digit_value(x->s[d]) >= base) base = 0, first = from;
    }
    int limit = base ? base : 1; // a leading zero is followed by zeros only
    for (i = first; i < x->len; i++) {
        char ch = x->s[i];
        if (ch == '_' && (i > first || first != from) && i + 1 < x->len && digit_value(x->s[i + 1]) < limit) continue;
        if (digit_value(ch) >= limit) break;
        if (__builtin_mul_overflow(value, (int64_t)(base ? base : 1), &value) || __builtin_add_overflow(value, (int64_t)digit_value(ch), &value))
            fail_at(x, from, "the integer is too large (64 bits are kept)");
    }
    emit(x, T_INTEGER, from)->i = value;
    moved(x, i);
}

static bool name_char(const lexer *x, size_t i, size_t *next) {
    *next = i;
    if (i >= x->len) return false;
    uint32_t cp = utf8_next(x->s, x->len, next);
    if (cp < 0x80) return cp == '_' || (cp >= '0' && cp <= '9') || ((cp | 0x20) >= 'a' && (cp | 0x20) <= 'z');
    return cp_alpha(cp) || cp_numeric(cp);
}

static unsigned hex_escape(lexer *x, size_t i, size_t end, int n, size_t at) {
    unsigned value = 0;
    for (int k = 0; k < n; k++) {
        if (i + (size_t)k >= end || digit_value(x->s[i + (size_t)k]) > 15)
            fail_at(x, at, n == 2 ? "truncated \\xXX escape" : n == 4 ? "truncated \\uXXXX escape" : "truncated \\UXXXXXXXX escape");
        value = value << 4 | (unsigned)digit_value(x->s[i + (size_t)k]);
    }
    return value;
}

// One escape behind a backslash at i; returns the place behind it.
static size_t unescape(lexer *x, jbuild *b, size_t i, size_t end) {
    static const char from[] = "nrtabfv\\'\"", to[] = "\n\r\t\a\b\f\v\\'\"";
    size_t at = i - 1;
    char ch = x->s[i];
    const char *simple = ch ? strchr(from, ch) : NULL;
    if (simple) return build_bytes(b, &to[simple - from], 1, NULL, TAINT_NONE), i + 1;
    if (ch == '\n') return i + 1;
    if (ch == 'x' || ch == 'u' || ch == 'U') {
        int n = ch == 'x' ? 2 : ch == 'u' ? 4 : 8;
        unsigned cp = hex_escape(x, i + 1, end, n, at);
        if (cp > 0x10FFFF) fail_at(x, at, "illegal Unicode character");
        build_char(b, cp, false);
        return i + 1 + (size_t)n;
    }
    if (ch == 'N') fail_at(x, at, "characters by name are not supported");
    if (ch >= '0' && ch <= '7') {
        unsigned cp = 0;
        for (int k = 0; k < 3 && i < end && x->s[i] >= '0' && x->s[i] <= '7'; k++, i++) cp = cp * 8 + (unsigned)(x->s[i] - '0');
        build_char(b, cp, false);
        return i;
    }
    build_literal(b, "\\"); // unknown escapes stay as they are
    if (!((unsigned char)ch & 0x80)) return i;
    // Python writes other characters as \xE9 before it reads escapes, so that the backslash before escapes theirs.
    uint32_t cp = utf8_next(x->s, end, &i);
    const char *hex = "0123456789abcdef";
    int n = cp < 0x100 ? 2 : cp < 0x10000 ? 4 : 8;
    build_literal(b, n == 2 ? "x" : n == 4 ? "u" : "U");
    for (int k = n - 1; k >= 0; k--) build_bytes(b, &hex[cp >> (4 * k) & 15], 1, NULL, TAINT_NONE);
    return i;
}

static bool lex_string(lexer *x) {
    size_t from = x->i, end = from + 1;
    while (end < x->len && x->s[end] != x->s[from]) end += x->s[end] == '\\' ? 2 : 1;
    if (end >= x->len) return false;
    jbuild b;
    build_open(&b, x->c);
    for (size_t i = from + 1; i < end;) {
        const char *slash = memchr(x->s + i, '\\', end - i);
        size_t stop = slash ? (size_t)(slash - x->s) : end;
        build_bytes(&b, x->s + i, stop - i, NULL, TAINT_NONE);
        i = slash ? unescape(x, &b, stop + 1, end) : end;
    }
    jtoken *t = emit(x, T_STRING, from);
    t->text = build_done(&b);
    str_chars(x->c, t->text);
    moved(x, end + 1);
    return true;
}

static const struct operator_word {
    const char *text;
    jtoken_kind kind;
} operator_words[] = {{"**", T_POW}, {"//", T_FLOORDIV}, {"==", T_EQ}, {"!=", T_NE}, {">=", T_GTEQ}, {"<=", T_LTEQ}, {"+", T_ADD}, {"-", T_SUB}, {"/", T_DIV},
                      {"*", T_MUL}, {"%", T_MOD}, {"~", T_TILDE}, {"[", T_LBRACKET}, {"]", T_RBRACKET}, {"(", T_LPAREN}, {")", T_RPAREN}, {"{", T_LBRACE},
                      {"}", T_RBRACE}, {">", T_GT}, {"<", T_LT}, {"=", T_ASSIGN}, {".", T_DOT}, {":", T_COLON}, {"|", T_PIPE}, {",", T_COMMA}, {";", T_SEMICOLON}};

static void balance(lexer *x, char ch) {
    char closing = ch == '(' ? ')' : ch == '[' ? ']' : ch == '{' ? '}' : '\0';
    if (closing) {
        if (x->n_open == x->cap_open) {
            size_t cap = x->cap_open ? x->cap_open * 2 : 64;
            char *stack = jinja_alloc(x->c, cap);
            if (x->n_open) memcpy(stack, x->stack, x->n_open);
            x->stack = stack;
            x->cap_open = cap;
        }
        x->stack[x->n_open++] = closing;
    } else if (ch == ')' || ch == ']' || ch == '}') {
        char words[40] = "unexpected '?'";
        words[12] = ch;
        if (!x->n_open) fail_at(x, x->i, words);
        char expected = x->stack[--x->n_open];
        if (expected == ch) return;
        strcat(words, ", expected '?'");
        words[strlen(words) - 2] = expected;
        fail_at(x, x->i, words);
    }
}

static void lex_operator(lexer *x) {
    for (size_t k = 0; k < sizeof operator_words / sizeof *operator_words; k++) {
        if (!at_text(x, x->i, operator_words[k].text)) continue;
        balance(x, x->s[x->i]);
        emit(x, operator_words[k].kind, x->i);
        moved(x, x->i + strlen(operator_words[k].text));
        return;
    }
    size_t next = x->i;
    utf8_next(x->s, x->len, &next);
    char words[48] = "unexpected char '";
    strncat(words, x->s + x->i, next - x->i);
    strcat(words, "'");
    fail_at(x, x->i, words);
}

static void lex_name(lexer *x) {
    size_t from = x->i, i = from, next;
    while (name_char(x, i, &next)) i = next;
    jstr *name = str_make(x->c, x->s + from, i - from, false);
    str_chars(x->c, name);
    emit(x, T_NAME, from)->text = name;
    moved(x, i);
}

static void lex_tag(lexer *x, const char *end, jtoken_kind end_kind) {
    while (x->i < x->len) {
        size_t after = x->n_open ? 0 : tag_end(x, x->i, end), next;
        if (after) {
            emit(x, end_kind, x->i);
            moved(x, after);
            return;
        }
        char ch = x->s[x->i];
        if (skip_space(x, x->i) > x->i) moved(x, skip_space(x, x->i));
        else if ((after = float_end(x, x->i))) {
            emit(x, T_FLOAT, x->i)->f = strtod(without_underscores(x, x->i, after), NULL);
            moved(x, after);
        } else if (is_digit(x, x->i)) lex_integer(x);
        else if (name_char(x, x->i, &next)) lex_name(x);
        else if ((ch != '\'' && ch != '"') || !lex_string(x)) lex_operator(x);
    }
}

static void lex_root(lexer *x) {
    size_t from = x->i, tag = from;
    while (tag + 1 < x->len && !(x->s[tag] == '{' && (x->s[tag + 1] == '%' || x->s[tag + 1] == '{' || x->s[tag + 1] == '#'))) tag++;
    if (tag + 1 >= x->len) {
        emit_data(x, from, x->len);
        x->i = x->len;
        return;
    }
    char kind = x->s[tag + 1], sign = sign_at(x, tag + 2);
    size_t raw = kind == '%' ? raw_begin(x, tag) : 0;
    emit_data(x, from, data_end(x, from, tag, sign, kind == '{'));
    moved(x, raw ? raw : tag + 2 + (sign != '\0'));
    if (raw) lex_raw(x, tag);
    else if (kind == '#') lex_comment(x, tag);
    else {
        emit(x, kind == '%' ? T_BLOCK_BEGIN : T_VARIABLE_BEGIN, tag);
        lex_tag(x, kind == '%' ? "%}" : "}}", kind == '%' ? T_BLOCK_END : T_VARIABLE_END);
    }
}

jtokens lexer_run(jctx *c) {
    lexer x = {.c = c, .s = c->source, .len = c->source_len, .line_starting = true};
    while (x.i < x.len) lex_root(&x);
    emit(&x, T_EOF, x.len);
    return x.out;
}

const char *token_words(const jtoken *t, char out[64]) {
    static const char *const words[] = {[T_EOF] = "end of template", [T_DATA] = "template data / text", [T_VARIABLE_BEGIN] = "begin of print statement",
                                        [T_VARIABLE_END] = "end of print statement", [T_BLOCK_BEGIN] = "begin of statement block",
                                        [T_BLOCK_END] = "end of statement block", [T_NAME] = "name", [T_STRING] = "string", [T_INTEGER] = "integer", [T_FLOAT] = "float"};
    if (t->kind == T_NAME) {
        size_t n = t->text->len < 60 ? t->text->len : 60;
        memcpy(out, t->text->p, n);
        out[n] = '\0';
        return out;
    }
    if (t->kind <= T_FLOAT) return words[t->kind];
    for (size_t k = 0; k < sizeof operator_words / sizeof *operator_words; k++)
        if (operator_words[k].kind == t->kind) return operator_words[k].text;
    return "?";
}
