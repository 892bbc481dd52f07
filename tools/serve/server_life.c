// The life of a server, by thread. main: listens, then waits for signals without using the processor; drains; closes. Engine: loads the model
// while requests get 503, then steps the batch until it is told to stop, keeps the cached prefixes, closes the batch.
//
// Signals are blocked in every thread and taken by main alone. SIGINT, SIGTERM: drain; the second one ends the process at once. SIGUSR1 comes
// from the engine's thread when loading has ended.
// Order of the end: no new connections; live answers finish within --drain; what then still runs is cancelled, booked, and told to its
// readers; the HTTP thread ends; the lanes end; the batch closes; the finisher books the rest; ledger and meter close.
// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/server_life.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/chat_prompt.h"
#include "tools/folders.h"
#include "tools/serve/energies.h"
#include "tools/serve/finisher.h"
#include "tools/serve/lanes.h"
#include "tools/serve/large_bytes.h"
#include "tools/serve/metrics.h"
#include "tools/serve/queries.h"
#include "tools/serve/routes.h"
#include "tools/serve/server_log.h"
#include "tools/thread_profile.h"

enum { CANCEL_MAX = 256 };
static const uint64_t WAIT_NS = 3600ull * 1000000000u; // of an idle engine: something wakes it when there is work
static const uint64_t CUT_NS = 2000000000; // for the last bytes of cancelled answers
static const uint64_t ECHO_NS = 100000000; // a second signal within this is the first one again: `timeout` and shells send one to process and group

typedef struct life {
    server s;
    sigset_t signals;
    uint64_t asked_ns; // when the first one came
    pthread_t main, engine;
    int load_code;      // CLI_GO, or the exit code; valid once the state is not LOADING
    bool said;          // why it failed was printed already
    _Atomic bool stop;  // for the engine's thread
} life;

// ---- Loading: on the engine's thread -----------------------------------------------------------------------------------------------
static int fail_load(life *l, const char *sentence) {
    snprintf(l->s.failure, sizeof l->s.failure, "%s", sentence);
    return CLI_FAILED;
}

static int open_chat(life *l, wtl_error *err) {
    return chat_prompt_open(l->s.engine, l->s.options.chat_template, &l->s.chat, err) == WTL_OK ? CLI_GO : fail_load(l, err->message);
}

static int open_batch(life *l, wtl_error *err) {
    const server_options *o = &l->s.options;
    wtl_batch_options options = {.engine = l->s.engine, .energy = l->s.desk.energy, .n_parallel = (int32_t)o->n_parallel,
                                 .n_ctx = (int32_t)(o->n_ctx / o->n_parallel), .n_batch = (int32_t)o->n_batch,
                                 .kv_bytes = (uint64_t)(o->kv_memory_mib * 1048576.0), .no_prefix_cache = o->no_prefix_cache,
                                 .kv_type = kv_type_of(o->kv), .n_queue = (int32_t)o->n_queue,
                                 .n_draft = o->n_draft > 0 ? (int32_t)o->n_draft : -1, .max_itl_ns = (uint64_t)(o->max_itl_ms * 1e6)};
    if (o->n_ubatch > 0 && (options.n_batch == 0 || o->n_ubatch < o->n_batch)) options.n_batch = (int32_t)o->n_ubatch;
    return wtl_batch_open(&options, &l->s.batch, err) == WTL_OK ? CLI_GO : fail_load(l, err->message);
}

// One file per name of a model; its content is bound to the model itself by the runtime.
static bool kv_path(const server *s, char path[1024]) {
    uint64_t hash = 14695981039346656037u;
    for (const char *c = s->model_id; *c; c++) hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    const int n = snprintf(path, 1024, "%s/%016llx.kv", s->options.kv_dir, (unsigned long long)hash);
    return n > 0 && n < 1024;
}

static void say_kv(const server *s, const char *event, uint64_t n_tok, const char *path) {
    if (s->options.log_json) {
        server_log_line line;
        server_log_begin(&line, true, event);
        server_log_int(&line, "tokens", (int64_t)n_tok);
        server_log_text(&line, "file", path);
        server_log_end(&line);
    } else {
        cli_note("wattle: %llu cached tokens %s %s", (unsigned long long)n_tok, strcmp(event, "kv_loaded") == 0 ? "loaded from" : "saved to", path);
    }
}

