// Connections: the callbacks of libmicrohttpd, deadlines, clients that leave. HTTP thread only.
//
// A request: http_target (its first line) -> http_request (head: guard; body: copied; end: to the handler) -> http_completed. While a call has
// nothing to send its connection is suspended, and our own epoll set tells when the client leaves.
// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <linux/tcp.h> // netinet/tcp.h has no tcpi_bytes_acked
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "tools/serve/http_internal.h"
#include "tools/serve/large_bytes.h"

// How long a refused client may go on sending before its connection is closed: closed at once, it might never see the answer.
enum { LINGER_NS = 1000000000 };
// A client that stops sending in the middle of its request: how long what has come may still be read, and its refusal written.
enum { LEFT_NS = 200000000 };
// What the kernel takes for a reader beyond what is on its way: the rest waits in the call, where it is counted. Of a stream: a few events,
// so that it shows soon that its reader lags.
enum { UNSENT_BYTES = 16 << 10, UNSENT_STREAM_BYTES = 2 << 10 };
// Of stall_ns: how often a connection with an answer is looked at.
enum { LOOKS = 16 };

static void check_at(http_conn *conn, uint64_t when) {
    conn->check_ns = when;
    if (when < conn->server->next_check_ns) conn->server->next_check_ns = when;
}

// EPOLLIN: bytes of a next request. EPOLLRDHUP: the client leaves. Once each, to be asked again.
static void watch(http_conn *conn, uint32_t events) {
    struct epoll_event event = {.events = events | EPOLLONESHOT, .data.ptr = conn};
    epoll_ctl(conn->server->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event);
}

void http_conn_drop(http_conn *conn) {
    if (conn->state == CONN_CLOSING) return;
    conn->state = CONN_CLOSING;
    check_at(conn, UINT64_MAX);
    shutdown(conn->fd, SHUT_RDWR);
    if (!conn->call) return;
    http_call_gone(conn->call);
    if (conn->call->suspended) {
        conn->call->suspended = false;
        MHD_resume_connection(conn->mhd); // to see that it is closed
    }
}

// ---- Answers that are given here ---------------------------------------------------------------------------------------------------
static void add_common_headers(http_conn *conn, struct MHD_Response *response, bool close_after) {
    MHD_add_response_header(response, "Access-Control-Allow-Origin", "*");
    MHD_add_response_header(response, "Access-Control-Expose-Headers", "*");
    if (close_after || conn->server->quiesced) MHD_add_response_header(response, "Connection", "close");
}

// An answer that no handler gives is under the same deadline as theirs.
static void wait_for_reader(http_conn *conn) {
    conn->state = CONN_CALL;
    conn->call->taken_ns = http_now_ns();
    conn->stuck_ns = 0;
    check_at(conn, conn->call->taken_ns + conn->server->options.stall_ns / LOOKS);
}

static enum MHD_Result refuse(http_conn *conn, int status, const char *message) {
    conn->server->n_bad++;
    char *body = http_error_body(conn->server, status, message);
    if (!body) return MHD_NO;
    struct MHD_Response *response = MHD_create_response_from_buffer(strlen(body), body, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        free(body);
        return MHD_NO;
    }
    MHD_add_response_header(response, "Content-Type", "application/json");
    add_common_headers(conn, response, true);
    wait_for_reader(conn);
    enum MHD_Result done = MHD_queue_response(conn->mhd, (unsigned)status, response);
    MHD_destroy_response(response);
    return done;
}

// Where libmicrohttpd takes no response (in the middle of a request): written to the socket, which then only receives.
static void refuse_raw(http_conn *conn, int status, const char *reason, const char *message) {
    char *body = http_error_body(conn->server, status, message), *text = NULL;
    int len = body ? asprintf(&text,
                              "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nAccess-Control-Allow-Origin: *\r\nConnection: close\r\n"
                              "Content-Length: %zu\r\n\r\n%s",
                              status, reason, strlen(body), body)
                   : -1;
    if (len > 0) {
        send(conn->fd, text, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);
        free(text);
    }
    free(body);
    shutdown(conn->fd, SHUT_WR);
}

