// The look-alike NVML's script and sensors. The format is described in fake_nvml.c.
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_nvml_model.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "telemetry/nvml_api.h"

// ---- Truth --------------------------------------------------------------------------------------------------------
static double square_mj(const fake_device *d, uint64_t t_us) {
    if (d->period_us == 0) return d->low_mw * (double)t_us / 1e6;
    const double high_us = d->duty * (double)d->period_us;
    const double whole = (double)(t_us / d->period_us), rest = (double)(t_us % d->period_us);
    const double high = whole * high_us + fmin(rest, high_us);
    return (d->high_mw * high + d->low_mw * ((double)t_us - high)) / 1e6;
}

double fake_truth_mj(const fake_device *d, uint64_t t_us) {
    if (!d->n_points) return square_mj(d, t_us);
    if (t_us <= d->points[0].t_us) return d->points[0].mw * (double)t_us / 1e6;
    size_t low = 0, high = d->n_points; // points[low].t_us <= t_us < points[high].t_us
    while (high - low > 1) {
        const size_t middle = (low + high) / 2;
        if (d->points[middle].t_us <= t_us) low = middle;
        else high = middle;
    }
    return d->points[low].mj + d->points[low].mw * (double)(t_us - d->points[low].t_us) / 1e6;
}

// ---- Sensors ------------------------------------------------------------------------------------------------------
static double mean_mw(const fake_device *d, uint64_t end_us, uint64_t window_us) {
    if (window_us > end_us) window_us = end_us;
    if (window_us == 0) window_us = 1, end_us += end_us == 0;
    return (fake_truth_mj(d, end_us) - fake_truth_mj(d, end_us - window_us)) * 1e6 / (double)window_us;
}

double fake_sample_mw(const fake_device *d, uint64_t t_us) {
    return fmax(0, d->gain * mean_mw(d, t_us, d->window_us) + d->offset_mw);
}

double fake_sensor_mw(const fake_device *d, uint64_t t_us, uint64_t window_us) {
    const uint64_t seen_us = t_us > d->delay_us ? t_us - d->delay_us : 0;
    return fmax(0, d->gain * mean_mw(d, seen_us - seen_us % d->step_us, window_us) + d->offset_mw);
}

// The counter sums the sensor: every joule where the sensor sees the whole step, else the part that it sees, stretched over the step.
static double summed_mj(fake_device *d, uint64_t end_us) {
    if (d->window_us >= d->step_us) return d->gain * fake_truth_mj(d, end_us) + d->offset_mw * (double)end_us / 1e6;
    const uint64_t steps = end_us / d->step_us;
    if (steps < d->sum_steps) d->sum_steps = 0, d->sum_mj = 0;
    for (; d->sum_steps < steps; d->sum_steps++) d->sum_mj += fake_sample_mw(d, (d->sum_steps + 1) * d->step_us) * (double)d->step_us / 1e6;
    return d->sum_mj;
}

double fake_counter_mj(fake_device *d, uint64_t t_us) {
    const uint64_t seen_us = t_us > d->counter_delay_us ? t_us - d->counter_delay_us : 0;
    const uint64_t end_us = seen_us - seen_us % d->counter_step_us;
    if (d->counter_reset_us && end_us >= d->counter_reset_us) return summed_mj(d, end_us) - summed_mj(d, d->counter_reset_us);
    return d->counter_start_mj + summed_mj(d, end_us);
}

// ---- Script -------------------------------------------------------------------------------------------------------
static bool load_truth(fake_device *d, const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) return false;
    char line[256];
    while (fgets(line, sizeof line, file)) {
        fake_point p = {0};
        if (sscanf(line, "%" SCNu64 ",%lf", &p.t_us, &p.mw) != 2) continue; // the head of the table
        if (d->n_points && p.t_us <= d->points[d->n_points - 1].t_us) continue;
        fake_point *grown = realloc(d->points, (d->n_points + 1) * sizeof *grown);
        if (!grown) break;
        d->points = grown;
        const fake_point *last = d->n_points ? &grown[d->n_points - 1] : NULL;
        p.mj = last ? last->mj + last->mw * (double)(p.t_us - last->t_us) / 1e6 : p.mw * (double)p.t_us / 1e6;
        grown[d->n_points++] = p;
    }
    fclose(file);
    return d->n_points > 0;
}

static bool parse_truth(fake_device *d, const char *rest) {
    char path[512];
    if (sscanf(rest, "constant %lf", &d->low_mw) == 1) {
        d->high_mw = d->low_mw;
        return true;
    }
    if (sscanf(rest, "csv %511s", path) == 1) return load_truth(d, path);
    return sscanf(rest, "square %lf %lf %" SCNu64 " %lf", &d->low_mw, &d->high_mw, &d->period_us, &d->duty) == 4 && d->duty >= 0 && d->duty <= 1;
}

static bool parse_choice(const char *rest, const char *const *names, unsigned n, unsigned *out) {
    for (unsigned i = 0; i < n; i++) {
        if (strcmp(rest, names[i]) != 0) continue;
        *out = i;
        return true;
    }
    return false;
}

static bool parse_fail(fake_fail *fails, size_t *n, const char *rest) {
    fake_fail fail = {0};
    if (*n == FAKE_FAILS_MAX) return false;
    if (sscanf(rest, "%63s %d %" SCNu64 " %" SCNu64, fail.function, &fail.code, &fail.after, &fail.count) < 2) return false;
    fails[(*n)++] = fail;
    return true;
}

