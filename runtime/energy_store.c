// The file of fits: what was learned about this machine, kept between runs.
//
// Text, one line per model, backend and domain, so that it can be read and a line deleted:
//   energy2 <sum> <wall s> <idle uW> <spread uW> <idle wall s> <n> <weight> <noise> <15 moments> <the same of each kind> <time: the same> <key>
// Numbers in hexadecimal floating point, exact. <sum> is FNV-1a over the rest of the line: a line that does not match, or whose
// numbers no measurements can have given, counts as not there.
// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/alloc.h"
#include "runtime/energy_private.h"

enum { FIT_NUMBERS = 3 + ENERGY_MOMENTS, N_FITS = 2 + ENERGY_MIXES, NUMBERS = 4 + N_FITS * FIT_NUMBERS, LINE_MAX_BYTES = 4096, FILE_MAX_BYTES = 1 << 20, KEY_BYTES = 400 };
static const char MARK[] = "energy2 ";
static const double AGE_MAX_S = 10 * 365 * 86400.0;

static uint32_t checksum(const char *s) {
    uint32_t sum = 2166136261u;
    for (; *s; s++) sum = (sum ^ (uint8_t)*s) * 16777619u;
    return sum;
}

// The key of one domain: control bytes would break the line.
static void make_key(const char *key, const energy_domain *d, char out[KEY_BYTES]) {
    snprintf(out, KEY_BYTES, "%.250s | %.60s | %.60s", key, d->info.name ? d->info.name : "", d->info.source ? d->info.source : "");
    for (char *c = out; *c; c++)
        if ((unsigned char)*c < ' ') *c = '?';
}

// The file as one terminated text; NULL: there is none, or it is not one of ours.
static char *read_text(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    char *text = wtl_malloc(FILE_MAX_BYTES + 1);
    const size_t n = text ? fread(text, 1, FILE_MAX_BYTES + 1, f) : 0;
    const bool good = text && !ferror(f) && n <= FILE_MAX_BYTES && !memchr(text, 0, n);
    fclose(f);
    if (good) {
        text[n] = '\0';
        return text;
    }
    wtl_free(text);
    return NULL;
}

// Takes a line apart in place. False: not ours, or damaged.
static bool parse_line(char *line, double numbers[NUMBERS], const char **key) {
    char *end;
    if (strncmp(line, MARK, sizeof MARK - 1)) return false;
    const unsigned long sum = strtoul(line + sizeof MARK - 1, &end, 16);
    if (*end != ' ' || sum != checksum(end + 1)) return false;
    char *at = end + 1;
    for (size_t i = 0; i < NUMBERS; i++) {
        numbers[i] = strtod(at, &end);
        if (end == at || *end != ' ' || !isfinite(numbers[i])) return false;
        at = end + 1;
    }
    *key = at;
    return true;
}

static bool take_fit(const double *numbers, energy_fit *out) {
    energy_fit fit = {.weight = numbers[1], .noise = numbers[2]};
    if (!(numbers[0] >= 0 && numbers[0] < 1e15)) return false;
    fit.n = (uint64_t)numbers[0];
    memcpy(fit.moment, numbers + 3, sizeof fit.moment);
    if (!energy_fit_valid(&fit)) return false;
    *out = fit;
    return true;
}

static void take_line(energy_book *b, energy_domain *d, const double numbers[NUMBERS]) {
    energy_fit fits[N_FITS]; // all, by kind, time
    const double now_s = (double)time(NULL);
    double age_s = now_s - numbers[3];
    for (size_t i = 0; i < N_FITS; i++)
        if (!take_fit(numbers + 4 + i * FIT_NUMBERS, &fits[i])) return;
    if (numbers[1] < 0 || numbers[1] > 1e12 || numbers[2] < 0 || numbers[2] > 1e12) return;
    if (age_s < 0 || age_s > AGE_MAX_S) age_s = AGE_MAX_S; // a clock that was set: old
    d->fit = fits[0];
    memcpy(d->kind_fit, fits + 1, sizeof d->kind_fit);
    if (fits[N_FITS - 1].n > b->time_fit.n) {
        b->time_fit = fits[N_FITS - 1];
        energy_book_time(b);
    }
    const uint64_t now_ns = b->machine.now_ns(b->machine.user);
    if (numbers[1] > 0) energy_idle_load(&d->idle, numbers[1], numbers[2], (uint64_t)(age_s * 1e9), now_ns);
    d->baseline = energy_idle_of(&d->idle, now_ns);
    energy_book_solve(b, d);
}

