// What the command line says to right and wrong use, without any model.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "tests/e2e/run_binary.h"

namespace {

const std::vector<std::string> kCommands = {"run", "fetch", "info", "tokenize", "perplexity", "bench"};

TEST(Usage, HelpListsEveryCommand) {
    RunResult r = run_wattle({"--help"});
    EXPECT_EQ(r.code, 0);
    EXPECT_EQ(r.err, "");
    for (const std::string &c : kCommands) EXPECT_NE(r.out.find("  " + c + " "), std::string::npos) << c;
}

TEST(Usage, EveryCommandHasHelpWithEnvironmentNames) {
    for (const std::string &c : kCommands) {
        RunResult r = run_wattle({c, "--help"});
        EXPECT_EQ(r.code, 0) << c;
        EXPECT_EQ(r.err, "") << c;
        EXPECT_NE(r.out.find("usage: wattle " + c), std::string::npos) << r.out;
        EXPECT_NE(r.out.find("[WTL_"), std::string::npos) << r.out;
        EXPECT_EQ(r.out.back(), '\n') << c;
        // Options stay within a hundred columns.
        std::stringstream lines(r.out.substr(0, r.out.find("\nThe name in brackets")));
        for (std::string line; std::getline(lines, line);)
            EXPECT_LE(line.size(), 100u) << c << ": " << line;
    }
    for (const char *word : {"audit", "calibrate"}) EXPECT_EQ(run_wattle({"meters", word, "--help"}).out.back(), '\n') << word;
}

TEST(Usage, Version) {
    RunResult r = run_wattle({"--version"});
    EXPECT_EQ(r.code, 0);
    EXPECT_EQ(r.out.rfind("wattle ", 0), 0u) << r.out;
}

TEST(Usage, CMakeInstallsTheProgram) {
    TempDir dir;
    RunOptions o;
    o.env = {"D=" + dir.path()};
    o.before = {"bash", "-c", "cmake --install \"$(dirname \"$1\")\" --prefix \"$D\" >/dev/null && exec \"$D/bin/wattle\" --version", "bash"};
    RunResult r = run_wattle({}, o);
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.out.rfind("wattle ", 0), 0u) << r.out;
    EXPECT_TRUE(std::filesystem::exists(dir.path("share/doc/wattle/README.md"))); // where the systemd unit says it is
}

TEST(Usage, UnknownCommandNamesTheNearest) {
    expect_sentence(run_wattle({"rnu"}), 2, {"'rnu'", "wattle run"});
    expect_sentence(run_wattle({"tokenise"}), 2, {"wattle tokenize"});
    expect_sentence(run_wattle({"qqqqqqqqqq"}), 2, {"--help"});
    expect_sentence(run_wattle({std::string(100000, 'x')}), 2, {"--help"});
    expect_sentence(run_wattle({""}), 2, {"--help"});
    expect_sentence(run_wattle({}), 2, {"--help"});
}

TEST(Usage, UnknownOptionPointsToHelp) {
    for (const std::string &c : kCommands) {
        expect_sentence(run_wattle({c, "--no-such-option"}), 2, {"--no-such-option", "wattle " + c + " --help"});
        expect_sentence(run_wattle({c, "-Q"}), 2, {"-Q", "wattle " + c + " --help"});
    }
    expect_sentence(run_wattle({"run", "--json=yes"}), 2, {"--json", "no value"});
    expect_sentence(run_wattle({"run", "-n"}), 2, {"--n-predict", "needs a value"});
    expect_sentence(run_wattle({"run", "words", "here"}), 2, {"'words'"});
    expect_sentence(run_wattle({"run", "--seed", "-1"}), 2, {"--seed -1", "0 to 9007199254740991\n"});
}

TEST(Usage, ServeTakesTheCacheTypesOfLlamaServerTogether) {
    expect_sentence(run_wattle({"serve", "-m", "x", "-ctk", "q8_0"}), 2, {"-ctk q8_0 -ctv f16", "same type"});
    expect_sentence(run_wattle({"serve", "-m", "x", "-ctk", "q8_0", "-ctv", "q8_0", "--kv", "f16"}), 2, {"--kv f16", "-ctk q8_0"});
    expect_sentence(run_wattle({"serve", "-m", "x", "--cache-type-v", "q4_0"}), 2, {"--cache-type-v q4_0", "q8_0"});
    expect_sentence(run_wattle({"serve", "-m", "/no/such/file", "-ctk", "q8_0", "-ctv", "q8_0"}), 1, {"/no/such/file"}); // accepted
}

