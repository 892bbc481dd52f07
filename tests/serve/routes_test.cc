// Which path takes what, and who may: the whole server, with a tiny model.
// SPDX-License-Identifier: Apache-2.0
#include "tests/serve/server_rig.h"
#include "tests/support/tiny_model.h"

namespace {

class Routes : public testing::Test {
  protected:
    static void SetUpTestSuite() {
        model = new TinyModel({});
        server = new ServerRig(model->path(), {"--alias", "tiny \"one\"", "--meter", "none", "-np", "3", "-c", "384"});
        locked = new ServerRig(model->path(), {"--api-key", "first,second", "--api-key", "third", "--meter", "none", "--no-webui", "--no-slots"});
    }
    static void TearDownTestSuite() {
        delete locked;
        delete server;
        delete model;
    }
    static TinyModel *model;
    static ServerRig *server, *locked;
};
TinyModel *Routes::model;
ServerRig *Routes::server, *Routes::locked;

TEST_F(Routes, HealthUnderBothNames) {
    for (const char *path : {"/health", "/v1/health"}) {
        HttpReply r = server->get(path);
        EXPECT_EQ(r.status, 200);
        EXPECT_EQ(Json(r.body).text("status"), "ok");
    }
}

TEST_F(Routes, UnknownPathsAre404InJson) {
    for (const char *path : {"/nothing", "/v1", "/v1/chat/completions/", "/v1/chat/completions/x", "/healthz", "/v1/energy/", "//health"}) {
        HttpReply r = server->get(path);
        EXPECT_EQ(r.status, 404) << path;
        EXPECT_EQ(r.headers["content-type"].rfind("application/json", 0), 0u);
        EXPECT_NE(Json(r.body).text("error.message"), "");
    }
}

TEST_F(Routes, WrongMethodsAre405WithTheRightOne) {
    struct { const char *method, *path, *allow; } cases[] = {
        {"GET", "/v1/chat/completions", "POST"}, {"DELETE", "/v1/completions", "POST"}, {"POST", "/health", "GET, HEAD"}, {"PUT", "/metrics", "GET, HEAD"},
        {"POST", "/v1/energy/abc", "GET, HEAD"}};
    for (auto &c : cases) {
        HttpReply r = server->request(c.method, c.path);
        EXPECT_EQ(r.status, 405) << c.method << " " << c.path;
        EXPECT_EQ(r.headers["allow"], c.allow);
        EXPECT_NE(Json(r.body).text("error.message").find(c.allow), std::string::npos);
    }
}

TEST_F(Routes, HeadIsGetWithoutABody) {
    HttpReply r = server->request("HEAD", "/health");
    EXPECT_EQ(r.status, 200);
    EXPECT_EQ(r.body, "");
}

TEST_F(Routes, ModelsSaysWhatIsLoaded) {
    for (const char *path : {"/v1/models", "/models"}) {
        Json r(server->get(path).body);
        EXPECT_EQ(r.text("object"), "list");
        json_t *one = json_array_get(r.at("data"), 0);
        ASSERT_NE(one, nullptr);
        EXPECT_STREQ(json_string_value(json_object_get(one, "id")), "tiny \"one\"");
        EXPECT_STREQ(json_string_value(json_object_get(one, "object")), "model");
        json_t *meta = json_object_get(one, "meta");
        EXPECT_EQ(json_integer_value(json_object_get(meta, "n_vocab")), TinyModel::kVocab);
        EXPECT_EQ(json_integer_value(json_object_get(meta, "n_ctx_train")), 512);
        EXPECT_EQ(json_integer_value(json_object_get(meta, "n_embd")), 256);
        EXPECT_EQ(json_integer_value(json_object_get(meta, "n_ctx")), 128); // 384 for three
        EXPECT_GT(json_integer_value(json_object_get(meta, "n_params")), 0);
        EXPECT_EQ((uintmax_t)json_integer_value(json_object_get(meta, "size")), std::filesystem::file_size(model->path()));
        EXPECT_GT(json_integer_value(json_object_get(one, "created")), 1700000000);
    }
}

TEST_F(Routes, PropsAndSlots) {
    Json props(server->get("/props").body);
    EXPECT_EQ(props.number("total_slots"), 3);
    EXPECT_EQ(props.number("default_generation_settings.n_ctx"), 128);
    EXPECT_EQ(props.text("model_path"), model->path());
    EXPECT_NE(props.text("chat_template"), "");
    EXPECT_EQ(props.text("eos_token"), "<|eos|>");
    EXPECT_NE(props.text("build_info").find("wattle"), std::string::npos);
    EXPECT_TRUE(json_is_false(props.at("modalities.vision")));
    Json slots("{\"all\": " + server->get("/slots").body + "}");
    ASSERT_EQ(json_array_size(slots.at("all")), 3u);
    EXPECT_TRUE(json_is_false(json_object_get(json_array_get(slots.at("all"), 0), "is_processing")));
    EXPECT_EQ(server->get("/slots?fail_on_no_slot=1").status, 200);
    EXPECT_EQ(locked->get("/slots", {"Authorization: Bearer first"}).status, 501);
}

TEST_F(Routes, ThePage) {
    EXPECT_EQ(server->get("/").status, 200);
    EXPECT_EQ(server->get("/").headers["content-type"].rfind("text/html", 0), 0u);
    EXPECT_EQ(locked->get("/", {"X-Api-Key: first"}).status, 404);
}

TEST_F(Routes, KeysAreAskedForButWhereAllMayLook) {
    for (const char *path : {"/health", "/v1/health", "/v1/models", "/models"}) EXPECT_EQ(locked->get(path).status, 200) << path;
    for (const char *path : {"/props", "/slots", "/metrics", "/v1/energy", "/v1/energy/x", "/nothing"}) {
        HttpReply r = locked->get(path);
        EXPECT_EQ(r.status, 401) << path;
        EXPECT_EQ(Json(r.body).text("error.type"), "authentication_error");
        EXPECT_EQ(r.headers["www-authenticate"], "Bearer");
    }
    EXPECT_EQ(locked->post("/v1/completions", "{\"prompt\": \"a\"}").status, 401);
}

TEST_F(Routes, EveryKeyOpensAndNoOther) {
    for (const char *good : {"Authorization: Bearer first", "Authorization: Bearer second", "authorization: bearer third", "X-Api-Key: second", "Authorization: Bearer   first"})
        EXPECT_EQ(locked->get("/metrics", {good}).status, 200) << good;
    for (const char *bad : {"Authorization: Bearer firs", "Authorization: Bearer firstx", "Authorization: Bearer FIRST", "Authorization: first", "Authorization: Bearer", "Authorization: Bearer ",
                            "Authorization: Basic first", "X-Api-Key: ", "X-Api-Key: first,second", "X-Api-Key: firstfirst"})
        EXPECT_EQ(locked->get("/metrics", {bad}).status, 401) << bad;
}

TEST_F(Routes, AnyKeyIsTakenWhereNoneIsAskedFor) { EXPECT_EQ(server->get("/props", {"Authorization: Bearer whatever"}).status, 200); }

// A piece is a text, or bytes where it is no whole character; ids are those of the plain list.
TEST_F(Routes, TokensWithTheirPieces) {
    const std::string content = "a \\u00e9\\\"\\n\\ud83d\\ude00 b", text = "a \u00e9\"\n\U0001f600 b";
    Json plain(server->post("/tokenize", "{\"content\": \"" + content + "\"}").body);
    Json with(server->post("/tokenize", "{\"content\": \"" + content + "\", \"with_pieces\": true}").body);
    const json_t *ids = plain.at("tokens"), *pieces = with.at("tokens");
    ASSERT_GT(json_array_size(ids), 0u);
    ASSERT_EQ(json_array_size(ids), json_array_size(pieces));
    std::string joined;
    bool bytes = false;
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *one = json_array_get(pieces, i), *piece = json_object_get(one, "piece");
        EXPECT_EQ(json_integer_value(json_object_get(one, "id")), json_integer_value(json_array_get(ids, i)));
        if (json_is_string(piece)) joined += json_string_value(piece);
        for (size_t k = 0; k < json_array_size(piece); k++) joined += (char)json_integer_value(json_array_get(piece, k));
        bytes |= json_is_array(piece);
    }
    EXPECT_EQ(joined, text);
    EXPECT_TRUE(bytes);
    EXPECT_EQ(server->post("/tokenize", "{}").body, "{\"tokens\":[]}");
}

TEST_F(Routes, EnergyRefusesWhatItCannotRead) {
    struct { const char *query, *param; } cases[] = {{"by=week", "by"}, {"since=yesterday", "since"}, {"until=7d", "until"}, {"since=2026-03-02&until=2026-03-01", "until"}};
    for (auto &c : cases) {
        HttpReply r = server->get(std::string("/v1/energy?") + c.query);
        EXPECT_EQ(r.status, 400) << c.query;
        EXPECT_EQ(Json(r.body).text("error.param"), c.param);
    }
    for (const char *by : {"day", "model", "user", "conversation", "phase", "source"}) {
        HttpReply r = server->get(std::string("/v1/energy?since=all&by=") + by);
        EXPECT_EQ(r.status, 200);
        EXPECT_EQ(Json(r.body).text("ledger.by"), by);
    }
    HttpReply r = server->get("/v1/energy/chatcmpl-unknown");
    EXPECT_EQ(r.status, 404);
    EXPECT_NE(Json(r.body).text("error.message").find("no answer"), std::string::npos);
}

} // namespace
