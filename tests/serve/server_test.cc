// The life of a whole server with a tiny model: loading, answers and their joules, leaving clients, draining, failing.
// SPDX-License-Identifier: Apache-2.0
#include <sqlite3.h>
#include <sys/stat.h>

#include "tests/serve/server_rig.h"
#include "tests/support/checked_build.h"
#include "tests/support/tiny_model.h"

namespace {

// The first column of the first row; "" when there is none.
std::string ask(const std::string &ledger, const std::string &sql) {
    sqlite3 *db = nullptr;
    sqlite3_stmt *stmt = nullptr;
    std::string out;
    if (sqlite3_open_v2(ledger.c_str(), &db, SQLITE_OPEN_READONLY, nullptr) == SQLITE_OK && sqlite3_prepare_v2(db, sql.c_str(), -1, &stmt, nullptr) == SQLITE_OK) {
        if (sqlite3_step(stmt) == SQLITE_ROW && sqlite3_column_text(stmt, 0)) out = (const char *)sqlite3_column_text(stmt, 0);
    } else {
        out = sqlite3_errmsg(db);
    }
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return out;
}

// Polls until the value is as wanted; the ledger is written behind the answers.
std::string ask_until(const std::string &ledger, const std::string &sql, const std::string &wanted) {
    std::string got;
    for (int i = 0; i < 500 && got != wanted; i++) {
        if (i) usleep(20000);
        got = ask(ledger, sql);
    }
    return got;
}

// A model whose answers take seconds on the slow backend, long enough to be interrupted.
TinyOptions slow_model() {
    TinyOptions o;
    o.n_layers = 8;
    o.n_ctx = 8192;
    return o;
}
const std::vector<std::string> kSlow = {"--backend", "ref", "-t", "1", "--meter", "simulated:20"};
const char *const kLong = R"({"prompt": "a", "max_tokens": 8000, "stream": true, "ignore_eos": true, "user": "ann"})";
const char *const kLongInOnePiece = R"({"prompt": "a", "max_tokens": 8000, "ignore_eos": true, "user": "ann"})";

std::vector<std::string> slow(std::vector<std::string> more) {
    more.insert(more.begin(), kSlow.begin(), kSlow.end());
    return more;
}

TEST(Server, BooksLogsAndKeepsTheJoulesOfAnAnswer) {
    TinyModel model({});
    ServerRig server(model.path(), {"--meter", "simulated:20", "--price", "0.5", "--currency", "EUR", "--carbon", "400"});
    HttpReply r = server.post("/v1/completions", R"({"prompt": "hello", "max_tokens": 12, "ignore_eos": true, "user": "bob \"x\""})", {"X-Conversation-Id: talk-1"});
    ASSERT_EQ(r.status, 200) << r.body;
    Json answer(r.body);
    const std::string id = answer.text("id");
    const double total = answer.number("usage.energy_joules");
    EXPECT_GT(total, 0);
    EXPECT_EQ(answer.text("usage.energy.method"), "simulated");
    EXPECT_NEAR(answer.number("usage.energy.cost.total"), total / 3.6e6 * 0.5, total * 1e-9);
    EXPECT_EQ(answer.text("usage.energy.cost.currency"), "EUR");
    EXPECT_NEAR(answer.number("usage.energy.carbon.gco2e"), total / 3.6e6 * 400, total * 1e-9);
    EXPECT_EQ(answer.text("usage.energy.carbon.source"), "user setting");

    std::string line = server.await({"\"event\": \"answer\"", id});
    Json logged(line);
    EXPECT_EQ(logged.text("user"), "bob \"x\"");
    EXPECT_EQ(logged.text("peer"), "127.0.0.1");
    EXPECT_EQ(logged.text("finish"), "length");
    EXPECT_EQ(logged.number("decoded"), 12);
    EXPECT_NEAR(logged.number("joules"), total, 1e-5);
    EXPECT_EQ(line.find("hello"), std::string::npos);

    HttpReply one = server.get("/v1/energy/" + id);
    ASSERT_EQ(one.status, 200);
    Json later(one.body);
    EXPECT_EQ(later.text("id"), id);
    EXPECT_TRUE(json_is_true(later.at("energy.settled")));
    EXPECT_NEAR(later.number("energy.energy_joules"), total, total / 2);