static bool names_only(const char *text) { // a list of header names, safe to send back
    for (const char *c = text; *c; c++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_, *", *c)) return false;
    return true;
}

static enum MHD_Result preflight(http_conn *conn) {
    struct MHD_Response *response = MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT);
    if (!response) return MHD_NO;
    const char *asked = http_header(conn->call, "Access-Control-Request-Headers");
    MHD_add_response_header(response, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
    MHD_add_response_header(response, "Access-Control-Allow-Headers", asked && names_only(asked) ? asked : "*");
    MHD_add_response_header(response, "Access-Control-Max-Age", "86400");
    MHD_add_response_header(response, "Allow", "GET, HEAD, POST, OPTIONS");
    add_common_headers(conn, response, false);
    wait_for_reader(conn);
    enum MHD_Result done = MHD_queue_response(conn->mhd, MHD_HTTP_NO_CONTENT, response);
    MHD_destroy_response(response);
    return done;
}

// ---- The answer of a handler -------------------------------------------------------------------------------------------------------
static ssize_t read_answer(void *user, uint64_t pos, char *to, size_t max) {
    (void)pos;
    http_call *call = user;
    http_conn *conn = call->conn;
    if (!conn || conn->state == CONN_CLOSING) return MHD_CONTENT_READER_END_WITH_ERROR;
    ssize_t n = http_call_read(call, to, max);
    if (n == 0) {
        call->suspended = true;
        MHD_suspend_connection(conn->mhd);
    }
    return n;
}

static enum MHD_Result queue_answer(http_conn *conn) {
    http_call *call = conn->call;
    uint64_t size = call->whole ? call->out_len : MHD_SIZE_UNKNOWN; // constant from begin on, or not read
    struct MHD_Response *response = MHD_create_response_from_callback(size, 16384, read_answer, call, NULL);
    if (!response) return MHD_NO;
    if (call->content_type) MHD_add_response_header(response, "Content-Type", call->content_type);
    if (call->event_stream) {
        MHD_add_response_header(response, "Cache-Control", "no-cache");
        MHD_add_response_header(response, "X-Accel-Buffering", "no"); // nginx would collect the tokens
    }
    for (size_t i = 0; i < call->answer.n; i++) MHD_add_response_header(response, call->answer.at[i].name, call->answer.at[i].value);
    add_common_headers(conn, response, false);
    call->queued = true;
    conn->stuck_ns = 0;
    const int unsent = call->event_stream ? UNSENT_STREAM_BYTES : UNSENT_BYTES;
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
    uint64_t look_ns = conn->server->options.stall_ns / LOOKS, soon = look_ns < conn->server->options.ping_ns ? look_ns : conn->server->options.ping_ns;
    check_at(conn, http_now_ns() + soon);
    enum MHD_Result done = MHD_queue_response(conn->mhd, (unsigned)call->status, response);
    MHD_destroy_response(response);
    return done;
}

static bool has_begun(http_call *call) {
    pthread_mutex_lock(&call->server->lock);
    bool begun = call->begun;
    pthread_mutex_unlock(&call->server->lock);
    return begun;
}

static enum MHD_Result answer_or_wait(http_conn *conn) {
    if (has_begun(conn->call)) return queue_answer(conn);
    conn->call->suspended = true;
    MHD_suspend_connection(conn->mhd);
    return MHD_YES;
}

void http_conn_wake(http_call *call, uint64_t now) {
    http_conn *conn = call->conn;
    if (!conn || conn->state == CONN_CLOSING) return;
    pthread_mutex_lock(&call->server->lock);
    bool overflow = call->overflow;
    if (call->out_len > call->out_head && !call->offered_ns) call->offered_ns = now;
    uint64_t look_ns = call->out_len > call->out_head ? call->waiting_ns + call->server->options.stall_ns / LOOKS : UINT64_MAX;
    pthread_mutex_unlock(&call->server->lock);
    if (overflow) {
        conn->server->n_dropped++;
        http_conn_drop(conn);
        return;
    }
    if (look_ns < conn->check_ns) check_at(conn, look_ns > now ? look_ns : now);
    if (!call->suspended) return;
    call->suspended = false;
    MHD_resume_connection(conn->mhd);
}

// ---- Receiving a request -----------------------------------------------------------------------------------------------------------
static void *target(void *user, const char *uri, struct MHD_Connection *mhd) {
    http_server *server = user;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    http_conn *conn = info ? info->socket_context : NULL;
    if (!conn) return NULL;
    uint64_t now = http_now_ns();
    if (conn->state == CONN_IDLE) {
        conn->state = CONN_HEAD;
        check_at(conn, now + server->options.head_ns);
    }
    if (conn->first_byte_ns == 0) conn->first_byte_ns = now;
    http_call *call = http_call_new(server);
    if (!call) return NULL;
    call->conn = conn;
    call->arrived_ns = conn->first_byte_ns;
    memcpy(call->peer, conn->peer, sizeof call->peer);
    http_guard_target(call, uri);
    conn->call = call;
    return call;
}

static enum MHD_Result whole_head(http_conn *conn, const char *method, const char *version) {
    http_call *call = conn->call;
    const http_options *o = &conn->server->options;
    call->seen = true;
    http_head head;
    http_guard_head(call, conn->mhd, method, version, o->max_body_bytes, &head);
    // A handler sees GET for HEAD; libmicrohttpd leaves the body out.
    call->method = strdup(strcmp(method, "HEAD") == 0 ? "GET" : method);
    if (!call->method) return MHD_NO;
    conn->state = CONN_BODY;
    check_at(conn, http_now_ns() + o->body_ns);
    if (!call->bad_status) return MHD_YES;
    if (call->bad_status != 413 || head.expects_continue) return refuse(conn, call->bad_status, call->bad);
    // Its client is sending: it must be able to read the answer before it sees a closed connection.
    conn->server->n_bad++;
    refuse_raw(conn, 413, "Content Too Large", call->bad);
    conn->state = CONN_LINGER;
    check_at(conn, http_now_ns() + LINGER_NS);
    return MHD_YES;
}

static bool take_body(http_conn *conn, const char *bytes, size_t len) {
    http_call *call = conn->call;
    if (conn->state == CONN_LINGER) return true;
    if (len > conn->server->options.max_body_bytes - call->body_len) {
        conn->server->n_bad++;
        refuse_raw(conn, 413, "Content Too Large", "the body is larger than this server accepts");
        conn->state = CONN_LINGER;
        check_at(conn, http_now_ns() + LINGER_NS);
        return true;
    }
    if (call->body_len + len + 1 > call->body_cap) {
        size_t cap = call->body_cap ? call->body_cap * 2 : 4096;
        while (cap < call->body_len + len + 1) cap *= 2;
        char *body = large_resize(call->body, call->body_cap, cap);
        if (!body) return false;
        call->body = body;
        call->body_cap = cap;
    }
    memcpy(call->body + call->body_len, bytes, len);
    call->body_len += len;
    call->body[call->body_len] = '\0';
    return true;
}

static enum MHD_Result request(void *user, struct MHD_Connection *mhd, const char *url, const char *method, const char *version,
                               const char *data, size_t *len, void **context) {
    (void)user, (void)mhd, (void)url;
    http_call *call = *context;
    if (!call || !call->conn || call->conn->state == CONN_CLOSING) return MHD_NO;
    http_conn *conn = call->conn;
    if (!call->seen) return whole_head(conn, method, version);
    if (*len > 0) {
        if (!take_body(conn, data, *len)) return MHD_NO;
        *len = 0;
        return MHD_YES;
    }
    if (conn->state == CONN_LINGER) return MHD_NO;
    if (call->handed) return answer_or_wait(conn);
    check_at(conn, UINT64_MAX);
    if (strcmp(call->method, "OPTIONS") == 0) return preflight(conn);
    conn->state = CONN_CALL;
    watch(conn, EPOLLRDHUP);
    http_call_hand(call);
    return answer_or_wait(conn);
}

static void completed(void *user, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode how) {
    (void)user, (void)how;
    http_call *call = *context;
    *context = NULL;
    if (!call) return;
    http_conn *conn = call->conn;
    if (conn) {
        conn->call = NULL;
        conn->first_byte_ns = 0;
        const union MHD_ConnectionInfo *status = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_HTTP_STATUS);
        if (!call->handed && !call->bad_status && status && status->http_status >= 400) conn->server->n_bad++; // refused by libmicrohttpd
        if (conn->server->quiesced) {
            http_conn_drop(conn);
        } else if (conn->state != CONN_CLOSING) {
            conn->state = CONN_IDLE;
            check_at(conn, http_now_ns() + conn->server->options.idle_ns);
            watch(conn, EPOLLIN);
        }
    }
    http_call_leave(call);
}

