// `wattle info` as a person sees it: words, table, JSON, and one sentence for what is no model.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>

#include "tests/e2e/run_binary.h"
#include "tests/support/gguf_writer.h"

namespace {

GgufWriter SmallFile(const std::string &arch) {
    GgufWriter w;
    w.str("general.architecture", arch).str("general.name", "Small").u32(arch + ".block_count", 2).u32(arch + ".embedding_length", 64);
    w.u32(arch + ".feed_forward_length", 96).u32(arch + ".context_length", 1000).u32(arch + ".attention.head_count", 4);
    w.f32(arch + ".attention.layer_norm_rms_epsilon", 1e-5f).strs("tokenizer.ggml.tokens", {"a", "b"}).str("tokenizer.ggml.model", "gpt2");
    w.tensor("token_embd.weight", {64, 4000}, WTL_DTYPE_Q8_0).tensor("blk.0.attn_q.weight", {64, 64}, WTL_DTYPE_Q4_1);
    w.tensor("blk.1.attn_q.weight", {64, 64}, WTL_DTYPE_F16).tensor("blk.0.ffn_up.weight", {64, 96}, WTL_DTYPE_Q4_1);
    return w.tensor("output_norm.weight", {64}, WTL_DTYPE_F32);
}

bool HasLine(const std::string &text, const std::string &start, const std::string &end) {
    std::stringstream lines(text);
    for (std::string line; std::getline(lines, line);)
        if (line.rfind(start, 0) == 0 && line.size() >= end.size() && line.compare(line.size() - end.size(), end.size(), end) == 0) return true;
    return false;
}

TEST(Info, Words) {
    TempFile model(SmallFile("llama").build());
    RunResult r = run_wattle({"info", model.path()});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.err, "");
    EXPECT_TRUE(HasLine(r.out, "  architecture ", " llama")) << r.out;
    EXPECT_TRUE(HasLine(r.out, "  runs in wattle ", " yes")) << r.out;
    EXPECT_TRUE(HasLine(r.out, "  parameters ", " 270.4 k, 8.49 bits each")) << r.out;
    EXPECT_TRUE(HasLine(r.out, "  context ", " 1000 tokens")) << r.out;
    EXPECT_TRUE(HasLine(r.out, "  attention ", " 4 heads, 4 for keys and values, 16 dimensions each")) << r.out;
    EXPECT_TRUE(HasLine(r.out, "  tokenizer ", " gpt2, 4000 tokens")) << r.out;
    EXPECT_TRUE(HasLine(r.out, "  chat template ", " no")) << r.out;
    EXPECT_TRUE(HasLine(r.out, "  decode ", " 0.3 MB of weights are read per decoded token")) << r.out;
    EXPECT_TRUE(HasLine(r.out, "  KV cache ", " 0.6 kB per token (f16), 0.6 MB for 1000 tokens; with --kv q8_0 0.4 kB")) << r.out;
    EXPECT_TRUE(HasLine(r.out, "  embedding ", "  Q8_0")) << r.out;
    EXPECT_TRUE(HasLine(r.out, "  attention ", "  F16 0.0, Q4_1 0.0")) << r.out; // the larger type first
    EXPECT_TRUE(HasLine(r.out, "  output ", "the embedding serves as output")) << r.out;
    EXPECT_EQ(r.out.find("output_norm.weight"), std::string::npos);
}

TEST(Info, TensorTable) {
    TempFile model(SmallFile("llama").build());
    RunResult r = run_wattle({"info", "--tensors", model.path()});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_TRUE(HasLine(r.out, "  ", "272000  Q8_0     64 x 4000                token_embd.weight")) << r.out;
    EXPECT_TRUE(HasLine(r.out, "  ", " F32      64                       output_norm.weight")) << r.out;
}

TEST(Info, Json) {
    TempFile model(SmallFile("llama").build());
    RunResult r = run_wattle({"info", "--json", "--tensors", model.path()});
    ASSERT_EQ(r.code, 0) << r.err;
    Json json(r.out);
    EXPECT_EQ(json.text("arch"), "llama");
    EXPECT_TRUE(json_is_true(json.at("runs")));
    EXPECT_TRUE(json_is_null(json.at("obstacle")));
    EXPECT_EQ(json.number("n_layers"), 2);
    EXPECT_EQ(json.number("n_tensors"), 5);
    EXPECT_EQ(json.number("kv_bytes_per_token"), 2 * 4 * (16 * 2 * 2 + 8));
    EXPECT_EQ(json.number("kv_bytes_full"), 1000 * 2 * 4 * (16 * 2 * 2 + 8));
    EXPECT_EQ(json.number("decode_bytes"), json.number("tensor_bytes"));
    EXPECT_EQ(json_array_size(json.at("groups")), 4u);
    EXPECT_EQ(json_array_size(json.at("tensors")), 5u);
}

TEST(Info, FilesThatCannotRunAreDescribed) {
    TempFile model(SmallFile("mamba").build());
    RunResult r = run_wattle({"info", model.path()});
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.out.find("no: architecture \"mamba\" is not supported; supported are llama, gemma3"), std::string::npos) << r.out;
    EXPECT_TRUE(HasLine(r.out, "  context ", " 1000 tokens")) << r.out;
    r = run_wattle({"info", "--json", model.path()});
    Json json(r.out);
    EXPECT_TRUE(json_is_false(json.at("runs")));
    EXPECT_NE(json.text("obstacle").find("mamba"), std::string::npos);
}

TEST(Info, OneSentenceOtherwise) {
    std::vector<uint8_t> bytes = SmallFile("llama").build();
    bytes.resize(bytes.size() - 1000);
    TempFile cut(bytes), page(std::string("<!DOCTYPE html><html><body>Not Found</body></html>")), empty(std::string(""));
    expect_sentence(run_wattle({"info", cut.path()}), 1, {cut.path(), "truncated", "bytes are missing"});
    expect_sentence(run_wattle({"info", page.path()}), 1, {page.path(), "HTML page"});
    expect_sentence(run_wattle({"info", empty.path()}), 1, {empty.path(), "empty"});
    expect_sentence(run_wattle({"info", "/no/such.gguf"}), 1, {"/no/such.gguf: no such file"});
    expect_sentence(run_wattle({"info"}), 2, {"which file"});
    expect_sentence(run_wattle({"info", cut.path(), page.path()}), 2, {});
    expect_sentence(run_wattle({"info", "--no-such", cut.path()}), 2, {"--no-such"});
    EXPECT_EQ(run_wattle({"info", "--help"}).code, 0);
}

} // namespace
