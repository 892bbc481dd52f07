// Reads files that can be played back. Forms and rules are in the header.
//
// One line at a time through a buffer of fixed size, so that neither a file without line ends nor a huge one takes memory beyond its rows.
// SPDX-License-Identifier: Apache-2.0
#include "telemetry/replay_parse.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "telemetry/sysfs.h"

enum { LINE_MAX_BYTES = 1024, COLUMNS_MAX = 32 };
static const int64_t T_US_MAX = 100000000000000;       // three years: sums of such times stay far inside int64 nanoseconds
static const uint64_t STEP_NS_MIN = 1000000, STEP_NS_MAX = 60000000000; // 1 ms to a minute: what sensors have
static const uint64_t POWER_UW_MAX = 1000000000000000; // 1 GW

typedef struct reader {
    FILE *in;
    const char *name;
    tel_error *err;
    replay_file *file;
    char line[LINE_MAX_BYTES];
    uint64_t line_no;
    uint64_t n_rows;
} reader;

static tel_result fail(const reader *r, tel_result code, const char *format, ...) __attribute__((format(printf, 3, 4)));
static tel_result fail(const reader *r, tel_result code, const char *format, ...) {
    if (!r->err) return code;
    char what[160];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    r->err->code = code;
    snprintf(r->err->message, sizeof r->err->message, "%.80s line %llu: %s", r->name, (unsigned long long)r->line_no, what);
    return code;
}

// 1: a line without its end; 0: end of file; below 0: a tel_result.
static int next_line(reader *r) {
    r->line_no++;
    // A byte 0 would hide what follows it: put a mark behind the part that fgets may fill.
    memset(r->line, 1, sizeof r->line);
    if (!fgets(r->line, sizeof r->line, r->in)) {
        if (ferror(r->in)) return tel_fail(r->err, TEL_ERR_IO, "%.200s: cannot be read: %s", r->name, strerror(errno));
        return 0;
    }
    const char *end = memchr(r->line, '\n', sizeof r->line);
    size_t n = strlen(r->line);
    if (!end && feof(r->in)) return fail(r, TEL_ERR_FORMAT, "the last line has no end: the file may be cut");
    if (!end && n == sizeof r->line - 1) return fail(r, TEL_ERR_FORMAT, "longer than %d bytes", LINE_MAX_BYTES - 2);
    if (!end || (size_t)(end - r->line) >= n) return fail(r, TEL_ERR_FORMAT, "holds a byte 0: not a text file");
    r->line[--n] = 0;
    if (n && r->line[n - 1] == '\r') r->line[n - 1] = 0;
    return 1;
}

// ---- Numbers ------------------------------------------------------------------------------------------------------
// Whole digits at *text, at most max.
static bool take_u64(const char **text, uint64_t max, uint64_t *out) {
    const char *p = *text;
    uint64_t v = 0;
    if (*p < '0' || *p > '9') return false;
    for (; *p >= '0' && *p <= '9'; p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        if (v > (UINT64_MAX - digit) / 10) return false;
        v = v * 10 + digit;
    }
    *text = p;
    *out = v;
    return v <= max;
}

// The field that begins at text, as thousandths: "12", "-12.5", "0.125".
static bool parse_milli(const char *text, const char *end, uint64_t max, bool *negative, uint64_t *out) {
    *negative = *text == '-';
    if (*negative) text++;
    uint64_t whole, fraction = 0;
    if (!take_u64(&text, max, &whole)) return false;
    if (*text == '.') {
        int digits = 0;
        for (text++; *text >= '0' && *text <= '9' && digits < 3; text++, digits++) fraction = fraction * 10 + (uint64_t)(*text - '0');
        if (!digits) return false;
        for (; digits < 3; digits++) fraction *= 10;
    }
    *out = whole * 1000 + fraction;
    return text == end;
}