void energy_store_load(const char *path, const char *key, energy_book *b) {
    char *text = read_text(path), *rest = text;
    for (char *line; rest && (line = strsep(&rest, "\n"));) {
        double numbers[NUMBERS];
        const char *line_key;
        if (!parse_line(line, numbers, &line_key)) continue;
        for (size_t d = 0; d < b->machine.n_domains; d++) {
            char own[KEY_BYTES];
            make_key(key, &b->domains[d], own);
            if (!strcmp(own, line_key)) take_line(b, &b->domains[d], numbers);
        }
    }
    wtl_free(text);
}

static int print_fit(char *out, size_t cap, const energy_fit *fit) {
    int n = snprintf(out, cap, "%a %a %a ", (double)fit->n, fit->weight, fit->noise);
    for (size_t i = 0; i < ENERGY_MOMENTS && (size_t)n < cap; i++) n += snprintf(out + n, cap - (size_t)n, "%a ", fit->moment[i]);
    return n;
}

static void print_domain(FILE *f, const char *key, const energy_book *b, const energy_domain *d) {
    char line[LINE_MAX_BYTES], own[KEY_BYTES];
    const energy_idle_value idle = energy_idle_of(&d->idle, b->machine.now_ns(b->machine.user));
    const double now_s = (double)time(NULL);
    make_key(key, d, own);
    int n = snprintf(line, sizeof line, "%a %a %a %a ", now_s, idle.uw, idle.spread_uw - idle.drift_uw, now_s - (double)idle.age_ns * 1e-9);
    n += print_fit(line + n, sizeof line - (size_t)n, &d->fit);
    for (size_t k = 0; k < ENERGY_MIXES; k++) n += print_fit(line + n, sizeof line - (size_t)n, &d->kind_fit[k]);
    n += print_fit(line + n, sizeof line - (size_t)n, &b->time_fit);
    snprintf(line + n, sizeof line - (size_t)n, "%s", own);
    fprintf(f, "%s%08" PRIx32 " %s\n", MARK, checksum(line), line);
}

// Lines of other models, backends and domains, as they are. Damaged ones end here.
static void keep_others(FILE *f, const char *path, const char *key, const energy_book *b) {
    char *text = read_text(path), *rest = text;
    for (char *line; rest && (line = strsep(&rest, "\n"));) {
        double numbers[NUMBERS];
        const char *line_key;
        bool own = false;
        if (!parse_line(line, numbers, &line_key)) continue;
        for (size_t d = 0; d < b->machine.n_domains && !own; d++) {
            char domain_key[KEY_BYTES];
            make_key(key, &b->domains[d], domain_key);
            own = !strcmp(domain_key, line_key);
        }
        if (!own) fprintf(f, "%s\n", line);
    }
    wtl_free(text);
}

bool energy_store_save(const char *path, const char *key, const energy_book *b) {
    bool learned = false;
    for (size_t d = 0; d < b->machine.n_domains; d++) learned = learned || b->domains[d].fit.n || b->domains[d].idle.n || b->domains[d].baseline.known;
    if (!learned) return true;
    const size_t cap = strlen(path) + 64;
    char *second = wtl_malloc(cap);
    if (!second) return false;
    snprintf(second, cap, "%s.%ld.%p.new", path, (long)getpid(), (const void *)b); // of this book alone, in this process and others
    FILE *f = fopen(second, "wb");
    bool good = f != NULL;
    if (f) {
        keep_others(f, path, key, b);
        for (size_t d = 0; d < b->machine.n_domains; d++) print_domain(f, key, b, &b->domains[d]);
        good = !ferror(f);
        good = fclose(f) == 0 && good;
        good = good && rename(second, path) == 0;
        if (!good) unlink(second);
    }
    wtl_free(second);
    return good;
}