static void load_prefixes(life *l) {
    char path[1024], failed[512];
    wtl_error err = {0};
    uint64_t n_tok = 0;
    if (!l->s.options.kv_dir) return;
    const int code = folder_make(l->s.options.kv_dir, 0700, failed, sizeof failed);
    if (code) cli_warn("--kv-dir: %s cannot be made: %s", failed, strerror(code));
    if (code || !kv_path(&l->s, path)) return;
    const wtl_status status = wtl_batch_load(l->s.batch, path, &n_tok, &err);
    if (status == WTL_OK) say_kv(&l->s, "kv_loaded", n_tok, path);
    else if (status != WTL_ERR_NOT_FOUND) cli_warn("cached tokens were not loaded: %s", err.message);
}

static void save_prefixes(life *l) {
    char path[1024];
    wtl_error err = {0};
    uint64_t n_tok = 0;
    if (!l->s.options.kv_dir || !kv_path(&l->s, path)) return;
    if (wtl_batch_save(l->s.batch, path, &n_tok, &err) == WTL_OK) say_kv(&l->s, "kv_saved", n_tok, path);
    else cli_warn("cached tokens were not saved: %s", err.message);
}

static int load(life *l) {
    const server_options *o = &l->s.options;
    wtl_error err = {0};
    wtl_engine_options engine = {.model_path = l->s.model_path, .backend = o->backend, .deterministic = o->deterministic};
    thread_profile_apply(o->threads, &engine, l->s.threads_reason);
    if (wtl_engine_open(&engine, &l->s.engine, &err) != WTL_OK) return fail_load(l, err.message);
    int code = energy_desk_open(&l->s.desk, l->s.engine);
    l->said = code != CLI_GO;
    if (l->s.desk.energy) wtl_energy_on_booked(l->s.desk.energy, server_finisher_booked, l->s.finisher);
    if (code == CLI_GO) code = open_chat(l, &err);
    if (code == CLI_GO) code = open_batch(l, &err);
    if (code != CLI_GO) return code;
    load_prefixes(l);
    return CLI_GO;
}

// ---- Saying so -----------------------------------------------------------------------------------------------------------------------
static void energy_words(const server *s, char out[256]) {
    const tel_meter *meter = s->desk.meter;
    if (!meter || tel_meter_n_counting(meter) == 0) {
        snprintf(out, 256, "%s", s->desk.off ? "switched off" : "no source can be read, see `wattle meters`");
        return;
    }
    const bool modelled = tel_meter_domain(meter, 0).method == TEL_METHOD_MODELLED;
    size_t n = (size_t)snprintf(out, 256, "%s", modelled ? "modelled, no counter can be read: " : "");
    for (const char *c = energy_desk_scopes(&s->desk); *c && n + 3 < 256; c++) {
        out[n++] = *c == '_' ? ' ' : *c;
        if (*c == ',') out[n++] = ' ';
    }
    out[n] = '\0';
    if (!modelled && s->desk.sources) snprintf(out + n, 256 - n, " by %s", s->desk.sources);
}

static void server_url(const server *s, char out[128]) {
    const char *host = s->options.host ? s->options.host : "127.0.0.1";
    snprintf(out, 128, strchr(host, ':') ? "http://[%s]:%d" : "http://%s:%d", host, s->port);
}

