// Small GGUF models with random weights, written to a temporary file: every architecture and weight type without a download.
//
// Text from them is noise; shapes are chosen so that all block sizes fit and heads, windows and tails are exercised.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_TINY_MODEL_H
#define WTL_TESTS_TINY_MODEL_H

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/tensor.h"

struct TinyOptions {
    std::string arch = "llama";       // or "gemma3"
    wtl_dtype type = WTL_DTYPE_F32;   // of all matrices
    int n_layers = 3, n_embd = 256, n_ff = 512, n_heads = 4, n_heads_kv = 2, head_dim = 64, n_ctx = 512;
    int window = 24, pattern = 2;     // gemma3
    bool tied = true, bias = false;
    unsigned seed = 1;
};

class TinyModel {
  public:
    explicit TinyModel(const TinyOptions &o) : o_(o), rng_(o.seed) {
        add_metadata();
        add_tensors();
        char name[] = "/tmp/wattle-tiny-XXXXXX";
        int fd = mkstemp(name);
        path_ = name;
        FILE *f = fdopen(fd, "wb");
        std::string head = header();
        head.resize((head.size() + 31) / 32 * 32);
        fwrite(head.data(), 1, head.size(), f);
        fwrite(data_.data(), 1, data_.size(), f);
        fclose(f);
    }
    ~TinyModel() { unlink(path_.c_str()); }
    TinyModel(const TinyModel &) = delete;
    const char *path() const { return path_.c_str(); }
    static constexpr int kVocab = 260; // 256 bytes and four control tokens

  private:
    template <class T> static void put(std::string &s, T v) { s.append(reinterpret_cast<const char *>(&v), sizeof v); }
    static void put_str(std::string &s, const std::string &v) {
        put<uint64_t>(s, v.size());
        s += v;
    }
    void key(const std::string &name, uint32_t type) {
        put_str(kv_, name);
        put<uint32_t>(kv_, type);
        n_kv_++;
    }
    void u32(const std::string &name, uint32_t v) { key(name, 4); put(kv_, v); }
    void f32(const std::string &name, float v) { key(name, 6); put(kv_, v); }
    void str(const std::string &name, const std::string &v) { key(name, 8); put_str(kv_, v); }
    void boolean(const std::string &name, bool v) { key(name, 7); put<uint8_t>(kv_, v); }

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
        str("general.architecture", o_.arch);
        str("general.name", "tiny " + o_.arch);
        u32(a + "block_count", o_.n_layers);
        u32(a + "context_length", o_.n_ctx);
        u32(a + "embedding_length", o_.n_embd);
        u32(a + "feed_forward_length", o_.n_ff);
        u32(a + "attention.head_count", o_.n_heads);
        u32(a + "attention.head_count_kv", o_.n_heads_kv);
        u32(a + "attention.key_length", o_.head_dim);
        u32(a + "attention.value_length", o_.head_dim);
        f32(a + "attention.layer_norm_rms_epsilon", 1e-5f);
        f32(a + "rope.freq_base", 100000);
        if (o_.arch == "gemma3") {
            u32(a + "attention.sliding_window", o_.window);
            u32(a + "attention.sliding_window_pattern", o_.pattern);
        }
        str("tokenizer.ggml.model", "gpt2");
        str("tokenizer.ggml.pre", "gpt-2");
        key("tokenizer.ggml.tokens", 9);
        put<uint32_t>(kv_, 8);
        put<uint64_t>(kv_, kVocab);
        for (int i = 0; i < 256; i++) put_str(kv_, byte_char(i));
        for (const char *s : {"<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>"}) put_str(kv_, s);
        key("tokenizer.ggml.token_type", 9);
        put<uint32_t>(kv_, 5);
        put<uint64_t>(kv_, kVocab);
        for (int i = 0; i < kVocab; i++) put<int32_t>(kv_, i < 256 ? 1 : 3);
        key("tokenizer.ggml.merges", 9);
        put<uint32_t>(kv_, 8);
        put<uint64_t>(kv_, 0);
        u32("tokenizer.ggml.bos_token_id", 256);
        u32("tokenizer.ggml.eos_token_id", 257);
        boolean("tokenizer.ggml.add_bos_token", true);
    }

    float normal(float spread) { return std::normal_distribution<float>(0, spread)(rng_); }

    // Random blocks of the type with weights of about `spread`.
    std::string blocks(wtl_dtype type, size_t n, float spread) {
        const wtl_dtype_info *info = wtl_dtype_get(type);
        std::string s;
        if (type == WTL_DTYPE_F32 || type == WTL_DTYPE_F16 || type == WTL_DTYPE_BF16) {
            for (size_t i = 0; i < n; i++) {
                float v = normal(spread);
                if (type == WTL_DTYPE_F32) put(s, v);
                else put<uint16_t>(s, type == WTL_DTYPE_F16 ? wtl_f16_from_f32(v) : wtl_bf16_from_f32(v));
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
            std::string block(info->block_bytes, 0);
            for (char &c : block) c = (char)(rng_() & 0xFF);
            for (const Scale &sc : scales) {
                uint16_t h = wtl_f16_from_f32(sc.value * (1 + 0.1f * normal(1)));
                memcpy(&block[sc.at], &h, 2);
            }
            s += block;
        }
        return s;
    }

    void tensor(const std::string &name, int rows, int cols, wtl_dtype type, bool norm) {
        put_str(info_, name);
        put<uint32_t>(info_, rows > 1 ? 2 : 1);
        put<uint64_t>(info_, (uint64_t)cols);
        if (rows > 1) put<uint64_t>(info_, (uint64_t)rows);
        put<uint32_t>(info_, type);
        put<uint64_t>(info_, data_.size());
        n_tensors_++;
        if (norm)
            for (int i = 0; i < cols; i++) put(data_, 1 + normal(0.1f));
        else
            data_ += blocks(type, (size_t)rows * (size_t)cols, 0.08f);
        data_.resize((data_.size() + 31) / 32 * 32);
    }
    void matrix(const std::string &name, int rows, int cols) { tensor(name + ".weight", rows, cols, o_.type, false); }
    void norm(const std::string &name, int n) { tensor(name + ".weight", 1, n, WTL_DTYPE_F32, true); }

    void add_tensors() {
        const int q = o_.n_heads * o_.head_dim, kv = o_.n_heads_kv * o_.head_dim;
        const bool gemma = o_.arch == "gemma3";
        matrix("token_embd", kVocab, o_.n_embd);
        norm("output_norm", o_.n_embd);
        if (!o_.tied) matrix("output", kVocab, o_.n_embd);
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

    std::string header() {
        std::string s = "GGUF";
        put<uint32_t>(s, 3);
        put<uint64_t>(s, n_tensors_);
        put<uint64_t>(s, n_kv_);
        return s + kv_ + info_;
    }

    TinyOptions o_;
    std::mt19937 rng_;
    std::string kv_, info_, data_, path_;
    uint64_t n_kv_ = 0, n_tensors_ = 0;
};

#endif
