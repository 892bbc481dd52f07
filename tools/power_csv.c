// Reading power recordings; joules of a window by straightforward integration.
// SPDX-License-Identifier: Apache-2.0
#include "tools/power_csv.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli.h"

enum { ROWS_MAX = 50000000 };

// Position of a name in the header line, or -1.
static int column_of(const char *header, const char *name) {
    size_t n = strlen(name);
    int column = 0;
    for (const char *at = header; *at; column++) {
        size_t len = strcspn(at, ",\r\n");
        if (len == n && memcmp(at, name, n) == 0) return column;
        at += len;
        if (*at != ',') return -1;
        at++;
    }
    return -1;
}

static bool field(const char *line, int column, double *value) {
    for (; column > 0; column--) {
        line = strchr(line, ',');
        if (!line) return false;
        line++;
    }
    char *end;
    *value = strtod(line, &end);
    return end != line && (*end == ',' || *end == '\n' || *end == '\r' || *end == '\0') && isfinite(*value) && fabs(*value) < 1e15;
}

static bool grow(power_csv *csv, size_t *cap) {
    if (csv->n < *cap) return true;
    size_t more = *cap ? 2 * *cap : 4096;
    double *t = realloc(csv->t_s, more * sizeof *t);
    if (t) csv->t_s = t;
    double *p = t ? realloc(csv->power_w, more * sizeof *p) : NULL;
    if (!p) return false;
    csv->power_w = p;
    *cap = more;
    return true;
}

static int read_rows(FILE *file, const char *path, int time_column, int power_column, const char *power_name, power_csv *csv) {
    char line[1024];
    size_t cap = 0;
    for (size_t number = 2; fgets(line, sizeof line, file); number++) {
        double t_us, mw;
        if (!strchr(line, '\n'))
            return feof(file) ? cli_fail("%s: line %zu: it has no end: the file may be cut", path, number)
                              : cli_fail("%s: line %zu: longer than %zu bytes, or not text", path, number, sizeof line - 2);
        if (line[0] == '\n' || line[0] == '#') continue;
        if (!field(line, time_column, &t_us)) return cli_fail("%s: line %zu: t_us is not a number", path, number);
        if (!field(line, power_column, &mw) || mw < 0) return cli_fail("%s: line %zu: %s is not a power", path, number, power_name);
        if (csv->n && t_us / 1e6 < csv->t_s[csv->n - 1]) return cli_fail("%s: line %zu: t_us falls", path, number);
        if (csv->n && t_us / 1e6 == csv->t_s[csv->n - 1]) continue; // read twice within the clock's grain
        if (csv->n >= ROWS_MAX) return cli_fail("%s has more than %d rows", path, ROWS_MAX);
        if (!grow(csv, &cap)) return cli_fail("out of memory for %s", path);
        csv->t_s[csv->n] = t_us / 1e6;
        csv->power_w[csv->n++] = mw / 1e3;
    }
    if (ferror(file)) return cli_fail("%s cannot be read: %s", path, strerror(errno));
    return csv->n >= 2 ? CLI_GO : cli_fail("%s has fewer than two readings", path);
}

static int add_up(power_csv *csv, const char *path) {
    size_t n = csv->n;
    csv->edge_s = malloc((n + 1) * sizeof *csv->edge_s);
    csv->energy_j = malloc((n + 1) * sizeof *csv->energy_j);
    if (!csv->edge_s || !csv->energy_j) return cli_fail("out of memory for %s", path);
    for (size_t i = 1; i < n; i++) csv->edge_s[i] = (csv->t_s[i - 1] + csv->t_s[i]) / 2;
    csv->edge_s[0] = 2 * csv->t_s[0] - csv->edge_s[1];
    csv->edge_s[n] = 2 * csv->t_s[n - 1] - csv->edge_s[n - 1];
    csv->energy_j[0] = 0;
    for (size_t i = 0; i < n; i++) csv->energy_j[i + 1] = csv->energy_j[i] + csv->power_w[i] * (csv->edge_s[i + 1] - csv->edge_s[i]);
    return CLI_GO;
}

int power_csv_read(const char *path, const char *const *columns, power_csv *out) {
    *out = (power_csv){0};
    FILE *file = fopen(path, "r");
    if (!file) return cli_fail("%s cannot be read: %s", path, strerror(errno));
    char header[1024];
    int code, time_column = -1, power_column = -1;
    const char *power_name = columns[0];
    if (!fgets(header, sizeof header, file)) {
        code = ferror(file) ? cli_fail("%s cannot be read: %s", path, strerror(errno)) : cli_fail("%s is empty", path);
    } else {
        time_column = column_of(header, "t_us");
        for (size_t i = 0; columns[i] && power_column < 0; i++) {
            power_column = column_of(header, columns[i]);
            power_name = columns[i];
        }
        if (time_column < 0) code = cli_fail("%s: line 1: no column t_us", path);
        else if (power_column < 0) code = cli_fail("%s: line 1: no column %s", path, columns[0]);
        else code = read_rows(file, path, time_column, power_column, power_name, out);
    }
    fclose(file);
    if (code == CLI_GO) code = add_up(out, path);
    if (code != CLI_GO) power_csv_free(out);
    return code;
}

void power_csv_free(power_csv *csv) {
    free(csv->t_s);
    free(csv->power_w);
    free(csv->energy_j);
    free(csv->edge_s);
    *csv = (power_csv){0};
}

// Last i with list[i] <= x, for x >= list[0]; at most n - 1.
static size_t below(const double *list, size_t n, double x) {
    size_t low = 0, high = n;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (list[middle] <= x) low = middle;
        else high = middle;
    }
    return low;
}

static double energy_until(const power_csv *csv, double t) {
    size_t i = below(csv->edge_s, csv->n, t);
    return csv->energy_j[i] + csv->power_w[i] * (t - csv->edge_s[i]);
}

double power_csv_energy(const power_csv *csv, double t0, double t1) { return energy_until(csv, t1) - energy_until(csv, t0); }

double power_csv_held(const power_csv *csv, double t0, double t1) {
    double joules = 0;
    for (size_t i = below(csv->t_s, csv->n, t0); i < csv->n && csv->t_s[i] < t1; i++) {
        double from = fmax(csv->t_s[i], t0), to = i + 1 < csv->n ? fmin(csv->t_s[i + 1], t1) : t1;
        joules += csv->power_w[i] * (to - from);
    }
    return joules;
}