    EXPECT_EQ(ask_until(server.ledger(), "SELECT count(*) FROM requests WHERE id = '" + id + "'", "1"), "1");
    EXPECT_EQ(ask(server.ledger(), "SELECT kind || outcome || user || conversation || decoded_tok FROM requests"), "servelengthbob \"x\"talk-111");
    Json sums(server.get("/v1/energy?since=all&by=conversation").body);
    EXPECT_STREQ(json_string_value(json_object_get(json_array_get(sums.at("ledger.rows"), 0), "key")), "talk-1");
    EXPECT_EQ(json_array_size(Json(server.get("/v1/energy?since=all&user=nobody").body).at("ledger.rows")), 0u);
}

TEST(Server, CostAndCarbonAreThereOnlyWhenSet) {
    TinyModel model({});
    ServerRig server(model.path(), {"--meter", "simulated:20"});
    HttpReply r = server.post("/v1/completions", R"({"prompt": "hello", "max_tokens": 2})");
    ASSERT_EQ(r.status, 200);
    EXPECT_EQ(r.body.find("\"cost\""), std::string::npos);
    EXPECT_EQ(r.body.find("\"carbon\""), std::string::npos);
}

// An answer that does not wait for its joules: an estimate first, the settled figure later, one row.
TEST(Server, WhatHadNotSettledSettlesLaterAndIsBookedOnce) {
    TinyModel model({});
    ServerRig server(model.path(), {"--meter", "simulated:20", "--meter-interval", "500", "--settle-ms", "0"});
    HttpReply r = server.post("/v1/completions", R"({"prompt": "hello", "max_tokens": 12, "ignore_eos": true})");
    ASSERT_EQ(r.status, 200);
    Json answer(r.body);
    EXPECT_TRUE(json_is_false(answer.at("usage.energy.settled")));
    const std::string id = answer.text("id");
    EXPECT_EQ(server.get("/v1/energy/" + id).status, 200);
    EXPECT_EQ(ask_until(server.ledger(), "SELECT settled FROM requests", "1"), "1");
    EXPECT_TRUE(json_is_true(Json(server.get("/v1/energy/" + id).body).at("energy.settled")));
    server.signal(SIGTERM);
    EXPECT_EQ(server.wait_exit(), 0);
    EXPECT_EQ(ask(server.ledger(), "SELECT count(*) FROM requests"), "1");
}

// A counter that moves every `step` rows of 20 ms, until it stops.
std::string counter_recording(const TempDir &dir, int step, int until) {
    std::string text = "# wattle recording 1\n# domain package-0 scope=cpu_package kind=counter unit=uJ scale=1 limit_uw=200000000 sensor=exact "
                       "key=\"cpu_package:0\"\nt_us,domain,value,read_ns\n";
    for (int i = 0; i < 6000; i++) text += std::to_string(i * 20000) + ",0," + std::to_string(std::min(i, until) / step * step * 40000) + ",\n";
    return "replay:" + dir.write("counter.csv", text);
}

// With a meter that has stopped, answers do not wait for joules that nobody will tell.
TEST(Server, AnswersDoNotWaitForACounterThatStandsStill) {
    TinyModel model({});
    TempDir dir;
    ServerRig server(model.path(), {"--meter", counter_recording(dir, 1, 10), "--settle-ms", "20000"});
    std::this_thread::sleep_for(std::chrono::milliseconds(2600)); // so long it may be slow
    const auto begin = std::chrono::steady_clock::now();
    HttpReply r = server.post("/v1/completions", R"({"prompt": "hello", "max_tokens": 2})");
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
    ASSERT_EQ(r.status, 200);
    EXPECT_TRUE(json_is_false(Json(r.body).at("usage.energy.settled"))) << r.body;
}

// The last bytes of an answer leave when joules are booked that make its own whole (20 ms are booked at a time), not at the finisher's own next look.
TEST(Server, AnswersLeaveAsSoonAsTheirJoulesAreBooked) {
    TinyModel model({});
    ServerRig server(model.path(), {"--meter", "simulated:20", "--meter-interval", "8"});
    std::vector<double> took_ms;
    for (int i = 0; i < 20; i++) {
        const auto begin = std::chrono::steady_clock::now();
        HttpReply r = server.post("/v1/completions", R"({"prompt": "hello", "max_tokens": 2})");
        took_ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
        ASSERT_EQ(r.status, 200);
        EXPECT_TRUE(json_is_true(Json(r.body).at("usage.energy.settled"))) << r.body;
    }
    std::sort(took_ms.begin(), took_ms.end());
    EXPECT_LT(took_ms[took_ms.size() / 4], 150); // without being told it would be 200 at least
}

