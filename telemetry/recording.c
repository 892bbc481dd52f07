// Writes what a meter reads into a file that replay plays back. The form is described in replay_parse.h.
//
// Hangs on the taps of the series, so a row is what the source delivered, before any arithmetic. Rows collect in a buffer that is written
// at row ends only, a second old at most: whatever happens, the file ends with a whole row. A write that fails ends the recording, never the
// sampling; closing tells. All of it under the meter's read_lock.
// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "telemetry/meter.h"
#include "telemetry/replay_parse.h"

enum { BUFFER_BYTES = 65536, ROW_MAX_BYTES = 128, HEADER_MAX_BYTES = 1000 };
static const uint64_t FLUSH_NS = 1000000000u;

typedef struct tapped {
    struct tel_recording *recording;
    size_t domain, number; // of the meter; in the file
} tapped;

struct tel_recording {
    tel_meter *meter;
    char path[192];
    int file;
    int error; // errno of the write that failed; 0: none
    uint64_t start_ns, flushed_ns, n_rows, n_buffered, file_bytes;
    size_t n_bytes, n_tapped;
    tapped taps[TEL_SOURCES_MAX * TEL_DOMAINS_MAX];
    char buffer[BUFFER_BYTES];
};

// ---- Writing ------------------------------------------------------------------------------------------------------
// Of the buffer, so many bytes came into the file before it failed: back to the last whole row.
static void cut_torn_row(tel_recording *r, size_t done) {
    while (done > 0 && r->buffer[done - 1] != '\n') done--;
    for (size_t i = 0; i < done; i++) r->n_rows += r->buffer[i] == '\n' && r->n_buffered > 0;
    if (ftruncate(r->file, (off_t)(r->file_bytes + done))) return; // a device: it has no rows to cut
}

static void write_out(tel_recording *r) {
    size_t done = 0;
    while (done < r->n_bytes && !r->error) {
        ssize_t n = write(r->file, r->buffer + done, r->n_bytes - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) r->error = n < 0 ? errno : ENOSPC;
        else done += (size_t)n;
    }
    if (r->error) cut_torn_row(r, done);
    else r->n_rows += r->n_buffered;
    r->file_bytes += done;
    r->n_buffered = r->n_bytes = 0;
    r->flushed_ns = tel_monotonic_ns();
}

void recording_flush(tel_recording *r) {
    if (r->n_bytes && tel_monotonic_ns() - r->flushed_ns >= FLUSH_NS) write_out(r);
}

static char *place_for_row(tel_recording *r) {
    if (r->n_bytes + ROW_MAX_BYTES > BUFFER_BYTES) write_out(r);
    return r->buffer + r->n_bytes;
}

// Microseconds since the recording began, with its nanoseconds as decimals.
static int put_time(const tel_recording *r, char *out, uint64_t t_ns) {
    bool before = t_ns < r->start_ns;
    uint64_t since = before ? r->start_ns - t_ns : t_ns - r->start_ns;
    return snprintf(out, ROW_MAX_BYTES, "%s%" PRIu64 ".%03u", before ? "-" : "", since / 1000, (unsigned)(since % 1000));
}

static void on_sample(void *user, uint64_t t_ns, uint64_t raw, uint64_t read_ns, bool stamped) {
    const tapped *tap = user;
    tel_recording *r = tap->recording;
    char *row = place_for_row(r);
    int n = put_time(r, row, t_ns);
    n += snprintf(row + n, ROW_MAX_BYTES - (size_t)n, ",%zu,%" PRIu64 ",", tap->number, raw);
    if (!stamped) n += snprintf(row + n, ROW_MAX_BYTES - (size_t)n, "%" PRIu64, read_ns < UINT32_MAX ? read_ns : UINT32_MAX);
    row[n++] = '\n';
    r->n_bytes += (size_t)n;
    r->n_buffered++;
}

static void on_fault(void *user, uint64_t t_ns, tel_fault fault) {
    const tapped *tap = user;
    tel_recording *r = tap->recording;
    char *row = place_for_row(r);
    int n = put_time(r, row, t_ns);
    n += snprintf(row + n, ROW_MAX_BYTES - (size_t)n, ",%zu,!%s,\n", tap->number, tel_fault_name(fault));
    r->n_bytes += (size_t)n;
    r->n_buffered++;
}

// ---- Opening ------------------------------------------------------------------------------------------------------
// Text inside quotes: no quote, no line end.
static void put_text(char *out, size_t cap, const char *text) {
    size_t n = 0;
    for (; text[n] && n + 1 < cap; n++) out[n] = text[n] == '"' || (unsigned char)text[n] < ' ' ? '_' : text[n];
    out[n] = 0;
}

// With a point, whatever the program's locale.
static const char *put_number(char out[32], double value) {
    snprintf(out, 32, "%.17g", value);
    for (char *p = out; *p; p++)
        if (*p == ',') *p = '.';
    return out;
}

