// Reading, rendering and tokenising happen off the HTTP thread: a large body holds up nobody. The whole server, with a tiny model.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <chrono>

#include "tests/serve/server_rig.h"
#include "tests/support/tiny_model.h"

namespace {

using seconds = std::chrono::duration<double>;

double now_s() { return seconds(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// A body that takes long to read for its size: an unknown key, tolerated, with many small values.
std::string slow_body(int n = 250000) {
    std::string body = R"({"content": "a", "x": [)";
    body.reserve(6 << 20);
    for (int i = 0; i < n; i++) body += i ? ",[{}]" : "[{}]";
    return body + "]}";
}

// The longest wait for /health while a slow request was answered, as a part of that answer's time. On one thread the wait would be the whole of the work.
double worst_part(const ServerRig &server, const std::string &body) {
    std::atomic<bool> over{false};
    int status = 0;
    double took_s = 0, worst_s = 0;
    HttpClient slow(server.port());
    slow.send("POST", "/tokenize", body);
    const double sent_s = now_s();
    std::thread reader([&] {
        status = slow.reply().status;
        took_s = now_s() - sent_s;
        over = true;
    });
    int n = 0;
    while (!over) {
        const double from_s = now_s();
        EXPECT_EQ(server.get("/health").status, 200);
        worst_s = std::max(worst_s, now_s() - from_s);
        n++;
    }
    reader.join();
    EXPECT_EQ(status, 200);
    EXPECT_GT(n, 0);
    return worst_s / took_s;
}

TEST(Lanes, ALargeBodyHoldsUpNobody) {
    TinyModel model({});
    ServerRig server(model.path(), {"--meter", "none"});
    const std::string body = slow_body();
    std::vector<double> parts;
    for (int i = 0; i < 5; i++) parts.push_back(worst_part(server, body));
    std::sort(parts.begin(), parts.end());
    EXPECT_LT(parts[2], 0.5) << "median of the longest wait for /health, as a part of the slow answer's time";
}

// Small bodies do not stand behind large ones: when the first large one is answered all others have been sent, and wait.
TEST(Lanes, ASmallBodyOvertakesLargeOnes) {
    TinyModel model({});
    ServerRig server(model.path(), {"--meter", "none"});
    const std::string body = slow_body(100000);
    const int n = 8;
    std::vector<std::unique_ptr<HttpClient>> slow;
    std::vector<std::thread> senders, readers;
    std::atomic<int> n_done{0};
    for (int i = 0; i < n; i++) slow.push_back(std::make_unique<HttpClient>(server.port()));
    for (auto &client : slow) senders.emplace_back([&body, c = client.get()] { c->send("POST", "/tokenize", body); });
    for (auto &t : senders) t.join();
    for (auto &client : slow) readers.emplace_back([&n_done, c = client.get()] {
        EXPECT_EQ(c->reply().status, 200);
        n_done++;
    });
    while (n_done == 0) std::this_thread::yield();
    EXPECT_EQ(server.post("/tokenize", R"({"content": "a"})").status, 200);
    EXPECT_LT(n_done, n / 2);
    for (auto &t : readers) t.join();
}

// Clients that leave while their requests wait for their turn: nothing of theirs runs, and the server ends in peace.
TEST(Lanes, WhoLeavesWhileWaitingIsForgotten) {
    TinyModel model({});
    ServerRig server(model.path(), {"--meter", "none"});
    std::string body = slow_body();
    body.replace(0, 1, R"({"prompt": "a", "max_tokens": 4, )");
    {
        std::vector<std::unique_ptr<HttpClient>> slow;
        for (int i = 0; i < 6; i++) {
            slow.push_back(std::make_unique<HttpClient>(server.port()));
            slow.back()->send("POST", "/v1/completions", body, {"X-Who: leaver"});
        }
    } // all have left
    HttpReply r = server.post("/v1/completions", body);
    EXPECT_EQ(r.status, 200) << r.body;
    EXPECT_EQ(server.get("/health").status, 200);
    server.signal(SIGTERM);
    EXPECT_EQ(server.wait_exit(), 0);
}

// SIGTERM with requests that still wait for their turn: they are answered, and the exit is clean.
TEST(Lanes, DrainingAnswersWhatWaits) {
    TinyModel model({});
    ServerRig server(model.path(), {"--meter", "none"});
    std::string body = slow_body();
    body.replace(0, 1, R"({"prompt": "a", "max_tokens": 4, )");
    std::vector<std::unique_ptr<HttpClient>> slow;
    for (int i = 0; i < 4; i++) {
        slow.push_back(std::make_unique<HttpClient>(server.port()));
        slow.back()->send("POST", "/v1/completions", body);
    }
    EXPECT_EQ(server.post("/v1/completions", body).status, 200); // the last of its lane: the others are in it, or through
    slow.push_back(std::make_unique<HttpClient>(server.port()));
    slow.back()->send("POST", "/v1/completions", body);
    server.signal(SIGTERM);
    EXPECT_EQ(server.wait_exit(), 0);
    for (size_t i = 0; i < 4; i++) EXPECT_EQ(slow[i]->reply().status, 200);
}

// Cut off in the middle: no time to drain.
TEST(Lanes, NoTimeToDrainEndsCleanly) {
    TinyModel model({});
    ServerRig server(model.path(), {"--meter", "none", "--drain", "0"});
    std::string body = slow_body();
    body.replace(0, 1, R"({"prompt": "a", "max_tokens": 4, )");
    std::vector<std::unique_ptr<HttpClient>> slow;
    for (int i = 0; i < 8; i++) {
        slow.push_back(std::make_unique<HttpClient>(server.port()));
        slow.back()->send("POST", "/v1/completions", body);
    }
    server.signal(SIGTERM);
    EXPECT_EQ(server.wait_exit(), 0);
}

TEST(Lanes, BodiesOverTheLimitAre413) {
    TinyModel model({});
    ServerRig server(model.path(), {"--meter", "none"});
    HttpReply taken = server.post("/tokenize", "{\"content\": \"" + std::string((8 << 20) - 16, 'a') + "\"}");
    EXPECT_EQ(taken.status, 400); // 8 MiB are read, and refused for their text
    EXPECT_EQ(Json(taken.body).text("error.param"), "content");
    for (int i = 0; i < 5; i++) { // the answer arrives although all is sent before it is read
        HttpReply refused = server.post("/tokenize", std::string((8 << 20) + 1, ' '));
        ASSERT_EQ(refused.status, 413) << "round " << i;
        EXPECT_TRUE(refused.whole);
    }
}

} // namespace
