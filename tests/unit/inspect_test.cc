// wtl_file: what is said about files that can run, that cannot, and that lie.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>

#include "runtime/base/alloc.h"
#include "runtime/wattle.h"
#include "tests/support/gguf_writer.h"

namespace {

struct Closer {
    void operator()(wtl_file *f) const { wtl_file_close(&f); }
};
using Inspected = std::unique_ptr<wtl_file, Closer>;

Inspected Open(const GgufWriter &w) {
    TempFile temp(w.build());
    wtl_file *file = nullptr;
    wtl_error err{};
    EXPECT_EQ(wtl_file_open(temp.path(), &file, &err), WTL_OK) << err.message;
    return Inspected(file);
}

GgufWriter Metadata(const std::string &arch) {
    GgufWriter w;
    w.str("general.architecture", arch).str("general.name", "Tiny").u32(arch + ".block_count", 4).u32(arch + ".embedding_length", 64);
    w.u32(arch + ".feed_forward_length", 96).u32(arch + ".context_length", 1000).u32(arch + ".attention.head_count", 4);
    w.u32(arch + ".attention.head_count_kv", 2).f32(arch + ".attention.layer_norm_rms_epsilon", 1e-5f);
    return w;
}

GgufWriter Llama() {
    GgufWriter w = Metadata("llama");
    w.tensor("token_embd.weight", {64, 10}, WTL_DTYPE_Q8_0).tensor("blk.0.attn_q.weight", {64, 64}, WTL_DTYPE_Q4_1);
    w.tensor("output_norm.weight", {64}, WTL_DTYPE_F32);
    return w;
}
const uint64_t kEmbd = 10 * 2 * 34, kAttn = 64 * 2 * 20, kNorm = 64 * 4;

TEST(Inspect, TiedModelReadsEverythingPerToken) {
    Inspected file = Open(Llama());
    wtl_file_info info = wtl_file_describe(file.get());
    EXPECT_STREQ(info.arch, "llama");
    EXPECT_STREQ(info.name, "Tiny");
    EXPECT_TRUE(info.arch_supported);
    EXPECT_STREQ(info.obstacle, "");
    EXPECT_EQ(info.file_type, -1); // it does not say
    EXPECT_EQ(info.version, 3u);
    EXPECT_EQ(info.n_tensors, 3u);
    EXPECT_EQ(info.n_params, 640u + 4096 + 64);
    EXPECT_EQ(info.tensor_bytes, kEmbd + kAttn + kNorm);
    EXPECT_EQ(info.decode_bytes, kEmbd + kAttn + kNorm);
    EXPECT_EQ(info.n_layers, 4u);
    EXPECT_EQ(info.n_embd, 64u);
    EXPECT_EQ(info.n_ff, 96u);
    EXPECT_EQ(info.n_heads, 4u);
    EXPECT_EQ(info.n_heads_kv, 2u);
    EXPECT_EQ(info.head_dim, 16u);
    EXPECT_EQ(info.n_ctx_train, 1000u);
    EXPECT_EQ(info.n_vocab, 10u);
    EXPECT_EQ(info.window, 0u);
    EXPECT_EQ(info.n_window_layers, 0u);
    EXPECT_EQ(info.kv_bytes_per_token, 4u * 2 * (16 * 2 * 2 + 8)) << "numbers and two scales";
    EXPECT_FALSE(info.has_vocab);
    EXPECT_FALSE(info.has_template);
    EXPECT_STREQ(info.vocab_model, "");
}

TEST(Inspect, UntiedModelReadsOneRowOfTheEmbedding) {
    GgufWriter w = Llama();
    w.tensor("output.weight", {64, 10}, WTL_DTYPE_F16);
    Inspected file = Open(w);
    wtl_file_info info = wtl_file_describe(file.get());
    EXPECT_EQ(info.decode_bytes, kEmbd / 10 + kAttn + kNorm + 64 * 10 * 2);
}

TEST(Inspect, Tensors) {
    Inspected file = Open(Llama());
    wtl_tensor_info t = wtl_file_tensor(file.get(), 1);
    EXPECT_STREQ(t.name, "blk.0.attn_q.weight");
    EXPECT_STREQ(t.dtype, "Q4_1");
    EXPECT_EQ(t.n_dims, 2u);
    EXPECT_EQ(t.dims[0], 64u);
    EXPECT_EQ(t.dims[2], 1u);
    EXPECT_EQ(t.bytes, kAttn);
    EXPECT_EQ(t.file_offset % 32, 0u);
    EXPECT_STREQ(wtl_file_tensor(file.get(), 3).name, "");
}

TEST(Inspect, WindowLayers) {
    GgufWriter w = Metadata("gemma3");
    w.u32("gemma3.attention.sliding_window", 128).u32("gemma3.attention.key_length", 32).u32("gemma3.attention.value_length", 32);
    w.tensor("token_embd.weight", {64, 10}, WTL_DTYPE_Q8_0);
    Inspected file = Open(w);
    wtl_file_info info = wtl_file_describe(file.get());
    EXPECT_STREQ(info.obstacle, "");
    EXPECT_EQ(info.window, 128u);
    EXPECT_EQ(info.n_window_layers, 4u); // every sixth is global, and there are four
    EXPECT_EQ(info.head_dim, 32u);
    EXPECT_EQ(info.kv_bytes_per_token, 4u * 2 * (32 * 2 * 2 + 8));
}

TEST(Inspect, UnknownArchitectureIsDescribedAllTheSame) {
    GgufWriter w;
    w.str("general.architecture", "hybrid").u32("hybrid.block_count", 3).u32("hybrid.embedding_length", 64);
    w.u32("hybrid.context_length", 77).u32("hybrid.attention.head_count", 8).array<uint32_t>("hybrid.attention.head_count_kv", GGUF_U32, {2, 0, 4});
    w.u32("hybrid.attention.key_length", 10).u32("hybrid.attention.value_length", 6).u32("hybrid.expert_used_count", 2);
    w.u32("hybrid.attention.sliding_window", 9).strs("tokenizer.ggml.tokens", {"a", "b"}).str("tokenizer.ggml.model", "gpt2");
    w.str("tokenizer.ggml.pre", "smollm").str("tokenizer.chat_template", "{{ x }}");
    w.tensor("blk.0.ffn_up_exps.weight", {32, 4, 8}, WTL_DTYPE_Q8_0).tensor("output_norm.weight", {64}, WTL_DTYPE_F32);
    Inspected file = Open(w);
    wtl_file_info info = wtl_file_describe(file.get());
    EXPECT_FALSE(info.arch_supported);
    EXPECT_NE(strstr(info.obstacle, "hybrid"), nullptr) << info.obstacle;
    EXPECT_NE(strstr(info.obstacle, "llama"), nullptr) << info.obstacle; // what is supported
    EXPECT_EQ(strstr(info.obstacle, "/"), nullptr) << info.obstacle;     // no path
    EXPECT_EQ(info.n_layers, 3u);
    EXPECT_EQ(info.n_ctx_train, 77u);
    EXPECT_EQ(info.n_heads_kv, 4u); // the largest layer's
    EXPECT_EQ(info.head_dim, 10u);
    EXPECT_EQ(info.window, 9u);
    EXPECT_EQ(info.kv_bytes_per_token, (2u + 0 + 4) * ((10 + 6) * 2 + 8));
    EXPECT_EQ(info.decode_bytes, 2u * 4 * 34 + kNorm); // two of eight experts
    EXPECT_EQ(info.n_vocab, 2u);
    EXPECT_TRUE(info.has_vocab);
    EXPECT_TRUE(info.has_template);
    EXPECT_STREQ(info.vocab_model, "gpt2");
    EXPECT_STREQ(info.vocab_pre, "smollm");
}

TEST(Inspect, ObstaclesNameTheirReason) {
    GgufWriter no_heads;
    no_heads.str("general.architecture", "llama").u32("llama.block_count", 4).tensor("a", {64}, WTL_DTYPE_F32);
    Inspected file = Open(no_heads);
    wtl_file_info info = wtl_file_describe(file.get());
    EXPECT_TRUE(info.arch_supported);
    EXPECT_NE(strstr(info.obstacle, "llama.embedding_length"), nullptr) << info.obstacle;
    EXPECT_EQ(info.n_layers, 4u);

    GgufWriter type = Llama();
    type.tensor("blk.0.ffn_up.weight", {256, 2}, WTL_DTYPE_IQ2_XXS);
    file = Open(type);
    EXPECT_STREQ(wtl_file_describe(file.get()).obstacle, "tensor 'blk.0.ffn_up.weight' is of type IQ2_XXS, which wattle cannot run");

    GgufWriter vocab = Metadata("llama");
    vocab.strs("tokenizer.ggml.tokens", {"a", "b", "c"});
    file = Open(vocab);
    info = wtl_file_describe(file.get());
    EXPECT_NE(strstr(info.obstacle, "no tensors"), nullptr) << info.obstacle;
    EXPECT_EQ(info.n_vocab, 3u);
    EXPECT_EQ(info.decode_bytes, 0u);

    file = Open(GgufWriter());
    info = wtl_file_describe(file.get());
    EXPECT_STREQ(info.arch, "");
    EXPECT_FALSE(info.arch_supported);
}

TEST(Inspect, HostileStringsAreFitForATerminal) {
    GgufWriter w;
    w.str("general.architecture", "\x1b[2J\xff\xc2\x9b").str("general.name", "caf\xc3\xa9 " + std::string(1 << 20, 'n'));
    w.u32("general.alignment", 32).tensor("a\nb\xe2\x82", {8}, WTL_DTYPE_F32);
    Inspected file = Open(w);
    wtl_file_info info = wtl_file_describe(file.get());
    EXPECT_STREQ(info.arch, "?[2J\xef\xbf\xbd??");
    EXPECT_EQ(strncmp(info.name, "caf\xc3\xa9 nnn", 9), 0);
    EXPECT_LT(strlen(info.name), 300u);
    EXPECT_STREQ(wtl_file_tensor(file.get(), 0).name, "a?b\xef\xbf\xbd");
    EXPECT_EQ(strchr(info.obstacle, 0x1b), nullptr);
}

TEST(Inspect, AbsurdFiguresDoNotOverflow) {
    GgufWriter w;
    w.str("general.architecture", "x").u32("x.block_count", UINT32_MAX).u32("x.attention.head_count", UINT32_MAX);
    w.u32("x.attention.key_length", UINT32_MAX).u32("x.embedding_length", UINT32_MAX).u64("x.context_length", UINT64_MAX);
    Inspected file = Open(w);
    wtl_file_info info = wtl_file_describe(file.get());
    EXPECT_EQ(info.kv_bytes_per_token, 0u);
    EXPECT_EQ(info.n_ctx_train, 0u);
}

TEST(Inspect, Failures) {
    wtl_file *file = nullptr;
    wtl_error err{};
    EXPECT_EQ(wtl_file_open("/no/such.gguf", &file, &err), WTL_ERR_NOT_FOUND);
    EXPECT_STREQ(err.message, "/no/such.gguf: no such file");
    EXPECT_EQ(wtl_file_open(nullptr, &file, &err), WTL_ERR_INVALID);
    EXPECT_EQ(file, nullptr);
    wtl_file_close(&file);
    wtl_file_close(nullptr);
}

bool FailAt(void *user, size_t) { return (*static_cast<int *>(user))-- != 0; }

TEST(Inspect, EachFailedAllocationIsReported) {
    TempFile temp(Llama().build());
    int n = 0;
    for (;; n++) {
        ASSERT_LT(n, 200);
        int countdown = n;
        wtl_file *file = nullptr;
        wtl_error err{};
        wtl_alloc_set_hook(FailAt, &countdown);
        wtl_status status = wtl_file_open(temp.path(), &file, &err);
        wtl_alloc_set_hook(nullptr, nullptr);
        wtl_file_close(&file);
        if (status == WTL_OK) break;
        EXPECT_EQ(status, WTL_ERR_NO_MEMORY) << n << err.message;
    }
    EXPECT_GE(n, 15);
}

TEST(Inspect, RealModels) {
    const char *smollm2 = getenv("WTL_TEST_SMOLLM2"), *gemma3 = getenv("WTL_TEST_GEMMA3");
    if (!smollm2 || !gemma3) GTEST_SKIP() << "WTL_TEST_SMOLLM2 and WTL_TEST_GEMMA3 do not name the model files";
    wtl_file *file = nullptr;
    wtl_error err{};
    ASSERT_EQ(wtl_file_open(smollm2, &file, &err), WTL_OK) << err.message;
    wtl_file_info info = wtl_file_describe(file);
    EXPECT_STREQ(info.obstacle, "");
    EXPECT_EQ(info.n_params, 134515008u);
    EXPECT_EQ(info.decode_bytes, info.tensor_bytes);
    EXPECT_EQ(info.kv_bytes_per_token, 23760u);
    EXPECT_TRUE(info.has_template);
    wtl_file_close(&file);
    ASSERT_EQ(wtl_file_open(gemma3, &file, &err), WTL_OK) << err.message;
    info = wtl_file_describe(file);
    EXPECT_STREQ(info.obstacle, "");
    EXPECT_EQ(info.n_vocab, 262144u);
    EXPECT_EQ(info.n_window_layers, 15u);
    EXPECT_EQ(info.window, 512u);
    EXPECT_EQ(info.kv_bytes_per_token, 18576u);
    EXPECT_FALSE(info.has_template);
    wtl_file_close(&file);
}

} // namespace