TEST(Server, AnswersWaitForASlowCounter) {
    TinyModel model({});
    TempDir dir;
    ServerRig server(model.path(), {"--meter", counter_recording(dir, 50, 6000), "--settle-ms", "20000"});
    std::this_thread::sleep_for(std::chrono::milliseconds(2600));
    HttpReply r = server.post("/v1/completions", R"({"prompt": "hello", "max_tokens": 2})");
    ASSERT_EQ(r.status, 200);
    EXPECT_TRUE(json_is_true(Json(r.body).at("usage.energy.settled"))) << r.body;
}

TEST(Server, AClientThatLeavesIsBooked) {
    TinyModel model(slow_model());
    ServerRig server(model.path(), kSlow);
    {
        HttpClient client(server.port());
        client.send("POST", "/v1/completions", kLong);
        ASSERT_TRUE(client.read_until("data: ")) << client.raw();
        ASSERT_TRUE(client.read_until("\"text\"")) << client.raw();
    }
    Json line(server.await({"\"event\": \"answer\"", "aborted"}));
    EXPECT_GT(line.number("decoded"), 0);
    EXPECT_LT(line.number("decoded"), 8000);
    EXPECT_GT(line.number("joules"), 0);
    EXPECT_EQ(ask_until(server.ledger(), "SELECT outcome || user FROM requests WHERE total_uj > 0", "abortedann"), "abortedann");
    std::string metrics = server.get("/metrics").body;
    EXPECT_NE(metrics.find("outcome=\"aborted\"} 1\n"), std::string::npos);
}

const char *const kRich = R"({"prompt": "a", "max_tokens": 250, "stream": true, "ignore_eos": true, "user": "ann", "logprobs": 5, "seed": 3, "temperature": 1})";

// The text of a stream's events, one after the other.
std::string text_of(const std::string &stream) {
    std::string all;
    const std::string key = "\"text\":\"";
    for (size_t at = stream.find(key); at != std::string::npos; at = stream.find(key, at)) {
        at += key.size();
        all += stream.substr(at, stream.find("\",\"logprobs\"", at) - at);
    }
    return all;
}

void await_metric(const ServerRig &server, const std::string &line) {
    for (int i = 0; i < 3000 && server.get("/metrics?names=all").body.find("\n" + line + "\n") == std::string::npos; i++) usleep(5000);
    EXPECT_NE(server.get("/metrics?names=all").body.find("\n" + line + "\n"), std::string::npos) << line;
}

// It holds the only place: who waits for that has it at once, and the reader loses nothing when it reads on.
TEST(Server, AStreamThatNobodyReadsPausesForOthers) {
    TinyModel model(slow_model());
    ServerRig server(model.path(), slow({"-np", "1"}));
    HttpClient stopped(server.port(), 4096);
    stopped.send("POST", "/v1/completions", kRich);
    await_metric(server, "llamacpp:requests_processing 1");
    const auto begin = std::chrono::steady_clock::now();
    HttpReply r = server.post("/v1/completions", R"({"prompt": "b", "max_tokens": 2, "user": "eve"})");
    EXPECT_EQ(r.status, 200) << r.body;
    if (!kChecked) {
        EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2)); // alone it would have ten
    }
    const HttpReply late = stopped.reply();
    EXPECT_TRUE(late.whole);
    EXPECT_NE(late.body.find("data: [DONE]"), std::string::npos);
    EXPECT_TRUE(text_of(late.body) == text_of(server.post("/v1/completions", kRich).body)) << text_of(late.body).size() << " bytes";
    Json line(server.await({"\"event\": \"answer\"", "\"pauses\""}));
    EXPECT_EQ(line.number("decoded"), 250);
    EXPECT_GE(line.number("pauses"), 1);
    EXPECT_EQ(line.number("cached"), 0);
    EXPECT_GT(line.number("joules"), 0);
    EXPECT_EQ(ask_until(server.ledger(), "SELECT outcome FROM requests WHERE user = 'ann' AND cached_tok = 0", "length"), "length");
}

TEST(Server, APausedStreamWhoseClientLeavesIsBooked) {
    TinyModel model(slow_model());
    ServerRig server(model.path(), slow({"-np", "1"}));
    {
        HttpClient stopped(server.port(), 4096);
        stopped.send("POST", "/v1/completions", kRich);
        await_metric(server, "llamacpp:requests_processing 1");
        EXPECT_EQ(server.post("/v1/completions", R"({"prompt": "b", "max_tokens": 2, "user": "eve"})").status, 200);
    }
    Json line(server.await({"\"event\": \"answer\"", "aborted"}));
    EXPECT_GT(line.number("joules"), 0);
    EXPECT_LT(line.number("decoded"), 250);
    EXPECT_GE(line.number("pauses"), 1);
    EXPECT_EQ(ask_until(server.ledger(), "SELECT outcome FROM requests WHERE user = 'ann'", "aborted"), "aborted");
}

