// One request and its answer: what its owner may call from any thread, and how the HTTP thread takes the bytes.
//
// A call has two holders, the connection and the owner, and is freed when both have let go. The owner's side only appends to a buffer under
// the server's lock and wakes the HTTP thread: no write waits for a socket.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tools/serve/http_internal.h"
#include "tools/serve/large_bytes.h"

static void lock(http_call *call) { pthread_mutex_lock(&call->server->lock); }
static void unlock(http_call *call) { pthread_mutex_unlock(&call->server->lock); }

http_call *http_call_new(http_server *server) {
    http_call *call = calloc(1, sizeof *call);
    if (!call) return NULL;
    call->server = server;
    call->http_holds = true;
    call->between_events = true;
    lock(call);
    server->n_held++;
    unlock(call);
    return call;
}

// Lock held; unlocks. The call may be gone afterwards.
static void release(http_call *call) {
    if (call->http_holds || call->owner_holds) {
        unlock(call);
        return;
    }
    free(call->method);
    free(call->path);
    large_free(call->body, call->body_cap);
    free(call->content_type);
    large_free(call->out, call->out_cap);
    http_pairs_free(&call->query);
    http_pairs_free(&call->headers);
    http_pairs_free(&call->answer);
    http_server *server = call->server;
    free(call);
    http_server_release(server);
}

// Lock held. True: the list was empty, so the thread must be woken.
static bool make_ready(http_call *call) {
    http_server *server = call->server;
    if (call->in_ready || !call->http_holds) return false;
    call->in_ready = true;
    call->ready_next = server->ready;
    if (server->ready) server->ready->ready_prev = call;
    server->ready = call;
    return call->ready_next == NULL;
}

static void wake(http_call *call, bool needed) {
    if (needed) http_server_wake(call->server);
}

// ---- The HTTP thread's side ----------------------------------------------------------------------------------------------------
void http_call_hand(http_call *call) {
    http_server *server = call->server;
    call->handed = true;
    lock(call);
    call->owner_holds = true;
    server->n_calls++;
    unlock(call);
    server->n_requests++;
    server->options.handle(server->options.user, call); // the connection holds it meanwhile
}

// Lock held; unlocks. The call stays while its owner is told.
static void tell(http_call *call, void (*what)(void *user), void *user) {
    call->telling = what != NULL;
    unlock(call);
    if (!what) return;
    what(user);
    lock(call);
    call->telling = false;
    pthread_cond_broadcast(&call->server->told);
    unlock(call);
}

void http_call_gone(http_call *call) {
    lock(call);
    const bool listens = call->owner_holds && !call->ended && !call->gone;
    call->gone = true;
    tell(call, listens ? call->on_gone : NULL, call->gone_user);
}

void http_call_leave(http_call *call) {
    http_call_gone(call);
    call->conn = NULL;
    lock(call);
    if (call->in_ready) {
        if (call->ready_prev) call->ready_prev->ready_next = call->ready_next;
        else call->server->ready = call->ready_next;
        if (call->ready_next) call->ready_next->ready_prev = call->ready_prev;
        call->in_ready = false;
    }
    call->http_holds = false;
    large_free(call->out, call->out_cap); // nobody will read it
    call->out = NULL;
    call->out_head = call->out_len = call->out_cap = 0;
    release(call);
}

ssize_t http_call_read(http_call *call, char *to, size_t max) {
    lock(call);
    size_t n = call->out_len - call->out_head;
    if (n > max) n = max;
    if (n > 0) {
        memcpy(to, call->out + call->out_head, n);
        call->out_head += n;
        call->taken_ns = http_now_ns();
        if (call->out_head == call->out_len) call->out_head = call->out_len = 0;
        call->offered_ns = call->out_len ? call->taken_ns : 0;
    }
    bool ended = call->ended;
    const bool caught_up = call->lags && !call->out_len && !ended && !call->gone;
    if (caught_up) call->lags = false;
    tell(call, caught_up ? call->on_caught_up : NULL, call->caught_up_user);
    if (n > 0) return (ssize_t)n;
    return ended ? MHD_CONTENT_READER_END_OF_STREAM : 0;
}

// ---- The request -----------------------------------------------------------------------------------------------------------------
const char *http_method(const http_call *call) { return call->method; }
const char *http_path(const http_call *call) { return call->path; }
const char *http_query(const http_call *call, const char *name) { return http_pairs_get(&call->query, name, false); }
const char *http_header(const http_call *call, const char *name) { return http_pairs_get(&call->headers, name, true); }
const char *http_peer(const http_call *call) { return call->peer; }
uint64_t http_arrived_ns(const http_call *call) { return call->arrived_ns; }

const char *http_body(const http_call *call, size_t *len) {
    if (len) *len = call->body_len;
    return call->body ? call->body : "";
}

