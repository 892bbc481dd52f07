// The chat page's files as the server gives them out: types, headers, tags. What the page does in a browser is tested in tests/page.
// SPDX-License-Identifier: Apache-2.0
#include "tests/serve/http_rig.h"

#include <fstream>
#include <set>
#include <sstream>

#include "tools/serve/page_files.h"

using namespace http_rig;

namespace {

void answer_or_404(http_call *call) {
    if (!page_answer(call)) reply_text(call, "none", 404);
}

string source_of(const string &name) {
    std::ifstream file(string(WTL_SOURCE_DIR) + "/tools/serve/page/" + name, std::ios::binary);
    std::stringstream all;
    all << file.rdbuf();
    return all.str();
}

string header_of(const string &answer, const string &name) {
    size_t at = answer.find("\r\n" + name + ": ");
    if (at == string::npos) return "";
    at += name.size() + 4;
    return answer.substr(at, answer.find("\r\n", at) - at);
}

TEST(Page, EveryFileIsTheOneInTheTree) {
    ASSERT_GE(n_page_files, 10u);
    std::set<string> tags;
    for (size_t i = 0; i < n_page_files; i++) {
        const page_file &f = page_files[i];
        EXPECT_TRUE(string(f.bytes, f.len) == source_of(f.name)) << f.name;
        EXPECT_GT(f.len, 0u) << f.name;
        EXPECT_EQ(page_file_find(("/page/" + string(f.name)).c_str()), &f);
        tags.insert(f.etag);
    }
    EXPECT_EQ(tags.size(), n_page_files) << "tags tell files apart";
}

TEST(Page, PathsThatAreNoFiles) {
    EXPECT_STREQ(page_file_find("/")->name, "index.html");
    EXPECT_STREQ(page_file_find("/index.html")->name, "index.html");
    for (const char *path : {"", "/page", "/page/", "/page/nothing.js", "/page/../page/main.js", "/page/main.js/", "/main.js", "/pages/main.js", "/page//main.js", "/page/embed.cmake"})
        EXPECT_EQ(page_file_find(path), nullptr) << path;
}

TEST(Page, TheFilesThatTheIndexNamesExist) {
    const string index = source_of("index.html");
    size_t n = 0;
    for (size_t at = index.find("\"page/"); at != string::npos; at = index.find("\"page/", at + 1), n++) {
        const string path = "/" + index.substr(at + 1, index.find('"', at + 1) - at - 1);
        EXPECT_NE(page_file_find(path.c_str()), nullptr) << path;
    }
    EXPECT_GE(n, 3u);
    EXPECT_EQ(index.find("http"), string::npos) << "nothing is loaded from elsewhere";
}

TEST(Page, AnswersWithTypesAndWalls) {
    server s(answer_or_404);
    ASSERT_EQ(s.start_error, "");
    const char *const cases[][2] = {{"/", "text/html; charset=utf-8"}, {"/page/main.js", "text/javascript; charset=utf-8"},
                                    {"/page/style.css", "text/css; charset=utf-8"}, {"/page/icon.svg", "image/svg+xml"}};
    for (const auto &[path, type] : cases) {
        client c(s.port());
        const string answer = c.ask(get(path));
        EXPECT_EQ(status_of(answer), 200) << answer;
        EXPECT_EQ(header_of(answer, "Content-Type"), type);
        EXPECT_EQ(header_of(answer, "Content-Security-Policy"), "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
                                                                "base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
        EXPECT_EQ(header_of(answer, "X-Content-Type-Options"), "nosniff");
        EXPECT_EQ(header_of(answer, "Referrer-Policy"), "no-referrer");
        EXPECT_EQ(header_of(answer, "Cache-Control"), "no-cache");
        EXPECT_TRUE(body_of(answer) == string(page_file_find(path)->bytes, page_file_find(path)->len)) << path;
    }
    client c(s.port());
    EXPECT_EQ(status_of(c.ask(get("/page/nothing.js"))), 404);
}

TEST(Page, AKnownTagIsNotSentAgain) {
    server s(answer_or_404);
    ASSERT_EQ(s.start_error, "");
    const string tag = page_file_find("/")->etag;
    for (const string &known : {tag, "W/" + tag, "\"other\", " + tag, string("*")}) {
        client c(s.port());
        const string answer = c.ask(get("/", "If-None-Match: " + known + "\r\n"));
        EXPECT_EQ(status_of(answer), 304) << known;
        EXPECT_EQ(header_of(answer, "ETag"), tag);
        EXPECT_EQ(body_of(answer), "");
    }
    client c(s.port());
    EXPECT_EQ(status_of(c.ask(get("/", "If-None-Match: \"other\"\r\n"))), 200);
    EXPECT_FALSE(page_etag_matches(nullptr, tag.c_str()));
}

} // namespace
