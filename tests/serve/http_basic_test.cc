// The HTTP server with clients that mean well: answers, streams, keep-alive, pipelining, HEAD, preflight, draining, idling.
// SPDX-License-Identifier: Apache-2.0
#include "tests/serve/http_rig.h"

#include <sys/resource.h>

#include <memory>

using namespace http_rig;

namespace {

// Says what it has understood.
void describe(http_call *call) {
    size_t len;
    const char *body = http_body(call, &len), *a = http_query(call, "a"), *x = http_header(call, "x-test");
    string text = string(http_method(call)) + " " + http_path(call) + " a=" + (a ? a : "-") + " x=" + (x ? x : "-") + " body=" + string(body, len) +
                  " from " + http_peer(call);
    http_set_header(call, "X-Mine", "yes");
    reply_text(call, text);
}

TEST(HttpBasic, AHandlerSeesTheRequestAndTheClientTheAnswer) {
    server s(describe);
    ASSERT_EQ(s.start_error, "");
    client c(s.port());
    string answer = c.ask("POST /a%20b/%C3%A4?b=2&a=x+y%26z HTTP/1.1\r\nHost: h\r\nX-Test:  v \r\nContent-Length: 5\r\n\r\nhello");
    EXPECT_EQ(status_of(answer), 200) << answer;
    EXPECT_EQ(body_of(answer), "POST /a b/\xC3\xA4 a=x y&z x=v body=hello from 127.0.0.1");
    EXPECT_TRUE(has(answer, "Content-Type: text/plain\r\n")) << answer;
    EXPECT_TRUE(has(answer, "X-Mine: yes\r\n")) << answer;
    EXPECT_TRUE(has(answer, "Access-Control-Allow-Origin: *\r\n")) << answer;
}

TEST(HttpBasic, AStreamArrivesPieceByPiece) {
    server s([&](http_call *call) { s.keep(call); });
    client c(s.port());
    c.send(get("/stream"));
    http_call *call = s.next_kept();
    ASSERT_NE(call, nullptr);
    EXPECT_EQ(http_server_n_calls(s.http), 1u);
    http_stream_begin(call, 200, "text/event-stream");
    for (int i = 0; i < 20; i++) { // each one is read before the next is written
        string event = "data: " + std::to_string(i) + "\n\n";
        ASSERT_TRUE(http_stream_write(call, event.data(), event.size()));
        ASSERT_TRUE(c.until(event)) << c.got;
    }
    http_stream_end(call);
    ASSERT_TRUE(c.until("\r\n0\r\n\r\n"));
    EXPECT_TRUE(has(c.got, "Transfer-Encoding: chunked\r\n")) << c.got;
    EXPECT_TRUE(has(c.got, "X-Accel-Buffering: no\r\n")) << c.got;
    EXPECT_EQ(http_server_n_calls(s.http), 0u);
    c.got.clear();
    c.send(get("/again")); // the connection lives on
    call = s.next_kept();
    ASSERT_NE(call, nullptr);
    reply_text(call, "later");
    EXPECT_EQ(body_of(c.answer()), "later");
}


TEST(HttpBasic, AStreamForHttp10EndsWithItsConnection) {
    server s([](http_call *call) {
        http_stream_begin(call, 200, "text/plain");
        http_stream_write(call, "abc", 3);
        http_stream_write(call, "def", 3);
        http_stream_end(call);
    });
    client c(s.port());
    c.send("GET / HTTP/1.0\r\n\r\n");
    string answer = c.until_closed();
    EXPECT_EQ(body_of(answer), "abcdef");
    EXPECT_FALSE(has(answer, "chunked")) << answer;
}

TEST(HttpBasic, ASilentEventStreamIsPinged) {
    http_options options = {};
    options.ping_ns = 30 * ms;
    server s([&](http_call *call) { s.keep(call); }, options);
    client events(s.port()), plain(s.port());
    events.send(get("/"));
    http_call *first = s.next_kept();
    http_stream_begin(first, 200, "text/event-stream; charset=utf-8");
    plain.send(get("/"));
    http_call *second = s.next_kept();
    http_stream_begin(second, 200, "application/x-ndjson");
    ASSERT_TRUE(events.until(":\n\n\r\n3\r\n:\n\n")) << events.got; // at least two
    http_stream_write(first, "data: hal", 9); // not inside an event
    http_stream_write(second, "{}\n", 3);
    ASSERT_TRUE(events.until("data: hal"));
    EXPECT_FALSE(events.more(150)) << events.got;
    http_stream_write(first, "f\n\n", 3);
    ASSERT_TRUE(events.until("f\n\n\r\n3\r\n:\n\n")) << events.got;
    http_stream_end(first);
    http_stream_end(second);
    EXPECT_TRUE(plain.until("\r\n0\r\n\r\n"));
    EXPECT_EQ(unchunk(body_of(plain.got)), "{}\n");
}

TEST(HttpBasic, LargeBodiesGoBothWays) {
    server s([](http_call *call) {
        size_t len;
        const char *body = http_body(call, &len);
        http_reply(call, 200, "application/octet-stream", body, len);
    });
    client c(s.port());
    string big(5 << 20, '\0');
    for (size_t i = 0; i < big.size(); i++) big[i] = (char)(i * 7 + i / 1000);
    std::thread sender([&] { c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(big.size()) + "\r\n\r\n" + big); });
    string answer = c.answer();
    sender.join();
    EXPECT_TRUE(body_of(answer) == big);
}

