// `wattle run` and `wattle perplexity` on a tiny random model (always) and on SmolLM2 (WTL_TEST_SMOLLM2).
// SPDX-License-Identifier: Apache-2.0
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <thread>

#include "tests/e2e/run_binary.h"
#include "tests/support/tiny_model.h"

namespace {

const TinyModel &tiny() {
    static TinyModel model({});
    return model;
}

RunResult reply(std::vector<std::string> args, const RunOptions &o = {}) {
    args.insert(args.begin(), {"run", "-m", tiny().path()});
    return run_wattle(args, o);
}

TEST(Reply, JsonHasEveryField) {
    RunResult r = reply({"-p", "hello", "-n", "8", "--ignore-eos", "--json", "--seed", "7", "--meter", "none"});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.err, "");
    Json j(r.out);
    EXPECT_EQ(j.number("prompt_tokens"), 6); // BOS and five bytes
    EXPECT_EQ(j.number("completion_tokens"), 8);
    EXPECT_EQ(j.integers("tokens").size(), 8u);
    EXPECT_EQ(j.number("cached_tokens"), 0);
    EXPECT_EQ(j.number("seed"), 7);
    EXPECT_EQ(j.text("stop_reason"), "length");
    EXPECT_EQ(j.text("model"), tiny().path());
    EXPECT_EQ(j.text("backend").rfind("cpu", 0), 0u);
    for (const char *name : {"load_ms", "prompt_ms", "prompt_per_second", "predicted_ms", "predicted_per_second", "ttft_ms"})
        EXPECT_GT(j.number(std::string("timings.") + name), 0) << name;
    EXPECT_EQ(j.text("energy.status"), "unavailable");
    EXPECT_NE(j.text("energy.reason"), "");
    EXPECT_TRUE(json_is_null(j.at("energy.energy_joules"))); // not known is null, never 0
    EXPECT_TRUE(json_is_null(j.at("energy.phases.decode.joules")));
    for (const char *name : {"phases.queue", "phases.prefill", "phases.decode", "cached", "joules_per_token.new_prompt", "joules_per_token.cached_prompt", "joules_per_token.decoded"})
        EXPECT_NE(j.text("energy." + std::string(name) + ".reason"), "") << name;
    EXPECT_EQ(j.number("energy.schema"), 1);
    EXPECT_EQ(j.number("energy.phases.prefill.tokens"), 6);
}

TEST(Reply, SummaryGoesToStandardError) {
    RunResult r = reply({"-p", "hello", "-n", "3", "--ignore-eos", "--seed", "7", "--meter", "none"});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.err.find("prompt: 6 tokens"), std::string::npos) << r.err;
    EXPECT_NE(r.err.find("decoded: 3 tokens"), std::string::npos) << r.err;
    EXPECT_NE(r.err.find("energy: unavailable - "), std::string::npos) << r.err;
    EXPECT_NE(r.err.find("seed 7"), std::string::npos) << r.err;
    EXPECT_EQ(r.out.find("energy"), std::string::npos);
    EXPECT_EQ(r.err.find('\033'), std::string::npos); // no colours where there is no terminal
}

// The only token comes from prefill: a speed of decoding is not known, and not 0.
TEST(Reply, OneTokenHasNoDecodingSpeed) {
    RunResult r = reply({"-p", "hello", "-n", "1", "--ignore-eos", "--meter", "none", "--ledger", "none"});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.err.find("decoded: 1 token\n"), std::string::npos) << r.err;
    EXPECT_EQ(r.err.find("(0.0 tokens/s)"), std::string::npos) << r.err;
}

TEST(Reply, AWrongInstructionSetNamesItsVariable) {
    expect_sentence(reply({"-p", "hello", "--ledger", "none"}, with_env({"WTL_CPU_MASK=sse2"})), 1, {"WTL_CPU_MASK", "\"sse2\"", "avx2"});
}

TEST(Reply, WrongMeterIsWrongUsage) {
    expect_sentence(reply({"-p", "hello", "--meter", "foo", "--ledger", "none"}), 2, {"run: --meter foo: there is no energy source 'foo'"});
}

