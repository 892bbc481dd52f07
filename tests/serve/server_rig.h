// The built `wattle serve` as a child process on a free port, and a plain HTTP client: what tests of the whole server share.
//
//     TinyModel model({});                                   // tests/support/tiny_model.h
//     ServerRig server(model.path(), {"--meter", "none"});   // returns when it answers; asserts with the log when it does not
//     auto r = server.post("/v1/completions", R"({"prompt": "a", "max_tokens": 4})");
//     Json body(r.body);
//
// The child has an empty home of its own (its ledger lies there), no WTL_ variables, and logs JSON lines, which log() gives and await() waits for.
// The destructor asks it to end and kills it, by its process id, when it does not. What sanitizers say in the child fails the test.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_SERVER_RIG_H
#define WTL_TESTS_SERVER_RIG_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "tests/e2e/run_binary.h"

struct HttpReply {
    int status = 0;                             // 0: no answer
    std::map<std::string, std::string> headers; // names in lower case
    std::string body;                           // without chunk framing
    bool whole = false;                         // it ended as it should
};

// One connection, one request; for streams: read piece by piece, or leave in the middle.
class HttpClient {
  public:
    explicit HttpClient(int port, int receive_bytes = 0) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        if (receive_bytes) setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
        struct sockaddr_in to = {};
        to.sin_family = AF_INET;
        to.sin_port = htons((uint16_t)port);
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        struct timeval patience = {60, 0};
        setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        connected_ = connect(fd_, (struct sockaddr *)&to, sizeof to) == 0;
    }
    ~HttpClient() { leave(); }
    HttpClient(const HttpClient &) = delete;
    bool connected() const { return connected_; }
    void leave() {
        if (fd_ >= 0) close(fd_);
        fd_ = -1;
    }
    // headers: "Name: value" each.
    void send(const std::string &method, const std::string &path, const std::string &body = "", const std::vector<std::string> &headers = {}) {
        std::string text = method + " " + path + " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n";
        for (const std::string &h : headers) text += h + "\r\n";
        if (method == "POST") text += "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
        text += "\r\n" + body;
        for (size_t sent = 0; sent < text.size();) {
            ssize_t n = ::send(fd_, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
            if (n <= 0) return;
            sent += (size_t)n;
        }
    }
    // Everything that has come so far; reads until it holds `words`, or the connection ends. True: it holds them.
    bool read_until(const std::string &words) {
        while (raw_.find(words) == std::string::npos)
            if (!more()) return false;
        return true;
    }
    const std::string &raw() const { return raw_; }
    HttpReply reply() { // reads to the end
        while (more()) {
        }
        return parse(raw_);
    }

  private:
    bool more() {
        char buffer[16384];
        ssize_t n = fd_ < 0 ? 0 : recv(fd_, buffer, sizeof buffer, 0);
        if (n > 0) raw_.append(buffer, (size_t)n);
        return n > 0;
    }
    static HttpReply parse(const std::string &raw) {
        HttpReply r;
        size_t head = raw.find("\r\n\r\n");
        if (head == std::string::npos || sscanf(raw.c_str(), "HTTP/1.1 %d", &r.status) != 1) return r;
        std::stringstream lines(raw.substr(0, head));
        std::string line;
        std::getline(lines, line);
        while (std::getline(lines, line)) {
            size_t colon = line.find(':');
            if (colon == std::string::npos) continue;
            std::string name = line.substr(0, colon);
            for (char &c : name) c = (char)tolower((unsigned char)c);
            size_t from = line.find_first_not_of(" \t", colon + 1), to = line.find_last_not_of(" \t\r");
            r.headers[name] = from == std::string::npos || to < from ? "" : line.substr(from, to - from + 1);
        }
        std::string rest = raw.substr(head + 4);
        if (r.headers["transfer-encoding"] == "chunked") return unchunk(rest, r);
        r.body = rest;
        r.whole = !r.headers.count("content-length") || rest.size() == std::stoul(r.headers["content-length"]);
        return r;
    }
    static HttpReply unchunk(const std::string &rest, HttpReply r) {
        for (size_t at = 0; at < rest.size();) {
            size_t end = rest.find("\r\n", at);
            if (end == std::string::npos) break;
            size_t n = strtoul(rest.c_str() + at, nullptr, 16);
            r.whole = n == 0;
            if (n == 0 || end + 2 + n > rest.size()) break;
            r.body += rest.substr(end + 2, n);
            at = end + 2 + n + 2;
        }
        return r;
    }
    int fd_;
    bool connected_ = false;
    std::string raw_;
};

class ServerRig {
  public:
    struct Options {
        std::vector<std::string> env;   // "NAME=value"
        bool wait_ready = true;         // else it only listens
        bool expect_failure = false;    // it is no mistake when it ends at once: see wait_exit
        std::string home;               // instead of an empty one
    };
    explicit ServerRig(const std::string &model, const std::vector<std::string> &args = {}) : ServerRig(model, args, Options()) {}
    ServerRig(const std::string &model, const std::vector<std::string> &args, const Options &options) { start(model, args, options); }
    ~ServerRig() {
        if (pid_ > 0) {
            kill(pid_, SIGTERM);
            wait_exit(30);
        }
        if (reader_.joinable()) reader_.join();
        EXPECT_EQ(log_.find("Sanitizer"), std::string::npos) << log_;
        EXPECT_EQ(log_.find("runtime error:"), std::string::npos) << log_;
    }
    ServerRig(const ServerRig &) = delete;