// ---- Deadlines and clients that leave ----------------------------------------------------------------------------------------------
void http_conn_event(http_conn *conn, uint32_t events, uint64_t now) {
    char byte;
    if (conn->state == CONN_IDLE && recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0) {
        http_conn_drop(conn); // libmicrohttpd may have missed it while it was sending
    } else if (conn->state == CONN_IDLE && events & EPOLLIN) {
        conn->state = CONN_HEAD;
        conn->first_byte_ns = now;
        check_at(conn, now + conn->server->options.head_ns);
        watch(conn, EPOLLRDHUP);
    } else if (conn->state == CONN_HEAD || conn->state == CONN_BODY) {
        if (conn->first_byte_ns == 0) conn->first_byte_ns = now;
        conn->left = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR); // libmicrohttpd misses an end that comes with the last bytes
        if (!conn->left) watch(conn, EPOLLRDHUP);
        else if (now + LEFT_NS < conn->check_ns) check_at(conn, now + LEFT_NS);
    } else if (conn->state == CONN_CALL && events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR) && conn->call && conn->call->handed) {
        pthread_mutex_lock(&conn->server->lock);
        bool ended = conn->call->ended;
        pthread_mutex_unlock(&conn->server->lock);
        if (!ended) http_conn_drop(conn); // an answer that is complete is still delivered to a client that only stopped sending
    }
}