static void announce(const server *s) {
    char url[128], energy[256];
    server_url(s, url);
    energy_words(s, energy);
    const wtl_chat_info chat = wtl_chat_describe(s->chat);
    const wtl_batch_state state = wtl_batch_state_of(s->batch, NULL, 0, NULL);
    if (s->options.log_json) {
        server_log_line line;
        server_log_begin(&line, true, "ready");
        server_log_text(&line, "model", s->model_id);
        server_log_text(&line, "url", url);
        server_log_int(&line, "port", s->port);
        server_log_text(&line, "template", chat.name);
        server_log_text(&line, "template_fallback", chat.fallback ? chat.reason : NULL);
        server_log_int(&line, "n_parallel", state.n_parallel);
        server_log_int(&line, "n_ctx", wtl_batch_n_ctx(s->batch));
        server_log_int(&line, "kv_bytes", (int64_t)state.kv.bytes);
        server_log_text(&line, "energy", energy);
        const wtl_engine_info info = wtl_engine_describe(s->engine);
        server_log_int(&line, "threads", info.n_threads);
        server_log_int(&line, "threads_decode", info.n_threads_decode);
        server_log_text(&line, "threads_reason", s->threads_reason);
        server_log_end(&line);
        return;
    }
    if (chat.fallback) fprintf(stderr, "wattle: %s\n", chat.reason);
    fprintf(stderr, "wattle: serving %s at %s (template %s, %d parallel requests of %d tokens, KV %.0f MB, energy: %s)\n", s->model_id, url, chat.name,
            state.n_parallel, wtl_batch_n_ctx(s->batch), (double)state.kv.bytes / 1e6, energy);
}

static void announce_listening(const server *s) {
    if (!s->options.log_json) return;
    char url[128];
    server_log_line line;
    server_url(s, url);
    server_log_begin(&line, true, "listening");
    server_log_text(&line, "url", url);
    server_log_int(&line, "port", s->port);
    server_log_end(&line);
}

// ---- The engine's thread -------------------------------------------------------------------------------------------------------------
static void step_until_stopped(life *l) {
    while (!atomic_load(&l->stop)) {
        bool ran = false;
        wtl_error err = {0};
        if (wtl_batch_step(l->s.batch, &ran, &err) != WTL_OK) cli_warn("a step failed, its requests were ended: %s", err.message);
        if (!ran && !atomic_load(&l->stop)) wtl_batch_wait(l->s.batch, WAIT_NS);
    }
}

static void *engine_main(void *user) {
    life *l = user;
    l->load_code = load(l);
    const bool good = l->load_code == CLI_GO;
    atomic_store(&l->s.state, good ? SERVER_READY : SERVER_FAILED);
    if (good) announce(&l->s); // whoever reads the line may ask at once
    pthread_kill(l->main, SIGUSR1);
    if (!good) return NULL;
    step_until_stopped(l);
    save_prefixes(l);
    wtl_batch_close(&l->s.batch); // no HTTP call is left that could look at it
    return NULL;
}

// ---- Draining ------------------------------------------------------------------------------------------------------------------------
// Sleeps 20 ms, or until a signal that asks to end comes: the second one.
static void nap_or_die(const life *l) {
    const struct timespec nap = {.tv_nsec = 20000000};
    const int signal_number = sigtimedwait(&l->signals, NULL, &nap);
    if (signal_number != SIGINT && signal_number != SIGTERM) return;
    if (cli_now_ns() - l->asked_ns > ECHO_NS) _exit(CLI_INTERRUPTED);
}

// Closing takes a moment, and what is asked for again meanwhile is being done: it must not look like a crash when signals are let through.
static void forget_signals(const life *l) {
    const struct timespec now = {0};
    while (sigtimedwait(&l->signals, NULL, &now) > 0) {}
}

static bool busy(const life *l) { return http_server_n_calls(l->s.http) > 0 || server_finisher_pending(l->s.finisher) > 0; }

static void cancel_running(const life *l) {
    wtl_batch_slot slots[CANCEL_MAX];
    size_t n = 0;
    wtl_batch_state_of(l->s.batch, slots, CANCEL_MAX, &n);
    for (size_t i = 0; i < n && i < CANCEL_MAX; i++) wtl_batch_cancel(l->s.batch, slots[i].request);
}

static void drain(life *l) {
    server *s = &l->s;
    atomic_store(&s->state, SERVER_DRAINING);
    http_server_quiesce(s->http);
    const size_t n_live = http_server_n_calls(s->http);
    if (n_live && !s->options.log_json) cli_note("wattle: finishing %zu answers, at most %.0f s; a second signal ends at once", n_live, s->options.drain_s);
    const uint64_t cut = cli_now_ns() + (uint64_t)(s->options.drain_s * 1e9), end = cut + CUT_NS + (uint64_t)(s->options.settle_ms * 1e6);
    while (busy(l) && cli_now_ns() < cut) nap_or_die(l);
    while (busy(l) && cli_now_ns() < end) {
        cancel_running(l);
        nap_or_die(l);
    }
}