// The limit's signal would end the process where nothing but the ledger could not be written.
TEST(Reply, ALimitOnFileSizesCostsTheLedgerNotTheReply) {
    TempDir dir;
    RunOptions o = with_env({"XDG_STATE_HOME=" + dir.path()});
    o.before = {"bash", "-c", "ulimit -f 4; exec \"$@\"", "bash"};
    RunResult r = reply({"-p", "hello", "-n", "3", "--ignore-eos", "--meter", "model"}, o);
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.out, "");
    EXPECT_NE(r.err.find("wattle: energy ledger: "), std::string::npos) << r.err;
}

TEST(Reply, MadeUpJoulesAreNotCalledMeasured) {
    RunResult r = reply({"-p", "hello", "-n", "30", "--ignore-eos", "--meter", "simulated:50"});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.err.find("simulated"), std::string::npos) << r.err;
    EXPECT_EQ(r.err.find("measured"), std::string::npos) << r.err;
    EXPECT_EQ(r.err.find("below_resolution"), std::string::npos) << r.err;
}

// A package counter of 40 W that a thread drives: the first run stays until it knows the idle machine, the second one has that and ends.
TEST(Reply, TheSecondRunKnowsTheIdleMachine) {
    TempDir dir;
    const std::string zone = dir.path("sys/class/powercap/intel-rapl:0");
    std::filesystem::create_directories(zone);
    std::ofstream(zone + "/name") << "package-0\n";
    std::ofstream(zone + "/max_energy_range_uj") << "262143328850\n";
    std::ofstream(zone + "/energy_uj") << "100000000\n";
    std::atomic<bool> over{false};
    std::thread counter([&] {
        int fd = open((zone + "/energy_uj").c_str(), O_WRONLY);
        const auto start = std::chrono::steady_clock::now();
        while (!over) {
            auto us = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start).count();
            std::string text = std::to_string(100000000 + 40 * us) + "\n";
            EXPECT_EQ(pwrite(fd, text.data(), text.size(), 0), (ssize_t)text.size());
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        close(fd);
    });
    RunOptions o = with_env({"XDG_STATE_HOME=" + dir.path(), "WTL_SYSFS_ROOT=" + dir.path(), "WTL_NVML_PATH=" + dir.path("none.so")});
    std::vector<std::string> args = {"-p", "hello", "-n", "200", "--ignore-eos", "--meter", "powercap", "--ledger", "none"};
    RunResult first = reply(args, o), second = reply(args, o);
    over = true;
    counter.join();
    EXPECT_EQ(first.code, 0) << first.err;
    EXPECT_NE(second.err.find("idle machine"), std::string::npos) << first.err << second.err;
}

