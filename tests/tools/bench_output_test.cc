// `wattle bench` on a tiny model: every format is readable by what it is made for, and wrong use gets a sentence.
// SPDX-License-Identifier: Apache-2.0
#include <sqlite3.h>

#include <cmath>
#include <set>

#include "tests/e2e/run_binary.h"
#include "tests/support/tiny_model.h"
extern "C" {
#include "tools/bench_rows.h"
}

namespace {

using std::string;
using std::vector;

const TinyModel &tiny() {
    static TinyModel model([] {
        TinyOptions o;
        o.type = WTL_DTYPE_Q4_0;
        return o;
    }());
    return model;
}

RunResult bench(vector<string> args, const RunOptions &o = {}) {
    args.insert(args.begin(), {"bench", "-m", tiny().path()});
    return run_wattle(args, o); // limits take half a second: tests that do not look at them say --no-limits
}

vector<string> lines_of(const string &text) {
    vector<string> out;
    std::stringstream in(text);
    for (string line; std::getline(in, line);) out.push_back(line);
    return out;
}

// Fields of one CSV line; quotes inside of quoted fields are doubled.
vector<string> csv_fields(const string &line) {
    vector<string> out(1);
    bool quoted = false;
    for (size_t i = 0; i < line.size(); i++) {
        if (quoted && line[i] == '"' && i + 1 < line.size() && line[i + 1] == '"') out.back() += line[++i];
        else if (line[i] == '"') quoted = !quoted;
        else if (line[i] == ',' && !quoted) out.emplace_back();
        else out.back() += line[i];
    }
    EXPECT_FALSE(quoted) << line;
    return out;
}

// llama-bench's fields, in its order: what scripts rely on.
const vector<string> kTheirs = {
    "build_commit", "build_number", "cpu_info", "gpu_info", "backends", "model_filename", "model_type", "model_size", "model_n_params", "n_batch", "n_ubatch",
    "n_threads", "cpu_mask", "cpu_strict", "poll", "type_k", "type_v", "n_gpu_layers", "n_cpu_moe", "split_mode", "main_gpu", "no_kv_offload", "flash_attn",
    "devices", "tensor_split", "tensor_buft_overrides", "load_mode", "lazy_mode", "embeddings", "no_op_offload", "no_host", "repack", "fit_target", "fit_min_ctx",
    "n_prompt", "n_gen", "n_depth", "test_time", "avg_ns", "stddev_ns", "avg_ts", "stddev_ts"};
const vector<string> kSmall = {"-p", "16", "-n", "4", "-r", "2", "--no-limits"};

vector<string> small(vector<string> more) {
    more.insert(more.begin(), kSmall.begin(), kSmall.end());
    return more;
}

TEST(BenchOutput, JsonHasTheFieldsInOrderAndOurs) {
    RunResult r = bench(small({"-o", "json", "--meter", "none"}));
    ASSERT_EQ(r.code, 0) << r.err;
    json_t *rows = json_loads(r.out.c_str(), 0, nullptr);
    ASSERT_EQ(json_array_size(rows), 2u) << r.out;
    json_t *row = json_array_get(rows, 0);
    vector<string> names;
    const char *name;
    json_t *value;
    json_object_foreach(row, name, value) names.push_back(name);
    ASSERT_EQ(names.size(), bench_n_fields());
    EXPECT_EQ(vector<string>(names.begin(), names.begin() + (long)kTheirs.size()), kTheirs);
    auto number = [&](const char *field) { return json_number_value(json_object_get(row, field)); };
    EXPECT_EQ(number("n_prompt"), 16);
    EXPECT_EQ(number("n_repetitions"), 2);
    EXPECT_EQ(json_array_size(json_object_get(row, "samples_ns")), 2u);
    const double ns = number("avg_ns"), s0 = json_number_value(json_array_get(json_object_get(row, "samples_ns"), 0)),
                 s1 = json_number_value(json_array_get(json_object_get(row, "samples_ns"), 1));
    EXPECT_NEAR(ns, (s0 + s1) / 2, 1);
    EXPECT_NEAR(number("avg_ts"), (16e9 / s0 + 16e9 / s1) / 2, 1e-6 * number("avg_ts"));
    EXPECT_GT(number("gb_per_s"), 0);
    EXPECT_GT(number("gmac_per_s"), 0);
    EXPECT_GT(number("cpu_s_per_token"), 0);
    EXPECT_TRUE(json_is_null(json_object_get(row, "joules"))); // not known is null with a reason, never 0
    EXPECT_TRUE(json_is_null(json_object_get(row, "tokens_per_joule")));
    EXPECT_STREQ(json_string_value(json_object_get(row, "joules_status")), "unavailable");
    EXPECT_STRNE(json_string_value(json_object_get(row, "joules_reason")), "");
    EXPECT_EQ(json_integer_value(json_object_get(json_array_get(rows, 1), "n_gen")), 4);
    json_decref(rows);
}

TEST(BenchOutput, JoulesOfAKnownSource) {
    RunResult r = bench({"-p", "64", "-n", "0", "-r", "40", "-o", "jsonl", "--no-limits", "--meter", "simulated:20", "--meter-interval", "1"});
    ASSERT_EQ(r.code, 0) << r.err;
    Json j(r.out);
    EXPECT_EQ(j.text("joules_method"), "simulated");
    EXPECT_NEAR(j.number("avg_watts"), 20, 0.05 * 20);
    EXPECT_GT(j.number("joules"), 0);
    EXPECT_NEAR(j.number("joules_per_token") * 64, j.number("joules"), 1e-6 * j.number("joules"));
    EXPECT_NEAR(j.number("tokens_per_joule") * j.number("joules_per_token"), 1, 1e-6);
    EXPECT_GE(j.number("joules") * 1.2, 20 * j.number("avg_ns") * 1e-9); // at least what the repetition itself took
    EXPECT_GT(j.number("joules_bound"), 0);
}

TEST(BenchOutput, SharesAreOfTheLimitsOfTheSameRun) {
    RunResult r = bench({"-p", "64", "-n", "0", "-r", "2", "-t", "1", "-o", "jsonl"});
    ASSERT_EQ(r.code, 0) << r.err;
    Json j(r.out);
    EXPECT_NEAR(j.number("pct_bandwidth"), 100 * j.number("gb_per_s") / j.number("limit_gb_per_s"), 1e-4);
    EXPECT_NEAR(j.number("pct_compute"), 100 * j.number("gmac_per_s") / j.number("limit_gmac_per_s"), 1e-4);
    EXPECT_NE(j.text("limit_arithmetic"), "");
    RunResult limits = run_wattle({"bench", "--limits", "-t", "1", "-o", "json"});
    ASSERT_EQ(limits.code, 0) << limits.err;
    json_t *rows = json_loads(limits.out.c_str(), 0, nullptr);
    ASSERT_EQ(json_array_size(rows), 1u);
    EXPECT_GT(json_number_value(json_object_get(json_array_get(rows, 0), "read_gb_per_s")), 0.1);
    json_decref(rows);
    expect_sentence(run_wattle({"bench", "--limits", "-o", "csv"}), 2, {"--limits", "md or json"});
}

TEST(BenchOutput, CsvHasAColumnForEveryName) {
    RunResult r = bench(small({"-o", "csv", "-t", "1,2"}));
    ASSERT_EQ(r.code, 0) << r.err;
    vector<string> lines = lines_of(r.out);
    ASSERT_EQ(lines.size(), 5u);
    const vector<string> head = csv_fields(lines[0]);
    EXPECT_EQ(vector<string>(head.begin(), head.begin() + (long)kTheirs.size()), kTheirs);
    EXPECT_EQ(std::set<string>(head.begin(), head.end()).size(), head.size());
    for (size_t i = 1; i < lines.size(); i++) EXPECT_EQ(csv_fields(lines[i]).size(), head.size()) << lines[i];
    EXPECT_EQ(csv_fields(lines[1])[11], "1"); // n_threads
    EXPECT_EQ(csv_fields(lines[3])[11], "2");
}

TEST(BenchOutput, SqlIsTakenBySqlite) {
    TempDir dir;
    const string model = dir.write("it's a \"model\".gguf", read_whole(tiny().path()));
    RunResult r = run_wattle({"bench", "-m", model, "-p", "16", "-n", "4", "-r", "2", "-o", "sql", "--no-limits", "--meter", "none"});
    ASSERT_EQ(r.code, 0) << r.err;
    sqlite3 *db = nullptr;
    ASSERT_EQ(sqlite3_open(":memory:", &db), SQLITE_OK);
    char *message = nullptr;
    ASSERT_EQ(sqlite3_exec(db, r.out.c_str(), nullptr, nullptr, &message), SQLITE_OK) << message << r.out;
    sqlite3_stmt *rows = nullptr;
    ASSERT_EQ(sqlite3_prepare_v2(db, "SELECT model_filename, n_prompt, avg_ts, joules, typeof(avg_ts), repack FROM llama_bench ORDER BY n_prompt DESC", -1, &rows, nullptr),
              SQLITE_OK);
    ASSERT_EQ(sqlite3_step(rows), SQLITE_ROW);
    EXPECT_EQ((const char *)sqlite3_column_text(rows, 0), model);
    EXPECT_EQ(sqlite3_column_int(rows, 1), 16);
    EXPECT_GT(sqlite3_column_double(rows, 2), 0);
    EXPECT_EQ(sqlite3_column_type(rows, 3), SQLITE_NULL);
    EXPECT_STREQ((const char *)sqlite3_column_text(rows, 4), "real");
    EXPECT_EQ(sqlite3_column_int(rows, 5), 1);
    EXPECT_EQ(sqlite3_step(rows), SQLITE_ROW);
    EXPECT_EQ(sqlite3_step(rows), SQLITE_DONE);
    sqlite3_finalize(rows);
    sqlite3_close(db);
}

struct Row {
    json_t *json;
    Row(const char *status, const char *method, double joules, double bound, double low, double high)
        : json(json_pack("{s:i, s:i, s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:o}", "n_prompt", 10, "n_gen", 0, "joules_status", status, "joules_method", method, "joules", joules, "joules_bound", bound, "joules_low", low,
                         "joules_high", high, "joules_per_token", joules / 10, "tokens_per_joule", joules > 0 ? json_real(10 / joules) : json_null())) {}
    ~Row() { json_decref(json); }
    string text(void (*print)(const json_t *, char *, size_t)) const {
        char out[BENCH_JOULES_TEXT];
        print(json, out, sizeof out);
        return out;
    }
    string ratio(const Row &b) const {
        char out[BENCH_JOULES_TEXT];
        bench_joules_ratio_text(json, b.json, out, sizeof out);
        return out;
    }
};

// A number that nobody measured must not look as if somebody had, and a bound is never rounded down.
TEST(BenchOutput, JoulesSayWhatTheyAre) {
    const Row real("measured", "counter", 1.5, 0.121, 1.379, 1.621), twice("measured", "integrated", 3, 0.1, 2.9, 3.1), model("modelled", "modelled", 0.052, 0.104, 0.0171, 0.1561),
        below("below_resolution", "counter", 1.5, 1.31, 0.19, 2.81), made("measured", "simulated", 1.5, 0.121, 1.379, 1.621), disputed("disputed", "counter", 1.5, 0.5, 1, 2), none("below_resolution", "counter", 0, 0.5, 0, 0.5);
    EXPECT_EQ(real.text(bench_joules_text), "0.15 ± 0.013");
    EXPECT_EQ(made.text(bench_joules_text), "0.15 ± 0.013, simulated");
    EXPECT_EQ(model.text(bench_joules_text), "~0.0052, modelled: 0.0017 to 0.016");
    EXPECT_EQ(below.text(bench_joules_text), "0.15 (0.019 to 0.29), below resolution");
    EXPECT_EQ(disputed.text(bench_joules_text), "0.15 ± 0.05, disputed");
    EXPECT_EQ(none.text(bench_joules_text), "0 (0 to 0.05), below resolution"); // the sensor had not moved yet
    EXPECT_EQ(none.text(bench_tokens_per_joule_text), "-");
    EXPECT_EQ(real.text(bench_tokens_per_joule_text), "6.67");
    EXPECT_EQ(model.text(bench_tokens_per_joule_text), "~190"); // 192.3
    EXPECT_EQ(real.ratio(twice), "2");
    EXPECT_EQ(model.ratio(model), "~1, modelled");
    EXPECT_EQ(made.ratio(made), "1, simulated");
    EXPECT_EQ(model.ratio(real), "-"); // of different kinds
    EXPECT_EQ(real.ratio(made), "-");
    json_object_set_new(twice.json, "joules_per_token", json_null());
    EXPECT_EQ(twice.text(bench_joules_text), "-");
    EXPECT_EQ(real.ratio(twice), "-");
    RunResult r = bench(small({"--meter", "simulated:20"}));
    ASSERT_EQ(r.code, 0) << r.err;
    for (const string &line : lines_of(r.out))
        EXPECT_EQ(line.find(" pp16 |") != string::npos || line.find(" tg4 |") != string::npos, line.find("simulated") != string::npos) << line;
}

TEST(BenchOutput, TheTableIsOne) {
    RunResult r = bench(small({"-pg", "8,2", "-d", "0,20", "-npl", "1,3"}));
    ASSERT_EQ(r.code, 0) << r.err;
    vector<string> lines = lines_of(r.out);
    ASSERT_GE(lines.size(), 14u) << r.out;
    const auto bars = std::count(lines[0].begin(), lines[0].end(), '|');
    for (size_t i = 0; i < 14; i++) EXPECT_EQ(std::count(lines[i].begin(), lines[i].end(), '|'), bars) << lines[i];
    EXPECT_EQ(lines[1].find_first_not_of("|-: "), string::npos) << lines[1];
    for (const char *test : {" pp16 |", " tg4 |", " pp8+tg2 |", " pp16 x3 |", " tg4 @ d20 |", " pp8+tg2 @ d20 x3 |"}) EXPECT_NE(r.out.find(test), string::npos) << test << "\n" << r.out;
}

TEST(BenchOutput, WrongUseGetsASentence) {
    expect_sentence(bench({"-p", "1,x"}), 2, {"--n-prompt 1,x"});
    expect_sentence(bench({"-n", "4-1"}), 2, {"--n-gen 4-1"});
    expect_sentence(bench({"-t", "0"}), 2, {"--threads 0", "below 1"});
    expect_sentence(bench({"-r", "0"}), 2, {"--repetitions 0"});
    expect_sentence(bench({"-pg", "12"}), 2, {"-pg 12"});
    expect_sentence(bench({"-p", "0", "-n", "0"}), 2, {"nothing to measure"});
    expect_sentence(bench({"-ctk", "q9"}), 2, {"--cache-type-k q9", "f16 or f32 or q8_0"});
    expect_sentence(bench({"-ctk", "f32"}), 2, {"-ctk f32 -ctv f16", "the same type"});
    expect_sentence(bench({"-ctk", "q8_0", "-ctv", "f16,f32"}), 2, {"-ctk q8_0", "the same type"});
    expect_sentence(bench({"-t", "1,1025"}), 2, {"--threads 1025", "at most 1024"}); // said before the first test runs
    for (const char *option : {"-ngl", "-fa", "-mmp", "-mg", "-ts", "-oe", "-rpc"}) // getopt would read them as -n gl, -m mp, -t s, ...
        expect_sentence(bench({option, "0"}), 2, {option, "llama-bench"});
    expect_sentence(bench({"-o", "xml"}), 2, {"--output xml"});
    expect_sentence(bench({"-npl", "100000"}), 2, {"--n-parallel 100000"});
    expect_sentence(bench({"words"}), 2, {"'words'"});
    expect_sentence(run_wattle({"bench", "-m", "/nowhere/a.gguf"}), 1, {"/nowhere/a.gguf"});
    expect_sentence(bench({"-m", "/nowhere/b.gguf"}), 1, {"/nowhere/b.gguf"}); // the second model is looked at before the first one runs
    expect_sentence(bench({"-p", "600", "-n", "0"}), 1, {"pp600", "512"});
    expect_sentence(bench({"-p", "500", "-n", "0", "-d", "100"}), 1, {"pp500 @ d100", "600 positions"});
    EXPECT_EQ(bench({"-p", "512", "-n", "0", "-r", "1", "--no-limits"}).code, 0); // exactly full
}

TEST(BenchOutput, NamesThatAreNoUtf8) {
    TempDir dir;
    const string model = dir.write("caf\xE9 \xED\xA0\x80.gguf", read_whole(tiny().path()));
    for (const char *format : {"json", "csv", "sql"}) {
        RunResult r = run_wattle({"bench", "-m", model, "-p", "8", "-n", "0", "-r", "1", "--no-limits", "-o", format});
        EXPECT_EQ(r.code, 0) << r.err;
        EXPECT_NE(r.out.find("caf\xEF\xBF\xBD \xEF\xBF\xBD"), string::npos) << r.out;
    }
    RunResult r = run_wattle({"bench", "-m", model, "-p", "8", "-n", "0", "-r", "1", "--no-limits", "--profile", "-o", "json"});
    EXPECT_EQ(r.code, 0) << r.err;
    r = run_wattle({"run", "-m", model, "-p", "hi", "-n", "1", "--json", "--ledger", "none", "--meter", "none"});
    EXPECT_EQ(r.code, 0) << r.err;
}

// llama.cpp's names for the mixtures of types that a file says it has; the types of its tensors where it says none.
TEST(BenchOutput, TheModelsTypeIsWhatTheFileSays) {
    for (int type : {-1, 15, 2, 4, 999}) {
        TinyOptions o;
        o.type = WTL_DTYPE_Q4_0;
        o.file_type = type;
        TinyModel model(o);
        RunResult r = run_wattle({"bench", "-m", model.path(), "-p", "8", "-n", "0", "-r", "1", "--no-limits", "-o", "jsonl"});
        ASSERT_EQ(r.code, 0) << r.err;
        const string text = Json(r.out).text("model_type");
        EXPECT_EQ(text.substr(text.find(' ', 6) + 1), type == 15 ? "Q4_K - Medium" : "Q4_0") << text;
    }
}

TEST(BenchOutput, AFullDiskAndAReaderThatLeft) {
    expect_sentence(bench(small({}), with_full_output()), 1, {"standard output", "No space left"});
    RunOptions leaves;
    leaves.close_out = true;
    leaves.timeout_s = 60;
    RunResult r = bench({"-p", "16", "-n", "0", "-r", "2", "-t", "1,1,1,1,1,1,1,1", "--no-limits"}, leaves);
    EXPECT_EQ(r.code, 0) << r.err;
}

TEST(BenchOutput, CtrlCPrintsWhatIsDone) {
    RunOptions o;
    o.interrupt_after_bytes = 100; // the first test's row
    RunResult quick = bench({"-p", "8,16,32", "-n", "200", "-r", "60", "-o", "json", "--no-limits"}, o);
    EXPECT_EQ(quick.code, 130) << quick.err;
    json_t *rows = json_loads(quick.out.c_str(), 0, nullptr);
    ASSERT_NE(rows, nullptr) << quick.out;
    EXPECT_GE(json_array_size(rows), 1u);
    EXPECT_LT(json_array_size(rows), 4u);
    json_decref(rows);
}

TEST(BenchOutput, SeveralModelsAndKvTypes) {
    RunResult r = run_wattle({"bench", "-m", string(tiny().path()) + "," + tiny().path(), "-p", "8", "-n", "0", "-r", "1", "-ctk", "f16,f32", "-ctv", "f16,f32", "-o", "jsonl", "--no-limits"});
    ASSERT_EQ(r.code, 0) << r.err;
    vector<string> lines = lines_of(r.out);
    ASSERT_EQ(lines.size(), 4u);
    EXPECT_EQ(Json(lines[0]).text("type_k"), "f16");
    EXPECT_EQ(Json(lines[1]).text("type_v"), "f32");
}

TEST(BenchOutput, RepetitionsOfWindowedModelsAtADepth) {
    TinyOptions o;
    o.arch = "gemma3";
    TinyModel windowed(o);
    RunResult r = run_wattle({"bench", "-m", windowed.path(), "-p", "40", "-n", "4", "-d", "100", "-npl", "2", "-r", "3", "-o", "jsonl", "--no-limits"});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(lines_of(r.out).size(), 2u);
}

} // namespace
