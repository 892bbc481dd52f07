// Gain and offset of one device: fitted from pairs of readings and truths, kept in a small text file.
//
// The file, one block per domain, written to be read and edited by people:
//   # wattle calibration 1
//   domain = gpu-0
//   device = NVIDIA GeForce RTX 3090
//   gain = 0.9481
//   offset_w = -0.7
//   gain_error = 0.01
//   offset_error_w = 1
// SPDX-License-Identifier: Apache-2.0
#include "telemetry/telemetry.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// What remains unknown after any fit: sensors drift with temperature and age by about this much.
static const double GAIN_FLOOR = 0.01, OFFSET_FLOOR_W = 1;
// A gain fitted at one level says nothing of the offset; the boards of the public study have up to this much (card.c), but one.
static const double OFFSET_UNKNOWN_W = 13;
static const double ONE_LEVEL_FRAC = 0.2; // truths within this of each other are one level
static const double SIGMAS = 2.576;       // 99 %

static tel_result fail(tel_error *err, tel_result code, const char *format, ...) __attribute__((format(printf, 3, 4)));
static tel_result fail(tel_error *err, tel_result code, const char *format, ...) {
    if (!err) return code;
    err->code = code;
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    return code;
}

// ---- Fitting ------------------------------------------------------------------------------------------------------
typedef struct sums {
    double n, t, r, tt, tr, error; // truths, readings, products, mean error of the truths
    double least, most;
} sums;

static tel_result add_up(const tel_calibration_point *points, size_t n, sums *s, tel_error *err) {
    *s = (sums){.least = INFINITY};
    for (size_t i = 0; i < n; i++) {
        double t = points[i].truth_w, r = points[i].reading_w, e = points[i].truth_error_w;
        if (!isfinite(t) || !isfinite(r) || !isfinite(e) || t <= 0 || r <= 0 || e < 0)
            return fail(err, TEL_ERR_INVALID, "point %zu (%g W read, %g W true): powers must be above 0", i + 1, r, t);
        s->n += 1, s->t += t, s->r += r, s->tt += t * t, s->tr += t * r, s->error += e;
        s->least = fmin(s->least, t);
        s->most = fmax(s->most, t);
    }
    s->error /= (double)n;
    return TEL_OK;
}

tel_result tel_calibration_fit(const tel_calibration_point *points, size_t n, tel_calibration *out, tel_error *err) {
    sums s;
    if (n < 2) return fail(err, TEL_ERR_INVALID, "a calibration needs at least two points, there %s %zu", n == 1 ? "is" : "are", n);
    tel_result result = add_up(points, n, &s, err);
    if (result != TEL_OK) return result;
    bool one_level = s.most - s.least < ONE_LEVEL_FRAC * s.most;
    double mean = s.t / s.n, spread = s.tt - s.t * mean; // spread: sum of squared distances from the mean
    double gain = one_level ? s.tr / s.tt : (s.tr - s.r * mean) / spread, offset = one_level ? 0 : s.r / s.n - gain * mean;
    if (!(gain >= 0.5 && gain <= 2))
        return fail(err, TEL_ERR_INVALID, "these points give a gain of %.3f: no sensor is that wrong, are the columns swapped or the times not the same?", gain);
    double squares = 0;
    for (size_t i = 0; i < n; i++) {
        double d = points[i].reading_w - gain * points[i].truth_w - offset;
        squares += d * d;
    }
    double freedom = s.n - (one_level ? 1 : 2), sigma = freedom > 0 ? sqrt(squares / freedom) : 0;
    double root = one_level ? sqrt(s.tt) : sqrt(spread);
    tel_calibration fit = {.gain = gain, .offset_w = offset};
    // Few points: their scatter is poorly known, so twice the normal factor below five degrees of freedom.
    double factor = freedom >= 5 ? SIGMAS : 2 * SIGMAS;
    fit.gain_error = GAIN_FLOOR + factor * sigma / root + s.error / (one_level ? mean : s.most - s.least) * (one_level ? 1 : 2);
    fit.offset_error_w = one_level ? OFFSET_UNKNOWN_W : OFFSET_FLOOR_W + factor * sigma * sqrt(1 / s.n + mean * mean / spread) + s.error;
    memcpy(fit.domain, out->domain, sizeof fit.domain);
    memcpy(fit.device, out->device, sizeof fit.device);
    *out = fit;
    return TEL_OK;
}

// ---- The file -----------------------------------------------------------------------------------------------------
static tel_result code_of(int error) {
    return error == ENOENT ? TEL_ERR_NOT_FOUND : error == EACCES || error == EPERM ? TEL_ERR_PERMISSION : TEL_ERR_IO;
}

// Names go into one line each: what would break the line becomes a space.
static void put_name(FILE *file, const char *field, const char *name) {
    fprintf(file, "%s = ", field);
    for (; *name; name++) fputc((unsigned char)*name < ' ' ? ' ' : *name, file);
    fputc('\n', file);
}

