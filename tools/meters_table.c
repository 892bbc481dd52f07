// The list of `wattle meters` for people: a table of what counts, whose columns are as wide as their longest word, then what does not, and why.
// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/meters_list.h"
#include "tools/quantity.h"

enum { COLUMNS = 11, CELL = 40, ROWS_MAX = 64 };
typedef char table_row[COLUMNS][CELL];

static const char *const headings[COLUMNS] = {"counts", "source", "scope", "unit", "power", "step", "read mean, p99", "0.1 s", "1 s", "10 s", "status"};

// "cpu_package" -> "cpu package"
static void words(char *out, size_t cap, const char *name) {
    snprintf(out, cap, "%s", name);
    for (char *c = out; *c; c++)
        if (*c == '_') *c = ' ';
}

static void bound_cell(char cell[CELL], const meters_window *window) {
    double low, high;
    char text[QUANTITY_TEXT];
    if (!meters_share(&window->energy, &low, &high)) {
        snprintf(cell, CELL, "?");
        return;
    }
    if (window->energy.status == TEL_MODELLED) {
        snprintf(cell, CELL, "x %.2g to %.2g", 1 - low, 1 + high);
        return;
    }
    snprintf(cell, CELL, "+- %s", quantity_percent(low > high ? low : high, text));
}

static void fill_row(table_row row, const meters_row *r) {
    char a[QUANTITY_TEXT], b[QUANTITY_TEXT];
    const tel_domain_info *d = &r->info;
    snprintf(row[0], CELL, "%.30s", d->name);
    snprintf(row[1], CELL, "%.30s", d->source);
    words(row[2], CELL, tel_scope_name(d->scope));
    snprintf(row[3], CELL, "%.12s", d->unit);
    snprintf(row[4], CELL, "%s%s", r->power_known && d->method == TEL_METHOD_MODELLED ? "~" : "", r->power_known ? quantity_text(r->power_w, "W", a) : "?");
    snprintf(row[5], CELL, "%s", d->step_ns ? quantity_text((double)d->step_ns / 1e9, "s", a) : "?");
    if (d->n_reads)
        snprintf(row[6], CELL, "%s, %s", quantity_text((double)d->read_mean_ns / 1e9, "s", a), quantity_text((double)d->read_p99_ns / 1e9, "s", b));
    else snprintf(row[6], CELL, "?");
    for (int w = 0; w < METERS_WINDOWS; w++) bound_cell(row[7 + w], &r->windows[w]);
    words(row[10], CELL, tel_status_name(r->status));
}

static void print_row(const table_row row, const int *widths) {
    cli_printf("  ");
    for (int c = 0; c < COLUMNS; c++) {
        if (c + 1 == COLUMNS) cli_printf("%s\n", row[c]);
        else cli_printf("%-*s  ", widths[c], row[c]);
    }
}

static void print_counting(const meters_facts *facts) {
    static table_row rows[ROWS_MAX + 1];
    int widths[COLUMNS] = {0};
    size_t n = facts->n_counting < ROWS_MAX ? facts->n_counting : ROWS_MAX;
    for (int c = 0; c < COLUMNS; c++) snprintf(rows[0][c], CELL, "%s", headings[c]);
    for (size_t i = 0; i < n; i++) fill_row(rows[i + 1], &facts->rows[i]);
    for (size_t i = 0; i <= n; i++)
        for (int c = 0; c < COLUMNS; c++)
            if ((int)strlen(rows[i][c]) > widths[c]) widths[c] = (int)strlen(rows[i][c]);
    int before = 2;
    for (int c = 0; c < 7; c++) before += widths[c] + 2;
    cli_printf("%*s%s\n", before, "", "bound over");
    for (size_t i = 0; i <= n; i++) print_row(rows[i], widths);
}

// What stands behind each line of the table, and what a "?" in it means.
static void print_details(const meters_facts *facts) {
    cli_printf("\n");
    for (size_t i = 0; i < facts->n_counting; i++) {
        const meters_row *r = &facts->rows[i];
        const tel_domain_info *d = &r->info;
        bool modelled = d->method == TEL_METHOD_MODELLED;
        cli_printf("  %s: %s%s%s", d->name, d->device, *d->device && *d->path ? "; " : "", d->path);
        if (!modelled) cli_printf("; sensor: %s%s", d->sensor, d->calibrated ? ", calibrated" : "");
        if (d->n_gaps) cli_printf("; %" PRIu64 " gap%s in %" PRIu64 " readings", d->n_gaps, d->n_gaps == 1 ? "" : "s", d->n_samples);
        cli_printf("\n");
        const tel_energy *second = &r->windows[1].energy;
        if (second->status == TEL_UNAVAILABLE && second->reason) cli_printf("  %s: no bound over 1 s: %s\n", d->name, second->reason);
        if (!modelled || !*d->fix) continue;
        if (strncmp(d->fix, "--", 2) == 0) cli_printf("  %s: a model, not a measurement. No counter can be read here; for a narrower one: %s\n", d->name, d->fix);
        else cli_printf("  %s: a model, not a measurement. To measure: %s\n", d->name, d->fix);
    }
}

static void print_others(const meters_facts *facts) {
    if (facts->n_rows == facts->n_counting) return;
    cli_printf("\ndoes not count:\n");
    for (size_t i = facts->n_counting; i < facts->n_rows; i++) {
        const tel_domain_info *d = &facts->rows[i].info;
        bool named = *d->name && strcmp(d->name, d->source) != 0;
        cli_printf("  %s%s%s%s: %s\n", named ? d->name : d->source, named ? " (" : "", named ? d->source : "", named ? ")" : "",
                   *d->reason ? d->reason : "no reason given");
        if (*d->fix) cli_printf("    to mend it: %s\n", d->fix);
    }
}

static void print_observer(const tel_observer *o) {
    char mean[QUANTITY_TEXT], p99[QUANTITY_TEXT], share[QUANTITY_TEXT], interval[QUANTITY_TEXT];
    if (o->n_reads == 0) return;
    cli_printf("\nobserver: %" PRIu64 " reads, %s each (p99 %s), every %s; %s of one core\n", o->n_reads,
               quantity_text((double)o->read_mean_ns / 1e9, "s", mean), quantity_text((double)o->read_p99_ns / 1e9, "s", p99),
               quantity_text((double)o->interval_ns / 1e9, "s", interval),
               o->wall_ns ? quantity_percent((double)o->cpu_ns / (double)o->wall_ns, share) : "unknown share");
}

void meters_print_table(const meters_facts *facts) {
    if (facts->n_counting) {
        print_counting(facts);
        print_details(facts);
    } else {
        cli_printf("no domain counts: energy is not known here\n");
    }
    print_others(facts);
    print_observer(&facts->observer);
}