static bool parse_time(const char *text, const char *end, int64_t *t_ns) {
    bool negative;
    uint64_t milli;
    if (!parse_milli(text, end, (uint64_t)T_US_MAX, &negative, &milli)) return false;
    *t_ns = negative ? -(int64_t)milli : (int64_t)milli;
    return true;
}

static bool parse_u64(const char *text, const char *end, uint64_t max, uint64_t *out) {
    return take_u64(&text, max, out) && text == end;
}

// A scale or factor.
static bool parse_positive(const char *text, double *out) { return tel_parse_double(text, out) && *out > 1e-30 && *out < 1e30; }

// ---- Rows ---------------------------------------------------------------------------------------------------------
static tel_result add_row(reader *r, size_t domain, const replay_row *row) {
    replay_rows *rows = &r->file->rows[domain];
    if (++r->n_rows > REPLAY_ROWS_MAX) return fail(r, TEL_ERR_FORMAT, "more than %d rows", REPLAY_ROWS_MAX);
    if (rows->n == rows->capacity) {
        size_t capacity = rows->capacity ? rows->capacity * 2 : 256;
        replay_row *items = realloc(rows->items, capacity * sizeof *items);
        if (!items) return fail(r, TEL_ERR_NO_MEMORY, "out of memory for %zu rows", capacity);
        rows->items = items;
        rows->capacity = capacity;
    }
    if (r->n_rows == 1) r->file->first_ns = row->t_ns;
    rows->items[rows->n++] = *row;
    return TEL_OK;
}

// Splits the line in place at its commas. Returns the number of fields, or more than cap.
static size_t split(char *line, char *fields[], char *ends[], size_t cap) {
    size_t n = 0;
    for (char *p = line;; p++) {
        if (n == cap) return cap + 1;
        fields[n] = p;
        p += strcspn(p, ",");
        ends[n++] = p;
        if (!*p) return n;
        *p = 0;
    }
}

// ---- A table of powers --------------------------------------------------------------------------------------------
typedef struct table {
    size_t n_columns, t_column, power_column;
    const char *power_name;
} table;

static tel_result read_columns(reader *r, table *out) {
    static const char *const powers[] = {"instant_mw", "average_mw", "power_mw"};
    char *fields[COLUMNS_MAX], *ends[COLUMNS_MAX];
    size_t n = split(r->line, fields, ends, COLUMNS_MAX), best = 3;
    if (n > COLUMNS_MAX) return fail(r, TEL_ERR_FORMAT, "more than %d columns", COLUMNS_MAX);
    *out = (table){.n_columns = n, .t_column = n};
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(fields[i], "t_us")) out->t_column = i;
        for (size_t k = 0; k < best; k++) {
            if (strcmp(fields[i], powers[k])) continue;
            best = k;
            out->power_column = i;
            out->power_name = powers[k];
        }
    }
    if (out->t_column == n) return fail(r, TEL_ERR_FORMAT, "no column t_us: neither a recording nor a table of powers");
    if (!out->power_name) return fail(r, TEL_ERR_FORMAT, "none of the columns instant_mw, average_mw, power_mw");
    r->file->averaged = best == 1;
    return TEL_OK;
}

static tel_result read_table_row(reader *r, const table *t) {
    char *fields[COLUMNS_MAX], *ends[COLUMNS_MAX];
    size_t n = split(r->line, fields, ends, COLUMNS_MAX);
    if (n != t->n_columns) return fail(r, TEL_ERR_FORMAT, "%zu fields where there are %zu columns", n > COLUMNS_MAX ? COLUMNS_MAX : n, t->n_columns);
    replay_row row = {.kind = REPLAY_STAMPED};
    bool negative;
    if (!parse_time(fields[t->t_column], ends[t->t_column], &row.t_ns))
        return fail(r, TEL_ERR_FORMAT, "t_us is \"%.24s\": not a time in microseconds", fields[t->t_column]);
    if (!parse_milli(fields[t->power_column], ends[t->power_column], POWER_UW_MAX / 1000, &negative, &row.raw) || negative)
        return fail(r, TEL_ERR_FORMAT, "%s is \"%.24s\": not a power in milliwatts", t->power_name, fields[t->power_column]);
    const replay_rows *rows = &r->file->rows[0];
    if (rows->n && row.t_ns < rows->items[rows->n - 1].t_ns) return fail(r, TEL_ERR_FORMAT, "t_us falls");
    if (rows->n && row.t_ns == rows->items[rows->n - 1].t_ns) return TEL_OK; // read twice within the clock's grain: says nothing new
    return add_row(r, 0, &row);
}