typedef struct reader {
    bool moves;   // has acknowledged bytes since the last look
    bool unsent;  // bytes wait in the kernel
} reader;

static reader look_at_reader(http_conn *conn) {
    struct tcp_info info;
    socklen_t len = sizeof info;
    memset(&info, 0, sizeof info);
    if (getsockopt(conn->fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0) return (reader){0};
    const reader r = {.moves = info.tcpi_bytes_acked != conn->acked, .unsent = info.tcpi_notsent_bytes > 0};
    conn->acked = info.tcpi_bytes_acked;
    return r;
}

static void check_call(http_conn *conn, uint64_t now) {
    const http_options *o = &conn->server->options;
    http_call *call = conn->call;
    pthread_mutex_lock(&conn->server->lock);
    bool waiting = call->out_len > call->out_head || call->ended || !call->handed;
    uint64_t since = call->waiting_ns > call->taken_ns ? call->waiting_ns : call->taken_ns, next = UINT64_MAX;
    bool runs = call->event_stream && !call->ended;
    bool ping = runs && call->between_events && call->out_len == call->out_head && !call->gone;
    bool ping_now = ping && now >= call->written_ns + o->ping_ns;
    if (ping) next = ping_now ? now + o->ping_ns : call->written_ns + o->ping_ns;
    else if (runs) next = now + o->ping_ns;
    pthread_mutex_unlock(&conn->server->lock);
    if (ping_now) http_stream_write(call, ":\n\n", 3);
    const reader r = look_at_reader(conn);
    waiting |= r.unsent;
    if (r.moves || !waiting) conn->stuck_ns = 0;
    else if (!conn->stuck_ns) conn->stuck_ns = r.unsent || since > now ? now : since;
    if (conn->stuck_ns && now - conn->stuck_ns >= o->stall_ns) {
        conn->server->n_dropped++;
        http_conn_drop(conn);
        return;
    }
    if ((waiting || runs) && now + o->stall_ns / LOOKS < next) next = now + o->stall_ns / LOOKS;
    check_at(conn, next);
}

void http_conn_check(http_conn *conn, uint64_t now) {
    check_at(conn, UINT64_MAX);
    if (conn->state == CONN_CALL && conn->call) {
        check_call(conn, now);
        return;
    }
    if (!conn->left && (conn->state == CONN_BODY || (conn->state == CONN_HEAD && conn->first_byte_ns))) {
        conn->server->n_slow++;
        refuse_raw(conn, 408, "Request Timeout", conn->state == CONN_BODY ? "the body did not arrive in time" : "the head did not arrive in time");
    } else if (!conn->left && conn->state == CONN_HEAD) {
        conn->server->n_slow++;
    }
    http_conn_drop(conn);
}

// ---- Connections come and go -------------------------------------------------------------------------------------------------------
static void network_of(const struct sockaddr *address, unsigned char network[16]) {
    memset(network, 0, 16);
    if (address->sa_family == AF_INET) {
        memcpy(network, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
        memcpy(network + 12, &((const struct sockaddr_in *)address)->sin_addr, 4);
    } else if (address->sa_family == AF_INET6) {
        const struct in6_addr *six = &((const struct sockaddr_in6 *)address)->sin6_addr;
        memcpy(network, six, IN6_IS_ADDR_V4MAPPED(six) || IN6_IS_ADDR_LOOPBACK(six) ? 16 : 8); // one host has a whole /64
    }
}

static enum MHD_Result may_connect(void *user, const struct sockaddr *address, socklen_t len) {
    (void)len;
    http_server *server = user;
    unsigned char network[16];
    network_of(address, network);
    uint32_t n = 0, same = 0;
    for (const http_conn *conn = server->conns; conn; conn = conn->next) {
        n++;
        same += memcmp(conn->network, network, 16) == 0;
    }
    if (n < server->options.max_connections && same < server->options.max_per_address) return MHD_YES;
    server->n_refused++;
    if (server->options.too_many) server->options.too_many(server->options.user);
    return MHD_NO;
}

static http_conn *conn_new(http_server *server, struct MHD_Connection *mhd) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    http_conn *conn = info ? calloc(1, sizeof *conn) : NULL;
    if (!conn) return NULL;
    conn->server = server;
    conn->mhd = mhd;
    conn->fd = info->connect_fd;
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = conn};
    if (epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, conn->fd, &event) != 0) {
        free(conn);
        return NULL;
    }
    int on = 1;
    unsigned stall_ms = (unsigned)(server->options.stall_ns / 1000000 + 1000);
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(conn->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &stall_ms, sizeof stall_ms); // a peer that has vanished without a word
    info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *address = info ? info->client_addr : NULL;
    if (address) network_of(address, conn->network);
    if (address && address->sa_family == AF_INET6) inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, conn->peer, HTTP_PEER);
    else if (address) inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, conn->peer, HTTP_PEER);
    if (strncmp(conn->peer, "::ffff:", 7) == 0 && strchr(conn->peer, '.')) memmove(conn->peer, conn->peer + 7, strlen(conn->peer + 7) + 1);
    return conn;
}