// An idle baseline is measured for the runs that follow: 0.6 s in vain where nothing can be kept.
TEST(Reply, NobodyWaitsForABaselineThatCannotBeKept) {
    TempDir dir;
    std::filesystem::create_directories(dir.path("wattle/energy.fit")); // a folder where the file belongs
    auto run = [&](const std::string &state) {
        auto start = std::chrono::steady_clock::now();
        EXPECT_EQ(reply({"-p", "hello", "-n", "2", "--ledger", "none", "--meter", "model"}, with_env({"XDG_STATE_HOME=" + state})).code, 0);
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    EXPECT_LT(std::min(run(dir.path()), run(dir.path())), 0.5);
    EXPECT_LT(std::min(run("/dev/null"), run("/dev/null")), 0.5);
}

TEST(Reply, StreamedTextEqualsTheWholeText) {
    std::vector<std::string> args = {"-p", "hello", "-n", "60", "--ignore-eos", "--seed", "3", "--temp", "1.5"};
    auto with = [&](const char *more) {
        auto a = args;
        a.push_back(more);
        return reply(a);
    };
    RunResult streamed = reply(args), whole = with("--no-stream"), json = with("--json");
    EXPECT_EQ(streamed.out, whole.out);
    std::string text = Json(json.out).text("text");
    EXPECT_EQ(streamed.out, text.empty() || text.back() != '\n' ? text + "\n" : text);
}

TEST(Reply, SameSeedSameText) {
    auto run = [](const char *seed) { return reply({"-p", "hello", "-n", "40", "--ignore-eos", "--temp", "2", "--seed", seed}).out; };
    EXPECT_EQ(run("5"), run("5"));
    EXPECT_NE(run("5"), run("6"));
}

TEST(Reply, ThreadsDoNotChangeTheTokens) {
    auto run = [](const char *threads) {
        return Json(reply({"-p", "a longer prompt, to fill a batch", "-n", "40", "--ignore-eos", "--temp", "0", "-t", threads, "--json"}).out).integers("tokens");
    };
    EXPECT_EQ(run("1"), run("3"));
}

// The stop string is cut out of the seed's own text, at every place and length: tokens of this model are single bytes, so
// every stop string spans tokens.
TEST(Reply, StopStringsAreNeverPrinted) {
    std::vector<std::string> args = {"-p", "hello", "-n", "48", "--ignore-eos", "--seed", "11", "--temp", "1"};
    auto a = args;
    a.push_back("--json");
    std::string text = Json(reply(a).out).text("text");
    std::vector<size_t> starts; // of characters that are no U+FFFD and no NUL: those cannot be given as an argument
    for (size_t i = 0; i < text.size(); i++)
        if (text[i] >= 0x20 && text[i] < 0x7f) starts.push_back(i);
    ASSERT_GT(starts.size(), 3u) << text;
    for (size_t k = 0; k < starts.size(); k += 3) {
        size_t len = 1;
        while (len < 4 && k + len < starts.size() && starts[k + len] == starts[k] + len) len++;
        std::string stop = text.substr(starts[k], len), want = text.substr(0, text.find(stop));
        auto b = args;
        b.insert(b.end(), {"--stop", "never in the text", "--stop", stop});
        RunResult r = reply(b);
        EXPECT_EQ(r.out, !want.empty() && want.back() == '\n' ? want : want + "\n") << "stop " << stop;
        EXPECT_NE(r.err.find("stop string"), std::string::npos);
        b.push_back("--json");
        Json j(reply(b).out);
        EXPECT_EQ(j.text("stop_reason"), "stop");
        EXPECT_EQ(j.text("text"), want);
    }
}

TEST(Reply, PromptComesFromFileOrStandardInput) {
    TempDir dir;
    std::string file = dir.write("prompt.txt", "hello there\n");
    auto run = [](std::vector<std::string> args, const RunOptions &o) {
        args.insert(args.end(), {"-n", "10", "--temp", "0", "--json", "--ignore-eos"});
        return Json(reply(args, o).out).integers("tokens");
    };
    auto tokens = run({"-p", "hello there\n"}, {});
    EXPECT_EQ(run({"-f", file}, {}), tokens);
    EXPECT_EQ(run({}, with_input("hello there\n")), tokens);
    EXPECT_EQ(run({"-f", "-"}, with_input("hello there\n")), tokens);
    EXPECT_EQ(run({}, with_env({"WTL_PROMPT=hello there\n"})), tokens);
}

TEST(Reply, EnvironmentOptionsWork) {
    RunOptions o;
    o.env = {"WTL_N_PREDICT=5", "WTL_JSON=1", "WTL_IGNORE_EOS=1", "WTL_SEED=9", "WTL_TEMP=0"};
    Json j(reply({"-p", "hello"}, o).out);
    EXPECT_EQ(j.number("completion_tokens"), 5);
    EXPECT_EQ(j.number("seed"), 9);
    EXPECT_EQ(Json(reply({"-p", "hello", "-n", "2"}, o).out).number("completion_tokens"), 2);
}

TEST(Reply, EmptyPromptBeginsWithBos) {
    Json j(reply({"-p", "", "-n", "3", "--ignore-eos", "--json"}).out);
    EXPECT_EQ(j.number("prompt_tokens"), 1);
}

TEST(Reply, ContextLimits) {
    std::string prompt(99, 'a'); // with BOS: 100 tokens
    expect_sentence(reply({"-p", prompt, "-c", "99"}), 1, {"100 tokens", "99"});
    expect_sentence(reply({"-p", std::string(600, 'a')}), 1, {"601 tokens", "512"});
    Json full(reply({"-p", prompt, "-c", "100", "--ignore-eos", "--json"}).out);
    EXPECT_EQ(full.text("stop_reason"), "context");
    EXPECT_EQ(full.number("completion_tokens"), 1); // read from the last position, not stored
    Json grown(reply({"-p", prompt, "-c", "110", "-n", "-1", "--ignore-eos", "--json"}).out);
    EXPECT_EQ(grown.text("stop_reason"), "context");
    EXPECT_EQ(grown.number("completion_tokens"), 11);
    RunResult r = reply({"-p", "x", "-c", "100000"});
    expect_sentence(r, 1, {"100000", "512"});
}

TEST(Reply, NoTokensAsked) {
    Json j(reply({"-p", "hello", "-n", "0", "--json"}).out);
    EXPECT_EQ(j.number("completion_tokens"), 0);
    EXPECT_TRUE(json_is_null(j.at("timings.ttft_ms")));
}

TEST(Reply, InterruptEndsWithTheSummary) {
    RunOptions o;
    o.interrupt_after_bytes = 1;
    RunResult r = reply({"-p", "hello", "-n", "-1", "-c", "512", "--ignore-eos", "--backend", "ref", "--temp", "0"}, o);
    EXPECT_EQ(r.code, 130);
    EXPECT_NE(r.err.find("interrupted"), std::string::npos) << r.err;
    EXPECT_NE(r.err.find("energy: "), std::string::npos) << r.err;
}

TEST(Reply, ReaderThatLeavesEndsItQuietly) {
    RunOptions o;
    o.close_out = true;
    RunResult r = reply({"-p", "hello", "-n", "400", "--ignore-eos", "--temp", "0"}, o);
    EXPECT_EQ(r.code, 0);
    EXPECT_EQ(r.err, "");
}

TEST(Reply, FullDiskIsReported) {
    RunResult r = reply({"-p", "hello", "-n", "4", "--ignore-eos"}, with_full_output());
    expect_sentence(r, 1, {"standard output", "No space left"});
}

TEST(Reply, BackendsAgree) {
    auto run = [](const char *backend) {
        return Json(reply({"-p", "hello", "-n", "12", "--ignore-eos", "--temp", "0", "--kv", "f32", "--backend", backend, "--json"}).out).integers("tokens");
    };
    EXPECT_EQ(run("cpu"), run("ref"));
}

// ---- Perplexity ----------------------------------------------------------------------------------------------------
TEST(Perplexity, RandomWeightsAndChunks) {
    std::string text(300, 'a');
    for (size_t i = 0; i < text.size(); i++) text[i] = (char)('a' + i * i % 26);
    auto run = [&](std::vector<std::string> more) {
        std::vector<std::string> args = {"perplexity", "-m", tiny().path(), "-p", text, "--json"};
        args.insert(args.end(), more.begin(), more.end());
        RunResult r = run_wattle(args);
        EXPECT_EQ(r.code, 0) << r.err;
        return r.out;
    };
    Json whole(run({}));
    EXPECT_EQ(whole.number("tokens"), 301);
    EXPECT_EQ(whole.number("scored_tokens"), 300);
    EXPECT_EQ(whole.number("chunks"), 1);
    EXPECT_NEAR(whole.number("perplexity"), std::exp(whole.number("mean_nll")), 1e-6 * whole.number("perplexity"));
    EXPECT_GT(whole.number("mean_nll_stderr"), 0);
    Json chunked(run({"-c", "50"})); // 50 tokens with the text's BOS, then 49 each: six chunks, the last of 6
    EXPECT_EQ(chunked.number("chunks"), 7);
    EXPECT_EQ(chunked.number("scored_tokens"), 301 - 7);
    EXPECT_EQ(Json(run({"-t", "1"})).number("mean_nll"), whole.number("mean_nll"));
}

TEST(Perplexity, LogitsFileHoldsSortedProbabilities) {
    TempDir dir;
    std::string out = dir.path("logits.jsonl"), text = "the quick brown fox";
    RunResult r = run_wattle({"perplexity", "-m", tiny().path(), "-p", text, "--logits-out", out, "--logits-top", "1000", "--logits-every", "3"});
    ASSERT_EQ(r.code, 0) << r.err;
    std::stringstream lines(read_whole(out));
    int n = 0;
    for (std::string line; std::getline(lines, line); n++) {
        Json j(line);
        EXPECT_EQ(j.number("pos"), 3 * n);
        EXPECT_EQ(j.number("token"), n == 0 ? 256 : (double)(unsigned char)text[3 * (size_t)n - 1]);
        size_t i;
        json_t *v;
        double sum = 0, last = 0;
        json_array_foreach(j.at("logprobs"), i, v) {
            EXPECT_LE(json_number_value(v), last);
            last = json_number_value(v);
            sum += std::exp(last);
        }
        EXPECT_EQ(i, (size_t)TinyModel::kVocab); // asked for more than there are
        EXPECT_NEAR(sum, 1, 1e-5);
        auto ids = j.integers("ids");
        std::sort(ids.begin(), ids.end());
        EXPECT_EQ(std::unique(ids.begin(), ids.end()) - ids.begin(), TinyModel::kVocab);
    }
    EXPECT_EQ(n, 7); // 20 tokens with BOS: positions 0, 3, ..., 18
}

TEST(Perplexity, BadUse) {
    expect_sentence(run_wattle({"perplexity", "-m", tiny().path(), "-p", "ab", "--logits-out", "/dev/full"}), 1, {"/dev/full", "No space left"});
    expect_sentence(run_wattle({"perplexity", "-m", tiny().path(), "-p", "ab", "--logits-out", "/nowhere/x"}), 1, {"/nowhere/x"});
    expect_sentence(run_wattle({"perplexity", "-m", tiny().path(), "-p", ""}), 1, {"at least 2"});
    expect_sentence(run_wattle({"perplexity", "-m", tiny().path(), "-p", "ab", "-c", "1000"}), 1, {"1000", "512"});
}

// ---- A real model --------------------------------------------------------------------------------------------------
class SmolLm2 : public testing::Test {
  protected:
    void SetUp() override {
        model = getenv("WTL_TEST_SMOLLM2");
        if (!model) GTEST_SKIP() << "WTL_TEST_SMOLLM2 is not set: no SmolLM2 file to run";
    }
    const char *model = nullptr;
};

// Pages of the file go back while it is loaded: weights are never resident twice.
TEST_F(SmolLm2, PeakMemoryIsTheFileAndLittleMore) {
    const pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)) _exit(126);
        execl(WTL_BINARY, "wattle", "run", "-m", model, "-p", "hi", "-n", "1", "--meter", "none", "--ledger", "none", nullptr);
        _exit(127);
    }
    int status = 0;
    struct rusage used = {};
    ASSERT_EQ(wait4(child, &status, 0, &used), child);
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    EXPECT_LT(used.ru_maxrss / 1024, (long)(std::filesystem::file_size(model) >> 20) + 48) << "MiB";
}