int64_t resident_bytes(pid_t pid) {
    std::ifstream statm("/proc/" + std::to_string(pid) + "/statm");
    int64_t all = 0, resident = 0;
    statm >> all >> resident;
    return resident * sysconf(_SC_PAGESIZE);
}

// Answers of megabytes that nobody took leave nothing behind.
TEST(Server, ItsMemoryShrinksAfterItsWorstMoment) {
    if (kChecked) GTEST_SKIP() << "sanitizers keep freed memory";
    TinyModel model({});
    ServerRig server(model.path(), {"--meter", "none"});
    const std::string body = "{\"with_pieces\": true, \"content\": \"" + std::string(100000, 'a') + "\"}";
    const int64_t answer = (int64_t)server.post("/tokenize", body).body.size();
    ASSERT_GT(answer, 1 << 20);
    const int64_t before = resident_bytes(server.pid());
    // Read into a hundred megabytes of small pieces: an arena of the C library has that much room from then on, and would serve the answers from it.
    std::string lists = "{\"messages\": [";
    for (int i = 0; i < 1000000; i++) lists += "[],";
    EXPECT_EQ(server.post("/v1/chat/completions", lists + "[]]}").status, 400);
    for (int i = 0; i < 250 && resident_bytes(server.pid()) > before + (8 << 20); i++) usleep(20000); // the answer comes before it is tidied away
    std::vector<std::unique_ptr<HttpClient>> stopped;
    for (int i = 0; i < 24; i++) {
        stopped.push_back(std::make_unique<HttpClient>(server.port(), 4096));
        stopped.back()->send("POST", "/tokenize", body);
        ASSERT_TRUE(stopped.back()->read_until("\r\n\r\n"));
    }
    EXPECT_GT(resident_bytes(server.pid()), before + 20 * answer);
    const int64_t limit = before + 6 * answer + (5 << 20); // six stay; stacks and heaps of the threads that wrote them
    for (size_t i = 0; i < stopped.size(); i++)
        if (i % 4) stopped[i].reset(); // those that stay lie among them
    for (int i = 0; i < 250 && resident_bytes(server.pid()) > limit; i++) usleep(20000); // it has yet to see them leave
    EXPECT_LT(resident_bytes(server.pid()), limit);
}

TEST(Server, SigtermFinishesWhatRunsAndTakesNothingNew) {
    TinyModel model({});
    ServerRig server(model.path(), slow({"--drain", "60"}));
    HttpClient client(server.port());
    const std::string n = kChecked ? "60" : "300";
    client.send("POST", "/v1/completions", R"({"prompt": "a", "stream": true, "ignore_eos": true, "max_tokens": )" + n + "}");
    ASSERT_TRUE(client.read_until("\"text\"")) << client.raw();
    server.signal(SIGTERM);
    HttpReply r = client.reply();
    EXPECT_TRUE(r.whole);
    EXPECT_NE(r.body.find("\"finish_reason\":\"length\""), std::string::npos);
    EXPECT_NE(r.body.find("data: [DONE]"), std::string::npos);
    EXPECT_EQ(server.wait_exit(), 0);
    EXPECT_FALSE(HttpClient(server.port()).connected());
    EXPECT_EQ(ask(server.ledger(), "SELECT outcome || (decoded_tok + 1) FROM requests"), "length" + n);
}

TEST(Server, WhatOutlastsTheDrainIsCancelledAndBooked) {
    TinyModel model(slow_model());
    ServerRig server(model.path(), slow({"--drain", "0", "-np", "1"}));
    HttpClient client(server.port()), queued(server.port());
    client.send("POST", "/v1/completions", kLongInOnePiece); // a stream that nobody reads would make room for the other
    await_metric(server, "llamacpp:requests_processing 1");
    queued.send("POST", "/v1/completions", kLong);
    await_metric(server, "llamacpp:requests_deferred 1");
    server.signal(SIGINT);
    EXPECT_EQ(server.wait_exit(), 0) << server.log();
    EXPECT_EQ(ask(server.ledger(), "SELECT count(*) FROM requests WHERE outcome = 'aborted'"), "2") << server.log();
    EXPECT_NE(ask(server.ledger(), "SELECT count(*) FROM requests WHERE total_uj > 0"), "0");
}

