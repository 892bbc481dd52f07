// `wattle serve` inside: what all routes share, and who does what.
//
// Threads. main: signals, loading, draining. HTTP (http.h): takes requests, runs the small routes. Lanes (lanes.h): read,
// render and tokenise what is to be generated, and submit it. Engine: wtl_batch_step in a loop; the
// callbacks of answers run there and only append to buffers. Finisher: waits until the joules of a finished answer have settled (bounded),
// then writes its last bytes, books it in the ledger, logs it. A route therefore never waits, and no token waits for a meter.
//
// A request's life: lane -> route -> api_request (parsed, checked) -> answer (submitted) -> tokens -> server_finish -> last bytes -> booked.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_SERVER_H
#define WTL_TOOLS_SERVE_SERVER_H

#include <stdatomic.h>

#include "runtime/batch.h"
#include "runtime/chat.h"
#include "tools/energy_desk.h"
#include "tools/serve/http.h"
#include "tools/thread_profile.h"

typedef enum server_state { SERVER_LOADING, SERVER_READY, SERVER_DRAINING, SERVER_FAILED } server_state;

typedef struct server_options {
    const char *host, *model, *alias, *backend, *kv, *chat_template, *kv_dir;
    int64_t port, n_ctx, n_parallel, n_batch, n_ubatch, threads, n_queue, n_draft, n_predict, max_connections;
    double max_itl_ms, kv_memory_mib, settle_ms, drain_s;
    bool metrics, slots, no_webui, verbose, deterministic, no_prefix_cache, log_json;
    cli_list api_keys;
    energy_desk_options energy;
    double price_per_kwh, carbon_gco2e_per_kwh; // 0: not given
    const char *currency;
} server_options;

typedef struct server_metrics server_metrics; // metrics.h
typedef struct server_energies server_energies; // energies.h: settled figures of recent answers

typedef struct server {
    server_options options;
    _Atomic int state;        // server_state; the pointers below are set before READY and stay until all calls have ended
    char *model_path;
    const char *model_id;     // alias, or the file's name without folder
    int64_t created_s;        // Unix time of loading
    wtl_engine *engine;
    char threads_reason[THREADS_REASON]; // why it has so many threads
    wtl_chat *chat;
    wtl_batch *batch;
    energy_desk desk;
    http_server *http;
    uint16_t port; // it listens on; constant after that, so that the engine's thread need not look at http
    server_metrics *metrics;
    server_energies *energies;
    struct server_finisher *finisher;
    struct server_lanes *lanes;
    struct server_queries *queries; // queries.h: readers of the ledger that run now
    char failure[512];        // SERVER_FAILED: why
} server;

// ---- routes.c: one table: method, path, needs READY, needs a key, function -----------------------------------------------------
void server_route(void *server, http_call *call); // http_options.handle
// The standard error object {"error":{"message","type","param","code"}}. type: NULL: by status. param, code: may be NULL.
void server_error(http_call *call, int status, const char *type, const char *message, const char *param, const char *code);
void server_reply_json(http_call *call, int status, json_t *object); // takes the reference; NULL: out of memory, 500

// Generation: api_*.c and answer.c
void route_chat_completions(server *s, http_call *call);
void route_completions(server *s, http_call *call);
void route_completion(server *s, http_call *call); // llama-server's own
void route_tokenize(server *s, http_call *call);
void route_detokenize(server *s, http_call *call);
void route_apply_template(server *s, http_call *call);
// About the server: admin_*.c
void route_health(server *s, http_call *call);
void route_models(server *s, http_call *call);
void route_props(server *s, http_call *call);
void route_slots(server *s, http_call *call);
void route_metrics(server *s, http_call *call);
void route_energy(server *s, http_call *call);     // GET /v1/energy?since=&until=&by=
void route_energy_one(server *s, http_call *call); // GET /v1/energy/{response id}
void route_page(server *s, http_call *call);       // GET / and the files of the page

// ---- finisher.c: the end of an answer ------------------------------------------------------------------------------------------
typedef struct server_outcome { // copied by server_finish; strings too
    char id[40];              // of the response: "chatcmpl-..."
    const char *kind;         // static: "chat", "completion"
    const char *finish;       // static: "end", "stop", "length", "context", "energy", "aborted", "error"
    const char *user, *conversation; // ledger labels; NULL: none
    const char *peer;
    int64_t arrived_ms;       // Unix time
    wtl_batch_facts facts;    // facts.energy 0: nothing ran
} server_outcome;
// Called once per answer, from any thread, when its last token was chosen or it was aborted. Waits for the joules on the finisher's
// thread, books, counts and logs, and then calls done (which may be NULL) with the report there. done writes the answer's last bytes.
typedef void (*server_done)(void *user, const wtl_energy_report *report);
void server_finish(server *s, const server_outcome *outcome, server_done done, void *user);

// ---- What a user's tariff makes of joules: "cost" and "carbon" of the energy object; added by everything that shows one ---------
json_t *server_energy_json(server *s, const wtl_energy_report *report); // energy_json + cost + carbon

#endif
