// A server with short deadlines, a small set of routes, and raw sockets to talk to it: what the tests of http.h share.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tools/serve/http.h"

namespace http_rig {

using std::string;
constexpr uint64_t ms = 1000000;
inline constexpr std::chrono::seconds patience{20}; // far more than anything here takes

inline uint64_t now_ns() {
    return (uint64_t)std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Waits for a condition that another thread brings about.
inline bool eventually(const std::function<bool()> &holds) {
    uint64_t until = now_ns() + (uint64_t)patience.count() * 1000 * ms;
    while (!holds()) {
        if (now_ns() > until) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
}

struct server {
    http_server *http = nullptr;
    std::function<void(http_call *)> handle;
    std::atomic<int> n_handled{0}, n_too_many{0};
    std::mutex lock;
    std::vector<http_call *> kept; // calls that the handler left open
    string start_error;

    explicit server(std::function<void(http_call *)> handler, http_options options = {}) : handle(std::move(handler)) {
        options.user = this;
        options.handle = [](void *user, http_call *call) {
            auto *self = static_cast<server *>(user);
            self->n_handled++;
            self->handle(call);
        };
        options.too_many = [](void *user) { static_cast<server *>(user)->n_too_many++; };
        char err[HTTP_ERR];
        if (!http_server_start(&options, &http, err)) start_error = err;
    }
    ~server() { http_server_stop(&http); }
    uint16_t port() const { return http_server_port(http); }
    void keep(http_call *call) {
        std::lock_guard<std::mutex> hold(lock);
        kept.push_back(call);
    }
    http_call *next_kept() { // waits for one
        http_call *call = nullptr;
        eventually([&] {
            std::lock_guard<std::mutex> hold(lock);
            if (kept.empty()) return false;
            call = kept.front();
            kept.erase(kept.begin());
            return true;
        });
        return call;
    }
};

inline void reply_text(http_call *call, const string &text, int status = 200) { http_reply(call, status, "text/plain", text.data(), text.size()); }

// A raw client.
class client {
  public:
    explicit client(uint16_t port, int receive_buffer = 0, bool six = false) {
        fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (receive_buffer) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(port);
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        sockaddr_in6 to6{};
        to6.sin6_family = AF_INET6;
        to6.sin6_port = to.sin_port;
        to6.sin6_addr = in6addr_loopback;
        connected = (six ? connect(fd, (sockaddr *)&to6, sizeof to6) : connect(fd, (sockaddr *)&to, sizeof to)) == 0;
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    client(const client &) = delete;
    client(client &&other) noexcept : fd(other.fd), connected(other.connected), closed(other.closed), got(std::move(other.got)) { other.fd = -1; }
    ~client() { leave(); }
    void leave() {
        if (fd >= 0) close(fd);
        fd = -1;
    }
    void send(const string &bytes) { // what the server no longer takes is lost, as the test then sees
        size_t sent = 0;
        while (sent < bytes.size()) {
            ssize_t n = ::send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
            if (n <= 0) return;
            sent += (size_t)n;
        }
    }
    // One more read; false: the server has closed, or nothing came for long.
    bool more(int timeout_ms = 20000) {
        pollfd p{fd, POLLIN, 0};
        if (poll(&p, 1, timeout_ms) <= 0) return false;
        char bytes[65536];
        ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        if (n <= 0) {
            closed = true;
            return false;
        }
        got.append(bytes, (size_t)n);
        return true;
    }
    // Reads on until the text is there; false: closed before.
    bool until(const string &text) {
        while (got.find(text) == string::npos)
            if (!more()) return false;
        return true;
    }
    string until_closed() {
        while (more()) {}
        return got;
    }
    // One answer with Content-Length, taken off what was received: its head and body.
    string answer() {
        if (!until("\r\n\r\n")) return got;
        size_t head = got.find("\r\n\r\n") + 4, at = got.find("Content-Length: ");
        size_t length = at < head ? (size_t)std::stoul(got.substr(at + 16)) : 0;
        while (got.size() < head + length)
            if (!more()) break;
        string one = got.substr(0, head + length);
        got.erase(0, one.size());
        return one;
    }
    string ask(const string &bytes) {
        send(bytes);
        return answer();
    }
    int fd = -1;
    bool connected = false, closed = false;
    string got;
};

inline string get(const string &path, const string &more = "") { return "GET " + path + " HTTP/1.1\r\nHost: a\r\n" + more + "\r\n"; }

inline int status_of(const string &answer) { return answer.compare(0, 7, "HTTP/1.") == 0 ? atoi(answer.c_str() + 9) : 0; }
inline string body_of(const string &answer) {
    size_t at = answer.find("\r\n\r\n");
    return at == string::npos ? "" : answer.substr(at + 4);
}
inline bool has(const string &text, const string &part) { return text.find(part) != string::npos; }

// The data of a chunked body, up to its end or what there is.
inline string unchunk(const string &body) {
    string out;
    size_t at = 0;
    while (at < body.size()) {
        size_t eol = body.find("\r\n", at);
        if (eol == string::npos) break;
        size_t len = (size_t)strtoul(body.c_str() + at, nullptr, 16);
        if (len == 0) break;
        out += body.substr(eol + 2, len);
        at = eol + 2 + len + 2;
    }
    return out;
}

inline int n_open_files() {
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

} // namespace http_rig