TEST(HttpBasic, AClientThatAsksFirstIsToldToGoOn) {
    server s(describe);
    client c(s.port());
    c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    ASSERT_TRUE(c.until("HTTP/1.1 100 Continue\r\n\r\n"));
    c.got.clear();
    EXPECT_EQ(body_of(c.ask("hi")), "POST / a=- x=- body=hi from 127.0.0.1");
}

TEST(HttpBasic, RefusedRequestsAreCounted) {
    server s(describe);
    for (const char *bad : {"GET /%0 HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX-A\r\n\r\n",
                            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"}) {
        uint64_t before = http_server_stats(s.http).n_bad;
        client c(s.port());
        c.send(bad);
        EXPECT_EQ(status_of(c.until_closed()), 400) << bad;
        EXPECT_TRUE(eventually([&] { return http_server_stats(s.http).n_connections == 0; }));
        EXPECT_EQ(http_server_stats(s.http).n_bad, before + 1) << bad;
    }
    client leaves(s.port());
    leaves.send("GET / HTTP/1.1\r\nHo");
    EXPECT_TRUE(eventually([&] { return http_server_stats(s.http).n_connections == 1; }));
    leaves.leave();
    EXPECT_TRUE(eventually([&] { return http_server_stats(s.http).n_connections == 0; }));
    EXPECT_EQ(http_server_stats(s.http).n_bad, 3u);
    EXPECT_EQ(http_server_stats(s.http).n_requests, 0u);
}

TEST(HttpBasic, HeadIsGetWithoutABody) {
    server s(describe);
    client c(s.port());
    c.send("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n");
    ASSERT_TRUE(c.until("\r\n\r\n"));
    EXPECT_TRUE(has(c.got, "Content-Length: " + std::to_string(string("GET /x a=- x=- body= from 127.0.0.1").size()) + "\r\n")) << c.got;
    c.got.clear();
    EXPECT_EQ(body_of(c.ask(get("/y"))), "GET /y a=- x=- body= from 127.0.0.1"); // so no byte of a body came before
}

TEST(HttpBasic, HeadOfAStreamEndsAtOnce) {
    std::atomic<int> n_gone{0};
    server s([&](http_call *call) {
        http_on_gone(call, [](void *user) { ++*static_cast<std::atomic<int> *>(user); }, &n_gone);
        http_stream_begin(call, 200, "text/event-stream");
        s.keep(call);
    });
    client c(s.port());
    c.send("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n");
    ASSERT_TRUE(c.until("\r\n\r\n"));
    EXPECT_TRUE(eventually([&] { return n_gone == 1; }));
    http_stream_end(s.next_kept());
}

TEST(HttpBasic, PreflightsAreAnsweredHere) {
    server s(describe);
    client c(s.port());
    string answer = c.ask("OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\nAccess-Control-Request-Method: POST\r\n"
                          "Access-Control-Request-Headers: authorization, content-type\r\n\r\n");
    EXPECT_EQ(status_of(answer), 204) << answer;
    EXPECT_TRUE(has(answer, "Access-Control-Allow-Origin: *\r\n")) << answer;
    EXPECT_TRUE(has(answer, "Access-Control-Allow-Methods: GET, POST, OPTIONS\r\n")) << answer;
    EXPECT_TRUE(has(answer, "Access-Control-Allow-Headers: authorization, content-type\r\n")) << answer;
    answer = c.ask("OPTIONS * HTTP/1.1\r\nHost: a\r\nAccess-Control-Request-Headers: <b>\r\n\r\n");
    EXPECT_EQ(status_of(answer), 204) << answer;
    EXPECT_TRUE(has(answer, "Access-Control-Allow-Headers: *\r\n")) << answer;
    EXPECT_EQ(s.n_handled, 0);
    EXPECT_EQ(status_of(c.ask(get("/"))), 200); // the connection lives on
}

TEST(HttpBasic, PipelinedRequestsAreAnsweredInOrderWhenTheFirstOneIsSlow) {
    server s([&](http_call *call) {
        if (strcmp(http_path(call), "/slow") == 0) s.keep(call);
        else reply_text(call, http_path(call));
    });
    client c(s.port());
    c.send(get("/slow") + get("/b") + get("/c"));
    http_call *call = s.next_kept();
    EXPECT_EQ(s.n_handled, 1);
    reply_text(call, "at last");
    EXPECT_EQ(body_of(c.answer()), "at last");
    EXPECT_EQ(body_of(c.answer()), "/b");
    EXPECT_EQ(body_of(c.answer()), "/c");
}

TEST(HttpBasic, HeadsArriveInAnyPieces) {
    server s(describe);
    string padding; // enough headers that the buffer must grow
    for (int i = 0; i < 200; i++) padding += "X-Padding-" + std::to_string(i) + ": " + string(50, 'p') + "\r\n";
    string whole = "POST /p?a=1 HTTP/1.1\r\nHost: a\r\n" + padding + "X-Test: v\r\nContent-Length: 2\r\n\r\nhi";
    for (size_t piece : {(size_t)1, (size_t)7, (size_t)1000, whole.size()}) {
        client c(s.port());
        for (size_t at = 0; at < whole.size(); at += piece) c.send(whole.substr(at, piece));
        EXPECT_EQ(body_of(c.answer()), "POST /p a=1 x=v body=hi from 127.0.0.1") << "in pieces of " << piece;
    }
}

TEST(HttpBasic, ErrorsHaveTheBodyThatTheOwnerWants) {
    http_options options = {};
    options.error_body = [](void *, int status, const char *message) -> char * {
        return strdup(("{\"mine\":" + std::to_string(status) + ",\"because\":\"" + message + "\"}").c_str());
    };
    server s(describe, options);
    client c(s.port());
    string answer = c.ask("GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_EQ(status_of(answer), 400);
    EXPECT_EQ(body_of(answer), "{\"mine\":400,\"because\":\"the target contains NUL\"}");
    EXPECT_TRUE(has(answer, "Connection: close\r\n")) << answer;
    EXPECT_TRUE(has(answer, "Content-Type: application/json\r\n")) << answer;
    EXPECT_EQ(http_server_stats(s.http).n_bad, 1u);
}

// ---- Limits, addresses, the end ------------------------------------------------------------------------------------------------------
TEST(HttpBasic, ConnectionsBeyondTheLimitAreRefused) {
    for (bool per_address : {false, true}) {
        http_options options = {};
        options.max_connections = per_address ? 100 : 3;
        options.max_per_address = per_address ? 3 : 0;
        server s(describe, options);
        std::vector<client> in;
        for (int i = 0; i < 3; i++) {
            in.emplace_back(s.port());
            EXPECT_EQ(status_of(in.back().ask(get("/"))), 200);
        }
        client out(s.port());
        out.send(get("/"));
        EXPECT_EQ(out.until_closed(), "");
        EXPECT_TRUE(out.closed);
        EXPECT_EQ(s.n_too_many, 1);
        EXPECT_EQ(http_server_stats(s.http).n_refused, 1u);
        in.pop_back(); // a place is free again
        EXPECT_TRUE(eventually([&] { return http_server_stats(s.http).n_connections == 2; }));
        client next(s.port());
        EXPECT_EQ(status_of(next.ask(get("/"))), 200);
    }
}

TEST(HttpBasic, APortInUseIsNamed) {
    server s(describe);
    http_options options = {};
    options.handle = [](void *, http_call *) {};
    options.port = s.port();
    http_server *second = nullptr;
    char err[HTTP_ERR] = "";
    EXPECT_FALSE(http_server_start(&options, &second, err));
    EXPECT_EQ(second, nullptr);
    EXPECT_EQ(string(err), "cannot listen on 127.0.0.1 port " + std::to_string(s.port()) + ": the port is in use by another program");
    options.port = 0;
    options.host = "no such host";
    EXPECT_FALSE(http_server_start(&options, &second, err));
    EXPECT_TRUE(has(err, "no such host")) << err;
    options.host = "192.0.2.1"; // for documentation only: no machine has it
    EXPECT_FALSE(http_server_start(&options, &second, err));
    EXPECT_TRUE(has(err, "no interface of this machine has this address")) << err;
}

TEST(HttpBasic, OtherHosts) {
    for (const char *host : {"localhost", "0.0.0.0"}) {
        http_options options = {};
        options.host = host;
        server s(describe, options);
        ASSERT_EQ(s.start_error, "") << host;
        client c(s.port());
        EXPECT_EQ(status_of(c.ask(get("/"))), 200) << host;
    }
    for (const char *host : {"::1", "::"}) {
        http_options options = {};
        options.host = host;
        server s(describe, options);
        if (has(s.start_error, "no such kind of address") || has(s.start_error, "no interface")) GTEST_SKIP() << "this machine has no IPv6";
        ASSERT_EQ(s.start_error, "") << host;
        client c(s.port(), 0, true);
        ASSERT_TRUE(c.connected);
        EXPECT_EQ(body_of(c.ask(get("/"))), "GET / a=- x=- body= from ::1") << host;
        if (strcmp(host, "::") != 0) continue;
        client four(s.port());
        EXPECT_EQ(body_of(four.ask(get("/"))), "GET / a=- x=- body= from 127.0.0.1");
    }
}

TEST(HttpBasic, AServerThatQuiescesFinishesWhatItHas) {
    server s([&](http_call *call) { s.keep(call); });
    client busy(s.port()), idle(s.port());
    idle.send(get("/"));
    reply_text(s.next_kept(), "x");
    EXPECT_EQ(status_of(idle.answer()), 200);
    busy.send(get("/"));
    http_call *call = s.next_kept();
    http_server_quiesce(s.http);
    EXPECT_EQ(idle.until_closed(), "");
    EXPECT_TRUE(eventually([&] { return !client(s.port()).connected; }));
    reply_text(call, "done");
    string answer = busy.until_closed();
    EXPECT_EQ(body_of(answer), "done");
    EXPECT_TRUE(has(answer, "Connection: close\r\n")) << answer;
}

TEST(HttpBasic, StoppingDeliversWhatHasEndedAndTellsTheOwnersOfTheRest) {
    std::atomic<int> n_gone{0};
    std::unique_ptr<server> s;
    s = std::make_unique<server>([&](http_call *call) {
        http_on_gone(call, [](void *user) { ++*static_cast<std::atomic<int> *>(user); }, &n_gone);
        s->keep(call);
    });
    client whole(s->port()), waiting(s->port()), streaming(s->port());
    http_call *calls[3];
    client *clients[3] = {&whole, &waiting, &streaming};
    for (int i = 0; i < 3; i++) {
        clients[i]->send(get("/" + std::to_string(i)));
        calls[i] = s->next_kept();
    }
    http_stream_begin(calls[2], 200, "text/event-stream");
    string big(4 << 20, 'w');
    reply_text(calls[0], big);
    std::thread reader([&] { whole.until_closed(); });
    http_server_stop(&s->http);
    EXPECT_EQ(s->http, nullptr);
    reader.join();
    EXPECT_EQ(body_of(whole.got), big);
    EXPECT_EQ(n_gone, 2);
    EXPECT_STREQ(http_path(calls[1]), "/1"); // calls outlive their server
    EXPECT_FALSE(http_stream_write(calls[2], "x", 1));
    http_stream_end(calls[2]);
    reply_text(calls[1], "too late");
    EXPECT_EQ(n_gone, 2);
    waiting.until_closed();
    EXPECT_TRUE(waiting.closed);
}

TEST(HttpBasic, WaitingCostsNothing) {
    server s([&](http_call *call) { s.keep(call); });
    client begun(s.port()), open(s.port()), partial(s.port()), idle(s.port());
    idle.send(get("/"));
    reply_text(s.next_kept(), "x");
    EXPECT_EQ(status_of(idle.answer()), 200);
    begun.send(get("/"));
    http_call *first = s.next_kept();
    http_stream_begin(first, 200, "text/event-stream");
    ASSERT_TRUE(begun.until("\r\n\r\n"));
    open.send(get("/") + get("/pipelined"));
    http_call *second = s.next_kept();
    partial.send("GET / HT");
    auto cpu_us = [] {
        rusage use;
        getrusage(RUSAGE_SELF, &use);
        return (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000 + use.ru_utime.tv_usec + use.ru_stime.tv_usec;
    };
    std::this_thread::sleep_for(std::chrono::milliseconds(100)); // what is under way settles
    long before = cpu_us();
    std::this_thread::sleep_for(std::chrono::milliseconds(1000));
    EXPECT_LT(cpu_us() - before, 10000); // 0.01 CPU-seconds a second
    http_stream_end(first);
    reply_text(second, "x");
    reply_text(s.next_kept(), "y");
}

} // namespace
