// The bench on which the checker runs ops: guarded host arrays, and one backend with a stream and its memory.
//
// Host arrays end at an unreadable page and are read-only while an op runs. Backend memory is padded behind with canaries;
// everything that an op has not written is NaN, also the gaps between rows. Only kernels/backend.h is used to reach
// backends, so a new one is added in targets() and nowhere else.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_RIG_H
#define WTL_TESTS_RIG_H

#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace checker {

struct Target {
    std::string backend; // "ref" or "cpu"
    std::string mask;    // instruction set, "" where there are none
    std::string name() const { return mask.empty() ? backend : backend + "_" + mask; }
};
std::vector<Target> targets();
inline void PrintTo(const Target &t, std::ostream *os) { *os << t.name(); }

// bytes at the end of a mapping whose next page cannot be read; aligned to 2 (blocks) or 4 (floats) only.
class Guarded {
  public:
    Guarded() = default;
    explicit Guarded(size_t bytes);
    ~Guarded();
    Guarded(Guarded &&other) noexcept;
    Guarded &operator=(Guarded &&other) noexcept;
    uint8_t *data() const { return data_; }
    size_t size() const { return bytes_; }
    void make_read_only();

  private:
    void *map_ = nullptr;
    size_t map_bytes_ = 0, bytes_ = 0;
    uint8_t *data_ = nullptr;
};

// A dense host matrix of f32.
struct Host {
    int rows = 0, cols = 0;
    std::vector<float> v;
    Host() = default;
    Host(int r, int c, float fill = 0.0f) : rows(r), cols(c), v((size_t)r * c, fill) {}
    float &at(int r, int c) { return v[(size_t)r * cols + c]; }
    float at(int r, int c) const { return v[(size_t)r * cols + c]; }
    const float *row(int r) const { return v.data() + (size_t)r * cols; }
    Host slice(int first, int n) const;
};

// A weight matrix as a file would hold it, in guarded memory, with what the tests need to judge results.
struct HostWeight {
    wtl_dtype dtype = WTL_DTYPE_F32;
    int rows = 0, cols = 0;
    Guarded bytes;
    Host value;     // dequantised
    Host magnitude; // |d q| + |m| of each weight, the terms that kernels add
    wtl_tensor tensor() const;
};

// How the layout of an activation matrix deviates from dense and aligned.
struct Layout {
    int gap = 0;    // stride - cols
    int offset = 0; // floats before the first element
};

class Rig {
  public:
    struct Options {
        int n_threads = 1;
        bool deterministic = true;
        wtl_stream_limits limits = {128, 4096, 64, 256, 2048, 1 << 16};
    };
    // Skips the running test when this machine or build lacks the target: check ok() first.
    explicit Rig(const Target &target) : Rig(target, Options()) {}
    Rig(const Target &target, const Options &options);
    ~Rig();
    Rig(const Rig &) = delete;
    bool ok() const { return stream_ != nullptr; }
    const std::string &unavailable() const { return reason_; }

    const wtl_backend_ops *ops() const { return be_->ops; }
    wtl_backend *backend() { return be_; }
    wtl_stream *stream() { return stream_; }

    wtl_mat empty(int rows, int cols, Layout layout = {}); // all NaN
    wtl_mat put(const Host &host, Layout layout = {});
    void overwrite(wtl_mat m, const Host &host);
    Host get(wtl_mat m); // syncs; fails the test when a gap or canary was written
    const int32_t *ints(const std::vector<int32_t> &values);
    uint8_t *bytes(size_t n, uint8_t fill);
    const wtl_weight *matrix(const HostWeight &w) { return prepare(w, WTL_WEIGHT_MATRIX); }
    const wtl_weight *head(const HostWeight &w) { return prepare(w, WTL_WEIGHT_HEAD); }
    const wtl_weight *vector(const std::vector<float> &values);
    void sync();          // expects success
    void check_memory();  // gaps and canaries of everything, read-only inputs unchanged
    void forget();        // frees all memory and weights made so far

  private:
    struct Block {
        uint8_t *p;
        size_t bytes; // without the canary
        std::vector<std::pair<size_t, size_t>> gaps; // byte ranges that must stay NaN
    };
    Block &block(size_t bytes);
    const wtl_weight *prepare(const HostWeight &w, wtl_weight_use use);
    std::string reason_;
    wtl_backend *be_ = nullptr;
    wtl_stream *stream_ = nullptr;
    std::deque<Block> blocks_;
    std::deque<Guarded> sources_;
    std::vector<wtl_weight *> weights_;
};

// Compares two matrices of bits; reports the first difference.
testing::AssertionResult same_bits(const Host &got, const Host &want);
// |got - want| <= bound for each element; where want is not finite got must not be finite either. Reports the worst element.
testing::AssertionResult within(const Host &got, const Host &want, const std::vector<double> &bound);

#define CHECKER_RIG(rig)                                                                                               \
    if (!(rig).ok()) GTEST_SKIP() << (rig).unavailable()

} // namespace checker
#endif
