// Attention over a paged KV cache on a rig: sequences with their own K, V and q, written and attended in steps.
//
// Every sequence's data depends on its own seed only, so that the same sequence can be run in any company. The pool is
// filled with NaN first, its blocks are dealt in random order, and the layer under test is the second of its block.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_ATTENTION_RUN_H
#define WTL_TESTS_ATTENTION_RUN_H

#include <algorithm>

#include "cases.h"

namespace checker {

struct Sequence {
    Host q, k, v; // [positions, heads * head_dim]
    int length() const { return q.rows; }
};

inline Sequence random_sequence(const AttentionCase &c, uint32_t seed, int length) {
    std::mt19937 random(seed);
    Sequence s;
    s.q = random_matrix(random, length, c.n_heads_kv * c.group * c.head_dim, Fill::Normal);
    s.k = random_matrix(random, length, c.n_heads_kv * c.head_dim, c.fill);
    s.v = random_matrix(random, length, c.n_heads_kv * c.head_dim, c.fill);
    return s;
}

// Rows first .. first + n - 1 of sequence seq take part in a step.
struct StepRows {
    int seq, first, n;
};

class KvBench {
  public:
    KvBench(Rig &rig, const AttentionCase &c, const std::vector<Sequence> &sequences, uint32_t seed)
        : rig_(rig), c_(c), sequences_(sequences) {
        kv_.shape = {c.dtype, c.n_heads_kv, c.head_dim};
        size_t layer = rig.ops()->kv_layer_bytes(&kv_.shape);
        EXPECT_EQ(layer % 64, 0u);
        int n_blocks = 0;
        for (const Sequence &s : sequences) {
            n_blocks += (s.length() + WTL_KV_BLOCK - 1) / WTL_KV_BLOCK;
            stride_ = std::max(stride_, (s.length() + WTL_KV_BLOCK - 1) / WTL_KV_BLOCK + 1);
        }
        kv_.block_bytes = 3 * layer;
        kv_.layer_offset = layer;
        kv_.base = rig.bytes((size_t)n_blocks * kv_.block_bytes, 0xFF); // NaN in f16 and f32
        kv_.table_stride = stride_;
        std::vector<int32_t> order;
        for (int i = 0; i < n_blocks; i++) order.push_back(i);
        std::shuffle(order.begin(), order.end(), std::mt19937(seed));
        for (const Sequence &s : sequences)
            for (int j = 0; j < stride_; j++) {
                bool used = j * WTL_KV_BLOCK < s.length();
                table_.push_back(used ? order.back() : -1);
                if (used) order.pop_back();
            }
    }

    void write(const std::vector<StepRows> &step) {
        upload_rows(step);
        kv_.table = rig_.ints(table_);
        wtl_mat k = rig_.put(gather(step, &Sequence::k), c_.layout), v = rig_.put(gather(step, &Sequence::v), c_.layout);
        rig_.ops()->kv_write(rig_.stream(), k, v, &kv_, &rows_);
        rig_.sync();
    }

    // [rows of the step, n_heads * head_dim]. Blocks that the window has left behind are taken out of the table.
    Host attend(const std::vector<StepRows> &step) {
        upload_rows(step);
        std::vector<int32_t> visible = table_;
        for (const StepRows &r : step)
            for (int j = 0; c_.window > 0 && (j + 1) * WTL_KV_BLOCK <= r.first - c_.window + 1; j++)
                visible[(size_t)r.seq * stride_ + j] = -1;
        kv_.table = rig_.ints(visible);
        wtl_attention a = {};
        a.q = rig_.put(gather(step, &Sequence::q), c_.layout);
        a.out = rig_.empty(a.q.rows, a.q.cols, c_.layout);
        a.kv = kv_;
        a.n_heads = c_.n_heads_kv * c_.group;
        a.scale = scale();
        a.window = c_.window;
        rig_.ops()->attention(rig_.stream(), &a, &rows_);
        return rig_.get(a.out);
    }

    float scale() const { return 1.0f / std::sqrt((float)c_.head_dim); }

  private:
    void upload_rows(const std::vector<StepRows> &step) {
        std::vector<int32_t> positions, seqs;
        rows_ = {};
        for (const StepRows &r : step)
            for (int i = 0; i < r.n; i++) {
                positions.push_back(r.first + i);
                seqs.push_back(r.seq);
                rows_.kv_len_max = std::max(rows_.kv_len_max, r.first + i + 1);
            }
        rows_.n_rows = (int32_t)positions.size();
        rows_.n_seqs = (int32_t)sequences_.size();
        rows_.positions = rig_.ints(positions);
        rows_.seqs = rig_.ints(seqs);
    }
    Host gather(const std::vector<StepRows> &step, Host Sequence::*what) const {
        Host all(0, (sequences_[0].*what).cols);
        for (const StepRows &r : step) {
            Host part = (sequences_[r.seq].*what).slice(r.first, r.n);
            all.v.insert(all.v.end(), part.v.begin(), part.v.end());
            all.rows += r.n;
        }
        return all;
    }

    Rig &rig_;
    const AttentionCase &c_;
    const std::vector<Sequence> &sequences_;
    wtl_kv kv_ = {};
    wtl_rows rows_ = {};
    std::vector<int32_t> table_;
    int stride_ = 0;
};

} // namespace checker
#endif
