// `wattle ledger` on files with known content: classes apart, conservation, days, filters, exports, hostile labels.
// SPDX-License-Identifier: Apache-2.0
#include "tests/tools/ledger_rig.h"
extern "C" {
#include "tools/ledger_query.h"
}

namespace {

using std::string;

// Two measured, one modelled, one unavailable, one simulated request; two intervals of a domain.
string fill(const TempDir &dir, int64_t time_ms = 0) {
    const string path = dir.path("ledger.db");
    Book b(path);
    const tel_energy energies[] = {joules_of(8000000, 500000), joules_of(4000000, 250000), modelled(12000000),
                                   tel_energy_unavailable("no counter can be read", nullptr),
                                   joules_of(1000000, 0, TEL_MEASURED, TEL_METHOD_SIMULATED)};
    const char *const users[] = {"ann", "bob", "ann", nullptr, "bob"};
    for (int i = 0; i < 5; i++) {
        ledger_request r = request_of(energies[i]);
        r.time_ms = time_ms;
        r.user = users[i];
        EXPECT_TRUE(ledger_add_request(b.book, &r));
    }
    ledger_domain d = domain_of(100, 20, 3, time_ms, time_ms + 1), more = domain_of(7, 0, 0, time_ms, time_ms + 1);
    EXPECT_TRUE(ledger_add_domain(b.book, &d, b.err));
    EXPECT_TRUE(ledger_add_domain(b.book, &more, b.err));
    EXPECT_TRUE(b.close()) << b.err;
    return path;
}

RunResult ask(const string &path, std::vector<string> more, std::vector<string> env = {}) {
    std::vector<string> words = {"ledger", "--ledger", path};
    words.insert(words.end(), more.begin(), more.end());
    return run_wattle(words, with_env(env));
}

bool has(const string &text, const string &part) { return text.find(part) != string::npos; }

TEST(LedgerCommand, AnEmptyLedgerIsNoError) {
    TempDir dir;
    for (const char *name : {"none.db", "folder/none.db"}) {
        RunResult r = ask(dir.path(name), {});
        EXPECT_EQ(r.code, 0);
        EXPECT_TRUE(has(r.out, "empty")) << r.out;
        EXPECT_EQ(ask(dir.path(name), {"--export", "csv"}).out, "");
        EXPECT_EQ(json_array_size(Json(ask(dir.path(name), {"--json"}).out).at("rows")), 0u);
    }
    Book(dir.path("made.db")).close();
    RunResult r = ask(dir.path("made.db"), {});
    EXPECT_TRUE(has(r.out, "No request in this range")) << r.out;
    EXPECT_TRUE(has(r.out, "0 rows yet")) << r.out;
}

TEST(LedgerCommand, ATableOfRowsIsAnExport) {
    TempDir dir;
    expect_sentence(ask(dir.path("none.db"), {"--table", "domains"}), 2, {"--table domains", "--export"});
}

TEST(LedgerCommand, NothingFoundNamesTheFilterThatMayBeTheReason) {
    TempDir dir;
    const string path = fill(dir, 1700000000000);
    RunResult r = ask(path, {"--since", "all"}, {"WTL_MODEL=/somewhere/other.gguf"}); // set for `wattle run` and forgotten
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_TRUE(has(r.out, "No request in this range, model /somewhere/other.gguf only")) << r.out;
    EXPECT_TRUE(has(r.out, "WTL_MODEL")) << r.out;
    EXPECT_TRUE(has(ask(path, {"--since", "all", "--user", "eve"}).out, "No request in this range, user eve only"));
}

TEST(LedgerCommand, HeadSaysTheRangeInWords) {
    TempDir dir;
    const string path = fill(dir, (int64_t)time(nullptr) * 1000);
    EXPECT_TRUE(has(ask(path, {}).out, "energy of requests of the last 7 days ("));
    EXPECT_TRUE(has(ask(path, {"--since", "1d"}).out, "energy of requests of today ("));
    EXPECT_TRUE(has(ask(path, {"--since", "2024-01-01"}).out, "energy of requests since 2024-01-01 ("));
}

TEST(LedgerCommand, KindsOfJoulesAreNeverAdded) {
    TempDir dir;
    const string path = fill(dir, 1700000000000);
    for (const char *by : {"day", "model", "user", "source", "phase"}) {
        RunResult r = ask(path, {"--since", "all", "--by", by});
        ASSERT_EQ(r.code, 0) << r.err;
        EXPECT_TRUE(has(r.out, "12.0 J +- 0.8, measured")) << r.out;
        EXPECT_TRUE(has(r.out, "~12 J, modelled: 4.0 to 36 J")) << r.out;
        EXPECT_TRUE(has(r.out, "1.000 J +- 0, simulated")) << r.out;
        EXPECT_TRUE(has(r.out, "unavailable - no counter can be read")) << r.out;
        EXPECT_TRUE(has(r.out, "package-0, powercap: 0.000130 J = 0.000107 J + 0.000020 J + 0.000003 J")) << r.out;
        Json j(ask(path, {"--since", "all", "--by", by, "--json"}).out);
        json_t *total = j.at("total");
        ASSERT_EQ(json_array_size(total), 4u);
        const char *const classes[] = {"measured", "modelled", "simulated", "unavailable"};
        for (size_t i = 0; i < 4; i++) EXPECT_STREQ(json_string_value(json_object_get(json_array_get(total, i), "class")), classes[i]);
        json_t *measured = json_array_get(total, 0), *none = json_array_get(total, 3);
        EXPECT_EQ(json_integer_value(json_object_get(measured, "requests")), 2);
        EXPECT_DOUBLE_EQ(json_real_value(json_object_get(json_object_get(measured, "energy"), "energy_joules")), 12);
        EXPECT_DOUBLE_EQ(json_real_value(json_object_get(json_object_get(measured, "energy"), "bound_joules")), 0.75);
        EXPECT_DOUBLE_EQ(json_real_value(json_object_get(measured, "decode_joules_per_token")), 9.0 / 40);
        EXPECT_TRUE(json_is_null(json_object_get(json_object_get(none, "energy"), "energy_joules")));
        EXPECT_TRUE(json_is_null(json_object_get(none, "tokens_per_joule")));
    }
}

TEST(LedgerCommand, OnlyTheDecodePhaseHasJoulesPerDecodedToken) {
    TempDir dir;
    Json j(ask(fill(dir, 1700000000000), {"--since", "all", "--by", "phase", "--json"}).out);
    size_t i;
    json_t *row;
    json_array_foreach(j.at("rows"), i, row) {
        const string phase = json_string_value(json_object_get(row, "key")), kind = json_string_value(json_object_get(row, "class"));
        EXPECT_EQ(json_is_real(json_object_get(row, "decode_joules_per_token")), phase == "decode" && kind != "unavailable") << phase << kind;
        EXPECT_EQ(json_is_real(json_object_get(row, "tokens_per_joule")), phase == "decode" && kind != "unavailable") << phase << kind;
    }
}

TEST(LedgerCommand, Filters) {
    TempDir dir;
    const string path = fill(dir, 1700000000000);
    auto requests = [&](std::vector<string> more) {
        more.insert(more.end(), {"--since", "all", "--json"});
        Json j(ask(path, more).out);
        int64_t n = 0;
        size_t i;
        json_t *row;
        json_array_foreach(j.at("total"), i, row) n += json_integer_value(json_object_get(row, "requests"));
        return n;
    };
    EXPECT_EQ(requests({}), 5);
    EXPECT_EQ(requests({"--user", "ann"}), 2);
    EXPECT_EQ(requests({"--user", "' OR 1=1 --"}), 0);
    EXPECT_EQ(requests({"--model", "/models/tiny.gguf"}), 5);
    EXPECT_EQ(requests({"--model", "other"}), 0);
    EXPECT_EQ(requests({"--until", "2023-11-13"}), 0);
    EXPECT_EQ(requests({"--until", "2023-11-15"}), 5);
}

TEST(LedgerCommand, DaysAreLocalAndTheFileIsUtc) {
    TempDir dir;
    const string path = fill(dir, 1700000000000); // 2023-11-14 22:13:20 UTC
    EXPECT_TRUE(has(ask(path, {"--since", "all"}, {"TZ=UTC0"}).out, "\n2023-11-14 "));
    EXPECT_TRUE(has(ask(path, {"--since", "all"}, {"TZ=JST-9"}).out, "\n2023-11-15 "));
    EXPECT_TRUE(has(ask(path, {"--since", "2023-11-15"}, {"TZ=JST-9"}).out, "\n2023-11-15 "));
    EXPECT_TRUE(has(ask(path, {"--since", "2023-11-15"}, {"TZ=UTC0"}).out, "No request in this range"));
    EXPECT_TRUE(has(ask(path, {"--since", "all", "--export", "csv"}, {"TZ=JST-9"}).out, "\n2023-11-14T22:13:20.000Z,"));
}

TEST(LedgerCommand, SinceAndUntil) {
    setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
    tzset();
    int64_t from, to;
    EXPECT_TRUE(ledger_parse_since("2024-03-31", 0, &from));
    EXPECT_TRUE(ledger_parse_until("2024-03-31", &to));
    EXPECT_EQ(to - from, 23 * 3600 * 1000); // clocks go forward
    EXPECT_TRUE(ledger_parse_since("2024-10-27", 0, &from));
    EXPECT_TRUE(ledger_parse_until("2024-10-27", &to));
    EXPECT_EQ(to - from, 25 * 3600 * 1000);
    EXPECT_TRUE(ledger_parse_since("1d", 1700000000000, &from));
    EXPECT_EQ(from, 1699916400000); // midnight of 14 November, one hour ahead of UTC
    EXPECT_TRUE(ledger_parse_since("2024-02-29", 0, &from));
    for (const char *bad : {"", "7", "0d", "-1d", "+3d", "7days", "2024-2-3", "2023-02-29", "2024-13-01", "2024-00-10", "2024-01-32", "2024-01-01x",
                            "99999999999999999999d", "yesterday", "1969-12-31"})
        EXPECT_FALSE(ledger_parse_since(bad, 1700000000000, &from)) << bad;
    EXPECT_FALSE(ledger_parse_until("7d", &to));
    unsetenv("TZ");
    tzset();
    TempDir dir;
    expect_sentence(ask(dir.path("x"), {"--since", "soon"}), 2, {"--since soon"});
    expect_sentence(ask(dir.path("x"), {"--since", "2024-02-02", "--until", "2024-02-01"}), 2, {"before"});
    expect_sentence(ask("none", {}), 2, {"switched off"});
    expect_sentence(ask(dir.write("junk", "hello"), {}), 1, {"damaged"});
}

TEST(LedgerCommand, ExportQuotesAndKeepsData) {
    TempDir dir;
    const string path = dir.path("ledger.db");
    {
        Book b(path);
        ledger_request r = request_of(tel_energy_unavailable("a, \"b\"\nc", nullptr));
        r.id = "r1";
        r.time_ms = 1700000000007;
        r.kind = "=1+1";
        r.model = "";
        r.user = "\xff\x1b[31m";
        EXPECT_TRUE(ledger_add_request(b.book, &r));
        EXPECT_TRUE(b.close());
    }
    RunResult csv = ask(path, {"--since", "all", "--export", "csv"});
    EXPECT_EQ(csv.err, "");
    EXPECT_EQ(csv.out.rfind("time_utc,id,time_ms,session,kind,model,backend,outcome,user,conversation,new_tok,", 0), 0u) << csv.out;
    EXPECT_TRUE(has(csv.out, "\n2023-11-14T22:13:20.007Z,r1,1700000000007,")) << csv.out;
    EXPECT_TRUE(has(csv.out, ",=1+1,\"\",cpu,end,\xff\x1b[31m,,10,4,20,0,")) << csv.out;
    EXPECT_TRUE(has(csv.out, ",unavailable,,,,,\"a, \"\"b\"\"\nc\",unavailable,,,,,")) << csv.out;
    Json j(ask(path, {"--since", "all", "--export", "jsonl"}).out);
    EXPECT_EQ(j.text("total_reason"), "a, \"b\"\nc");
    EXPECT_TRUE(json_is_null(j.at("total_uj")));
    EXPECT_TRUE(json_is_null(j.at("conversation")));
    EXPECT_EQ(j.text("user"), "?\x1b[31m");
    RunResult table = ask(path, {"--since", "all", "--by", "user"});
    EXPECT_FALSE(has(table.out, "\x1b")) << "a label reached the terminal as a command";
    EXPECT_TRUE(has(ask(fill(dir, 1700000000000), {"--since", "all", "--export", "csv", "--table", "domains"}).out, ",package-0,cpu_package,powercap,measured,"));
}

} // namespace
