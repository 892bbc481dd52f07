// The summary for people: one line per group and class, the total per class, then each domain's conservation in whole microjoules.
//
// Rows are collected first, so that columns are as wide as what they hold. Labels may come from strangers over a network: control
// characters in them never reach a terminal. The JSON form is in ledger_json.c.
// SPDX-License-Identifier: Apache-2.0
#include "tools/ledger_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/joules.h"

enum { KEY_SHOWN = 40, COLUMNS = 8 };

typedef struct line {
    char cell[COLUMNS][ENERGY_TEXT];
} line;

typedef struct table {
    line *lines;
    size_t n, capacity;
    char last_key[ENERGY_TEXT]; // printed once for all classes of a group
    const char *all;            // key of the total lines; NULL: the keys of the rows
    int64_t n_requests;
    tel_energy avoided[LEDGER_NO_FIGURE + 1]; // of the total lines
    int64_t n_avoided[LEDGER_NO_FIGURE + 1];
    bool no_memory;
} table;

static void safe_text(const char *text, size_t most, char out[ENERGY_TEXT]) {
    size_t n = 0;
    for (; text[n] && n < most; n++) out[n] = (unsigned char)text[n] < 0x20 || text[n] == 0x7F ? '?' : text[n];
    if (text[n]) { // cut between characters
        while (n && ((unsigned char)text[n] & 0xC0) == 0x80) n--;
        memcpy(out + n, "...", 3);
        n += 3;
    }
    out[n] = '\0';
    // C1 control characters, as UTF-8.
    for (unsigned char *c = (unsigned char *)out; *c; c++)
        if (c[0] == 0xC2 && c[1] >= 0x80 && c[1] < 0xA0) c[0] = c[1] = '?';
}