TEST_F(SmolLm2, KnowsTheCapitalOfFrance) {
    RunResult r = run_wattle({"run", "-m", model, "-p", "The capital of France is", "-n", "1", "--temp", "0"});
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.out, " Paris\n");
}

TEST_F(SmolLm2, ChatFormatEndsByItself) {
    RunResult r = run_wattle({"run", "-m", model, "-p", "<|im_start|>user\nWhat is the capital of Italy?<|im_end|>\n<|im_start|>assistant\n", "--temp", "0", "-n", "120", "--json"});
    ASSERT_EQ(r.code, 0) << r.err;
    Json j(r.out);
    EXPECT_EQ(j.text("stop_reason"), "end");
    EXPECT_EQ(j.text("text").find("<|"), std::string::npos) << j.text("text");
}

TEST_F(SmolLm2, ReferenceBackendGivesTheSameFewTokens) {
    auto run = [&](const char *backend) {
        return Json(run_wattle({"run", "-m", model, "-p", "The capital of France is", "-n", "3", "--temp", "0", "--backend", backend, "--json"}).out).integers("tokens");
    };
    EXPECT_EQ(run("cpu"), run("ref"));
}

TEST_F(SmolLm2, PerplexityOfPlainEnglishIsLow) {
    const char *text = "The sun rises in the east and sets in the west. Water freezes at zero degrees Celsius and boils at one hundred.";
    Json j(run_wattle({"perplexity", "-m", model, "-p", text, "--json"}).out);
    EXPECT_GT(j.number("perplexity"), 2);
    EXPECT_LT(j.number("perplexity"), 20);
}

} // namespace
