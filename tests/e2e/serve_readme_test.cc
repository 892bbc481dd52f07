// The `curl` lines of README.md work as they stand there: each runs against a server and must give JSON, a stream or metrics.
// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/serve_rig.h"

namespace {

// Lines that begin with "curl ", with those joined on that a backslash announces.
std::vector<std::string> curl_commands() {
    std::ifstream in(std::string(WTL_SOURCE_DIR) + "/README.md");
    std::vector<std::string> out;
    for (std::string line, more; std::getline(in, line);) {
        if (line.rfind("curl ", 0) != 0) continue;
        while (!line.empty() && line.back() == '\\' && std::getline(in, more)) {
            line.pop_back();
            line += more;
        }
        out.push_back(line);
    }
    return out;
}

bool is_json(const std::string &text) {
    json_t *v = json_loads(text.c_str(), 0, nullptr);
    json_decref(v);
    return v != nullptr;
}

// "": what the command printed is in order; else what is wrong.
std::string wrong_with(const std::string &out) {
    if (out.rfind("data: ", 0) == 0 || out.rfind(": ", 0) == 0) {
        std::vector<std::string> all = events(out);
        if (all.size() < 2 || all.back() != "[DONE]") return "the stream has no end";
        for (size_t i = 0; i + 1 < all.size(); i++)
            if (!is_json(all[i]) || all[i].find("\"error\"") != std::string::npos) return all[i];
        return "";
    }
    if (out.find("# TYPE ") != std::string::npos) return out.find("\nwattle_") == std::string::npos ? "no metrics of ours" : "";
    if (out.rfind("wattle_", 0) == 0) return ""; // metrics through grep
    if (!is_json(out)) return "no JSON, stream or metrics";
    return json_object_get(parse_json(out).get(), "error") ? "an error" : "";
}

TEST(ServeReadme, CurlLinesWork) {
    if (system("command -v curl >/dev/null") != 0) GTEST_SKIP() << "curl is not there";
    const std::vector<std::string> commands = curl_commands();
    ASSERT_GE(commands.size(), 3u) << "README.md shows how to ask the server";
    TinyModel model(chat_options());
    ServerRig server(model.path(), {"--meter", "simulated:20"});
    TempDir dir;
    const std::string written = "http://127.0.0.1:8080";
    for (std::string command : commands) {
        size_t n = 0;
        for (size_t at; (at = command.find(written)) != std::string::npos; n++) command.replace(at, written.size(), server.url());
        EXPECT_EQ(n, 1u) << "the documented address is " << written << ": " << command;
        const std::string out = dir.path("out"), err = dir.path("err");
        const std::string script = dir.write("script", "set -o pipefail\n" + command + "\n");
        const int code = system(("timeout 60 bash " + script + " >" + out + " 2>" + err + " </dev/null").c_str());
        EXPECT_EQ(code, 0) << command << "\n" << read_whole(err);
        const std::string text = read_whole(out);
        EXPECT_NE(text, "") << command;
        EXPECT_EQ(wrong_with(text), "") << command << "\n" << text.substr(0, 1000);
    }
}

} // namespace