// Columns that a terminal gives a text, near enough: one per UTF-8 character.
static int shown_width(const char *text) {
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

static void count_text(int64_t n, char out[ENERGY_TEXT]) {
    if (n < 0) snprintf(out, ENERGY_TEXT, "-");
    else snprintf(out, ENERGY_TEXT, "%" PRId64, n);
}

// No rate from joules that are zero, unknown or below the resolution.
static void rate_text(const ledger_sum *s, char out[ENERGY_TEXT]) {
    char text[JOULES_TEXT];
    snprintf(out, ENERGY_TEXT, "%s", format_rate(&s->energy, s->energy_tok > 0 ? (uint64_t)s->energy_tok : 0, text));
}

static line *new_line(table *t) {
    if (t->n == t->capacity) {
        const size_t capacity = t->capacity ? 2 * t->capacity : 16;
        line *grown = realloc(t->lines, capacity * sizeof *grown);
        if (!grown) return NULL;
        t->lines = grown;
        t->capacity = capacity;
    }
    t->lines[t->n] = (line){0};
    return &t->lines[t->n++];
}

static bool add_sum(void *user, const ledger_sum *s) {
    table *t = user;
    char key[ENERGY_TEXT];
    line *l = new_line(t);
    t->no_memory = !l;
    if (!l) return false;
    safe_text(t->all ? t->all : s->key ? s->key : "(none)", KEY_SHOWN, key);
    if (t->n == 1 || strcmp(key, t->last_key) != 0) memcpy(l->cell[0], key, sizeof key);
    memcpy(t->last_key, key, sizeof key);
    const int64_t counts[] = {s->n_requests, s->new_tok, s->cached_tok, s->decoded_tok};
    for (int i = 0; i < 4; i++) count_text(counts[i], l->cell[1 + i]);
    if (s->decode.status != TEL_UNAVAILABLE && s->n_decode_tok > 0) format_energy_per(&s->decode, (uint64_t)s->n_decode_tok, l->cell[5]);
    else snprintf(l->cell[5], ENERGY_TEXT, "-");
    rate_text(s, l->cell[6]);
    char text[ENERGY_TEXT];
    safe_text(format_energy(&s->energy, text), ENERGY_TEXT - 4, l->cell[7]);
    if (s->class_ == LEDGER_MEASURED && strlen(l->cell[7]) < ENERGY_TEXT - 16) strcat(l->cell[7], ", measured");
    if (t->all) {
        t->n_requests += s->n_requests;
        t->avoided[s->class_] = s->avoided;
        t->n_avoided[s->class_] = s->n_avoided;
    }
    return true;
}

static void print_lines(const table *t, const char *by) {
    const char *const heads[COLUMNS] = {by, "requests", "new tok", "cached", "decoded", "J/decoded tok", "tok/J", "energy"};
    int width[COLUMNS];
    for (int c = 0; c < COLUMNS; c++) {
        width[c] = (int)strlen(heads[c]);
        for (size_t i = 0; i < t->n; i++)
            if (shown_width(t->lines[i].cell[c]) > width[c]) width[c] = shown_width(t->lines[i].cell[c]);
    }
    for (size_t i = 0; i <= t->n; i++) {
        for (int c = 0; c < COLUMNS; c++) {
            const char *text = i ? t->lines[i - 1].cell[c] : heads[c];
            const int pad = width[c] - shown_width(text);
            if (c == COLUMNS - 1) cli_printf("  %s\n", text);
            else if (c == 0) cli_printf("%s%*s", text, pad, "");
            else cli_printf("  %*s%s", pad, "", text);
        }
    }
}

static void print_avoided(const table *t) {
    char text[ENERGY_TEXT];
    for (int c = 0; c < LEDGER_NO_FIGURE; c++)
        if (t->n_avoided[c] && t->avoided[c].status != TEL_UNAVAILABLE && t->avoided[c].energy_uj)
            cli_printf("avoided by the prompt cache (counterfactual, %" PRId64 " requests): %s\n", t->n_avoided[c], format_energy(&t->avoided[c], text));
}

static bool print_conserved(void *user, const ledger_conserved *c) {
    int *n = user;
    char texts[4][JOULES_TEXT], name[ENERGY_TEXT];
    if ((*n)++ == 0) cli_printf("source total = requests + idle + unattributed (of the machine's domains, for all models and users)\n");
    safe_text(c->domain, KEY_SHOWN, name);
    cli_printf("  %s, %s: %s = %s + %s + %s", name, c->class_ == LEDGER_MEASURED ? c->source ? c->source : "measured" : ledger_class_name(c->class_),
               format_joules_exact(c->source_uj, texts[0]), format_joules_exact(c->requests_uj, texts[1]), format_joules_exact(c->idle_uj, texts[2]),
               format_joules_exact(c->unattributed_uj, texts[3]));
    return cli_printf("%s\n", c->adds_up ? "" : "  DOES NOT ADD UP: the file was changed or is damaged");
}

static void print_filters(const ledger_view *view) {
    char text[ENERGY_TEXT];
    if (view->filter.model) {
        safe_text(view->filter.model, KEY_SHOWN * 2, text);
        cli_printf(", model %s only", text);
    }
    if (view->filter.user) {
        safe_text(view->filter.user, KEY_SHOWN * 2, text);
        cli_printf(", user %s only", text);
    }
}

static void print_head(const ledger_view *view) {
    const size_t n = strlen(view->since);
    const bool days = n > 1 && view->since[n - 1] == 'd';
    if (strcmp(view->since, "all") == 0) cli_printf("energy of all requests");
    else if (days && strcmp(view->since, "1d") == 0) cli_printf("energy of requests of today");
    else if (days) cli_printf("energy of requests of the last %.*s days", (int)n - 1, view->since);
    else cli_printf("energy of requests since %s", view->since);
    if (view->until) cli_printf(" until %s", view->until);
    print_filters(view);
    cli_printf(" (%s)\n\n", view->path);
}

static void print_nothing(const ledger_view *view, bool any) {
    if (!any) cli_printf("The ledger is empty: no request has been booked in %s yet. `wattle run` adds one each time.\n", view->path);
    else if (view->filter.model || view->filter.user) {
        cli_printf("No request in this range");
        print_filters(view);
        cli_printf(": without --model and --user (WTL_MODEL, WTL_USER) there may be more in %s.\n", view->path);
    } else cli_printf("No request in this range. `wattle ledger --since all` shows everything in %s.\n", view->path);
}

bool ledger_report_table(ledger_db *db, const ledger_view *view, char err[LEDGER_ERR]) {
    if (!db) {
        print_nothing(view, false);
        return true;
    }
    table rows = {0}, total = {.all = "all"};
    int n_domains = 0;
    bool good = ledger_sums(db, view->by, &view->filter, add_sum, &rows, err);
    total.lines = rows.lines;
    total.n = rows.n;
    total.capacity = rows.capacity;
    good = good && ledger_sums(db, LEDGER_BY_NOTHING, &view->filter, add_sum, &total, err);
    if (good && (rows.no_memory || total.no_memory)) {
        snprintf(err, LEDGER_ERR, "out of memory for %zu lines", total.n);
        good = false;
    }
    if (good) {
        if (total.n_requests) {
            print_head(view);
            print_lines(&total, view->by_name);
            print_avoided(&total);
        } else {
            print_nothing(view, true);
        }
        cli_printf("\n");
        good = ledger_conservation(db, &view->filter, print_conserved, &n_domains, err);
        if (good && !n_domains) cli_printf("source total = requests + idle + unattributed: 0 rows yet, no domain was booked in this range\n");
    }
    free(total.lines);
    return good;
}
