// Small GGUF models with random weights, written to a temporary file: every architecture and weight type without a download.
//
// Text from them is noise; shapes are chosen so that all block sizes fit and heads, windows and tails are exercised.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_TINY_MODEL_H
#define WTL_TESTS_TINY_MODEL_H

#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/tensor.h"
#include "tests/support/gguf_writer.h"

struct TinyOptions {
    std::string arch = "llama";       // or "gemma3"
    wtl_dtype type = WTL_DTYPE_F32;   // of all matrices
    int n_layers = 3, n_embd = 256, n_ff = 512, n_heads = 4, n_heads_kv = 2, head_dim = 64, n_ctx = 512;
    int window = 24, pattern = 2;     // gemma3
    bool tied = true, bias = false;
    unsigned seed = 1;
    std::string chat_template;        // "": none
    int n_more_tokens = 0;            // of the vocabulary, behind the others
    int file_type = -1;               // general.file_type; -1: none
};

class TinyModel {
  public:
    explicit TinyModel(const TinyOptions &o) : o_(o), rng_(o.seed) {
        add_metadata();
        add_tensors();
        file_.reset(new TempFile(w_.build()));
    }
    const char *path() const { return file_->path(); }
    static constexpr int kVocab = 260; // 256 bytes and four control tokens

  private:
    // The character that byte-level vocabularies write for a byte: printable Latin-1 stands for itself, the others follow from U+0100.
    static std::string byte_char(int b) {
        auto plain = [](int x) { return (x >= 33 && x <= 126) || (x >= 161 && x <= 172) || (x >= 174 && x <= 255); };
        int c = b;
        if (!plain(b)) {
            c = 256;
            for (int x = 0; x < b; x++) c += !plain(x);
        }
        if (c < 0x80) return std::string(1, (char)c);
        return {(char)(0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))};
    }

    void add_metadata() {
        const std::string a = o_.arch + ".";
        w_.str("general.architecture", o_.arch).str("general.name", "tiny " + o_.arch);
        if (o_.file_type >= 0) w_.u32("general.file_type", (uint32_t)o_.file_type);
        w_.u32(a + "block_count", o_.n_layers).u32(a + "context_length", o_.n_ctx).u32(a + "embedding_length", o_.n_embd);
        w_.u32(a + "feed_forward_length", o_.n_ff).u32(a + "attention.head_count", o_.n_heads);
        w_.u32(a + "attention.head_count_kv", o_.n_heads_kv).u32(a + "attention.key_length", o_.head_dim);
        w_.u32(a + "attention.value_length", o_.head_dim).f32(a + "attention.layer_norm_rms_epsilon", 1e-5f);
        w_.f32(a + "rope.freq_base", 100000);
        if (o_.arch == "gemma3")
            w_.u32(a + "attention.sliding_window", o_.window).u32(a + "attention.sliding_window_pattern", o_.pattern);
        std::vector<std::string> tokens;
        for (int i = 0; i < 256; i++) tokens.push_back(byte_char(i));
        for (const char *s : {"<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>"}) tokens.push_back(s);
        std::vector<int32_t> types(256, 1);
        types.resize(kVocab, 3); // control
        for (int i = 0; i < o_.n_more_tokens; i++) tokens.push_back("more" + std::to_string(i));
        types.resize(tokens.size(), 1);
        w_.str("tokenizer.ggml.model", "gpt2").str("tokenizer.ggml.pre", "gpt-2").strs("tokenizer.ggml.tokens", tokens);
        w_.array("tokenizer.ggml.token_type", GGUF_I32, types).strs("tokenizer.ggml.merges", {});
        w_.u32("tokenizer.ggml.bos_token_id", 256).u32("tokenizer.ggml.eos_token_id", 257);
        w_.boolean("tokenizer.ggml.add_bos_token", true);
        if (!o_.chat_template.empty()) w_.str("tokenizer.chat_template", o_.chat_template);
    }

    float normal(float spread) { return std::normal_distribution<float>(0, spread)(rng_); }

    // Random blocks of the type with weights of about `spread`.
    std::vector<uint8_t> blocks(wtl_dtype type, size_t n, float spread) {
        const wtl_dtype_info *info = wtl_dtype_get(type);
        std::vector<uint8_t> s;
        auto put = [&s](const void *p, size_t bytes) { s.insert(s.end(), (const uint8_t *)p, (const uint8_t *)p + bytes); };
        if (type == WTL_DTYPE_F32 || type == WTL_DTYPE_F16 || type == WTL_DTYPE_BF16) {
            for (size_t i = 0; i < n; i++) {
                float v = normal(spread);
                uint16_t half = type == WTL_DTYPE_F16 ? wtl_f16_from_f32(v) : wtl_bf16_from_f32(v);
                if (type == WTL_DTYPE_F32) put(&v, sizeof v);
                else put(&half, sizeof half);
            }
            return s;
        }
        // Offset and value of each block's f16 scale (and minimum), by type; all other bytes are random.
        struct Scale { size_t at; float value; };
        std::vector<Scale> scales;
        switch (type) {
        case WTL_DTYPE_Q4_0: scales = {{0, spread / 4.6f}}; break;
        case WTL_DTYPE_Q4_1: scales = {{0, spread / 4.6f}, {2, -spread / 4.6f * 7.5f}}; break;
        case WTL_DTYPE_Q5_0: scales = {{0, spread / 9.2f}}; break;
        case WTL_DTYPE_Q5_1: scales = {{0, spread / 9.2f}, {2, -spread / 9.2f * 15.5f}}; break;
        case WTL_DTYPE_Q8_0: scales = {{0, spread / 74}}; break;
        case WTL_DTYPE_Q2_K: scales = {{80, spread / 10}, {82, spread / 10}}; break;
        case WTL_DTYPE_Q3_K: scales = {{108, spread / 40}}; break;
        case WTL_DTYPE_Q4_K:
        case WTL_DTYPE_Q5_K: scales = {{0, spread / 150}, {2, spread / 20}}; break;
        case WTL_DTYPE_Q6_K: scales = {{208, spread / 1400}}; break;
        case WTL_DTYPE_IQ4_NL: scales = {{0, spread / 70}}; break;
        case WTL_DTYPE_IQ4_XS: scales = {{0, spread / 1300}}; break;
        default: break;
        }
        for (size_t b = 0; b < n / info->block_weights; b++) {
            std::vector<uint8_t> block(info->block_bytes);
            for (uint8_t &c : block) c = (uint8_t)(rng_() & 0xFF);
            for (const Scale &sc : scales) {
                uint16_t h = wtl_f16_from_f32(sc.value * (1 + 0.1f * normal(1)));
                memcpy(&block[sc.at], &h, 2);
            }
            put(block.data(), block.size());
        }
        return s;
    }

    void tensor(const std::string &name, int rows, int cols, wtl_dtype type, bool norm) {
        std::vector<uint64_t> dims = {(uint64_t)cols};
        if (rows > 1) dims.push_back((uint64_t)rows);
        if (!norm) {
            w_.tensor(name, dims, type, blocks(type, (size_t)rows * (size_t)cols, 0.08f));
            return;
        }
        std::vector<float> values((size_t)cols);
        for (float &v : values) v = 1 + normal(0.1f);
        w_.f32_tensor(name, dims, values);
    }
    void matrix(const std::string &name, int rows, int cols) { tensor(name + ".weight", rows, cols, o_.type, false); }
    void norm(const std::string &name, int n) { tensor(name + ".weight", 1, n, WTL_DTYPE_F32, true); }

    void add_tensors() {
        const int q = o_.n_heads * o_.head_dim, kv = o_.n_heads_kv * o_.head_dim;
        const bool gemma = o_.arch == "gemma3";
        matrix("token_embd", kVocab + o_.n_more_tokens, o_.n_embd);
        norm("output_norm", o_.n_embd);
        if (!o_.tied) matrix("output", kVocab + o_.n_more_tokens, o_.n_embd);
        for (int i = 0; i < o_.n_layers; i++) {
            const std::string b = "blk." + std::to_string(i) + ".";
            norm(b + "attn_norm", o_.n_embd);
            matrix(b + "attn_q", q, o_.n_embd);
            matrix(b + "attn_k", kv, o_.n_embd);
            matrix(b + "attn_v", kv, o_.n_embd);
            matrix(b + "attn_output", o_.n_embd, q);
            if (o_.bias)
                for (auto &p : {std::pair<const char *, int>{"attn_q", q}, {"attn_k", kv}, {"attn_v", kv}, {"attn_output", o_.n_embd}})
                    tensor(b + p.first + ".bias", 1, p.second, WTL_DTYPE_F32, true);
            norm(b + "ffn_norm", o_.n_embd);
            matrix(b + "ffn_gate", o_.n_ff, o_.n_embd);
            matrix(b + "ffn_up", o_.n_ff, o_.n_embd);
            matrix(b + "ffn_down", o_.n_embd, o_.n_ff);
            if (gemma) {
                norm(b + "attn_q_norm", o_.head_dim);
                norm(b + "attn_k_norm", o_.head_dim);
                norm(b + "post_attention_norm", o_.n_embd);
                norm(b + "post_ffw_norm", o_.n_embd);
            }
        }
    }

    TinyOptions o_;
    std::mt19937 rng_;
    GgufWriter w_;
    std::unique_ptr<TempFile> file_;
};

#endif