static void connection(void *user, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode what) {
    http_server *server = user;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        http_conn *conn = conn_new(server, mhd);
        *context = conn;
        if (!conn) return; // out of memory: its requests are refused by request()
        conn->state = CONN_HEAD;
        check_at(conn, http_now_ns() + server->options.head_ns);
        conn->next = server->conns;
        if (conn->next) conn->next->prev = conn;
        server->conns = conn;
        server->n_connections++;
        return;
    }
    http_conn *conn = *context;
    *context = NULL;
    if (!conn) return;
    epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, conn->fd, NULL);
    if (conn->call) {
        http_call *call = conn->call;
        conn->call = NULL;
        http_call_leave(call);
    }
    if (conn->prev) conn->prev->next = conn->next;
    else server->conns = conn->next;
    if (conn->next) conn->next->prev = conn->prev;
    server->n_connections--;
    free(conn);
}

static void silent(void *user, const char *format, va_list arguments) { (void)user, (void)format, (void)arguments; }

struct MHD_Daemon *http_daemon_start(http_server *server) {
    const http_options *o = &server->options;
    return MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, server->port, may_connect, server, request, server, //
                            MHD_OPTION_EXTERNAL_LOGGER, silent, NULL, MHD_OPTION_LISTEN_SOCKET, server->listen_fd,                         //
                            MHD_OPTION_CONNECTION_LIMIT, (unsigned)o->max_connections + 1, MHD_OPTION_CONNECTION_TIMEOUT, 0u,              //
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_HEAD_BYTES, MHD_OPTION_STRICT_FOR_CLIENT, 1,                  //
                            MHD_OPTION_URI_LOG_CALLBACK, target, server, MHD_OPTION_NOTIFY_COMPLETED, completed, server,                  //
                            MHD_OPTION_NOTIFY_CONNECTION, connection, server, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
}
