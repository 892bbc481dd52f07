// What libmicrohttpd accepts and a careful server does not: the target and the framing of a request, checked once its head is complete.
//
// Targets are decoded here, not by the library, so that "%00", broken escapes and bytes that are no UTF-8 are seen. Whatever is refused closes
// its connection: no byte after a doubtful head is ever read as another request. Lines that end with a bare LF are accepted, as RFC 9112 allows;
// what the library refuses by itself gets its own short HTML page.
// SPDX-License-Identifier: Apache-2.0
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tools/serve/http_internal.h"

static void refuse(http_call *call, int status, const char *message) {
    if (call->bad_status) return; // the first reason
    call->bad_status = status;
    call->bad = message;
}

bool http_utf8_ok(const char *text, size_t len) {
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0; i < len;) {
        unsigned c = s[i++];
        if (c < 0x80) continue;
        unsigned n = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1, value = n == 3 ? c & 7 : n == 2 ? c & 15 : c & 31;
        if (c < 0xc2 || c > 0xf4 || len - i < n) return false;
        for (unsigned k = 0; k < n; k++) {
            if ((s[i] & 0xc0) != 0x80) return false;
            value = value << 6 | (s[i++] & 0x3f);
        }
        if ((n == 2 && value < 0x800) || (n == 3 && value < 0x10000) || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return false;
    }
    return true;
}

// ---- The target --------------------------------------------------------------------------------------------------------------------
static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Percent escapes, and '+' in queries. NULL: a sentence in *why, or out of memory.
static char *decode(const char *text, size_t len, bool query, const char **why) {
    char *out = malloc(len + 1);
    size_t n = 0;
    for (size_t i = 0; out && !*why && i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '%') {
            int high = len - i > 2 ? hex(text[i + 1]) : -1;
            int low = high >= 0 ? hex(text[i + 2]) : -1;
            if (low < 0) *why = "the target has a broken percent escape";
            c = (unsigned char)(high * 16 + low);
            i += 2;
            if (!*why && c == 0) *why = "the target contains NUL";
        } else if (c <= 0x20 || c == 0x7f) {
            *why = "the target contains a space or a control character";
        } else if (query && c == '+') {
            c = ' ';
        }
        out[n++] = (char)c;
    }
    if (!out) *why = "out of memory";
    if (!*why && !http_utf8_ok(out, n)) *why = "the target is not UTF-8";
    if (*why) {
        free(out);
        return NULL;
    }
    out[n] = '\0';
    return out;
}

static void split_query(http_call *call, const char *query, const char **why) {
    for (const char *at = query; *at && !*why;) {
        size_t len = strcspn(at, "&"), name_len = strcspn(at, "&=");
        size_t value_at = name_len < len ? name_len + 1 : len;
        if (len > 0) {
            char *name = decode(at, name_len, true, why);
            char *value = name ? decode(at + value_at, len - value_at, true, why) : NULL;
            if (name && value && !http_pairs_add(&call->query, name, strlen(name), value, strlen(value))) *why = "out of memory";
            free(name);
            free(value);
        }
        at += len + (at[len] == '&');
    }
}

void http_guard_target(http_call *call, const char *target) {
    call->target = target;
    call->target_len = strlen(target);
    const char *why = NULL, *path = target;
    if (strncasecmp(path, "http://", 7) == 0 || strncasecmp(path, "https://", 8) == 0) { // as proxies send it: the authority is not looked at
        path = strstr(path, "//") + 2;
        path += strcspn(path, "/?");
        if (*path == '\0') path = "/";
    }
    size_t len = strcspn(path, "?");
    if (strchr(path, '#')) why = "the target has a fragment";
    else if (path[0] != '/' && path[0] != '?' && strcmp(path, "*") != 0) why = "the target is no path";
    call->path = why ? NULL : len == 0 ? strdup("/") : decode(path, len, false, &why);
    if (!why && !call->path) why = "out of memory";
    if (!why && path[len] == '?') split_query(call, path + len + 1, &why);
    if (why) refuse(call, 400, why);
}

// ---- The head ----------------------------------------------------------------------------------------------------------------------
// The library drops silently what stands behind a NUL, headers without a name and line folds. It parses a head where it was received, so what
// is left out leaves a gap between the pieces that it does show. Known of the versions below only, others are not held against it.
typedef struct layout {
    bool known, odd;
    uintptr_t end; // of the piece before
} layout;

static bool layout_is_known(void) {
    const char *version = MHD_get_version();
    return strcmp(version, "0.9.75") == 0;
}