// ---- The answer ------------------------------------------------------------------------------------------------------------------
// Lock held. False: out of memory.
static bool append(http_call *call, const char *bytes, size_t len) {
    if (call->out_head > 0 && call->out_len + len > call->out_cap) {
        memmove(call->out, call->out + call->out_head, call->out_len - call->out_head);
        call->out_len -= call->out_head;
        call->out_head = 0;
    }
    if (len > call->out_cap - call->out_len) {
        size_t cap = call->out_cap ? call->out_cap * 2 : 1024;
        while (cap - call->out_len < len) cap *= 2;
        char *out = large_resize(call->out, call->out_cap, cap);
        if (!out) return false;
        call->out = out;
        call->out_cap = cap;
    }
    if (call->out_head == call->out_len) call->waiting_ns = http_now_ns();
    memcpy(call->out + call->out_len, bytes, len);
    call->out_len += len;
    return true;
}

// Lock held; unlocks. The last thing that an owner does.
static void end(http_call *call) {
    http_server *server = call->server;
    // on_gone never runs on after this has returned, except around a call from within itself.
    while (call->telling && !http_on_thread(server)) pthread_cond_wait(&server->told, &server->lock);
    call->ended = true;
    if (call->out_head == call->out_len) call->waiting_ns = http_now_ns(); // for the end itself
    call->owner_holds = false;
    server->n_calls--;
    // Woken under the lock: after it the server may be gone.
    wake(call, make_ready(call));
    release(call);
}

void http_set_header(http_call *call, const char *name, const char *value) {
    if (!call->begun) http_pairs_add(&call->answer, name, strlen(name), value, strlen(value));
}

static void begin(http_call *call, int status, const char *content_type) {
    call->begun = true;
    call->status = status;
    call->content_type = content_type ? strdup(content_type) : NULL;
    call->written_ns = call->taken_ns = http_now_ns();
}

void http_reply(http_call *call, int status, const char *content_type, const char *body, size_t len) {
    char *copy = len > 0 ? large_resize(NULL, 0, len) : NULL;
    if (copy) memcpy(copy, body, len);
    lock(call);
    begin(call, len > 0 && !copy ? 500 : status, content_type);
    call->whole = true;
    if (call->http_holds) {
        call->out = copy;
        call->out_len = call->out_cap = copy ? len : 0;
        call->waiting_ns = call->written_ns;
        copy = NULL;
    }
    end(call);
    large_free(copy, copy ? len : 0);
}

void http_stream_begin(http_call *call, int status, const char *content_type) {
    lock(call);
    begin(call, status, content_type);
    call->event_stream = content_type && strncasecmp(content_type, "text/event-stream", 17) == 0;
    wake(call, make_ready(call));
    unlock(call);
}

bool http_stream_write(http_call *call, const char *bytes, size_t len) {
    lock(call);
    size_t pending = call->out_len - call->out_head, most = call->server->options.max_pending_bytes;
    bool room = pending <= most && len <= most - pending;
    bool ok = !call->gone && !call->overflow && call->http_holds;
    if (ok && len > 0) {
        ok = room && append(call, bytes, len);
        call->overflow = !ok; // the connection is dropped: a part that is missing inside would look like a whole answer
        call->written_ns = http_now_ns();
        call->between_events = len >= 2 && bytes[len - 1] == '\n' && bytes[len - 2] == '\n';
        wake(call, make_ready(call));
    }
    unlock(call);
    return ok;
}

void http_stream_end(http_call *call) {
    lock(call);
    end(call);
}

bool http_on_gone(http_call *call, void (*on_gone)(void *user), void *user) {
    lock(call);
    const bool gone = call->gone;
    if (!gone) {
        call->on_gone = on_gone;
        call->gone_user = user;
    }
    unlock(call);
    return !gone;
}

bool http_stream_lags(http_call *call) {
    lock(call);
    const bool waits = call->offered_ns && call->out_len > call->out_head && call->http_holds && !call->gone && !call->ended;
    const bool lags = waits && http_now_ns() >= call->offered_ns + call->server->options.lag_ns;
    if (lags) call->lags = true;
    unlock(call);
    return lags;
}

void http_on_caught_up(http_call *call, void (*on_caught_up)(void *user), void *user) {
    lock(call);
    call->on_caught_up = on_caught_up;
    call->caught_up_user = user;
    unlock(call);
}

bool http_is_gone(const http_call *call) {
    http_call *c = (http_call *)call; // the lock is no part of what is constant
    lock(c);
    bool gone = c->gone || c->overflow;
    unlock(c);
    return gone;
}

char *http_error_body(const http_server *server, int status, const char *message) {
    char *body = server->options.error_body ? server->options.error_body(server->options.user, status, message) : NULL;
    if (!body && asprintf(&body, "{\"error\":{\"message\":\"%s\",\"code\":%d}}\n", message, status) < 0) body = NULL;
    return body;
}