static tel_result read_table(reader *r) {
    table t;
    tel_result result = read_columns(r, &t);
    if (result) return result;
    tel_domain *domain = tel_found_add(&r->file->domains);
    // Which device the powers are of is not in the file; these columns are what tools for GPU boards write.
    snprintf(domain->name, sizeof domain->name, "gpu-0");
    snprintf(domain->key, sizeof domain->key, "gpu_board:replay");
    domain->scope = TEL_SCOPE_GPU_BOARD;
    domain->method = TEL_METHOD_REPLAYED;
    domain->kind = TEL_SERIES_POWER;
    domain->unit = "uW";
    domain->uj_per_unit = 1;
    int more;
    while ((more = next_line(r)) > 0)
        if ((result = read_table_row(r, &t))) return result;
    return (tel_result)more;
}

// ---- A recording --------------------------------------------------------------------------------------------------
static const struct {
    const char *name;
    const tel_card *(*get)(void);
} fixed_cards[] = {{"counter", tel_card_counter}, {"gpu-counter", tel_card_gpu_counter}, {"exact", tel_card_exact},
                   {"instant", tel_card_instant}, {"averaged", tel_card_averaged}};
enum { N_FIXED_CARDS = sizeof fixed_cards / sizeof fixed_cards[0] };

const char *tel_replay_card_name(const tel_card *card) {
    for (size_t i = 0; i < N_FIXED_CARDS; i++)
        if (card == fixed_cards[i].get()) return fixed_cards[i].name;
    return card->kind == TEL_CARD_AVERAGED ? "averaged" : NULL;
}

static bool set_text(char *to, size_t cap, const char *value) {
    if (strlen(value) >= cap) return false;
    memcpy(to, value, strlen(value) + 1);
    return true;
}

static bool set_scope(tel_domain *d, const char *value) {
    for (int i = TEL_SCOPE_NONE; i <= TEL_SCOPE_WALL; i++)
        if (!strcmp(value, tel_scope_name((tel_scope)i))) {
            d->scope = (tel_scope)i;
            return true;
        }
    return false;
}

// Played back, a measurement is a replay; what was no measurement stays what it was.
static bool set_method(tel_domain *d, const char *value) {
    for (int i = TEL_METHOD_COUNTER; i <= TEL_METHOD_SIMULATED; i++)
        if (!strcmp(value, tel_method_name((tel_method)i))) {
            d->method = i == TEL_METHOD_MODELLED || i == TEL_METHOD_SIMULATED ? (tel_method)i : TEL_METHOD_REPLAYED;
            return true;
        }
    return false;
}

static bool set_unit(tel_domain *d, const char *value) {
    static const char *const units[] = {"uJ", "mJ", "J", "uW", "mW", "W"};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (!strcmp(value, units[i])) d->unit = units[i];
    if (!d->unit) d->unit = "raw";
    return strlen(value) < 16;
}

static bool set_card(tel_domain *d, const char *value) {
    for (size_t i = 0; i < N_FIXED_CARDS; i++)
        if (!strcmp(value, fixed_cards[i].name)) d->card = fixed_cards[i].get();
    return d->card || !strcmp(value, "by-name");
}