TEST(Usage, ValuesOutsideTheRangeAreNamed) {
    expect_sentence(run_wattle({"run", "-t", "0", "-p", "x"}), 2, {"--threads 0", "1 to 1024"});
    expect_sentence(run_wattle({"run", "-t", "-3"}), 2, {"--threads -3", "1 to 1024"});
    expect_sentence(run_wattle({"run", "-t", "two"}), 2, {"--threads two", "whole number"});
    expect_sentence(run_wattle({"run", "-t", "2x"}), 2, {"--threads 2x"});
    expect_sentence(run_wattle({"run", "-t", ""}), 2, {"--threads"});
    expect_sentence(run_wattle({"run", "-n", "99999999999999999999999"}), 2, {"--n-predict"});
    expect_sentence(run_wattle({"run", "--temp", "nan"}), 2, {"--temp nan"});
    expect_sentence(run_wattle({"run", "--top-p", "1.5"}), 2, {"--top-p 1.5", "to 1"});
    expect_sentence(run_wattle({"run", "--backend", "gpu"}), 2, {"--backend gpu", "cpu or ref"});
    expect_sentence(run_wattle({"run", "--kv", "q8"}), 2, {"f16 or f32"});
}

TEST(Usage, EnvironmentIsReadAndNamedWhenWrong) {
    expect_sentence(run_wattle({"run", "-p", "x"}, with_env({"WTL_THREADS=0"})), 2, {"WTL_THREADS=0", "1 to 1024"});
    expect_sentence(run_wattle({"run", "-p", "x"}, with_env({"WTL_JSON=maybe"})), 2, {"WTL_JSON=maybe"});
    // The command line wins: the message is then about something else.
    expect_sentence(run_wattle({"run", "-p", "x", "-m", "/nowhere/a.gguf"}, with_env({"WTL_MODEL=/nowhere/b.gguf"})), 1, {"/nowhere/a.gguf"});
    expect_sentence(run_wattle({"run", "-p", "x"}, with_env({"WTL_MODEL=/nowhere/b.gguf"})), 1, {"/nowhere/b.gguf"});
}

TEST(Usage, MissingModelNamesFetch) {
    expect_sentence(run_wattle({"run", "-p", "x"}), 1, {"wattle fetch smollm2", ".gguf"});
    TempDir cache;
    expect_sentence(run_wattle({"run", "-p", "x"}, with_env({"XDG_CACHE_HOME=" + cache.path()})), 1, {cache.path() + "/wattle/"});
    expect_sentence(run_wattle({"run", "-p", "x"}, with_env({"HOME="})), 2, {"-m FILE"});
}

TEST(Usage, TextComesFromOnePlaceAndIsUtf8) {
    TempDir dir;
    expect_sentence(run_wattle({"run", "-p", "x", "-f", "y"}), 2, {"--prompt", "--file"});
    expect_sentence(run_wattle({"run", "-f", "/nowhere/text"}), 1, {"/nowhere/text", "No such file"});
    expect_sentence(run_wattle({"run", "-f", dir.path()}), 1, {dir.path(), "directory"});
    for (const char *bad : {"\xff", "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80"})
        expect_sentence(run_wattle({"run", "-p", std::string("four") + bad}), 1, {"UTF-8", "byte 4"});
    expect_sentence(run_wattle({"run"}, with_input("good\n\xe2\x82")), 1, {"standard input", "byte 5"});
    std::string file = dir.write("latin1.txt", "caf\xe9");
    expect_sentence(run_wattle({"run", "-f", file}), 1, {file, "byte 3", "0xE9"});
}

TEST(Usage, FullDiskOnStandardOutputIsReported) {
    RunResult r = run_wattle({"--help"}, with_full_output());
    expect_sentence(r, 1, {"standard output", "No space left"});
}

} // namespace
