// The server's life and its one thread: a loop over our epoll set (sockets with a call in progress, the wake-up, libmicrohttpd's own set),
// deadlines, and what other threads have made ready. See http.h and http_internal.h.
//
// Nothing here polls: the loop sleeps until bytes, a leaving client, a write of an owner, or the earliest deadline.
// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/http.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "tools/serve/http_internal.h"

// How long http_server_stop lets clients take the rest of answers that have ended.
enum { LAST_BYTES_NS = 2000000000 };

uint64_t http_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static _Thread_local const http_server *serving;

bool http_on_thread(const http_server *server) { return serving == server; }

void http_server_wake(http_server *server) {
    uint64_t one = 1;
    while (write(server->wake_fd, &one, sizeof one) < 0 && errno == EINTR) {}
}

void http_server_release(http_server *server) {
    bool last = --server->n_held == 0;
    pthread_mutex_unlock(&server->lock);
    if (!last) return;
    pthread_mutex_destroy(&server->lock);
    pthread_cond_destroy(&server->told);
    if (server->epoll_fd >= 0) close(server->epoll_fd);
    if (server->wake_fd >= 0) close(server->wake_fd);
    if (server->listen_fd >= 0) close(server->listen_fd);
    free(server->host);
    free(server);
}

// ---- The thread ----------------------------------------------------------------------------------------------------------------
static void quiesce(http_server *server) {
    server->quiesced = true;
    int fd = MHD_quiesce_daemon(server->daemon);
    if (fd >= 0) close(fd); // a new client is refused by the system, at once
    for (http_conn *conn = server->conns; conn; conn = conn->next)
        if (conn->state == CONN_IDLE || (conn->state == CONN_HEAD && conn->first_byte_ns == 0)) http_conn_drop(conn);
}

static void wake_ready(http_server *server, uint64_t now) {
    pthread_mutex_lock(&server->lock);
    while (server->ready) {
        http_call *call = server->ready;
        server->ready = call->ready_next;
        if (server->ready) server->ready->ready_prev = NULL;
        call->in_ready = false;
        call->ready_prev = call->ready_next = NULL;
        // Only this thread lets go of a call's connection side, so it stays while it is looked at.
        pthread_mutex_unlock(&server->lock);
        http_conn_wake(call, now);
        pthread_mutex_lock(&server->lock);
    }
    pthread_mutex_unlock(&server->lock);
}

static void check_deadlines(http_server *server, uint64_t now) {
    server->next_check_ns = UINT64_MAX;
    for (http_conn *conn = server->conns; conn; conn = conn->next) {
        if (conn->check_ns <= now) http_conn_check(conn, now);
        if (conn->check_ns < server->next_check_ns) server->next_check_ns = conn->check_ns;
    }
}

// Answers that their owners have ended are still delivered, for a while; everything else is dropped.
static bool stopped(http_server *server, uint64_t now) {
    if (server->stop_by_ns == 0) {
        server->stop_by_ns = now + LAST_BYTES_NS;
        if (!server->quiesced) quiesce(server);
    }
    bool waiting = false;
    for (http_conn *conn = server->conns; conn; conn = conn->next) {
        bool ended = false;
        if (conn->call && conn->state == CONN_CALL) {
            pthread_mutex_lock(&server->lock);
            ended = conn->call->ended;
            pthread_mutex_unlock(&server->lock);
        }
        if (!ended && conn->state != CONN_CLOSING) http_conn_drop(conn);
        if (ended) waiting = true;
    }
    return !waiting || now >= server->stop_by_ns;
}

static int timeout_ms(http_server *server, uint64_t now) {
    uint64_t at = server->next_check_ns;
    if (server->stop_by_ns && server->stop_by_ns < at) at = server->stop_by_ns;
    MHD_UNSIGNED_LONG_LONG asked;
    int64_t ms = -1;
    if (at != UINT64_MAX) ms = at <= now ? 0 : (int64_t)((at - now) / 1000000 + 1);
    if (MHD_get_timeout(server->daemon, &asked) == MHD_YES && (ms < 0 || (int64_t)asked < ms)) ms = (int64_t)asked;
    return ms > 60000 ? 60000 : (int)ms;
}

static void *serve(void *user) {
    http_server *server = user;
    serving = server;
    struct epoll_event events[64];
    for (;;) {
        int n = epoll_wait(server->epoll_fd, events, 64, timeout_ms(server, http_now_ns()));
        uint64_t now = http_now_ns();
        for (int i = 0; i < n; i++) {
            uint64_t drained;
            if (events[i].data.ptr == &server->wake_fd) {
                if (read(server->wake_fd, &drained, sizeof drained) < 0) continue;
            } else if (events[i].data.ptr != server) {
                http_conn_event(events[i].data.ptr, events[i].events, now);
            }
        }
        wake_ready(server, now);
        if (now >= server->next_check_ns) check_deadlines(server, now);
        if (server->quiescing && !server->quiesced) quiesce(server);
        MHD_run(server->daemon);
        if (server->stopping && stopped(server, now)) break; // after it: what was delivered just now is not waited for
    }
    // Closes what is left; the callbacks for it run here.
    for (http_conn *conn = server->conns; conn; conn = conn->next) http_conn_drop(conn);
    MHD_run(server->daemon);
    MHD_stop_daemon(server->daemon);
    return NULL;
}