// Written beside the old file and moved over it: a full disk leaves the old one.
tel_result tel_calibration_save(const char *path, const tel_calibration *list, size_t n, tel_error *err) {
    char fresh[4096];
    if ((size_t)snprintf(fresh, sizeof fresh, "%s.new", path) >= sizeof fresh) return fail(err, TEL_ERR_INVALID, "%s: the name is too long", path);
    FILE *file = fopen(fresh, "w");
    if (!file) return fail(err, code_of(errno), "%s cannot be written: %s", path, strerror(errno));
    fputs("# wattle calibration 1\n# reading = gain * truth + offset; the errors are what the fit leaves unknown (99 %)\n", file);
    for (size_t i = 0; i < n; i++) {
        put_name(file, "domain", list[i].domain);
        put_name(file, "device", list[i].device);
        fprintf(file, "gain = %.6g\noffset_w = %.6g\ngain_error = %.6g\noffset_error_w = %.6g\n", list[i].gain, list[i].offset_w, list[i].gain_error,
                list[i].offset_error_w);
    }
    bool bad = fflush(file) != 0 || fsync(fileno(file)) != 0;
    int error = errno;
    if (fclose(file) != 0 && !bad) bad = true, error = errno;
    if (!bad && rename(fresh, path) != 0) bad = true, error = errno;
    if (!bad) return TEL_OK;
    unlink(fresh);
    return fail(err, code_of(error), "%s cannot be written: %s", path, strerror(error));
}

static char *trim(char *text) {
    while (*text == ' ' || *text == '\t') text++;
    size_t n = strlen(text);
    while (n && strchr(" \t\r\n", text[n - 1])) text[--n] = '\0';
    return text;
}

typedef struct field {
    const char *name;
    double *number; // or
    char *text;
    size_t cap;
    double least, most;
} field;

// Stores one `name = value`. NULL, or what is wrong with it.
static const char *store(const field *fields, size_t n, const char *name, const char *value, unsigned *seen) {
    for (size_t i = 0; i < n; i++) {
        const field *f = &fields[i];
        if (strcmp(f->name, name) != 0) continue;
        *seen |= 1u << i;
        if (f->text) {
            if (strlen(value) >= f->cap) return "the value is too long";
            strcpy(f->text, value);
            return NULL;
        }
        char *end;
        double x = strtod(value, &end);
        if (end == value || *end || !isfinite(x)) return "the value is not a number";
        if (x < f->least || x > f->most) return "the value is out of range";
        *f->number = x;
        return NULL;
    }
    return "no such field (domain, device, gain, offset_w, gain_error, offset_error_w)";
}

enum { NUMBER_FIELDS = 4 | 8 | 16 | 32 }; // bits of the four numbers in the table of fields

static tel_result keep(tel_calibration *list, size_t cap, size_t *n, const tel_calibration *one, unsigned seen, const char *path, size_t line, tel_error *err) {
    if (!seen) return TEL_OK;
    if ((seen & NUMBER_FIELDS) != NUMBER_FIELDS)
        return fail(err, TEL_ERR_FORMAT, "%s: the block that ends in line %zu lacks gain, offset_w, gain_error or offset_error_w", path, line);
    if (*n < cap) list[*n] = *one;
    (*n)++;
    return TEL_OK;
}

tel_result tel_calibration_load(const char *path, tel_calibration *list, size_t cap, size_t *n, tel_error *err) {
    *n = 0;
    FILE *file = fopen(path, "r");
    if (!file) return fail(err, code_of(errno), "%s cannot be read: %s", path, strerror(errno));
    tel_calibration one = {.gain = 1};
    const field fields[] = {{.name = "domain", .text = one.domain, .cap = sizeof one.domain},
                            {.name = "device", .text = one.device, .cap = sizeof one.device},
                            {.name = "gain", .number = &one.gain, .least = 0.5, .most = 2},
                            {.name = "offset_w", .number = &one.offset_w, .least = -1000, .most = 1000},
                            {.name = "gain_error", .number = &one.gain_error, .least = 0, .most = 1},
                            {.name = "offset_error_w", .number = &one.offset_error_w, .least = 0, .most = 1000}};
    char text[512];
    unsigned seen = 0;
    tel_result result = TEL_OK;
    size_t line = 0;
    while (result == TEL_OK && fgets(text, sizeof text, file)) {
        line++;
        if (!strchr(text, '\n') && !feof(file)) result = fail(err, TEL_ERR_FORMAT, "%s: line %zu is too long", path, line);
        char *name = trim(text), *value = strchr(name, '=');
        if (result != TEL_OK || *name == '#' || *name == '\0') continue;
        if (!value) {
            result = fail(err, TEL_ERR_FORMAT, "%s: line %zu is not of the form name = value", path, line);
            continue;
        }
        *value++ = '\0';
        name = trim(name);
        if (strcmp(name, "domain") == 0 && seen) { // the next block
            result = keep(list, cap, n, &one, seen, path, line - 1, err);
            one = (tel_calibration){.gain = 1};
            seen = 0;
        }
        const char *wrong = result == TEL_OK ? store(fields, sizeof fields / sizeof fields[0], name, trim(value), &seen) : NULL;
        if (wrong) result = fail(err, TEL_ERR_FORMAT, "%s: line %zu, %s: %s", path, line, name, wrong);
    }
    if (result == TEL_OK && ferror(file)) result = fail(err, TEL_ERR_IO, "%s cannot be read: %s", path, strerror(errno));
    if (result == TEL_OK) result = keep(list, cap, n, &one, seen, path, line, err);
    if (result == TEL_OK && *n == 0) result = fail(err, TEL_ERR_FORMAT, "%s holds no calibration", path);
    fclose(file);
    return result;
}
