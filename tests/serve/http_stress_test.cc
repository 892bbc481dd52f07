// The HTTP server under many clients at once: writers on other threads, clients that leave in the middle, a server that stops meanwhile.
// Afterwards nothing is left: no call, no connection, no file descriptor. Meant for ASan and TSan above all.
// SPDX-License-Identifier: Apache-2.0
#include "tests/serve/http_rig.h"

#include <deque>
#include <memory>
#include <random>

using namespace http_rig;

namespace {

// Owners as the real server has them: a call is written by whichever thread picks it up next, a few events at a time.
struct writers {
    struct answer {
        http_call *call = nullptr;
        int n_left = 0;
        bool begun = false;
        std::atomic<int> n_gone{0};
    };
    std::mutex lock;
    std::condition_variable more;
    std::deque<answer *> queue;
    std::atomic<int> n_ended{0}, n_gone{0};
    bool stop = false;
    std::vector<std::thread> threads;

    explicit writers(int n) {
        for (int i = 0; i < n; i++) threads.emplace_back([this] { work(); });
    }
    ~writers() { end(); }
    void end() {
        {
            std::lock_guard<std::mutex> hold(lock);
            stop = true;
        }
        more.notify_all();
        for (auto &thread : threads) thread.join();
        threads.clear();
    }
    void put(answer *a) {
        {
            std::lock_guard<std::mutex> hold(lock);
            queue.push_back(a);
        }
        more.notify_one();
    }
    void work() {
        for (;;) {
            answer *a;
            {
                std::unique_lock<std::mutex> hold(lock);
                more.wait(hold, [this] { return stop || !queue.empty(); });
                if (queue.empty()) return;
                a = queue.front();
                queue.pop_front();
            }
            step(a);
        }
    }
    void step(answer *a) {
        if (strcmp(http_path(a->call), "/whole") == 0) {
            http_reply(a->call, 200, "text/plain", "whole", 5);
        } else {
            if (!a->begun) http_stream_begin(a->call, 200, "text/event-stream");
            a->begun = true;
            bool there = true;
            for (int i = 0; there && i < 3 && a->n_left > 0; i++, a->n_left--) {
                string event = "data: " + std::to_string(a->n_left) + "\n\n";
                there = http_stream_write(a->call, event.data(), event.size());
            }
            if (there && a->n_left > 0) return put(a);
            http_stream_end(a->call);
        }
        // From here on nothing is told any more: if it were, this would be used after it is freed.
        EXPECT_LE(a->n_gone, 1);
        n_gone += a->n_gone;
        delete a;
        n_ended++;
    }
    void take(http_call *call) { // on the HTTP thread
        auto *a = new answer;
        a->call = call;
        a->n_left = 60;
        http_on_gone(call, [](void *user) { static_cast<answer *>(user)->n_gone++; }, a);
        put(a);
    }
};

TEST(HttpStress, AThousandClientsThatStayOrLeave) {
    const unsigned seed = 1;
    int files = n_open_files();
    {
        writers owners(3);
        http_options options = {};
        options.ping_ns = 1 * ms; // pings come in between
        server s([&](http_call *call) { owners.take(call); }, options);
        ASSERT_EQ(s.start_error, "");
        std::atomic<int> n_whole{0}, n_streams{0}, n_left{0}, n_wrong{0};
        auto visit = [&](unsigned number) {
            std::mt19937 random(seed * 100000 + number);
            client c(s.port());
            switch (number % 4) {
            case 0: // stays for a stream and asks again
                c.send(get("/stream"));
                if (c.until("\r\n0\r\n\r\n") && has(c.got, "data: 60\n\n") && has(c.got, "data: 1\n\n")) n_streams++;
                else n_wrong++;
                c.got.clear();
                if (body_of(c.ask(get("/whole"))) == "whole") n_whole++;
                else n_wrong++;
                break;
            case 1: // leaves at some point of a stream
                c.send(get("/stream"));
                for (unsigned i = random() % 4; i > 0 && !has(c.got, "data: 1\n\n") && c.more(); i--) {}
                n_left++;
                break;
            case 2: // leaves with a reset, maybe before anything has happened
                c.send(get("/stream"));
                if (random() % 2) c.more();
                linger hard;
                hard.l_onoff = 1;
                hard.l_linger = 0;
                setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
                n_left++;
                break;
            default: // pipelines, and leaves in the middle
                c.send(get("/whole") + get("/stream") + get("/whole"));
                if (body_of(c.answer()) == "whole") n_whole++;
                else n_wrong++;
                n_left++;
            }
        };
        std::vector<std::thread> clients;
        for (unsigned t = 0; t < 4; t++)
            clients.emplace_back([&, t] {
                for (unsigned i = 0; i < 250; i++) visit(t * 250 + i);
            });
        for (auto &thread : clients) thread.join();
        EXPECT_EQ(n_wrong, 0) << "seed " << seed;
        EXPECT_EQ(n_streams, 250);
        EXPECT_EQ(n_whole, 500);
        EXPECT_EQ(n_left, 750);
        EXPECT_TRUE(eventually([&] { return http_server_n_calls(s.http) == 0; }));
        EXPECT_TRUE(eventually([&] { return http_server_stats(s.http).n_connections == 0; }));
        EXPECT_TRUE(eventually([&] { return owners.n_ended == s.n_handled; }));
        EXPECT_GT(owners.n_gone, 0);
        EXPECT_EQ(http_server_stats(s.http).n_dropped, 0u);
    }
    EXPECT_EQ(n_open_files(), files);
}

TEST(HttpStress, ServersThatStopWhileTheirCallsAreWritten) {
    int files = n_open_files();
    writers owners(2);
    for (int round = 0; round < 20; round++) {
        auto s = std::make_unique<server>([&](http_call *call) { owners.take(call); });
        std::vector<client> clients;
        for (int i = 0; i < 8; i++) {
            clients.emplace_back(s->port());
            clients.back().send(get(i % 2 ? "/stream" : "/whole"));
        }
        eventually([&] { return s->n_handled >= round % 9; });
        s.reset(); // the owners go on meanwhile
        for (auto &c : clients) {
            c.until_closed();
            EXPECT_TRUE(c.closed);
        }
    }
    owners.end(); // works off what is queued: calls outlive their servers
    EXPECT_EQ(n_open_files(), files);
}

} // namespace
