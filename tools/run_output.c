// Streaming of a reply with stop strings. See run_output.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/run_output.h"

#include <stdlib.h>
#include <string.h>

static bool reserve(run_output *out, size_t more) {
    if (out->len + more <= out->cap) return true;
    size_t cap = 2 * out->cap + more;
    char *grown = realloc(out->text, cap);
    if (!grown) {
        out->no_memory = true;
        return false;
    }
    out->text = grown;
    out->cap = cap;
    return true;
}

// Start of the first stop string that touches text[from..len); len when there is none.
static size_t find_stop(const run_output *out, size_t from) {
    size_t first = out->len;
    for (size_t i = 0; i < out->stops->n; i++) {
        const char *stop = out->stops->items[i];
        size_t n = strlen(stop), start = from > n ? from - n : 0;
        if (n == 0 || out->len - start < n) continue;
        const char *hit = memmem(out->text + start, out->len - start, stop, n);
        if (hit && (size_t)(hit - out->text) < first) first = (size_t)(hit - out->text);
    }
    return first;
}

// Length of the longest end of the text that could still grow into a stop string.
static size_t held_back(const run_output *out) {
    size_t longest = 0;
    for (size_t i = 0; i < out->stops->n; i++) {
        const char *stop = out->stops->items[i];
        size_t n = strlen(stop);
        if (n == 0) continue;
        for (size_t k = n - 1 < out->len ? n - 1 : out->len; k > longest; k--)
            if (memcmp(out->text + out->len - k, stop, k) == 0) longest = k;
    }
    return longest;
}

// C0 but for line ends and tabs, DEL, and C1 (U+0080 to U+009F, in UTF-8 0xC2 and one more byte).
static size_t control_at(const char *text, size_t len) {
    const unsigned char c = (unsigned char)text[0];
    if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7F) return 1;
    return c == 0xC2 && len > 1 && (unsigned char)text[1] >= 0x80 && (unsigned char)text[1] <= 0x9F ? 2 : 0;
}

static void put_visible(const char *text, size_t len) {
    size_t plain = 0;
    for (size_t i = 0, n; i < len; i += n ? n : 1) {
        n = control_at(text + i, len - i);
        if (!n) continue;
        cli_put(text + plain, i - plain);
        cli_put("\xEF\xBF\xBD", 3);
        plain = i + n;
    }
    cli_put(text + plain, len - plain);
}

static void print_until(run_output *out, size_t end) {
    if (!out->stream || end <= out->printed) return;
    if (out->visible_controls) put_visible(out->text + out->printed, end - out->printed);
    else cli_put(out->text + out->printed, end - out->printed);
    cli_flush();
    out->printed = end;
}

static void take(run_output *out, size_t added) {
    size_t from = out->len;
    out->len += added;
    size_t stop = find_stop(out, from);
    if (stop < out->len) {
        out->len = stop;
        out->stopped = true;
    }
    print_until(out, out->stopped ? out->len : out->len - held_back(out));
}

void run_output_push(run_output *out, const char *bytes, size_t len) {
    size_t room = 3 * (len + 4); // what wtl_text_push asks for
    if (out->stopped || !reserve(out, room)) return;
    take(out, wtl_text_push(&out->characters, bytes, len, out->text + out->len, room));
}

void run_output_finish(run_output *out) {
    enum { ROOM = 16 };
    if (!out->stopped && reserve(out, ROOM)) take(out, wtl_text_finish(&out->characters, out->text + out->len, ROOM));
    print_until(out, out->len);
}

void run_output_free(run_output *out) {
    free(out->text);
    out->text = NULL;
    out->len = out->cap = out->printed = 0;
}