// The next piece begins after a separator of low to high bytes.
static void next_piece(layout *l, const char *text, size_t len, uintptr_t low, uintptr_t high) {
    uintptr_t at = (uintptr_t)text;
    if (l->end && (at < l->end + low || at > l->end + high)) l->odd = true;
    l->end = at + len;
}

typedef struct guard {
    http_call *call;
    layout layout;
    unsigned n_length, n_coding, n_host, n_expect;
    bool chunked, continues;
    uint64_t length;
} guard;

static bool is_token(const char *text, size_t len) { // RFC 9110, 5.6.2
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)text[i]) && (text[i] == '\0' || !strchr("!#$%&'*+-.^_`|~", text[i]))) return false;
    return len > 0;
}

static bool is_name(const char *key, size_t len, const char *name) { return strlen(name) == len && strncasecmp(key, name, len) == 0; }

static void content_length(guard *g, const char *value, size_t len) {
    g->n_length++;
    g->length = 0;
    bool ok = len > 0 && len <= 18;
    for (size_t i = 0; ok && i < len; i++) {
        ok = value[i] >= '0' && value[i] <= '9';
        g->length = g->length * 10 + (uint64_t)(value[i] - '0');
    }
    if (!ok) refuse(g->call, 400, "Content-Length is not a number of bytes");
}

static enum MHD_Result each_header(void *user, enum MHD_ValueKind kind, const char *key, size_t key_len, const char *value, size_t len) {
    (void)kind;
    guard *g = user;
    if (!value) len = 0;
    next_piece(&g->layout, key, key_len, 1, 2);                                // the line end before
    if (value) next_piece(&g->layout, value, len, 1, 1 + HTTP_HEAD_BYTES);    // the colon and spaces
    else g->layout.odd = true;
    while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t')) len--; // the library leaves it on
    if (!is_token(key, key_len)) refuse(g->call, 400, "a header has a name with characters that names cannot have");
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)value[i] < 0x20 && value[i] != '\t') || value[i] == 0x7f)
            refuse(g->call, 400, "a header has a control character in its value");
    if (is_name(key, key_len, "Content-Length")) content_length(g, value, len);
    if (is_name(key, key_len, "Host")) g->n_host++;
    if (is_name(key, key_len, "Transfer-Encoding")) {
        g->n_coding++;
        g->chunked = is_name(value ? value : "", len, "chunked");
    }
    if (is_name(key, key_len, "Expect")) {
        g->n_expect++;
        g->continues = is_name(value ? value : "", len, "100-continue");
    }
    if (!http_pairs_add(&g->call->headers, key, key_len, value, len)) refuse(g->call, 503, "out of memory");
    return MHD_YES;
}

void http_guard_head(http_call *call, struct MHD_Connection *mhd, const char *method, const char *version, size_t max_body_bytes, http_head *head) {
    guard g = {.call = call, .layout.known = layout_is_known()};
    next_piece(&g.layout, method, strlen(method), 0, 0);
    next_piece(&g.layout, call->target, call->target_len, 1, 1);
    next_piece(&g.layout, version, strlen(version), 1, 1);
    MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, each_header, &g);
    const union MHD_ConnectionInfo *size = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    if (size) next_piece(&g.layout, method + size->header_size, 0, 2, 4); // the last line end and the empty line
    if (g.layout.known && g.layout.odd) refuse(call, 400, "the head has NUL, a header without a name, a folded line or spaces that do not belong there");
    if (!is_token(method, strlen(method))) refuse(call, 400, "the method has characters that methods cannot have");
    bool http11 = strcmp(version, "HTTP/1.1") == 0;
    if (!http11 && strcmp(version, "HTTP/1.0") != 0) refuse(call, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    if (g.n_length > 1) refuse(call, 400, "two Content-Length headers");
    if (g.n_length && g.n_coding) refuse(call, 400, "both Content-Length and Transfer-Encoding");
    if (g.n_coding > 1 || (g.n_coding == 1 && !g.chunked)) refuse(call, 501, "the only transfer coding understood is chunked");
    if (g.n_coding && !http11) refuse(call, 400, "Transfer-Encoding in HTTP/1.0");
    if (g.n_host > 1) refuse(call, 400, "two Host headers");
    if (g.n_host == 0 && http11) refuse(call, 400, "no Host header");
    if (g.n_expect > 0 && !g.continues) refuse(call, 417, "the only expectation understood is 100-continue");
    if (g.n_length && g.length > max_body_bytes) refuse(call, 413, "the body is larger than this server accepts");
    *head = (http_head){.has_body = g.chunked || g.length > 0, .expects_continue = g.continues, .length = g.chunked ? UINT64_MAX : g.length};
}
