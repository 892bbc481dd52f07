// Writes a script for gnuplot, runs it and keeps what it draws. See bench_plot.h.
//
// The first axis is the first of depth, sequences, threads, step sizes and tokens that has several values; rows that are alike in all the others
// are one line. Text goes into single quotes, where gnuplot expands nothing and runs no commands.
// SPDX-License-Identifier: Apache-2.0
#include "tools/bench_plot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/bench_rows.h"
#include "tools/spawn.h"

static const struct {
    const char *field, *title;
} axes[] = {{"n_depth", "tokens in the KV cache before"}, {"n_parallel", "sequences at once"}, {"n_threads", "threads"}, {"n_ubatch", "tokens of a step"},
            {"n_batch", "tokens of a step"}, {"n_prompt", "tokens of the prompt"}, {"n_gen", "tokens decoded"}};
enum { N_AXES = sizeof axes / sizeof *axes, LABEL = 256 };

static const char *const colors[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#8c564b"}; // of Okabe and Ito

// ---- What varies ------------------------------------------------------------------------------------------------------
// Prompts and replies are tests of different kinds: a prompt of 0 tokens is no value of that axis.
static bool is_value(const json_t *row, size_t axis) {
    return (strcmp(axes[axis].field, "n_prompt") != 0 && strcmp(axes[axis].field, "n_gen") != 0) || bench_number(row, axes[axis].field) > 0;
}

static bool varies(const json_t *rows, size_t axis) {
    const json_t *row, *first = NULL;
    size_t i;
    json_array_foreach(rows, i, row) {
        if (!is_value(row, axis)) continue;
        if (first && bench_number(row, axes[axis].field) != bench_number(first, axes[axis].field)) return true;
        if (!first) first = row;
    }
    return false;
}

static double axis_value(const json_t *row, size_t axis) {
    if (is_value(row, axis)) return bench_number(row, axes[axis].field);
    return bench_number(row, strcmp(axes[axis].field, "n_gen") == 0 ? "n_prompt" : "n_gen");
}

// Some rows have tokens of the prompt there and others decoded ones.
static bool is_mixed(const json_t *rows, size_t axis) {
    const json_t *row;
    size_t i;
    json_array_foreach(rows, i, row)
        if (!is_value(row, axis)) return true;
    return false;
}

static size_t choose_axis(const json_t *rows) {
    for (size_t axis = 0; axis < N_AXES; axis++)
        if (varies(rows, axis)) return axis;
    return N_AXES - 1; // one point a line
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

// The file's name; with its folder where another of that name is among the rows.
static const char *model_name(const json_t *rows, const json_t *row) {
    const json_t *other;
    size_t i;
    const char *path = bench_text(row, "model_filename");
    json_array_foreach(rows, i, other) {
        const char *theirs = bench_text(other, "model_filename");
        if (strcmp(theirs, path) != 0 && strcmp(base_name(theirs), base_name(path)) == 0) return path;
    }
    return base_name(path);
}

static bool several_kv_types(const json_t *rows) {
    const json_t *row;
    size_t i;
    json_array_foreach(rows, i, row)
        if (strcmp(bench_text(row, "type_k"), bench_text(json_array_get(rows, 0), "type_k")) != 0) return true;
    return false;
}

// What a line is: model, kind of test, and everything else that has several values.
static void series_label(const json_t *rows, const json_t *row, size_t axis, char label[LABEL]) {
    const bench_case c = bench_case_of(row);
    size_t n = (size_t)snprintf(label, LABEL, "%s, %s", model_name(rows, row), c.n_prompt && c.n_gen ? "prompt and reply" : c.n_prompt ? "prompt" : "reply");
    for (size_t other = 0; other < N_AXES && n < LABEL; other++)
        if (other != axis && is_value(row, other) && varies(rows, other))
            n += (size_t)snprintf(label + n, LABEL - n, ", %s %.0f", axes[other].field, bench_number(row, axes[other].field));
    if (n < LABEL && several_kv_types(rows)) snprintf(label + n, LABEL - n, ", KV %s", bench_text(row, "type_k"));
}

// ---- The script ---------------------------------------------------------------------------------------------------------
static void put_quoted(FILE *f, const char *text) {
    fputc('\'', f);
    for (const char *p = text; *p; p++) {
        if (*p == '\'') fputc('\'', f);
        fputc((unsigned char)*p < 0x20 ? '?' : *p, f);
    }
    fputc('\'', f);
}

// Rows of one line as a data block: axis, tokens/s, its spread, joules a token ("?" where unknown).
static void put_block(FILE *f, const json_t *rows, size_t axis, const char *label, size_t number) {
    const json_t *row;
    size_t i;
    char own[LABEL];
    fprintf(f, "$line%zu << END\n", number);
    json_array_foreach(rows, i, row) {
        series_label(rows, row, axis, own);
        if (strcmp(own, label) != 0) continue;
        fprintf(f, "%.9g %.9g %.9g ", axis_value(row, axis), bench_number(row, "avg_ts"), bench_number(row, "stddev_ts"));
        if (bench_has(row, "joules_per_token")) fprintf(f, "%.9g\n", bench_number(row, "joules_per_token"));
        else fprintf(f, "?\n");
    }
    fprintf(f, "END\n");
}

typedef struct lines {
    char (*labels)[LABEL];
    size_t n;
    bool joules;
    const char *kind; // of the joules: see bench_joules_kind
} lines;

static bool find_lines(const json_t *rows, size_t axis, lines *out) {
    const json_t *row;
    size_t i, k;
    out->kind = "";
    out->labels = calloc(json_array_size(rows) + 1, sizeof *out->labels);
    if (!out->labels) return false;
    json_array_foreach(rows, i, row) {
        char label[LABEL];
        series_label(rows, row, axis, label);
        for (k = 0; k < out->n && strcmp(out->labels[k], label) != 0; k++) {}
        if (k == out->n) memcpy(out->labels[out->n++], label, LABEL);
        out->joules = out->joules || bench_has(row, "joules_per_token");
        if (!*out->kind) out->kind = bench_joules_kind(row);
    }
    return true;
}

static void put_plot(FILE *f, const lines *l, const char *columns, const char *style) {
    for (size_t i = 0; i < l->n; i++) {
        fprintf(f, "%s$line%zu using %s with %s lw 2 pt 7 ps 0.6 lc rgb '%s' title ", i ? ", \\\n  " : "plot ", i, columns, style, colors[i % CLI_COUNT(colors)]);
        put_quoted(f, l->labels[i]);
    }
    fprintf(f, "\n");
}

static void put_script(FILE *f, const json_t *rows, size_t axis, const lines *l) {
    fprintf(f, "set terminal svg size 900,%d dynamic noenhanced background rgb 'white'", l->joules ? 900 : 480);
    fprintf(f, "\nset datafile missing '?'\nset key above\nset grid\nset yrange [0:*]\nset xlabel ");
    put_quoted(f, is_mixed(rows, axis) ? "tokens of the prompt, or decoded" : axes[axis].title);
    fprintf(f, "\n");
    for (size_t i = 0; i < l->n; i++) put_block(f, rows, axis, l->labels[i], i);
    if (l->joules) fprintf(f, "set multiplot layout 2,1\n");
    fprintf(f, "set ylabel 'tokens/s'\n");
    put_plot(f, l, "1:2:3", "yerrorlines");
    if (!l->joules) return;
    fprintf(f, "set ylabel 'joules a token%s%s%s'\n", *l->kind ? " (" : "", l->kind, *l->kind ? ")" : "");
    put_plot(f, l, "1:4", "linespoints");
    fprintf(f, "unset multiplot\n");
}

char *bench_plot_script(const json_t *rows) {
    char *text = NULL;
    size_t size = 0;
    lines l = {0};
    const size_t axis = choose_axis(rows);
    FILE *f = find_lines(rows, axis, &l) ? open_memstream(&text, &size) : NULL;
    if (f) put_script(f, rows, axis, &l);
    free(l.labels);
    if (f && fclose(f) == 0) return text;
    free(text);
    return NULL;
}

// ---- gnuplot ------------------------------------------------------------------------------------------------------------
// What it says on its standard output is in result, which the caller frees.
static int run_gnuplot(const char *argument, const char *what, spawn_result *result) {
    const char *const argv[] = {"gnuplot", argument, NULL};
    spawn_run(argv, SPAWN_KEEP_OUT | SPAWN_KEEP_ERR, result);
    if (result->code == 127) return cli_fail("--plot needs gnuplot, which is not installed (Debian, Ubuntu: apt install gnuplot-nox)");
    return result->code == 0 ? CLI_GO : cli_fail("%s: gnuplot ended with %d: %.400s", what, result->code, result->err);
}

// gnuplot itself says nothing about a full disk.
static int write_file(const char *path, const char *text) {
    FILE *f = fopen(path, "we");
    bool good = f && fputs(text, f) >= 0;
    if (f && fclose(f) != 0) good = false;
    return good ? CLI_GO : cli_fail("--plot: %s cannot be written: %s", path, strerror(errno));
}

int bench_plot_check(const char *path) {
    const bool there = access(path, F_OK) == 0;
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
    if (fd < 0) return cli_fail("--plot: %s cannot be written: %s", path, strerror(errno));
    close(fd);
    if (!there) unlink(path); // nothing stays when the bench is broken off
    spawn_result result;
    const int code = run_gnuplot("--version", "--plot", &result);
    spawn_free(&result);
    return code;
}

int bench_plot(const json_t *rows, const char *path) {
    char file[] = "/tmp/wattle-plot-XXXXXX";
    char *script = bench_plot_script(rows);
    if (!script) return cli_fail("out of memory for the plot");
    const int fd = mkstemp(file);
    const size_t len = strlen(script);
    const bool written = fd >= 0 && write(fd, script, len) == (ssize_t)len;
    spawn_result result = {0};
    int code = written ? run_gnuplot(file, path, &result) : cli_fail("--plot: %s cannot be written", file);
    if (code == CLI_GO && !*result.out) code = cli_fail("--plot: gnuplot drew nothing"); // also: no memory for what it drew
    if (code == CLI_GO) code = write_file(path, result.out);
    spawn_free(&result);
    if (fd >= 0) {
        close(fd);
        unlink(file);
    }
    free(script);
    return code;
}