static bool set_field(tel_domain *d, const char *field, const char *value) {
    const char *end = value + strlen(value);
    if (!strcmp(field, "scope")) return set_scope(d, value);
    if (!strcmp(field, "method")) return set_method(d, value);
    if (!strcmp(field, "source")) return strlen(value) < 32; // whose readings these were: for people
    if (!strcmp(field, "unit")) return set_unit(d, value);
    if (!strcmp(field, "sensor")) return set_card(d, value);
    if (!strcmp(field, "device")) return set_text(d->device, sizeof d->device, value);
    if (!strcmp(field, "key")) return set_text(d->key, sizeof d->key, value);
    if (!strcmp(field, "contains")) return set_text(d->contains, sizeof d->contains, value);
    if (!strcmp(field, "scale")) return parse_positive(value, &d->uj_per_unit);
    if (!strcmp(field, "low")) return parse_positive(value, &d->low_factor) && d->low_factor <= 1;
    if (!strcmp(field, "high")) return parse_positive(value, &d->high_factor) && d->high_factor >= 1;
    if (!strcmp(field, "range")) return parse_u64(value, end, UINT64_MAX, &d->range);
    if (!strcmp(field, "limit_uw")) return parse_u64(value, end, POWER_UW_MAX, &d->limit_uw);
    if (!strcmp(field, "step_ns")) return parse_u64(value, end, STEP_NS_MAX, &d->step_ns) && (!d->step_ns || d->step_ns >= STEP_NS_MIN);
    if (strcmp(field, "kind")) return false;
    d->kind = strcmp(value, "power") ? TEL_SERIES_COUNTER : TEL_SERIES_POWER;
    return !strcmp(value, "power") || !strcmp(value, "counter");
}

// One `field=value` or `field="a value"` at *p.
static bool take_field(char **p, char **field, char **value) {
    *field = *p;
    char *equals = strchr(*p, '=');
    if (!equals) return false;
    *equals = 0;
    bool quoted = equals[1] == '"';
    *value = equals + (quoted ? 2 : 1);
    char *end = *value + strcspn(*value, quoted ? "\"" : " ");
    if (quoted && *end != '"') return false;
    *p = *end ? end + 1 : end;
    *end = 0;
    return true;
}

static tel_result read_domain(reader *r) {
    tel_domain *d = tel_found_add(&r->file->domains);
    if (!d) return fail(r, TEL_ERR_FORMAT, "more than %d domains", TEL_DOMAINS_MAX);
    char *p = r->line + strlen("# domain ");
    size_t n = strcspn(p, " ");
    if (!n || n >= sizeof d->name) return fail(r, TEL_ERR_FORMAT, "the domain has no name, or one of %zu and more bytes", sizeof d->name);
    memcpy(d->name, p, n);
    d->method = TEL_METHOD_REPLAYED;
    p += n;
    while (*(p += strspn(p, " "))) {
        char *field, *value;
        if (!take_field(&p, &field, &value)) return fail(r, TEL_ERR_FORMAT, "\"%.40s\": not a field=value", field);
        if (!set_field(d, field, value)) return fail(r, TEL_ERR_FORMAT, "%.24s is \"%.40s\": not known here", field, value);
    }
    if (!(d->uj_per_unit > 0)) return fail(r, TEL_ERR_FORMAT, "the domain has no scale");
    if (!d->scope) return fail(r, TEL_ERR_FORMAT, "the domain has no scope");
    if (!d->unit) d->unit = "raw";
    if (!d->key[0]) snprintf(d->key, sizeof d->key, "replay:%zu", r->file->domains.n - 1);
    d->slot = (int)(r->file->domains.n - 1);
    return TEL_OK;
}

static bool parse_fault(const char *text, uint64_t *fault) {
    for (int i = 0; i < TEL_N_FAULTS; i++)
        if (!strcmp(text, tel_fault_name((tel_fault)i))) {
            *fault = (uint64_t)i;
            return true;
        }
    return false;
}