// ---- Start and stop ------------------------------------------------------------------------------------------------------------
static void fill_in(http_options *o) {
    const uint64_t second = 1000000000;
    if (!o->max_connections) o->max_connections = 512;
    if (!o->max_per_address || o->max_per_address > o->max_connections) o->max_per_address = o->max_connections;
    if (!o->max_body_bytes) o->max_body_bytes = 8u << 20;
    if (!o->head_ns) o->head_ns = 10 * second;
    if (!o->body_ns) o->body_ns = 30 * second;
    if (!o->idle_ns) o->idle_ns = 60 * second;
    if (!o->stall_ns) o->stall_ns = 10 * second;
    if (!o->lag_ns) o->lag_ns = second / 10;
    if (!o->max_pending_bytes) o->max_pending_bytes = 8u << 20;
    if (!o->ping_ns) o->ping_ns = 5 * second;
    // Each connection needs a descriptor, and the rest of the program a few.
    struct rlimit limit;
    rlim_t need = (rlim_t)o->max_connections + 128;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= need) return;
    limit.rlim_cur = limit.rlim_max == RLIM_INFINITY || limit.rlim_max >= need ? need : limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= need) return;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        o->max_connections = limit.rlim_cur > 192 ? (uint32_t)limit.rlim_cur - 128 : 64;
}

static bool watch(http_server *server, int fd, void *tag) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = tag};
    return epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static bool run_thread(http_server *server) {
    sigset_t all, before; // signals are the main thread's
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool ok = pthread_create(&server->thread, NULL, serve, server) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ok;
}

static bool set_up(http_server *server, char err[HTTP_ERR]) {
    server->listen_fd = http_listen(server->host, server->options.port, &server->port, err);
    if (server->listen_fd < 0) return false;
    snprintf(err, HTTP_ERR, "cannot start the HTTP server: out of memory or file descriptors");
    server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->epoll_fd < 0 || server->wake_fd < 0 || !watch(server, server->wake_fd, &server->wake_fd)) return false;
    server->daemon = http_daemon_start(server);
    if (!server->daemon) return false;
    server->listen_fd = -1; // libmicrohttpd's now
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (info && watch(server, info->epoll_fd, server) && run_thread(server)) {
        err[0] = '\0';
        return true;
    }
    MHD_stop_daemon(server->daemon);
    return false;
}

bool http_server_start(const http_options *options, http_server **out, char err[HTTP_ERR]) {
    *out = NULL;
    http_server *server = calloc(1, sizeof *server);
    if (!server) {
        snprintf(err, HTTP_ERR, "cannot start the HTTP server: out of memory");
        return false;
    }
    server->options = *options;
    fill_in(&server->options);
    server->host = strdup(options->host ? options->host : "127.0.0.1");
    server->epoll_fd = server->wake_fd = server->listen_fd = -1;
    server->next_check_ns = UINT64_MAX;
    server->n_held = 1;
    pthread_mutex_init(&server->lock, NULL);
    pthread_cond_init(&server->told, NULL);
    snprintf(err, HTTP_ERR, "cannot start the HTTP server: out of memory");
    if (!server->host || !set_up(server, err)) {
        pthread_mutex_lock(&server->lock);
        http_server_release(server);
        return false;
    }
    *out = server;
    return true;
}

uint16_t http_server_port(const http_server *server) { return server->port; }

void http_server_quiesce(http_server *server) {
    server->quiescing = true;
    http_server_wake(server);
}

size_t http_server_n_calls(const http_server *server) {
    http_server *s = (http_server *)server; // the lock is no part of what is constant
    pthread_mutex_lock(&s->lock);
    size_t n = s->n_calls;
    pthread_mutex_unlock(&s->lock);
    return n;
}

http_stats http_server_stats(const http_server *server) {
    return (http_stats){.n_connections = server->n_connections, .n_requests = server->n_requests, .n_refused = server->n_refused,
                        .n_bad = server->n_bad, .n_slow = server->n_slow, .n_dropped = server->n_dropped};
}

void http_server_stop(http_server **server) {
    http_server *s = *server;
    if (!s) return;
    *server = NULL;
    s->quiescing = s->stopping = true;
    http_server_wake(s);
    pthread_join(s->thread, NULL);
    pthread_mutex_lock(&s->lock);
    http_server_release(s);
}