static void join_engine(life *l) {
    atomic_store(&l->stop, true);
    if (l->s.batch) wtl_batch_wake(l->s.batch);
    pthread_join(l->engine, NULL);
}

// ---- Main's thread -------------------------------------------------------------------------------------------------------------------
static int start_http(life *l) {
    const server_options *o = &l->s.options;
    char err[HTTP_ERR] = "";
    http_options options = {.host = o->host, .port = (uint16_t)o->port, .max_connections = (uint32_t)o->max_connections, .handle = server_route,
                            .error_body = server_error_body, .too_many = server_too_many, .user = &l->s};
    if (!http_server_start(&options, &l->s.http, err)) return cli_fail("%s", err);
    l->s.port = http_server_port(l->s.http);
    return CLI_GO;
}

// The HTTP thread may look at s.http until it has ended.
static void stop_http(life *l) {
    http_server *http = l->s.http;
    http_server_stop(&http);
    l->s.http = NULL;
}

// What needs no model. CLI_GO, or the exit code after a message.
static int open_early(life *l) {
    server *s = &l->s;
    int code = cli_model_path(s->options.model, &s->model_path);
    if (code != CLI_GO) return code;
    const char *slash = strrchr(s->model_path, '/');
    s->model_id = s->options.alias ? s->options.alias : slash ? slash + 1 : s->model_path;
    s->created_s = cli_unix_ms() / 1000;
    s->metrics = server_metrics_open();
    s->energies = server_energies_open();
    if (!s->metrics || !s->energies || !server_queries_open(s) || !server_lanes_open(s) || !server_finisher_open(s)) return cli_fail("out of memory, or no thread to be had");
    code = energy_desk_begin(&s->desk, "serve", &s->options.energy);
    return code == CLI_GO ? start_http(l) : code;
}

// Waits for signals; returns the exit code.
static int serve(life *l) {
    for (;;) {
        int signal_number = 0;
        if (sigwait(&l->signals, &signal_number) != 0) continue;
        const int state = atomic_load(&l->s.state);
        if (signal_number == SIGUSR1) {
            if (state != SERVER_FAILED) continue;
            if (!l->said) cli_fail("%s", l->s.failure);
            return l->load_code;
        }
        if (state == SERVER_LOADING) _exit(CLI_OK); // reading a model cannot be interrupted, and nothing was promised to anybody
        l->asked_ns = cli_now_ns();
        drain(l);
        return CLI_OK;
    }
}

static void close_all(life *l) {
    server *s = &l->s;
    server_queries_close(s);
    server_lanes_close(s);
    server_finisher_close(s);
    energy_desk_close(&s->desk);
    server_energies_close(&s->energies);
    server_metrics_close(&s->metrics);
    wtl_chat_close(&s->chat);
    wtl_engine_close(&s->engine);
    free(s->model_path);
}

// What others allocate for bodies of megabytes lies in pages of its own too, where the arena has no room. Left alone, the C library learns from
// the first ones to keep such pages for the next, and a server stays as large as its worst moment.
static void keep_memory_flat(void) {
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
#endif
}

int server_run(const server_options *options) {
    keep_memory_flat();
    life l = {.s = {.options = *options}, .main = pthread_self(), .load_code = CLI_GO};
    sigset_t before;
    sigemptyset(&l.signals);
    sigaddset(&l.signals, SIGINT);
    sigaddset(&l.signals, SIGTERM);
    sigaddset(&l.signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &l.signals, &before);
    int code = open_early(&l);
    if (code == CLI_GO) {
        announce_listening(&l.s);
        if (pthread_create(&l.engine, NULL, engine_main, &l) == 0) {
            code = serve(&l);
            stop_http(&l); // readers that are still there lose their connection; their requests are cancelled
            server_lanes_close(&l.s);
            join_engine(&l);
        } else {
            code = cli_fail("no thread to be had for the engine");
            stop_http(&l);
        }
    }
    close_all(&l);
    forget_signals(&l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}