    int port() const { return port_; }
    pid_t pid() const { return pid_; }
    std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
    std::string home() const { return options_.home.empty() ? home_.path() : options_.home; }
    std::string ledger() const { return home() + "/.local/state/wattle/ledger.db"; }

    HttpReply request(const std::string &method, const std::string &path, const std::string &body = "", const std::vector<std::string> &headers = {}) const {
        HttpClient client(port_);
        client.send(method, path, body, headers);
        return client.reply();
    }
    HttpReply get(const std::string &path, const std::vector<std::string> &headers = {}) const { return request("GET", path, "", headers); }
    HttpReply post(const std::string &path, const std::string &body, const std::vector<std::string> &headers = {}) const { return request("POST", path, body, headers); }

    std::string log() { // all lines so far
        std::lock_guard<std::mutex> hold(mutex_);
        return log_;
    }
    // Waits until a line of the log holds all of the words; "" when the child ended or 60 s have passed.
    std::string await(const std::vector<std::string> &words, int n_before = 0) {
        std::unique_lock<std::mutex> hold(mutex_);
        std::string found;
        news_.wait_for(hold, std::chrono::seconds(60), [&] {
            found = find_line(words, n_before);
            return !found.empty() || ended_;
        });
        return found;
    }
    void signal(int number) const {
        if (pid_ > 0) kill(pid_, number);
    }
    // The exit code, 128 + signal; -1: it did not end in time and was killed.
    int wait_exit(int timeout_s = 60) {
        if (pid_ <= 0) return code_;
        bool late;
        {
            std::unique_lock<std::mutex> hold(mutex_); // standard error ends with the process
            late = !news_.wait_for(hold, std::chrono::seconds(timeout_s), [&] { return ended_; });
        }
        if (late) kill(pid_, SIGKILL);
        int status = 0;
        waitpid(pid_, &status, 0);
        pid_ = -1;
        code_ = late ? -1 : WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        return code_;
    }

  private:
    std::string find_line(const std::vector<std::string> &words, int n_before) const {
        std::stringstream lines(log_);
        for (std::string line; std::getline(lines, line);) {
            bool all = true;
            for (const std::string &w : words) all &= line.find(w) != std::string::npos;
            if (all && n_before-- == 0) return line;
        }
        return "";
    }
    void start(const std::string &model, const std::vector<std::string> &args, const Options &options) {
        options_ = options;
        std::vector<std::string> words = {WTL_BINARY, "serve", "--port", "0", "--log-json"}, env;
        if (!model.empty()) words.insert(words.end(), {"-m", model});
        words.insert(words.end(), args.begin(), args.end());
        for (char **e = environ; *e; e++)
            if (strncmp(*e, "WTL_", 4) != 0 && strncmp(*e, "XDG_", 4) != 0 && strncmp(*e, "HOME=", 5) != 0) env.push_back(*e);
        env.push_back("HOME=" + home());
        env.insert(env.end(), options.env.begin(), options.env.end());
        std::vector<char *> argv, envp;
        for (auto &w : words) argv.push_back(w.data());
        for (auto &e : env) envp.push_back(e.data());
        argv.push_back(nullptr);
        envp.push_back(nullptr);
        int err[2];
        if (pipe2(err, O_CLOEXEC)) abort();
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, err[1], 2);
        if (posix_spawnp(&pid_, argv[0], &actions, nullptr, argv.data(), envp.data()) != 0) pid_ = -1;
        posix_spawn_file_actions_destroy(&actions);
        close(err[1]);
        reader_ = std::thread([this, fd = err[0]] { read_log(fd); });
        std::string listening = await({"\"event\": \"listening\""});
        size_t at = listening.find("\"port\": ");
        if (at != std::string::npos) port_ = atoi(listening.c_str() + at + 8);
        if (options.wait_ready && !options.expect_failure) {
            EXPECT_NE(await({"\"event\": \"ready\""}), "") << log();
        }
        if (!options.expect_failure) {
            EXPECT_GT(port_, 0) << log();
        }
    }
    void read_log(int fd) {
        char buffer[4096];
        for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) > 0;) {
            std::lock_guard<std::mutex> hold(mutex_);
            log_.append(buffer, (size_t)n);
            news_.notify_all();
        }
        close(fd);
        std::lock_guard<std::mutex> hold(mutex_);
        ended_ = true;
        news_.notify_all();
    }
    TempDir home_;
    Options options_;
    pid_t pid_ = -1;
    int port_ = 0, code_ = -1;
    std::thread reader_;
    std::mutex mutex_;
    std::condition_variable news_;
    std::string log_;
    bool ended_ = false;
};

#endif