static bool parse_number(fake_device *d, const char *key, const char *rest) {
    const struct {
        const char *key;
        uint64_t *to;
    } times[] = {{"step_us", &d->step_us}, {"window_us", &d->window_us}, {"delay_us", &d->delay_us}, {"average_us", &d->average_us},
                 {"counter_step_us", &d->counter_step_us}, {"counter_delay_us", &d->counter_delay_us},
                 {"counter_reset_us", &d->counter_reset_us}, {"ring_step_us", &d->ring_step_us}, {"ring_stop_us", &d->ring_stop_us},
                 {"latency_us", &d->latency_us}};
    const struct {
        const char *key;
        unsigned *to;
    } counts[] = {{"arch", &d->arch}, {"limit_mw", &d->limit_mw}, {"limit_default_mw", &d->limit_default_mw}, {"ring", &d->ring}};
    const struct {
        const char *key;
        double *to;
    } reals[] = {{"gain", &d->gain}, {"offset_mw", &d->offset_mw}, {"counter_start_mj", &d->counter_start_mj}};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
        if (strcmp(key, times[i].key) == 0) return sscanf(rest, "%" SCNu64, times[i].to) == 1;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        if (strcmp(key, counts[i].key) == 0) return sscanf(rest, "%u", counts[i].to) == 1;
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++)
        if (strcmp(key, reals[i].key) == 0) return sscanf(rest, "%lf", reals[i].to) == 1;
    return false;
}

static bool parse_device_line(fake_device *d, const char *key, const char *rest) {
    static const char *const types[] = {"double", "uint", "ulong", "ulonglong", "longlong", "int", "ushort"}, // order of nvml_value_type
        *const clocks[] = {"meter", "boot", "wall"}, *const switches[] = {"off", "on"};
    unsigned choice = 0;
    if (strcmp(key, "name") == 0) return snprintf(d->name, sizeof d->name, "%s", rest) < (int)sizeof d->name;
    if (strcmp(key, "pci") == 0) return sscanf(rest, "%x:%x:%x", &d->domain, &d->bus, &d->slot) == 3;
    if (strcmp(key, "truth") == 0) return parse_truth(d, rest);
    if (strcmp(key, "fail") == 0) return parse_fail(d->fails, &d->n_fails, rest);
    if (strcmp(key, "limit_range_mw") == 0) return sscanf(rest, "%u %u", &d->limit_min_mw, &d->limit_max_mw) == 2;
    if (strcmp(key, "clocks_mhz") == 0) return sscanf(rest, "%u %u", &d->sm_mhz, &d->mem_mhz) == 2;
    if (strcmp(key, "lost_us") == 0) return sscanf(rest, "%" SCNu64 " %" SCNu64, &d->lost_from_us, &d->lost_to_us) == 2;
    if (strcmp(key, "stamp_shift_us") == 0) return sscanf(rest, "%" SCNd64, &d->stamp_shift_us) == 1;
    if (strcmp(key, "value_type") == 0) return parse_choice(rest, types, 7, &d->value_type);
    if (strcmp(key, "stamps") == 0) {
        const bool ok = parse_choice(rest, clocks, 3, &choice);
        d->stamps = (fake_clock)choice;
        return ok;
    }
    if (strcmp(key, "mig") == 0 || strcmp(key, "field_stamps") == 0) {
        const bool ok = parse_choice(rest, switches, 2, &choice);
        *(key[0] == 'm' ? &d->mig : &d->field_stamps) = choice == 1;
        return ok;
    }
    return parse_number(d, key, rest);
}

static fake_device ordinary_device(unsigned i) {
    fake_device d = {.bus = i + 1, .arch = NVML_ARCH_AMPERE, .limit_mw = 350000, .limit_min_mw = 100000, .limit_max_mw = 400000,
                     .limit_default_mw = 350000, .sm_mhz = 1700, .mem_mhz = 9750, .low_mw = 100000, .high_mw = 100000,
                     .step_us = 100000, .window_us = 100000, .average_us = 1000000, .gain = 1, .counter_step_us = 100000,
                     .counter_start_mj = 5000000, .ring = 120, .ring_step_us = 20000, .field_stamps = true, .value_type = NVML_TYPE_UINT};
    snprintf(d.name, sizeof d.name, "NVIDIA GeForce RTX 3090");
    return d;
}

static bool parse_line(fake_model *model, char *line) {
    char key[FAKE_WORD];
    int used = 0;
    line[strcspn(line, "#\r\n")] = '\0';
    if (sscanf(line, "%63s %n", key, &used) != 1) return true; // empty
    char *rest = line + used;
    for (size_t n = strlen(rest); n > 0 && rest[n - 1] == ' '; n--) rest[n - 1] = '\0';
    if (strcmp(key, "device") == 0) {
        if (model->n == FAKE_DEVICES_MAX) return false;
        model->devices[model->n] = ordinary_device(model->n);
        model->n++;
        return true;
    }
    if (model->n) return parse_device_line(&model->devices[model->n - 1], key, rest);
    if (strcmp(key, "fail") == 0) return parse_fail(model->fails, &model->n_fails, rest);
    if (strcmp(key, "clock") == 0) return model->virtual_clock = strcmp(rest, "virtual") == 0, true;
    return false;
}

bool fake_model_load(fake_model *model, const char *path, int *line) {
    memset(model, 0, sizeof *model);
    *line = 0;
    FILE *file = fopen(path, "r");
    if (!file) return false;
    char text[1024];
    bool ok = true;
    while (ok && fgets(text, sizeof text, file)) {
        ++*line;
        ok = parse_line(model, text);
    }
    fclose(file);
    for (unsigned i = 0; i < model->n; i++) {
        const fake_device *d = &model->devices[i];
        ok = ok && d->step_us && d->counter_step_us && d->ring_step_us;
    }
    return ok;
}

void fake_model_free(fake_model *model) {
    for (unsigned i = 0; i < model->n; i++) free(model->devices[i].points);
    memset(model, 0, sizeof *model);
}