static tel_result read_recording_row(reader *r) {
    char *fields[4], *ends[4];
    if (split(r->line, fields, ends, 4) != 4) return fail(r, TEL_ERR_FORMAT, "not four fields");
    replay_row row = {.kind = REPLAY_READ};
    uint64_t domain, read_ns = 0;
    if (!parse_time(fields[0], ends[0], &row.t_ns)) return fail(r, TEL_ERR_FORMAT, "t_us is \"%.24s\": not a time in microseconds", fields[0]);
    if (!parse_u64(fields[1], ends[1], r->file->domains.n - 1, &domain))
        return fail(r, TEL_ERR_FORMAT, "domain is \"%.24s\": there are %zu, from 0", fields[1], r->file->domains.n);
    bool is_fault = fields[2][0] == '!';
    if (is_fault ? !parse_fault(fields[2] + 1, &row.raw) : !parse_u64(fields[2], ends[2], UINT64_MAX, &row.raw))
        return fail(r, TEL_ERR_FORMAT, "value is \"%.24s\": neither a whole number nor a fault", fields[2]);
    if (is_fault) row.kind = REPLAY_FAULT;
    else if (!fields[3][0]) row.kind = REPLAY_STAMPED;
    if (fields[3][0] && !parse_u64(fields[3], ends[3], UINT32_MAX, &read_ns))
        return fail(r, TEL_ERR_FORMAT, "read_ns is \"%.24s\": not a time in nanoseconds", fields[3]);
    row.read_ns = (uint32_t)read_ns;
    const replay_rows *rows = &r->file->rows[domain];
    // A fault has the time of the read that failed; a device's own stamps may be older than that.
    size_t last = rows->n;
    while (last > 0 && rows->items[last - 1].kind == REPLAY_FAULT) last--;
    if (last && row.t_ns < rows->items[last - 1].t_ns) return fail(r, TEL_ERR_FORMAT, "t_us falls");
    return add_row(r, (size_t)domain, &row);
}

static tel_result read_recording(reader *r) {
    r->file->is_recording = true;
    tel_result result;
    int more;
    while ((more = next_line(r)) > 0 && !strncmp(r->line, "# domain ", 9))
        if ((result = read_domain(r))) return result;
    if (more < 0) return (tel_result)more;
    if (!r->file->domains.n) return fail(r, TEL_ERR_FORMAT, "a recording without domains");
    if (!more || strcmp(r->line, "t_us,domain,value,read_ns")) return fail(r, TEL_ERR_FORMAT, "expected the line t_us,domain,value,read_ns");
    while ((more = next_line(r)) > 0)
        if ((result = read_recording_row(r))) return result;
    return (tel_result)more;
}

tel_result tel_replay_parse(FILE *in, const char *name, replay_file *out, tel_error *err) {
    memset(out, 0, sizeof *out);
    reader *r = calloc(1, sizeof *r);
    if (!r) return tel_fail(err, TEL_ERR_NO_MEMORY, "out of memory for reading %.80s", name);
    *r = (reader){.in = in, .name = name, .err = err, .file = out};
    int more = next_line(r);
    tel_result result = more < 0 ? (tel_result)more : TEL_OK;
    if (!result && !strncmp(r->line, "# wattle recording ", 19))
        result = strcmp(r->line + 19, "1") ? fail(r, TEL_ERR_FORMAT, "a recording of another version (this reads version 1)") : read_recording(r);
    else if (!result) result = more ? read_table(r) : fail(r, TEL_ERR_FORMAT, "the file is empty");
    if (!result && !r->n_rows) result = fail(r, TEL_ERR_FORMAT, "no rows");
    free(r);
    return result;
}

void tel_replay_free(replay_file *file) {
    for (size_t i = 0; i < TEL_DOMAINS_MAX; i++) free(file->rows[i].items);
    memset(file, 0, sizeof *file);
}
