// Which function answers which request: one table. Before it is called: the method, the key, and whether the server can answer at all.
//
// Without a key when there are keys: what a load balancer and the page need to start (/health, /v1/models, /). A key is compared with all
// that are known, in time that depends on their lengths alone.
// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/routes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tools/serve/lanes.h"
#include "tools/serve/metrics.h"

enum {
    OPEN = 1,     // needs no key
    EARLY = 2,    // answers while loading too
    WORK = 4,     // runs the model: refused while draining
    BELOW = 8,    // the path is the beginning of longer ones
    PAGE = 16,    // part of the page: absent with --no-webui
    LANE = 32,    // its work grows with the body: not for the HTTP thread
};

typedef struct route {
    const char *method, *path;
    int flags;
    void (*answer)(server *s, http_call *call);
} route;

static const route routes[] = {
    {"GET", "/health", OPEN | EARLY, route_health},
    {"GET", "/v1/health", OPEN | EARLY, route_health},
    {"GET", "/v1/models", OPEN, route_models},
    {"GET", "/models", OPEN, route_models},
    {"POST", "/v1/chat/completions", WORK | LANE, route_chat_completions},
    {"POST", "/chat/completions", WORK | LANE, route_chat_completions},
    {"POST", "/v1/completions", WORK | LANE, route_completions},
    {"POST", "/completion", WORK | LANE, route_completion},
    {"POST", "/completions", WORK | LANE, route_completion},
    {"POST", "/tokenize", LANE, route_tokenize},
    {"POST", "/detokenize", LANE, route_detokenize},
    {"POST", "/apply-template", LANE, route_apply_template},
    {"GET", "/props", 0, route_props},
    {"GET", "/slots", 0, route_slots},
    {"GET", "/metrics", 0, route_metrics},
    {"GET", "/v1/energy", 0, route_energy},
    {"GET", "/v1/energy/", BELOW, route_energy_one},
    {"GET", "/", OPEN | EARLY | PAGE, route_page},
    {"GET", "/index.html", OPEN | EARLY | PAGE, route_page},
    {"GET", "/page/", OPEN | EARLY | PAGE | BELOW, route_page},
};

static bool path_fits(const route *r, const char *path) {
    if (!(r->flags & BELOW)) return strcmp(path, r->path) == 0;
    const size_t n = strlen(r->path);
    return strncmp(path, r->path, n) == 0 && path[n];
}

static bool method_fits(const route *r, const char *method) {
    return strcmp(method, r->method) == 0 || (strcmp(method, "HEAD") == 0 && strcmp(r->method, "GET") == 0);
}

// ---- Keys ----------------------------------------------------------------------------------------------------------------------------
// Looks at every byte of `given`, whatever it holds; only its length and the key's show in the time taken.
static bool same_key(const char *key, const char *given) {
    const size_t n_key = strlen(key), n = strlen(given);
    unsigned difference = n_key != n;
    for (size_t i = 0; i < n; i++) difference |= (unsigned)(unsigned char)given[i] ^ (unsigned)(unsigned char)key[n_key ? i % n_key : 0];
    return difference == 0;
}

static bool key_is_good(const server *s, const char *given) {
    bool good = false;
    for (size_t i = 0; given && i < s->options.api_keys.n; i++) good |= same_key(s->options.api_keys.items[i], given);
    return good;
}

static bool may_enter(const server *s, const http_call *call) {
    if (s->options.api_keys.n == 0) return true;
    const char *bearer = http_header(call, "Authorization");
    if (bearer && strncasecmp(bearer, "Bearer", 6) == 0 && (bearer[6] == ' ' || bearer[6] == '\t')) {
        bearer += 6 + strspn(bearer + 6, " \t");
        if (key_is_good(s, bearer)) return true;
    }
    return key_is_good(s, http_header(call, "X-Api-Key"));
}

// ---- The table -----------------------------------------------------------------------------------------------------------------------
static void refuse_method(http_call *call, const char *path) {
    char allow[64] = "", message[160];
    for (size_t i = 0; i < CLI_COUNT(routes); i++) {
        if (!path_fits(&routes[i], path)) continue;
        const size_t n = strlen(allow);
        snprintf(allow + n, sizeof allow - n, "%s%s", n ? ", " : "", strcmp(routes[i].method, "GET") == 0 ? "GET, HEAD" : routes[i].method);
    }
    http_set_header(call, "Allow", allow);
    snprintf(message, sizeof message, "this path takes %s, not %.20s", allow, http_method(call));
    server_error(call, 405, NULL, message, NULL, "method_not_allowed");
}

// True: answered, with why not.
static bool refuse_by_state(server *s, http_call *call, const route *r) {
    const int state = atomic_load(&s->state);
    if (state == SERVER_READY || (r->flags & EARLY)) return false;
    if (state == SERVER_DRAINING && !(r->flags & WORK)) return false;
    http_set_header(call, "Retry-After", state == SERVER_DRAINING ? "10" : "2");
    const char *message = state == SERVER_DRAINING ? "this server is shutting down" : "Loading model";
    server_reply_json(call, 503, json_pack("{s:{s:s, s:s, s:i}}", "error", "message", message, "type", "unavailable_error", "code", 503));
    return true;
}

void server_route(void *user, http_call *call) {
    server *s = user;
    const char *path = http_path(call), *method = http_method(call);
    const route *found = NULL;
    bool known = false;
    for (size_t i = 0; i < CLI_COUNT(routes) && !found; i++) {
        if (!path_fits(&routes[i], path) || ((routes[i].flags & PAGE) && s->options.no_webui)) continue;
        known = true;
        if (method_fits(&routes[i], method)) found = &routes[i];
    }
    if ((!found || !(found->flags & OPEN)) && !may_enter(s, call)) { // nor does it tell strangers which paths there are
        http_set_header(call, "WWW-Authenticate", "Bearer");
        server_error(call, 401, "authentication_error", "Invalid API Key", NULL, "invalid_api_key");
    } else if (!known) {
        server_error(call, 404, "not_found_error", "File Not Found", NULL, "not_found");
    } else if (!found) {
        refuse_method(call, path);
    } else if (!refuse_by_state(s, call, found)) {
        if (found->flags & LANE) server_lanes_run(s, call, found->answer);
        else found->answer(s, call);
    }
}

// ---- For the HTTP layer --------------------------------------------------------------------------------------------------------------
char *server_error_body(void *user, int status, const char *message) {
    (void)user;
    const char *type = status == 401 ? "authentication_error" : status == 503 ? "unavailable_error" : status >= 500 ? "server_error" : "invalid_request_error";
    json_t *object = json_pack("{s:{s:s, s:s, s:n, s:n}}", "error", "message", message, "type", type, "param", "code");
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    return text;
}

void server_too_many(void *user) {
    server *s = user;
    if (s->metrics) server_metrics_refused(s->metrics);
}