TEST(Server, ASecondSignalEndsAtOnce) {
    TinyModel model(slow_model());
    ServerRig server(model.path(), slow({"--drain", "3600"}));
    HttpClient client(server.port());
    client.send("POST", "/v1/completions", kLong);
    ASSERT_TRUE(client.read_until("\"text\"")) << client.raw();
    server.signal(SIGTERM);
    while (HttpClient(server.port()).connected()) usleep(5000); // it drains
    usleep(150000);                                             // sooner it would be taken for the first one's echo
    server.signal(SIGTERM);
    EXPECT_EQ(server.wait_exit(30), 130);
}

// `timeout` signals the process and then its group; a shell passes on what the terminal has sent to both. Two kinds here, since two of one kind may arrive as one.
TEST(Server, SignalsThatComeTogetherAreOne) {
    TinyModel model(slow_model());
    ServerRig server(model.path(), slow({"--drain", "60"}));
    HttpClient client(server.port());
    client.send("POST", "/v1/completions", R"({"prompt": "a", "stream": true, "ignore_eos": true, "max_tokens": 20})");
    ASSERT_TRUE(client.read_until("\"text\"")) << client.raw();
    server.signal(SIGTERM);
    server.signal(SIGINT);
    EXPECT_NE(client.reply().body.find("data: [DONE]"), std::string::npos);
    EXPECT_EQ(server.wait_exit(), 0) << server.log();
}

TEST(Server, ASecondSignalThatComesTooLateIsNoCrash) {
    TinyModel model({});
    ServerRig server(model.path(), {"--meter", "none"});
    server.signal(SIGTERM); // nothing runs: it ends without looking for another one
    server.signal(SIGINT);
    EXPECT_EQ(server.wait_exit(), 0) << server.log();
}

// While the model loads: a FIFO that nobody writes to keeps it from getting anywhere.
TEST(Server, Answers503WhileLoading) {
    TempDir dir;
    TinyModel model({});
    std::string fifo = dir.path("model.jinja");
    ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
    ServerRig::Options o;
    o.wait_ready = false;
    ServerRig server(model.path(), {"--chat-template", fifo, "--meter", "none"}, o);
    for (const char *path : {"/health", "/v1/models", "/props", "/metrics"}) {
        HttpReply r = server.get(path);
        EXPECT_EQ(r.status, 503) << path;
        Json body(r.body);
        EXPECT_EQ(body.text("error.message"), "Loading model");
        EXPECT_EQ(body.text("error.type"), "unavailable_error");
        EXPECT_EQ(body.number("error.code"), 503);
        EXPECT_NE(r.headers["retry-after"], "");
    }
    EXPECT_EQ(server.post("/v1/completions", "{\"prompt\": \"a\"}").status, 503);
    EXPECT_EQ(server.get("/").status, 200);
    std::ofstream(fifo) << "{% for m in messages %}{{ m.content }}{% endfor %}";
    EXPECT_NE(server.await({"\"event\": \"ready\""}), "");
    EXPECT_EQ(server.get("/health").status, 200);
    EXPECT_EQ(server.post("/v1/completions", "{\"prompt\": \"a\", \"max_tokens\": 1}").status, 200);
}

TEST(Server, KeepsCachedPromptsOverARestart) {
    TinyModel model({});
    TempDir home;
    ServerRig::Options o;
    o.home = home.path();
    const std::string body = "{\"prompt\": \"" + std::string(300, 'w') + "\", \"max_tokens\": 2, \"temperature\": 0}", kept = home.path("kept/deep");
    std::string text;
    for (int run = 0; run < 2; run++) {
        ServerRig server(model.path(), {"--kv-dir", kept, "--meter", "none"}, o);
        HttpReply r = server.post("/v1/completions", body);
        ASSERT_EQ(r.status, 200) << r.body;
        Json answer(r.body);
        if (run == 0) {
            EXPECT_EQ(answer.number("usage.prompt_tokens_details.cached_tokens"), 0);
        } else {
            EXPECT_GT(answer.number("usage.prompt_tokens_details.cached_tokens"), 200) << server.log();
        }
        const char *said = json_string_value(json_object_get(json_array_get(answer.at("choices"), 0), "text"));
        ASSERT_NE(said, nullptr);
        if (run == 0) text = said;
        EXPECT_EQ(text, said);
        server.signal(SIGTERM);
        EXPECT_EQ(server.wait_exit(), 0);
    }
}

