// Runs the built `wattle` (or another program) as a person would: arguments, environment, standard input, signals.
//
// The environment is the test's own without WTL_ variables, with an empty home directory, so that nothing of the machine's
// own cache is seen. A run that lasts longer than its timeout is killed and has code -1.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_RUN_BINARY_H
#define WTL_TESTS_RUN_BINARY_H

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <jansson.h>

extern char **environ;

struct RunOptions {
    std::vector<std::string> env;   // "NAME=value"
    std::string input;              // standard input; at most what a pipe holds (64 KiB)
    int timeout_s = 120;
    std::vector<std::string> before; // words in front of the program: a wrapper
    int interrupt_after_bytes = -1; // SIGINT once so many bytes of standard output came
    bool close_out = false;         // close our end of standard output after the first bytes
};

inline RunOptions with_env(std::vector<std::string> env) {
    RunOptions o;
    o.env = std::move(env);
    return o;
}
inline RunOptions with_input(std::string input) {
    RunOptions o;
    o.input = std::move(input);
    return o;
}
// Standard output that is always full.
inline RunOptions with_full_output() {
    RunOptions o;
    o.before = {"bash", "-c", "exec \"$@\" >/dev/full", "bash"};
    return o;
}

struct RunResult {
    int code = -1; // exit code, 128 + signal
    std::string out, err;
};

// A folder that goes with its contents.
class TempDir {
  public:
    TempDir() {
        std::string pattern = (std::filesystem::temp_directory_path() / "wattle-e2e-XXXXXX").string();
        path_ = mkdtemp(pattern.data());
    }
    ~TempDir() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TempDir(const TempDir &) = delete;
    std::string path(const std::string &name = "") const { return name.empty() ? path_ : path_ + "/" + name; }
    std::string write(const std::string &name, const std::string &content, bool executable = false) const {
        std::ofstream(path(name), std::ios::binary) << content;
        if (executable) std::filesystem::permissions(path(name), std::filesystem::perms::owner_all);
        return path(name);
    }

  private:
    std::string path_;
};

inline std::string read_whole(const std::string &path) {
    std::ifstream in(path, std::ios::binary);
    std::stringstream all;
    all << in.rdbuf();
    return all.str();
}

inline RunResult run_wattle(const std::vector<std::string> &args, const RunOptions &o = {}) {
    static TempDir home;
    std::vector<std::string> words = o.before, env;
    words.push_back(WTL_BINARY);
    words.insert(words.end(), args.begin(), args.end());
    for (char **e = environ; *e; e++)
        if (strncmp(*e, "WTL_", 4) != 0 && strncmp(*e, "XDG_CACHE_HOME=", 15) != 0 && strncmp(*e, "XDG_STATE_HOME=", 15) != 0 && strncmp(*e, "HOME=", 5) != 0) env.push_back(*e);
    env.push_back("HOME=" + home.path());
    for (const std::string &e : o.env) { // an entry of ours replaces the inherited one
        std::string name = e.substr(0, e.find('=') + 1);
        for (size_t i = 0; i < env.size(); i++)
            if (env[i].compare(0, name.size(), name) == 0) env.erase(env.begin() + (long)i--);
        env.push_back(e);
    }
    std::vector<char *> argv, envp;
    for (auto &w : words) argv.push_back(w.data());
    for (auto &e : env) envp.push_back(e.data());
    argv.push_back(nullptr);
    envp.push_back(nullptr);

    int in[2], out[2], err[2];
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC)) abort();
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_adddup2(&actions, err[1], 2);
    RunResult result;
    pid_t child = -1;
    if (posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), envp.data()) != 0) child = -1;
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    close(err[1]);
    signal(SIGPIPE, SIG_IGN);
    if (write(in[1], o.input.data(), o.input.size()) < 0) result.err = ""; // a child that does not read is fine
    close(in[1]);
    if (child < 0) {
        close(out[0]);
        close(err[0]);
        return result;
    }

    auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(o.timeout_s);
    bool interrupted = false, late = false;
    struct pollfd ends[2] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
    while (ends[0].fd >= 0 || ends[1].fd >= 0) {
        auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
        if (left <= 0 || poll(ends, 2, (int)left) <= 0) {
            kill(child, SIGKILL);
            late = true;
            break;
        }
        for (int i = 0; i < 2; i++) {
            if (ends[i].fd < 0 || !ends[i].revents) continue;
            char buffer[4096];
            ssize_t got = read(ends[i].fd, buffer, sizeof buffer);
            if (got > 0) (i == 0 ? result.out : result.err).append(buffer, (size_t)got);
            if (got <= 0 || (i == 0 && o.close_out)) {
                close(ends[i].fd);
                ends[i].fd = -1;
            }
        }
        if (o.interrupt_after_bytes >= 0 && !interrupted && (int)result.out.size() >= o.interrupt_after_bytes) {
            interrupted = true;
            kill(child, SIGINT);
        }
    }
    for (auto &end : ends)
        if (end.fd >= 0) close(end.fd);
    int status = 0;
    waitpid(child, &status, 0);
    result.code = late ? -1 : WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return result;
}

// The run failed with this code and exactly one line on standard error, which holds all of the words; nothing on standard output.
inline void expect_sentence(const RunResult &r, int code, const std::vector<std::string> &words) {
    EXPECT_EQ(r.code, code) << r.err;
    EXPECT_EQ(r.out, "");
    EXPECT_EQ(r.err.rfind("wattle: ", 0), 0u) << r.err;
    EXPECT_EQ(std::count(r.err.begin(), r.err.end(), '\n'), 1) << r.err;
    for (const std::string &word : words) EXPECT_NE(r.err.find(word), std::string::npos) << "'" << word << "' is not in: " << r.err;
}

// A JSON object that goes with the test.
class Json {
  public:
    explicit Json(const std::string &text) : value_(json_loads(text.c_str(), JSON_ALLOW_NUL, nullptr)) { EXPECT_NE(value_, nullptr) << text.substr(0, 2000); }
    ~Json() { json_decref(value_); }
    Json(const Json &) = delete;
    json_t *at(const std::string &path) const { // "timings.ttft_ms"
        json_t *v = value_;
        std::stringstream parts(path);
        for (std::string part; std::getline(parts, part, '.');) v = json_object_get(v, part.c_str());
        EXPECT_NE(v, nullptr) << path << " is missing";
        return v;
    }
    std::string text(const std::string &path) const {
        const char *s = json_string_value(at(path));
        return s ? std::string(s, json_string_length(at(path))) : "";
    }
    double number(const std::string &path) const { return json_number_value(at(path)); }
    std::vector<int64_t> integers(const std::string &path) const {
        std::vector<int64_t> out;
        size_t i;
        json_t *v;
        json_array_foreach(at(path), i, v) out.push_back(json_integer_value(v));
        return out;
    }

  private:
    json_t *value_;
};

#endif
