// The HTTP server with clients that are slow, stop reading or leave: each meets its deadline, and nobody else waits for them.
// SPDX-License-Identifier: Apache-2.0
#include "tests/serve/http_rig.h"

using namespace http_rig;

namespace {

void hello(http_call *call) { reply_text(call, "hello"); }

http_options short_deadlines() {
    http_options options = {};
    options.head_ns = options.body_ns = 200 * ms;
    options.idle_ns = 150 * ms;
    options.stall_ns = 200 * ms;
    options.ping_ns = 50 * ms;
    return options;
}

// A byte now and then does not renew a deadline.
void drip(client &c, const string &bytes) {
    for (char byte : bytes) {
        c.send(string(1, byte));
        if (c.more(20)) return;
        if (c.closed) return;
    }
}

TEST(HttpSlow, AHeadThatDripsMeetsItsDeadline) {
    server s(hello, short_deadlines());
    client c(s.port());
    drip(c, "GET /a-rather-long-path-which-never-comes-to-its-end HTTP/1.1\r\nHost: a\r\nX-Test: and so on\r\n");
    c.until_closed();
    EXPECT_TRUE(c.closed);
    EXPECT_EQ(status_of(c.got), 408) << c.got;
    EXPECT_EQ(s.n_handled, 0);
    EXPECT_EQ(http_server_stats(s.http).n_slow, 1u);
}

TEST(HttpSlow, ASecondHeadOnAConnectionToo) {
    server s(hello, short_deadlines());
    client c(s.port());
    EXPECT_EQ(status_of(c.ask(get("/"))), 200);
    drip(c, "GET /a-rather-long-path-which-never-comes-to-its-end HTTP/1.1\r\nHost: a\r\nX-Test: and so on\r\n");
    c.until_closed();
    EXPECT_EQ(status_of(c.got), 408) << c.got;
    EXPECT_EQ(s.n_handled, 1);
}

TEST(HttpSlow, ABodyThatDripsMeetsItsDeadline) {
    server s(hello, short_deadlines());
    client c(s.port());
    c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
    drip(c, string(1000, 'x'));
    c.until_closed();
    EXPECT_TRUE(c.closed);
    EXPECT_EQ(status_of(c.got), 408) << c.got;
    EXPECT_EQ(s.n_handled, 0);
}

// Long before any deadline: it holds no connection any more.
TEST(HttpSlow, WhoStopsSendingInTheMiddleOfARequestHasLeft) {
    http_options options = {};
    options.head_ns = options.body_ns = 3600000 * ms;
    server s(hello, options);
    const string post = "POST / HTTP/1.1\r\nHost: a\r\n";
    for (const string &part : {string("GET / HTTP/1.1\r\nHo"), post + "Content-Length: 1000\r\n\r\nabc", post + "Transfer-Encoding: chunked\r\n\r\n100\r\nabc",
                               post + "Transfer-Encoding: chunked\r\n\r\n1"}) {
        client c(s.port());
        c.send(part);
        ASSERT_EQ(shutdown(c.fd, SHUT_WR), 0);
        EXPECT_EQ(c.until_closed(), "") << part;
        EXPECT_TRUE(c.closed) << part;
    }
    EXPECT_TRUE(eventually([&] { return http_server_stats(s.http).n_connections == 0; }));
    EXPECT_EQ(s.n_handled, 0);
    EXPECT_EQ(http_server_stats(s.http).n_slow, 0u);
}

TEST(HttpSlow, SilentAndIdleConnectionsAreClosed) {
    server s(hello, short_deadlines());
    client silent(s.port()), idle(s.port());
    EXPECT_EQ(status_of(idle.ask(get("/"))), 200);
    EXPECT_EQ(idle.until_closed(), "");
    EXPECT_EQ(silent.until_closed(), "");
    EXPECT_TRUE(idle.closed && silent.closed);
    EXPECT_TRUE(eventually([&] { return http_server_stats(s.http).n_connections == 0; }));
}

TEST(HttpSlow, TwoHundredSlowOnesDoNotDelayAnother) {
    http_options options = short_deadlines();
    options.head_ns = options.body_ns = 3000 * ms;
    server s(hello, options);
    std::vector<client> slow;
    for (int i = 0; i < 200; i++) {
        slow.emplace_back(s.port());
        slow.back().send(i % 2 ? "GET / HTTP/1.1\r\nHo" : "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc");
    }
    EXPECT_TRUE(eventually([&] { return http_server_stats(s.http).n_connections == 200; }));
    uint64_t begin = now_ns();
    client quick(s.port());
    for (int i = 0; i < 5; i++) {
        EXPECT_EQ(status_of(quick.ask(get("/"))), 200);
        for (auto &c : slow) c.send("x");
    }
    EXPECT_LT(now_ns() - begin, 2500 * ms); // they are all still there
    EXPECT_EQ(http_server_stats(s.http).n_connections, 201u);
    for (auto &c : slow) {
        c.until_closed();
        EXPECT_TRUE(c.closed);
    }
    EXPECT_EQ(http_server_stats(s.http).n_slow, 200u);
}

// ---- Readers -------------------------------------------------------------------------------------------------------------------------
struct leaver {
    std::atomic<int> n_gone{0};
    static void gone(void *user) { static_cast<leaver *>(user)->n_gone++; }
};

TEST(HttpSlow, AReaderThatStopsIsDroppedAndTheOtherIsNot) {
    leaver stalled_gone, other_gone;
    server *self = nullptr;
    http_options options = short_deadlines();
    options.max_pending_bytes = 64 << 20;
    server s([&](http_call *call) {
        http_on_gone(call, leaver::gone, strcmp(http_path(call), "/stalled") == 0 ? &stalled_gone : &other_gone);
        self->keep(call);
    }, options);
    self = &s;
    client stalled(s.port(), 4096), other(s.port());
    stalled.send(get("/stalled"));
    http_call *first = s.next_kept();
    other.send(get("/other"));
    http_call *second = s.next_kept();
    http_stream_begin(first, 200, "text/plain");
    http_stream_begin(second, 200, "text/plain");
    string block(1 << 20, 'x');
    for (int i = 0; i < 16; i++) http_stream_write(first, block.data(), block.size()); // more than sockets hold
    EXPECT_TRUE(eventually([&] { // the other one reads along all the while
        EXPECT_TRUE(http_stream_write(second, "tick\n", 5));
        while (other.more(1)) {}
        return http_is_gone(first);
    }));
    EXPECT_EQ(stalled_gone.n_gone, 1);
    EXPECT_EQ(other_gone.n_gone, 0);
    EXPECT_FALSE(http_stream_write(first, "x", 1));
    http_stream_end(first);
    http_stream_end(second);
    EXPECT_TRUE(other.until("\r\n0\r\n\r\n"));
    EXPECT_EQ(http_server_stats(s.http).n_dropped, 1u);
    EXPECT_EQ(http_server_n_calls(s.http), 0u);
    EXPECT_EQ(stalled_gone.n_gone, 1);
}

// So little that a socket's buffers could take all of it.
TEST(HttpSlow, AReaderThatStopsIsDroppedHoweverLittleWaitsForIt) {
    leaver gone;
    server *self = nullptr;
    server s([&](http_call *call) {
        http_on_gone(call, leaver::gone, &gone);
        self->keep(call);
    }, short_deadlines());
    self = &s;
    client c(s.port(), 4096);
    c.send(get("/"));
    http_call *call = s.next_kept();
    http_stream_begin(call, 200, "text/event-stream");
    const string event = "data: " + string(200, 'x') + "\n\n";
    for (int i = 0; i < 60; i++) {
        http_stream_write(call, event.data(), event.size());
        std::this_thread::sleep_for(std::chrono::milliseconds(1)); // each goes to the socket by itself
    }
    EXPECT_TRUE(eventually([&] { return gone.n_gone == 1; }));
    http_stream_end(call);
    EXPECT_EQ(http_server_stats(s.http).n_dropped, 1u);
}

TEST(HttpSlow, AStreamTellsThatItsReaderLagsAndThatItHasCaughtUp) {
    std::atomic<int> n_caught_up{0};
    server *self = nullptr;
    http_options options = short_deadlines();
    options.stall_ns = 60000 * ms;
    options.lag_ns = 40 * ms;
    server s([&](http_call *call) {
        http_on_caught_up(call, [](void *user) { (*static_cast<std::atomic<int> *>(user))++; }, &n_caught_up);
        self->keep(call);
    }, options);
    self = &s;
    client c(s.port(), 4096);
    c.send(get("/"));
    http_call *call = s.next_kept();
    http_stream_begin(call, 200, "text/event-stream");
    const string event = "data: " + string(200, 'x') + "\n\n";
    auto write = [&] {
        EXPECT_TRUE(http_stream_write(call, event.data(), event.size()));
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return http_stream_lags(call);
    };
    const uint64_t begin = now_ns();
    EXPECT_TRUE(eventually(write)) << "nobody reads";
    EXPECT_GE(now_ns() - begin, options.lag_ns);
    EXPECT_EQ(n_caught_up, 0);
    for (int round = 1; round < 4; round++) {
        while (n_caught_up < round && c.more()) {}
        EXPECT_TRUE(eventually([&] { return n_caught_up == round; }));
        EXPECT_FALSE(http_stream_lags(call));
        EXPECT_TRUE(eventually(write)) << "it lags again";
    }
    http_stream_end(call);
    EXPECT_TRUE(c.until("\r\n0\r\n\r\n"));
    EXPECT_EQ(n_caught_up, 3) << "nobody is told after the end";
    EXPECT_EQ(http_server_stats(s.http).n_dropped, 0u);
}

TEST(HttpSlow, WhoReadsAlongNeverLags) {
    server *self = nullptr;
    http_options options = short_deadlines();
    options.lag_ns = 100 * ms;
    server s([&](http_call *call) { self->keep(call); }, options);
    self = &s;
    client c(s.port(), 4096);
    c.send(get("/"));
    http_call *call = s.next_kept();
    http_stream_begin(call, 200, "text/event-stream");
    const string event = "data: " + string(200, 'x') + "\n\n";
    bool lagged = false;
    for (int i = 0; i < 200; i++) {
        EXPECT_TRUE(http_stream_write(call, event.data(), event.size()));
        while (c.more(1)) {}
        lagged |= http_stream_lags(call);
    }
    EXPECT_FALSE(lagged);
    http_stream_end(call);
    EXPECT_TRUE(c.until("\r\n0\r\n\r\n"));
}

TEST(HttpSlow, ASlowReaderOfAWholeAnswerIsServedToTheEnd) {
    string big(12 << 20, 'y'); // takes several times stall_ns at this pace
    server s([&](http_call *call) { reply_text(call, big); }, short_deadlines());
    client c(s.port(), 65536);
    c.send(get("/"));
    ASSERT_TRUE(c.until("\r\n\r\n"));
    size_t head = c.got.find("\r\n\r\n") + 4;
    char bytes[120000];
    size_t got = c.got.size();
    while (got < head + big.size()) {
        ssize_t n = recv(c.fd, bytes, sizeof bytes, 0);
        if (n <= 0) break;
        got += (size_t)n;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    EXPECT_EQ(got, head + big.size());
    EXPECT_EQ(http_server_stats(s.http).n_dropped, 0u);
}

TEST(HttpSlow, AnAnswerThatPilesUpIsDropped) {
    leaver gone;
    server *self = nullptr;
    http_options options = short_deadlines();
    options.stall_ns = 60000 * ms;
    options.max_pending_bytes = 1 << 20;
    server s([&](http_call *call) {
        http_on_gone(call, leaver::gone, &gone);
        self->keep(call);
    }, options);
    self = &s;
    client c(s.port(), 4096);
    c.send(get("/"));
    http_call *call = s.next_kept();
    http_stream_begin(call, 200, "text/plain");
    string block(1 << 16, 'x');
    EXPECT_TRUE(eventually([&] { return !http_stream_write(call, block.data(), block.size()); }));
    EXPECT_TRUE(eventually([&] { return gone.n_gone == 1; }));
    http_stream_end(call);
    EXPECT_EQ(http_server_stats(s.http).n_dropped, 1u);
    string all = c.until_closed();
    EXPECT_FALSE(has(all, "\r\n0\r\n\r\n")) << "a part that is missing must not look like a whole answer";
}

// ---- Clients that leave --------------------------------------------------------------------------------------------------------------
enum how { CLOSE, RESET, SHUT };

class HttpLeave : public testing::TestWithParam<std::tuple<how, int>> {};

TEST_P(HttpLeave, ItsOwnerIsToldOnce) {
    auto [how, phase] = GetParam(); // phase 0: before the answer begins; 1: begun; 2: in the middle
    leaver gone;
    server *self = nullptr;
    server s([&](http_call *call) {
        http_on_gone(call, leaver::gone, &gone);
        self->keep(call);
    });
    self = &s;
    client c(s.port());
    c.send(get("/"));
    http_call *call = s.next_kept();
    if (phase >= 1) {
        http_stream_begin(call, 200, "text/event-stream");
        ASSERT_TRUE(c.until("\r\n\r\n"));
    }
    if (phase == 2) {
        http_stream_write(call, "data: 1\n\n", 9);
        ASSERT_TRUE(c.until("data: 1\n\n"));
    }
    EXPECT_FALSE(http_is_gone(call));
    linger hard{1, 0};
    if (how == RESET) setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    if (how == SHUT) shutdown(c.fd, SHUT_WR);
    else c.leave();
    EXPECT_TRUE(eventually([&] { return gone.n_gone == 1; })); // nobody writes: it is noticed all the same
    EXPECT_TRUE(http_is_gone(call));
    EXPECT_EQ(http_server_n_calls(s.http), 1u);
    EXPECT_STREQ(http_path(call), "/"); // still valid
    if (phase == 0) {
        reply_text(call, "too late");
    } else {
        EXPECT_FALSE(http_stream_write(call, "x", 1));
        http_stream_end(call);
    }
    EXPECT_EQ(http_server_n_calls(s.http), 0u);
    EXPECT_TRUE(eventually([&] { return http_server_stats(s.http).n_connections == 0; }));
    EXPECT_EQ(gone.n_gone, 1);
}

INSTANTIATE_TEST_SUITE_P(All, HttpLeave, testing::Combine(testing::Values(CLOSE, RESET, SHUT), testing::Values(0, 1, 2)));

TEST(HttpSlow, ACompleteAnswerReachesAClientThatOnlyStoppedSending) {
    server s([](http_call *call) { reply_text(call, string(1 << 20, 'z')); });
    client c(s.port());
    c.send(get("/"));
    shutdown(c.fd, SHUT_WR);
    EXPECT_EQ(body_of(c.until_closed()).size(), (size_t)1 << 20);
}

TEST(HttpSlow, OnGoneMayEndTheCall) {
    server *self = nullptr;
    server s([&](http_call *call) {
        http_on_gone(call, [](void *user) { http_stream_end(static_cast<http_call *>(user)); }, call);
        http_stream_begin(call, 200, "text/event-stream");
        self->keep(call);
    });
    self = &s;
    client c(s.port());
    c.send(get("/"));
    ASSERT_NE(s.next_kept(), nullptr);
    c.leave();
    EXPECT_TRUE(eventually([&] { return http_server_n_calls(s.http) == 0; }));
}

} // namespace