static void put_domain(tel_recording *r, const meter_domain *d) {
    const tel_domain *t = &d->domain;
    char name[sizeof t->name], device[sizeof t->device], key[sizeof t->key], contains[sizeof t->contains];
    put_text(name, sizeof name, t->name);
    put_text(device, sizeof device, t->device);
    put_text(key, sizeof key, t->key);
    put_text(contains, sizeof contains, t->contains);
    for (char *p = name; *p; p++)
        if (*p == ' ') *p = '_';
    const char *card = t->card ? tel_replay_card_name(t->card) : t->kind == TEL_SERIES_COUNTER ? "counter" : "instant";
    char *out = r->buffer + r->n_bytes, scale[32], low[32], high[32];
    int n = snprintf(out, HEADER_MAX_BYTES, "# domain %s scope=%s source=%s method=%s kind=%s unit=%s scale=%s range=%" PRIu64 " step_ns=%" PRIu64
                     " limit_uw=%" PRIu64 " sensor=%s", name, tel_scope_name(t->scope), d->source->name, tel_method_name(t->method),
                     t->kind == TEL_SERIES_COUNTER ? "counter" : "power", t->unit ? t->unit : "raw", put_number(scale, t->uj_per_unit), t->range, t->step_ns,
                     t->limit_uw, card ? card : "by-name");
    if (t->low_factor > 0 && t->high_factor > 0)
        n += snprintf(out + n, HEADER_MAX_BYTES - (size_t)n, " low=%s high=%s", put_number(low, t->low_factor), put_number(high, t->high_factor));
    n += snprintf(out + n, HEADER_MAX_BYTES - (size_t)n, " device=\"%s\" key=\"%s\" contains=\"%s\"\n", device, key, contains);
    r->n_bytes += (size_t)n;
}

// Every domain that is read, in the meter's order: the ones that count come first and win again when played back.
static void put_header(tel_recording *r) {
    static const char first[] = "# wattle recording 1\n", columns[] = "t_us,domain,value,read_ns\n";
    memcpy(r->buffer, first, sizeof first - 1);
    r->n_bytes = sizeof first - 1;
    for (size_t i = 0; i < r->meter->n_domains && r->n_tapped < TEL_DOMAINS_MAX; i++) {
        if (!r->meter->domains[i].readable) continue;
        r->taps[r->n_tapped] = (tapped){r, i, r->n_tapped};
        r->n_tapped++;
        if (r->n_bytes + HEADER_MAX_BYTES > BUFFER_BYTES) write_out(r);
        put_domain(r, &r->meter->domains[i]);
    }
    if (r->n_bytes + sizeof columns > BUFFER_BYTES) write_out(r);
    memcpy(r->buffer + r->n_bytes, columns, sizeof columns - 1);
    r->n_bytes += sizeof columns - 1;
    write_out(r);
}

static tel_result open_file(tel_recording *r, const char *path, tel_error *err) {
    r->file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (r->file < 0) {
        tel_result code = errno == ENOENT || errno == ENOTDIR ? TEL_ERR_NOT_FOUND : errno == EACCES || errno == EPERM ? TEL_ERR_PERMISSION : TEL_ERR_IO;
        return tel_fail(err, code, "%.180s: %s", path, strerror(errno));
    }
    put_header(r);
    return r->error ? tel_fail(err, TEL_ERR_IO, "%.180s: %s", path, strerror(r->error)) : TEL_OK;
}

tel_result tel_recording_open(tel_meter *meter, const char *path, tel_recording **out, tel_error *err) {
    *out = NULL;
    tel_recording *r = calloc(1, sizeof *r);
    if (!r) return tel_fail(err, TEL_ERR_NO_MEMORY, "out of memory for a recording");
    r->meter = meter;
    r->file = -1;
    snprintf(r->path, sizeof r->path, "%.*s", (int)sizeof r->path - 1, path);
    pthread_mutex_lock(&meter->read_lock);
    tel_result result = meter->recording ? tel_fail(err, TEL_ERR_INVALID, "this meter is being recorded already") : open_file(r, path, err);
    if (!result && !r->n_tapped) result = tel_fail(err, TEL_ERR_UNAVAILABLE, "there is no domain that can be read, nothing to record");
    r->start_ns = tel_env_now(&meter->env);
    for (size_t i = 0; i < r->n_tapped && !result; i++)
        meter->domains[r->taps[i].domain].series.tap = (tel_tap){.sample = on_sample, .fault = on_fault, .user = &r->taps[i]};
    if (!result) meter->recording = r;
    pthread_mutex_unlock(&meter->read_lock);
    if (!result) {
        *out = r;
        return TEL_OK;
    }
    if (r->file >= 0) close(r->file);
    free(r);
    return result;
}

uint64_t tel_recording_rows(const tel_recording *r) {
    pthread_mutex_lock(&r->meter->read_lock);
    uint64_t n = r->n_rows + (r->error ? 0 : r->n_buffered);
    pthread_mutex_unlock(&r->meter->read_lock);
    return n;
}

tel_result tel_recording_close(tel_recording **recording, tel_error *err) {
    if (!recording || !*recording) return TEL_OK;
    tel_recording *r = *recording;
    *recording = NULL;
    pthread_mutex_lock(&r->meter->read_lock);
    for (size_t i = 0; i < r->n_tapped; i++) r->meter->domains[r->taps[i].domain].series.tap = (tel_tap){0};
    r->meter->recording = NULL;
    if (r->n_bytes) write_out(r);
    pthread_mutex_unlock(&r->meter->read_lock);
    if (close(r->file) && !r->error) r->error = errno;
    tel_result result = r->error ? tel_fail(err, TEL_ERR_IO, "%s: %s; the recording ends there", r->path, strerror(r->error)) : TEL_OK;
    free(r);
    return result;
}
