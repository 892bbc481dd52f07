// HTTP/1.1 for a server on the open network side of a careful owner: libmicrohttpd with the parts that it lacks.
//
// One thread (epoll) moves bytes. A request reaches the handler only when it is whole and well framed; everything else is answered here:
// two Content-Lengths, Content-Length with Transfer-Encoding, other codings than chunked, two Host headers, bad header names, NUL in a
// path, bodies over the limit (413, before they are sent), slow headers and bodies (408 or a closed connection), too many connections.
//
// The handler runs on the HTTP thread and must not block: it answers at once, or keeps the http_call and answers later from any thread.
// A reader that stops reading is dropped after stall_ns, writes never wait for it, and who writes a stream can ask whether its reader lags.
// A client that shuts down its sending side before its answer is complete has left; a complete answer is still delivered to it.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_HTTP_H
#define WTL_TOOLS_SERVE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct http_server http_server;
typedef struct http_call http_call; // one request and its answer

typedef struct http_options {
    const char *host;         // address to listen on: "127.0.0.1", "::1", "0.0.0.0"; NULL: 127.0.0.1
    uint16_t port;            // 0: any free one, see http_server_port
    uint32_t max_connections; // 0: 512
    uint32_t max_per_address; // 0: max_connections; of IPv6 a /64 counts as one
    size_t max_body_bytes;    // 0: 8 MiB; a longer one is 413, before it is sent when it says its length
    uint64_t head_ns, body_ns; // deadlines for the whole head and the whole body since the connection's (request's) first byte; 0: 10 s, 30 s
    uint64_t idle_ns;         // kept-alive connections without a request; 0: 60 s
    uint64_t stall_ns;        // a reader that takes nothing while bytes wait, in the call or in its socket; 0: 10 s
    uint64_t lag_ns;          // a stream's reader lags when bytes wait so long and it takes none; 0: 100 ms
    size_t max_pending_bytes; // of one answer that its reader has not taken: beyond this it is dropped; 0: 8 MiB
    uint64_t ping_ns;         // event streams: a comment line after so much silence; 0: 5 s
    void (*handle)(void *user, http_call *call); // every request, except OPTIONS (CORS preflight), which is answered here
    void (*too_many)(void *user);                // may be NULL: a connection was refused for a limit
    // The body of an error that is answered here; returns malloc'ed JSON. NULL: a plain one.
    char *(*error_body)(void *user, int status, const char *message);
    void *user;
} http_options;

enum { HTTP_ERR = 256 };
// False and a sentence in err (address in use, no permission for the port, no such address ...).
bool http_server_start(const http_options *options, http_server **out, char err[HTTP_ERR]);
uint16_t http_server_port(const http_server *server);
// Takes no new connections; kept-alive ones are closed after their answer. Calls in progress go on.
void http_server_quiesce(http_server *server);
size_t http_server_n_calls(const http_server *server); // in progress: handed to the handler and not ended
// Answers that have ended are still delivered (for at most 2 s); the others are dropped: their on_gone are called. Then the thread ends. Calls stay
// valid until their owners end them, also after this has returned: it waits for no owner. Not to be called from the HTTP thread.
void http_server_stop(http_server **server);

// ---- The request: borrowed, valid until the answer is complete (http_reply or http_stream_end was called) ------------------------------
const char *http_method(const http_call *call);                    // "GET" for HEAD too, whose body is left out
const char *http_path(const http_call *call);                      // decoded, without the query; valid UTF-8
const char *http_query(const http_call *call, const char *name);   // decoded; NULL: not given
const char *http_header(const http_call *call, const char *name);  // NULL: not given
const char *http_body(const http_call *call, size_t *len);
const char *http_peer(const http_call *call);                      // "127.0.0.1"
uint64_t http_arrived_ns(const http_call *call);                   // CLOCK_MONOTONIC of the first byte

// ---- The answer: any thread, each call once, in order ----------------------------------------------------------------------------
void http_set_header(http_call *call, const char *name, const char *value); // before the answer begins
// The whole answer; the body is copied. Ends the call.
void http_reply(http_call *call, int status, const char *content_type, const char *body, size_t len);
// A streamed answer. text/event-stream gets comment pings while silent.
void http_stream_begin(http_call *call, int status, const char *content_type);
bool http_stream_write(http_call *call, const char *bytes, size_t len); // copies; false: the reader is gone (on_gone was or will be called)
void http_stream_end(http_call *call);                                  // ends the call; after on_gone too, exactly once

// Called once, on the HTTP thread, when the client leaves (or is dropped) before the answer is complete. The call stays valid until http_reply
// or http_stream_end, which then only free it. NULL: not told. It should return soon, and may end the call itself.
// It is never called after http_reply or http_stream_end has returned: these wait for one that is running, so an owner holds no lock that
// on_gone takes while it ends a call. http_stream_write never waits for anything.
// Set by the owner, on any thread. False: the client has left already, and on_gone will not be called; inside handle() it is true.
bool http_on_gone(http_call *call, void (*on_gone)(void *user), void *user);
bool http_is_gone(const http_call *call);

// Whether the reader of a stream lags: bytes wait for it since lag_ns. When it does, on_caught_up is called once, as soon as it has taken them
// all: on the HTTP thread and never after http_stream_end has returned, like on_gone, but it must not end the call.
bool http_stream_lags(http_call *call);
void http_on_caught_up(http_call *call, void (*on_caught_up)(void *user), void *user); // before http_stream_begin

typedef struct http_stats {
    uint64_t n_connections, n_requests, n_refused, n_bad, n_slow, n_dropped; // open now; whole requests; limits; framing; deadlines; stalled readers
} http_stats;
http_stats http_server_stats(const http_server *server);

#ifdef __cplusplus
}
#endif
#endif