// ---- Failing -------------------------------------------------------------------------------------------------------------------------
TEST(ServerFails, WithASentence) {
    TinyModel model({});
    TempDir dir;
    std::string bad = dir.write("bad.gguf", "no model"), empty = dir.write("keys", "\n\n");
    expect_sentence(run_wattle({"serve", "--port", "0", "-m", bad, "--meter", "none"}), 1, {"bad.gguf"});
    expect_sentence(run_wattle({"serve", "--port", "0", "-m", dir.path("none.gguf")}), 1, {"none.gguf"});
    expect_sentence(run_wattle({"serve", "--port", "0", "-m", model.path(), "--host", "192.0.2.1"}), 1, {"192.0.2.1"});
    expect_sentence(run_wattle({"serve", "--port", "0", "-m", model.path(), "--meter", "none", "--chat-template", "no-such"}), 1, {"no-such", "no file", "chatml"});
    expect_sentence(run_wattle({"serve", "--port", "0", "-m", model.path(), "--meter", "none", "--chat-template", "/usr"}), 1, {"/usr", "directory"});
    expect_sentence(run_wattle({"serve", "--port", "70000"}), 2, {"--port", "65535"});
    expect_sentence(run_wattle({"serve", "-m", model.path(), "--meter", "nonsense"}), 2, {"nonsense"});
    expect_sentence(run_wattle({"serve", "-m", model.path(), "--meter", "require", "--port", "0"}, with_env({"WTL_SYSFS_ROOT=" + dir.path(), "WTL_NVML_PATH=/nowhere"})), 1, {"source"});
    expect_sentence(run_wattle({"serve", "-m", model.path(), "-c", "7", "-np", "4"}), 2, {"--ctx-size 7", "4"});
    expect_sentence(run_wattle({"serve", "-m", model.path(), "--kv-memory", "much"}), 2, {"--kv-memory", "much"});
    expect_sentence(run_wattle({"serve", "-m", model.path(), "--api-key", ", ,"}), 2, {"API key"});
    expect_sentence(run_wattle({"serve", "-m", model.path(), "--api-key-file", empty}), 2, {"API key"});
    expect_sentence(run_wattle({"serve", "-m", model.path(), "--currency", "EUR"}), 2, {"--price"});
}

TEST(ServerFails, WhenThePortIsTaken) {
    TinyModel model({});
    ServerRig server(model.path(), {"--meter", "none"});
    expect_sentence(run_wattle({"serve", "-m", model.path(), "--port", std::to_string(server.port())}), 1, {std::to_string(server.port()), "in use"});
}

// ---- Options -------------------------------------------------------------------------------------------------------------------------
TEST(ServerOptions, ShortNamesOfTwoLetters) {
    RunResult help = run_wattle({"serve", "--help"});
    EXPECT_EQ(help.code, 0);
    EXPECT_NE(help.out.find("-np, --parallel N"), std::string::npos) << help.out;
    EXPECT_NE(help.out.find("-ub, --ubatch-size N"), std::string::npos);
    expect_sentence(run_wattle({"serve", "-np", "0"}), 2, {"--parallel 0"});
    expect_sentence(run_wattle({"serve", "-ub", "x"}), 2, {"--ubatch-size x"});
    expect_sentence(run_wattle({"serve", "-np"}), 2, {"--parallel needs a value"});
    expect_sentence(run_wattle({"serve", "--alias", "-np", "-n", "x"}), 2, {"--n-predict x"}); // a value stays one
    expect_sentence(run_wattle({"run", "-np", "x"}), 2, {"--n-predict p"});                    // as before elsewhere
}

TEST(ServerOptions, EnvironmentGivesKeysToo) {
    TinyModel model({});
    TempDir dir;
    std::string file = dir.write("keys", "# no comment\n  spaced\t\r\n\nlast");
    ServerRig::Options o;
    o.env = {"WTL_API_KEY=one, two", "WTL_PARALLEL=2"};
    ServerRig server(model.path(), {"--meter", "none", "--api-key-file", file}, o);
    for (const char *key : {"one", "two", "spaced", "last"}) {
        HttpReply r = server.get("/props", {std::string("Authorization: Bearer ") + key});
        EXPECT_EQ(r.status, 200) << key;
        EXPECT_NE(r.body.find("\"total_slots\":2"), std::string::npos) << r.body;
    }
    EXPECT_EQ(server.get("/props", {"Authorization: Bearer three"}).status, 401);
}

} // namespace
