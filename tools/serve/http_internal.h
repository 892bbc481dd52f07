// What the files http*.c share: the server, its connections, its calls.
//
// One thread, the HTTP thread, calls every function of libmicrohttpd: the daemon runs with external polling, inside our own epoll loop. So a
// connection is never resumed while it is being suspended, and a socket is never shut down after its number was given to another one.
// Other threads touch only what is marked "lock" and then put the call on the server's ready list.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_HTTP_INTERNAL_H
#define WTL_TOOLS_SERVE_HTTP_INTERNAL_H

#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "tools/serve/http.h"

enum { HTTP_PEER = 64, HTTP_HEAD_BYTES = 32 << 10 };

// Names and values, copied.
typedef struct http_pair {
    char *name, *value;
} http_pair;
typedef struct http_pairs {
    http_pair *at;
    size_t n, cap;
} http_pairs;

// IDLE: kept alive, no byte of a request yet. HEAD, BODY: being received. CALL: from the handler to the last byte of the answer.
// LINGER: refused while the client still sends; what comes is thrown away. CLOSING: shut down, libmicrohttpd will notice.
typedef enum conn_state { CONN_IDLE, CONN_HEAD, CONN_BODY, CONN_CALL, CONN_LINGER, CONN_CLOSING } conn_state;

// A connection: HTTP thread only.
typedef struct http_conn {
    struct http_conn *prev, *next;
    http_server *server;
    struct MHD_Connection *mhd;
    struct http_call *call; // the request that is being received or answered; NULL between requests
    int fd;
    conn_state state;
    bool left;              // stopped sending in the middle of a request
    uint64_t check_ns;      // when to look at it again; UINT64_MAX: never
    uint64_t first_byte_ns; // of the present request; 0: not seen yet
    uint64_t acked;         // bytes that the peer had acknowledged at the last look
    uint64_t stuck_ns;      // since when bytes of the answer wait and it acknowledges none; 0: it does not
    unsigned char network[16]; // the address, or an IPv6 /64: what max_per_address counts
    char peer[HTTP_PEER];
} http_conn;

struct http_call {
    http_server *server;
    // The request; complete and constant from the handler on.
    char *method, *path;
    http_pairs query, headers;
    char *body;
    size_t body_len, body_cap;
    char peer[HTTP_PEER];
    uint64_t arrived_ns;
    int bad_status;    // refused when its head is complete; 0: fine so far
    const char *bad;   // static
    const char *target; // where it was received: for http_guard_head only
    size_t target_len;
    // HTTP thread
    http_conn *conn;   // NULL: the connection has left it
    bool seen, handed, suspended, queued;
    // lock
    bool http_holds, owner_holds;   // freed when neither does
    bool in_ready, gone, telling;   // telling: on_gone or on_caught_up is running
    bool lags;                      // its owner was told so
    bool begun, whole, ended, overflow, event_stream, between_events;
    int status;
    char *content_type;
    http_pairs answer;              // headers: the owner's until begun
    char *out;                      // bytes that the reader has not taken: out[out_head .. out_len)
    size_t out_head, out_len, out_cap;
    uint64_t waiting_ns, taken_ns, written_ns; // since when bytes wait; last progress; last write
    uint64_t offered_ns;            // since when the connection has bytes that its reader does not take; 0: it has none
    void (*on_gone)(void *user), (*on_caught_up)(void *user);
    void *gone_user, *caught_up_user;
    struct http_call *ready_prev, *ready_next;
};

struct http_server {
    http_options options; // with defaults filled in
    char *host;
    struct MHD_Daemon *daemon;
    int epoll_fd, wake_fd, listen_fd;
    uint16_t port;
    pthread_t thread;
    // HTTP thread
    http_conn *conns;
    uint64_t next_check_ns, stop_by_ns;
    bool quiesced;
    // lock
    pthread_mutex_t lock;
    pthread_cond_t told;
    http_call *ready;
    size_t n_calls;
    size_t n_held; // the thread, the owner and every call keep the memory
    // any thread
    _Atomic bool quiescing, stopping;
    _Atomic uint64_t n_connections, n_requests, n_refused, n_bad, n_slow, n_dropped;
};

uint64_t http_now_ns(void);

// http_pairs.c
bool http_pairs_add(http_pairs *pairs, const char *name, size_t name_len, const char *value, size_t value_len);
const char *http_pairs_get(const http_pairs *pairs, const char *name, bool any_case);
void http_pairs_free(http_pairs *pairs);

// http_listen.c: a listening socket, or -1 and a sentence.
int http_listen(const char *host, uint16_t port, uint16_t *actual, char err[HTTP_ERR]);

// http_guard.c
// Target -> call->path and call->query; sets call->bad when it is not one.
void http_guard_target(http_call *call, const char *target);
// Copies the headers into the call and checks the framing; sets call->bad_status and call->bad when it must be refused.
typedef struct http_head {
    bool has_body, expects_continue;
    uint64_t length; // announced; UINT64_MAX: chunked
} http_head;
void http_guard_head(http_call *call, struct MHD_Connection *mhd, const char *method, const char *version, size_t max_body_bytes,
                     http_head *head);
bool http_utf8_ok(const char *text, size_t len);

// http_conn.c: the callbacks of libmicrohttpd.
struct MHD_Daemon *http_daemon_start(http_server *server);
void http_conn_drop(http_conn *conn);             // shuts it down; its call is gone
void http_conn_check(http_conn *conn, uint64_t now); // a deadline may have passed
void http_conn_event(http_conn *conn, uint32_t events, uint64_t now);
void http_conn_wake(http_call *call, uint64_t now); // its owner has written

// http_call.c, HTTP thread
http_call *http_call_new(http_server *server);
void http_call_hand(http_call *call);   // to options.handle
void http_call_gone(http_call *call);   // calls on_gone if the owner has not ended it
void http_call_leave(http_call *call);  // the connection has done with it: after this it may be freed
ssize_t http_call_read(http_call *call, char *to, size_t max); // bytes of the answer; 0: none yet; MHD_CONTENT_READER_...
char *http_error_body(const http_server *server, int status, const char *message);

// http.c
void http_server_wake(http_server *server);
bool http_on_thread(const http_server *server); // is this the HTTP thread?
void http_server_release(http_server *server); // lock held; unlocks, and frees when nobody holds it any more

#endif
