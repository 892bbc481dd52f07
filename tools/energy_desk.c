// Meter, attribution and ledger of one command. See energy_desk.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/energy_desk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tools/folders.h"

static const uint64_t BASELINE_AGE_NS = 86400ull * 1000000000u;

// ---- Opening ------------------------------------------------------------------------------------------------------
// Loading a driver's library, or waiting for a ledger that others hold, can take as long as loading a model: both at once.
static void *open_both(void *user) {
    energy_desk *desk = user;
    char *path = NULL;
    if (!ledger_path(desk->ledger, &path, desk->trouble) || !ledger_open(path, &desk->book, desk->trouble)) desk->troubled = true;
    free(path);
    if (!desk->off) desk->result = tel_meter_open(&desk->options, &desk->meter, &desk->error);
    return NULL;
}

int energy_desk_begin(energy_desk *desk, const char *command, const energy_desk_options *o) {
    int code = cli_meter_options(command, &o->meter, &desk->options);
    if (code != CLI_GO) return code;
    desk->command = command;
    desk->user = o->user;
    desk->ledger = o->ledger;
    desk->off = desk->options.source && strcmp(desk->options.source, "none") == 0;
    desk->opening = pthread_create(&desk->opener, NULL, open_both, desk) == 0;
    if (!desk->opening) open_both(desk);
    return CLI_GO;
}

// ${XDG_STATE_HOME:-~/.local/state}/wattle/energy.fit, its folder made; NULL when there is no home.
static char *fit_path(void) {
    char *dir = folder_state(), *path = NULL;
    if (dir && (folder_make(dir, 0700, NULL, 0) != 0 || asprintf(&path, "%s/energy.fit", dir) < 0)) path = NULL;
    free(dir);
    return path;
}

// Names of the counting domains' sources or scopes, each once.
static char *list_of(const tel_meter *meter, bool scopes) {
    char *list = calloc(1, 512);
    for (size_t i = 0; list && meter && i < tel_meter_n_counting(meter); i++) {
        tel_domain_info d = tel_meter_domain(meter, i);
        const char *name = scopes ? tel_scope_name(d.scope) : d.source;
        size_t n = strlen(list);
        if (strstr(list, name) || n + strlen(name) + 3 > 512) continue;
        snprintf(list + n, 512 - n, "%s%s", n ? "," : "", name);
    }
    return list;
}

int energy_desk_open(energy_desk *desk, const wtl_engine *engine) {
    if (desk->opening) pthread_join(desk->opener, NULL);
    desk->opening = false;
    if (desk->troubled) cli_warn("energy ledger: %s", desk->trouble);
    if (!desk->off && desk->result == TEL_ERR_INVALID) return cli_meter_refused(desk->command, desk->options.source, desk->error.message);
    if (!desk->off && desk->result != TEL_OK) return cli_fail("%s", desk->error.message);
    desk->fit_path = fit_path();
    desk->sources = list_of(desk->meter, false);
    desk->scopes = list_of(desk->meter, true);
    desk->booked_ms = cli_unix_ms();
    wtl_error err = {0};
    wtl_energy_options options = {.meter = desk->meter, .engine = engine, .fit_path = desk->fit_path,
                                  .no_meter = desk->off ? "the meter is switched off (--meter none)" : "no source of energy can be read on this machine",
                                  .no_meter_fix = desk->off ? NULL : "wattle meters"};
    return wtl_energy_open(&options, &desk->energy, &err) == WTL_OK ? CLI_GO : cli_fail("%s", err.message);
}

// ---- Idle baseline ------------------------------------------------------------------------------------------------
static bool baseline_missing(const energy_desk *desk) {
    for (size_t i = 0; i < tel_meter_n_counting(desk->meter) && i < WTL_ENERGY_DOMAINS_MAX; i++) {
        wtl_energy_fit fit = wtl_energy_fit_of(desk->energy, i);
        if (!fit.idle_known || fit.idle_age_ns > BASELINE_AGE_NS) return true;
    }
    return false;
}

// Waiting is for later runs: in vain where nothing can be kept for them (no home directory, a read-only one).
static bool fit_can_be_kept(const energy_desk *desk) {
    struct stat there;
    if (!desk->fit_path || (stat(desk->fit_path, &there) == 0 && !S_ISREG(there.st_mode))) return false;
    char *dir = strdup(desk->fit_path), *slash = dir ? strrchr(dir, '/') : NULL;
    if (slash) *slash = '\0';
    const bool good = slash && access(dir, W_OK) == 0;
    free(dir);
    return good;
}

