// The HTTP server with requests that are framed wrongly or strangely: what each one gets, whether its connection is closed, and that no
// part of it is ever taken for a second request. The handler counts what it is given.
//
// Status 0: the connection is closed without an answer. An error page in HTML is libmicrohttpd's own: it refuses before we see anything.
// SPDX-License-Identifier: Apache-2.0
#include "tests/serve/http_rig.h"

using namespace http_rig;
using namespace std::string_literals;

namespace {

enum after { OPEN, CLOSED };

struct framing {
    const char *name;
    string bytes;
    int status; // of the first answer
    after then;
    int n_handled;
    string body = ""; // of the first answer, when it was handled: "METHOD PATH BODY"
};

const string host = "Host: a\r\n";
const string get_start = "GET /one HTTP/1.1\r\n" + host, post_start = "POST /one HTTP/1.1\r\n" + host;
const string second = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"; // would be handled if the framing before it were misread
const string fourty(40000, 'x');

const std::vector<framing> &cases() {
    static const std::vector<framing> all = {
        // ---- Content-Length
        {"one length", post_start + "Content-Length: 3\r\n\r\nabc", 200, OPEN, 1, "POST /one abc"},
        {"two lengths, the same", post_start + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc" + second, 400, CLOSED, 0},
        {"two lengths, different", post_start + "Content-Length: 3\r\nContent-Length: 0\r\n\r\nabc" + second, 400, CLOSED, 0},
        {"two lengths, other case", post_start + "content-length: 0\r\nCONTENT-LENGTH: 37\r\n\r\n" + second, 400, CLOSED, 0},
        {"a list of lengths", post_start + "Content-Length: 3, 3\r\n\r\nabc" + second, 400, CLOSED, 0},
        {"negative length", post_start + "Content-Length: -1\r\n\r\nabc" + second, 400, CLOSED, 0},
        {"length with a plus", post_start + "Content-Length: +3\r\n\r\nabc" + second, 400, CLOSED, 0},
        {"hexadecimal length", post_start + "Content-Length: 0x3\r\n\r\nabc" + second, 400, CLOSED, 0},
        {"empty length", post_start + "Content-Length:\r\n\r\n" + second, 400, CLOSED, 0},
        {"length with a word", post_start + "Content-Length: 3 abc\r\n\r\nabc" + second, 400, CLOSED, 0},
        {"length beyond 64 bits", post_start + "Content-Length: 18446744073709551619\r\n\r\nabc" + second, 413, CLOSED, 0},
        {"length over the limit", post_start + "Content-Length: 4097\r\n\r\nabc", 413, CLOSED, 0},
        {"length at the limit", post_start + "Content-Length: 4096\r\n\r\n" + string(4096, 'b'), 200, OPEN, 1, "POST /one " + string(4096, 'b')},
        {"length over the limit, asking first", post_start + "Content-Length: 4097\r\nExpect: 100-continue\r\n\r\n", 413, CLOSED, 0},
        {"leading zeros are digits", post_start + "Content-Length: 003\r\n\r\nabc", 200, OPEN, 1, "POST /one abc"},
        // ---- Transfer-Encoding
        {"chunked", post_start + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200, OPEN, 1, "POST /one abc"},
        {"chunked, other case", post_start + "transfer-encoding: ChunKed\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200, OPEN, 1, "POST /one abc"},
        {"length and chunked", post_start + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second, 400, CLOSED, 0},
        {"chunked and length", post_start + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + second, 400, CLOSED, 0},
        {"chunked twice in one header", post_start + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + second, 501, CLOSED, 0},
        {"chunked in two headers", post_start + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second, 501, CLOSED, 0},
        {"gzip, chunked", post_start + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + second, 501, CLOSED, 0},
        {"gzip", post_start + "Transfer-Encoding: gzip\r\n\r\n" + second, 501, CLOSED, 0},
        {"identity", post_start + "Transfer-Encoding: identity\r\n\r\n" + second, 501, CLOSED, 0},
        {"identity and chunked in two headers", post_start + "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second, 501, CLOSED, 0},
        {"an empty coding", post_start + "Transfer-Encoding:\r\n\r\n0\r\n\r\n" + second, 501, CLOSED, 0},
        {"chunked with a tail", post_start + "Transfer-Encoding: chunked;x\r\n\r\n0\r\n\r\n" + second, 501, CLOSED, 0},
        {"chunked with a vertical tab", post_start + "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n" + second, 400, CLOSED, 0},
        {"chunked in HTTP/1.0", "POST /one HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second, 400, CLOSED, 0},
        // ---- Chunks
        {"chunk extension", post_start + "Transfer-Encoding: chunked\r\n\r\n3;name=value\r\nabc\r\n0\r\n\r\n", 200, OPEN, 1, "POST /one abc"},
        {"trailers are left out", post_start + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-A: b\r\nContent-Length: 9\r\n\r\n", 200, OPEN, 1, "POST /one abc"},
        {"chunk size is no number", post_start + "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n" + second, 400, CLOSED, 0},
        {"negative chunk size", post_start + "Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n" + second, 400, CLOSED, 0},
        {"chunk size with 0x", post_start + "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n" + second, 400, CLOSED, 0},
        {"empty chunk size", post_start + "Transfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n" + second, 400, CLOSED, 0},
        {"chunk size beyond 64 bits", post_start + "Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n" + second, 413, CLOSED, 0},
        {"huge chunk size", post_start + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + fourty, 413, CLOSED, 0},
        {"chunk without its line end", post_start + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcX0\r\n\r\n" + second, 400, CLOSED, 0},
        {"chunks over the limit", post_start + "Transfer-Encoding: chunked\r\n\r\n1001\r\n" + string(4097, 'c') + "\r\n0\r\n\r\n" + second, 413, CLOSED, 0},
        {"many chunks over the limit", post_start + "Transfer-Encoding: chunked\r\n\r\n800\r\n" + string(2048, 'c') + "\r\n801\r\n" + string(2049, 'c') + "\r\n0\r\n\r\n", 413, CLOSED, 0},
        // ---- Host
        {"no Host", "GET /one HTTP/1.1\r\n\r\n" + second, 400, CLOSED, 0},
        {"two Hosts", get_start + "Host: b\r\n\r\n" + second, 400, CLOSED, 0},
        {"two Hosts, the same", get_start + host + "\r\n" + second, 400, CLOSED, 0},
        {"HTTP/1.0 needs none", "GET /one HTTP/1.0\r\n\r\n", 200, CLOSED, 1, "GET /one "},
        // ---- Names and values
        {"space before the colon", get_start + "X-A : b\r\n\r\n" + second, 400, CLOSED, 0},
        {"space before the colon of a coding", post_start + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + second, 400, CLOSED, 0},
        {"tab before the colon of a length", post_start + "Content-Length\t: 37\r\n\r\n" + second, 400, CLOSED, 0},
        {"name with a space", get_start + "X A: b\r\n\r\n" + second, 400, CLOSED, 0},
        {"name with a bracket", get_start + "X(A): b\r\n\r\n" + second, 400, CLOSED, 0},
        {"name beyond ASCII", get_start + "X-\xC3\xA4: b\r\n\r\n" + second, 400, CLOSED, 0},
        {"no name", get_start + ": b\r\n\r\n" + second, 400, CLOSED, 0},
        {"no name, last", get_start + "X-A: b\r\n: b\r\n\r\n" + second, 400, CLOSED, 0},
        {"an empty value and spaces around others", get_start + "X-A:\r\nX-B: \t b \t\r\nX-C:c\r\n\r\n", 200, OPEN, 1, "GET /one "},
        {"no colon", get_start + "X-A\r\n\r\n" + second, 400, CLOSED, 0},
        {"NUL in a name", get_start + "X-\0A: b\r\n\r\n"s + second, 400, CLOSED, 0},
        {"NUL in a value", get_start + "X-A: b\0c\r\n\r\n"s + second, 400, CLOSED, 0},
        {"NUL in a coding", post_start + "Transfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n"s + second, 400, CLOSED, 0},
        {"control character in a value", get_start + "X-A: b\x01\r\n\r\n" + second, 400, CLOSED, 0},
        {"bytes above ASCII in a value", get_start + "X-A: \xC3\xA4\r\n\r\n", 200, OPEN, 1, "GET /one "},
        {"bare CR in a value", get_start + "X-A: b\rContent-Length: 37\r\n\r\n" + second, 400, CLOSED, 0},
        {"folded value", get_start + "X-A: b\r\n c\r\n\r\n" + second, 400, CLOSED, 0},
        {"folded value, last", get_start + "X-A:\r\n b\r\n\r\n" + second, 400, CLOSED, 0},
        {"folded length", post_start + "Content-Length: 3\r\n 7\r\n\r\n" + second, 400, CLOSED, 0},
        {"folded coding", post_start + "Transfer-Encoding: chu\r\n nked\r\n\r\n0\r\n\r\n" + second, 400, CLOSED, 0},
        {"a fold first", "GET /one HTTP/1.1\r\n X-A: b\r\n" + host + "\r\n" + second, 400, CLOSED, 0},
        // ---- Lines
        {"bare LF everywhere", "GET /one HTTP/1.1\nHost: a\n\n", 200, OPEN, 1, "GET /one "},
        {"empty lines first", "\r\n\r\n" + get_start + "\r\n", 200, OPEN, 1, "GET /one "},
        {"header over 32 KiB", get_start + "X-A: " + fourty + "\r\n\r\n", 431, CLOSED, 0},
        {"target over 32 KiB", "GET /" + fourty + " HTTP/1.1\r\n" + host + "\r\n", 414, CLOSED, 0},
        {"HTTP/0.9", "GET /one\r\n\r\n", 400, CLOSED, 0},
        {"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, CLOSED, 0},
        {"HTTP/1.2", "GET /one HTTP/1.2\r\n" + host + "\r\n", 505, CLOSED, 0},
        {"HTTP/1.10", "GET /one HTTP/1.10\r\n" + host + "\r\n", 400, CLOSED, 0},
        {"small letters", "GET /one http/1.1\r\n" + host + "\r\n", 400, CLOSED, 0},
        {"garbage", "\x16\x03\x01\x02\x00\x01\xfc\x03\x03\r\n\r\n"s, 0, CLOSED, 0},
        {"a method with a bracket", "G(T /one HTTP/1.1\r\n" + host + "\r\n" + second, 400, CLOSED, 0},
        // ---- Targets
        {"absolute form", "GET http://a/one?x=1 HTTP/1.1\r\n" + host + "\r\n", 200, OPEN, 1, "GET /one "},
        {"absolute form without a path", "GET http://a HTTP/1.1\r\n" + host + "\r\n", 200, OPEN, 1, "GET / "},
        {"authority form", "CONNECT a:80 HTTP/1.1\r\n" + host + "\r\n" + second, 400, CLOSED, 0},
        {"no slash", "GET one HTTP/1.1\r\n" + host + "\r\n" + second, 400, CLOSED, 0},
        {"broken escape", "GET /a%2 HTTP/1.1\r\n" + host + "\r\n" + second, 400, CLOSED, 0},
        {"broken escape in the query", "GET /a?b=%zz HTTP/1.1\r\n" + host + "\r\n" + second, 400, CLOSED, 0},
        {"NUL escape", "GET /a%00b HTTP/1.1\r\n" + host + "\r\n" + second, 400, CLOSED, 0},
        {"NUL escape in the query", "GET /a?b=%00 HTTP/1.1\r\n" + host + "\r\n" + second, 400, CLOSED, 0},
        {"NUL in the path", "GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n"s + second, 400, CLOSED, 0},
        {"not UTF-8", "GET /%ff%fe HTTP/1.1\r\n" + host + "\r\n" + second, 400, CLOSED, 0},
        {"overlong UTF-8", "GET /%c0%af HTTP/1.1\r\n" + host + "\r\n" + second, 400, CLOSED, 0},
        {"a space in the path", "GET /a b HTTP/1.1\r\n" + host + "\r\n" + second, 0, CLOSED, 0},
        {"a fragment", "GET /a#b HTTP/1.1\r\n" + host + "\r\n" + second, 400, CLOSED, 0},
        {"dots are just a path", "GET /a/../../etc HTTP/1.1\r\n" + host + "\r\n", 200, OPEN, 1, "GET /a/../../etc "},
        // ---- More than one, and asking first
        {"pipelined", get_start + "\r\nGET /two HTTP/1.1\r\nHost: a\r\n\r\nGET /three HTTP/1.1\r\nHost: a\r\n\r\n", 200, OPEN, 3, "GET /one "},
        {"a body after GET", get_start + "Content-Length: 3\r\n\r\nabcGET /two HTTP/1.1\r\nHost: a\r\n\r\n", 200, OPEN, 2, "GET /one abc"},
        {"no length, so no body", post_start + "\r\nGET /two HTTP/1.1\r\nHost: a\r\n\r\n", 200, OPEN, 2, "POST /one "},
        {"a second one that is bad", get_start + "\r\nGET /two HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + second, 200, CLOSED, 1, "GET /one "},
        {"Connection: close", get_start + "Connection: close\r\n\r\n" + second, 200, CLOSED, 1, "GET /one "},
        {"another expectation", get_start + "Expect: miracles\r\n\r\n" + second, 417, CLOSED, 0},
    };
    return all;
}

void describe(http_call *call) {
    size_t len;
    const char *body = http_body(call, &len);
    reply_text(call, string(http_method(call)) + " " + http_path(call) + " " + string(body, len));
}

class HttpFraming : public testing::TestWithParam<size_t> {};

TEST_P(HttpFraming, Case) {
    const framing &one = cases()[GetParam()];
    SCOPED_TRACE(one.name);
    http_options options = {};
    options.max_body_bytes = 4096;
    options.head_ns = options.body_ns = options.idle_ns = 3000 * ms; // no outcome below comes from a deadline
    server s(describe, options);
    ASSERT_EQ(s.start_error, "");
    client c(s.port());
    uint64_t begin = now_ns();
    c.send(one.bytes);
    string first = c.answer();
    EXPECT_EQ(status_of(first), one.status) << first;
    if (one.n_handled > 0) { EXPECT_EQ(body_of(first), one.body) << first; }
    if (one.then == CLOSED) {
        string rest = c.until_closed();
        EXPECT_TRUE(c.closed);
        EXPECT_LT(now_ns() - begin, 2500 * ms) << "only a deadline has closed it";
        EXPECT_FALSE(has(rest, "smuggled")) << rest;
        EXPECT_EQ(s.n_handled, one.n_handled);
        return;
    }
    for (int i = 1; i < one.n_handled; i++) EXPECT_EQ(status_of(c.answer()), 200);
    EXPECT_EQ(s.n_handled, one.n_handled);
    EXPECT_EQ(body_of(c.ask(get("/after"))), "GET /after "); // the next one starts where it should
    EXPECT_EQ(s.n_handled, one.n_handled + 1);
    EXPECT_EQ(c.got, "");
}

INSTANTIATE_TEST_SUITE_P(All, HttpFraming, testing::Range<size_t>(0, cases().size()));

} // namespace
