// Source "replay": a file of readings played back on the meter's clock. Its first row happens when the meter opens; a row becomes visible
// when the clock passes it, with its own time, and goes into the series as the live reading did, faults included.
//
// The whole file is parsed and checked at open (replay_parse.c); reading only moves a cursor. After the last row a domain has no more
// samples: what lies beyond the recording is unknown, not zero.
// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "telemetry/replay_parse.h"

typedef struct replay {
    replay_file file;
    size_t cursor[TEL_DOMAINS_MAX];
    uint64_t base_ns; // meter time of the first row
    tel_card averaged; // the recorded board, read as an average of the last second
    tel_env env;      // for its clock; the strings in it are not kept
} replay;

// How often a row comes, on average: as often as that is worth looking.
static uint64_t row_distance(const replay_rows *rows) {
    if (rows->n < 2) return 1000000000u;
    int64_t span = rows->items[rows->n - 1].t_ns - rows->items[0].t_ns;
    uint64_t mean = span > 0 ? (uint64_t)span / (rows->n - 1) : 0;
    return mean < 1000000u ? 1000000u : mean > 1000000000u ? 1000000000u : mean;
}

static void complete_domain(replay *r, const tel_env *env, const char *path, tel_domain *domain, const replay_rows *rows) {
    snprintf(domain->path, sizeof domain->path, "%.*s", (int)sizeof domain->path - 1, path);
    if (env->card[0]) {
        snprintf(domain->device, sizeof domain->device, "%.*s", (int)sizeof domain->device - 1, env->card);
        if (domain->kind == TEL_SERIES_POWER) domain->card = tel_card_by_name(env->card);
    }
    if (!domain->card && domain->kind == TEL_SERIES_POWER) domain->card = tel_card_by_name(domain->device);
    if (r->file.averaged && domain->card && !tel_card_is_ga100(domain->device)) {
        r->averaged = *domain->card;
        r->averaged.kind = TEL_CARD_AVERAGED;
        r->averaged.window_ns = tel_card_averaged()->window_ns;
        r->averaged.lag_ns = tel_card_averaged()->lag_ns;
        domain->card = &r->averaged;
    }
    domain->poll_ns = row_distance(rows);
    domain->zero_ns = (int64_t)r->base_ns - r->file.first_ns;
    if (!rows->n) snprintf(domain->reason, sizeof domain->reason, "the recording has no rows of this domain");
}

static tel_result replay_open(const tel_env *env, void **state, tel_found *found, tel_error *err) {
    const char *path = env->replay_path;
    replay *r = *state = calloc(1, sizeof *r);
    if (!r) return tel_fail(err, TEL_ERR_NO_MEMORY, "out of memory for a recording");
    FILE *in = fopen(path, "re");
    if (!in) {
        tel_result code = errno == ENOENT || errno == ENOTDIR ? TEL_ERR_NOT_FOUND : errno == EACCES ? TEL_ERR_PERMISSION : TEL_ERR_IO;
        return tel_fail(err, code, "%.180s: %s", path, strerror(errno));
    }
    tel_result result = tel_replay_parse(in, path, &r->file, err);
    fclose(in);
    if (result) return result;
    r->env.clock = env->clock;
    r->base_ns = tel_env_now(&r->env);
    for (size_t i = 0; i < r->file.domains.n; i++) {
        tel_domain *domain = tel_found_add(found);
        if (!domain) break;
        *domain = r->file.domains.items[i];
        complete_domain(r, env, path, domain, &r->file.rows[i]);
    }
    return TEL_OK;
}

static void push_row(tel_series *series, const replay_row *row, uint64_t t_ns) {
    if (row->kind == REPLAY_FAULT) {
        tel_series_fault(series, t_ns, (tel_fault)row->raw);
    } else if (row->kind == REPLAY_STAMPED) {
        tel_series_push_at(series, t_ns, row->raw);
    } else {
        uint64_t before = row->read_ns / 2 < t_ns ? row->read_ns / 2 : t_ns;
        tel_series_push(series, t_ns - before, t_ns - before + row->read_ns, row->raw);
    }
}

static void replay_read(void *state, const tel_domain *domain, tel_series *series) {
    replay *r = state;
    const replay_rows *rows = &r->file.rows[domain->slot];
    size_t *cursor = &r->cursor[domain->slot];
    uint64_t elapsed = tel_env_now(&r->env) - r->base_ns;
    for (size_t n = 0; *cursor < rows->n && n < series->options.capacity / 2; n++, ++*cursor) {
        const replay_row *row = &rows->items[*cursor];
        // A stamp may be older than the first row of the file, which is the moment 0.
        int64_t since = row->t_ns - r->file.first_ns;
        if (since > 0 && (uint64_t)since > elapsed) break;
        if (since < 0 && (uint64_t)-since > r->base_ns) continue;
        push_row(series, row, r->base_ns + (uint64_t)since);
    }
}

static const char *replay_ended(void *state, const tel_domain *domain) {
    const replay *r = state;
    return r->cursor[domain->slot] >= r->file.rows[domain->slot].n ? "the recording has ended" : NULL;
}

static void replay_close(void *state) {
    replay *r = state;
    if (!r) return;
    tel_replay_free(&r->file);
    free(r);
}

const tel_source tel_source_replay = {
    .name = "replay", .rank = 0, .open = replay_open, .read = replay_read, .ended = replay_ended, .close = replay_close};