void energy_desk_baseline(energy_desk *desk, uint64_t ns, bool tell) {
    if (!desk->meter || !baseline_missing(desk) || !fit_can_be_kept(desk)) return;
    if (tell) cli_note("measuring the idle machine for a second: once a day, so that later runs can tell its share apart");
    uint64_t end = cli_now_ns() + ns;
    while (cli_now_ns() < end && !cli_interrupted() && baseline_missing(desk)) {
        struct timespec nap = {.tv_nsec = 20000000};
        nanosleep(&nap, NULL);
    }
}

// ---- Booking ------------------------------------------------------------------------------------------------------
static ledger_phase phase_facts(const wtl_phase_energy *p) {
    return (ledger_phase){.wall_ns = (int64_t)p->wall_ns, .cpu_ns = (int64_t)p->cpu_ns, .weight_bytes = (int64_t)p->weight_bytes, .kv_bytes = (int64_t)p->kv_bytes};
}

// What every domain took since the last time: a request's neighbours in time are booked with it, so that the ledger's rows add up.
static void book_domains(energy_desk *desk) {
    int64_t now = cli_unix_ms();
    for (size_t i = 0; desk->meter && i < tel_meter_n_counting(desk->meter) && i < WTL_ENERGY_DOMAINS_MAX; i++) {
        wtl_energy_totals t = wtl_energy_totals_of(desk->energy, i), *b = &desk->booked[i];
        tel_domain_info d = tel_meter_domain(desk->meter, i);
        bool modelled = d.method == TEL_METHOD_MODELLED;
        ledger_domain row = {.domain = d.name, .scope = d.scope, .status = modelled ? TEL_MODELLED : TEL_MEASURED, .method = d.method, .source = d.source,
                             .from_ms = desk->booked_ms, .to_ms = now, .source_uj = t.source_uj - b->source_uj, .requests_uj = t.requests_uj - b->requests_uj,
                             .idle_uj = t.idle_uj - b->idle_uj, .unattributed_uj = t.unattributed_uj - b->unattributed_uj};
        char text[LEDGER_ERR];
        if (row.source_uj && !ledger_add_domain(desk->book, &row, text) && *text) cli_warn("energy ledger: %s", text);
        *b = t;
    }
    desk->booked_ms = now;
}

void energy_desk_book(energy_desk *desk, const energy_desk_entry *entry, const wtl_energy_report *r) {
    if (!desk->book) return;
    ledger_request row = {.id = entry->id, .time_ms = entry->arrived_ms, .kind = entry->kind, .model = entry->model, .backend = entry->backend, .outcome = entry->outcome,
                          .user = entry->user ? entry->user : desk->user, .conversation = entry->conversation, .new_tok = r->prefill.n_tok, .cached_tok = r->prefill.n_cached_tok,
                          .decoded_tok = r->decode.n_tok, .queue = phase_facts(&r->queue), .prefill = phase_facts(&r->prefill),
                          .decode = phase_facts(&r->decode), .scopes = desk->scopes, .sources = desk->sources, .settled = r->settled};
    row.energy.total = r->total;
    row.energy.dynamic = r->dynamic;
    row.energy.idle = r->idle;
    row.energy.queue = r->queue.energy;
    row.energy.prefill = r->prefill.energy;
    row.energy.decode = r->decode.energy;
    row.energy.new_prompt = r->new_prompt;
    row.energy.cached = r->cached;
    row.energy.avoided = r->avoided;
    ledger_add_request(desk->book, &row);
    book_domains(desk);
    char text[LEDGER_ERR];
    if (ledger_trouble(desk->book, text)) cli_warn("energy ledger: %s", text);
}

void energy_desk_close(energy_desk *desk) {
    if (desk->opening) pthread_join(desk->opener, NULL);
    if (desk->energy && desk->book) book_domains(desk);
    wtl_energy_close(&desk->energy);
    tel_meter_close(&desk->meter);
    char text[LEDGER_ERR];
    if (!ledger_close(&desk->book, text) && *text) cli_warn("energy ledger: %s", text);
    free(desk->fit_path);
    free(desk->sources);
    free(desk->scopes);
    *desk = (energy_desk){0};
}

const char *energy_desk_scopes(const energy_desk *desk) { return desk->scopes ? desk->scopes : ""; }
