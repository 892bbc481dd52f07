// Guarded memory, backend memory with canaries, comparisons. See rig.h.
// SPDX-License-Identifier: Apache-2.0
#include "rig.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

namespace checker {

namespace {
constexpr size_t kCanaryBytes = 256;
constexpr uint32_t kCanary = 0x7FC5A5A5u; // a quiet NaN: reading it shows in results, writing over it shows here
} // namespace

std::vector<Target> targets() {
    return {{"ref", ""},
            {"cpu", "scalar"},
#if defined(__x86_64__)
            {"cpu", "avx2"},
            {"cpu", "avxvnni"},
            {"cpu", "avx512vnni"},
#elif defined(__aarch64__)
            {"cpu", "neon_dotprod"},
            {"cpu", "neon_i8mm"},
#endif
    };
}

Guarded::Guarded(size_t bytes) : bytes_(bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (bytes + page - 1) / page * page;
    map_bytes_ = body + page;
    map_ = mmap(nullptr, map_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map_ == MAP_FAILED || mprotect((uint8_t *)map_ + body, page, PROT_NONE) != 0) abort();
    data_ = (uint8_t *)map_ + body - bytes;
}
Guarded::~Guarded() {
    if (map_) munmap(map_, map_bytes_);
}
Guarded::Guarded(Guarded &&other) noexcept { *this = std::move(other); }
Guarded &Guarded::operator=(Guarded &&other) noexcept {
    std::swap(map_, other.map_);
    std::swap(map_bytes_, other.map_bytes_);
    std::swap(bytes_, other.bytes_);
    std::swap(data_, other.data_);
    return *this;
}
void Guarded::make_read_only() {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (map_bytes_ > page) mprotect(map_, map_bytes_ - page, PROT_READ);
}

Host Host::slice(int first, int n) const {
    Host part(n, cols);
    std::copy(v.begin() + (size_t)first * cols, v.begin() + (size_t)(first + n) * cols, part.v.begin());
    return part;
}

wtl_tensor HostWeight::tensor() const {
    return {bytes.data(), dtype, rows, cols, bytes.size() / (size_t)rows, false};
}

Rig::Rig(const Target &target, const Options &options) {
    wtl_backend_options be_options = {options.n_threads, options.deterministic,
                                      target.mask.empty() ? nullptr : target.mask.c_str()};
    wtl_error err = {};
    wtl_status status = target.backend == "ref" ? ref_backend_open(&be_options, &be_, &err)
                                                : cpu_backend_open(&be_options, &be_, &err);
    if (status == WTL_ERR_UNSUPPORTED) {
        reason_ = target.name() + " cannot run here: " + err.message;
        return;
    }
    if (status == WTL_OK) status = be_->ops->stream_open(be_, &options.limits, &stream_, &err);
    if (status != WTL_OK) ADD_FAILURE() << (reason_ = target.name() + " does not open: " + err.message);
}

Rig::~Rig() {
    if (stream_) {
        check_memory();
        forget();
        be_->ops->stream_close(stream_);
    }
    if (be_) be_->ops->close(be_);
}

Rig::Block &Rig::block(size_t bytes) {
    void *p = nullptr;
    wtl_error err = {};
    size_t total = bytes + kCanaryBytes;
    EXPECT_EQ(ops()->alloc(be_, total, &p, &err), WTL_OK) << err.message;
    std::vector<uint32_t> fill((total + 3) / 4, kCanary);
    ops()->upload(stream_, p, fill.data(), total);
    blocks_.push_back({(uint8_t *)p, bytes, {}});
    return blocks_.back();
}

wtl_mat Rig::empty(int rows, int cols, Layout layout) {
    int stride = cols + layout.gap;
    size_t used = rows > 0 ? (size_t)(rows - 1) * stride + cols : 0;
    Block &b = block((layout.offset + used) * sizeof(float));
    if (layout.offset) b.gaps.push_back({0, layout.offset * sizeof(float)});
    for (int r = 0; layout.gap && r + 1 < rows; r++)
        b.gaps.push_back({(layout.offset + (size_t)r * stride + cols) * sizeof(float), layout.gap * sizeof(float)});
    return {(float *)b.p + layout.offset, rows, cols, stride};
}

void Rig::overwrite(wtl_mat m, const Host &host) {
    for (int r = 0; r < host.rows; r++)
        ops()->upload(stream_, m.data + (size_t)r * m.stride, host.row(r), (size_t)host.cols * sizeof(float));
}

wtl_mat Rig::put(const Host &host, Layout layout) {
    wtl_mat m = empty(host.rows, host.cols, layout);
    overwrite(m, host);
    return m;
}

Host Rig::get(wtl_mat m) {
    Host host(m.rows, m.cols);
    for (int r = 0; r < m.rows; r++)
        ops()->download(stream_, &host.v[(size_t)r * m.cols], m.data + (size_t)r * m.stride,
                        (size_t)m.cols * sizeof(float));
    sync();
    return host;
}

const int32_t *Rig::ints(const std::vector<int32_t> &values) {
    Block &b = block(values.size() * sizeof(int32_t));
    ops()->upload(stream_, b.p, values.data(), values.size() * sizeof(int32_t));
    return (const int32_t *)b.p;
}

uint8_t *Rig::bytes(size_t n, uint8_t fill) {
    Block &b = block(n);
    std::vector<uint8_t> host(n, fill);
    ops()->upload(stream_, b.p, host.data(), n);
    return b.p;
}

const wtl_weight *Rig::prepare(const HostWeight &w, wtl_weight_use use) {
    wtl_tensor tensor = w.tensor();
    wtl_weight *out = nullptr;
    wtl_error err = {};
    EXPECT_EQ(ops()->weight_prepare(be_, &tensor, use, &out, &err), WTL_OK) << err.message;
    if (out) weights_.push_back(out);
    return out;
}

const wtl_weight *Rig::vector(const std::vector<float> &values) {
    Guarded source(values.size() * sizeof(float));
    std::memcpy(source.data(), values.data(), source.size());
    source.make_read_only();
    wtl_tensor tensor = {source.data(), WTL_DTYPE_F32, 1, (int32_t)values.size(), source.size(), false};
    wtl_weight *out = nullptr;
    wtl_error err = {};
    EXPECT_EQ(ops()->weight_prepare(be_, &tensor, WTL_WEIGHT_VECTOR, &out, &err), WTL_OK) << err.message;
    if (out) weights_.push_back(out);
    sources_.push_back(std::move(source));
    return out;
}

void Rig::sync() {
    wtl_error err = {};
    EXPECT_EQ(ops()->sync(stream_, &err), WTL_OK) << err.message;
}

void Rig::check_memory() {
    for (const Block &b : blocks_) {
        std::vector<uint8_t> host(b.bytes + kCanaryBytes);
        ops()->download(stream_, host.data(), b.p, host.size());
        auto intact = [&](size_t first, size_t n) {
            for (size_t i = first; i < first + n; i++)
                if (host[i] != (uint8_t)(kCanary >> (i % 4 * 8))) return false;
            return true;
        };
        EXPECT_TRUE(intact(b.bytes, kCanaryBytes)) << "an op wrote past the end of " << b.bytes << " bytes";
        for (auto [first, n] : b.gaps)
            EXPECT_TRUE(intact(first, n)) << "an op wrote into the gap at byte " << first << " of " << b.bytes;
    }
}

void Rig::forget() {
    for (wtl_weight *w : weights_) ops()->weight_free(be_, w);
    for (const Block &b : blocks_) ops()->free(be_, b.p, b.bytes + kCanaryBytes);
    weights_.clear();
    blocks_.clear();
    sources_.clear();
}

testing::AssertionResult same_bits(const Host &got, const Host &want) {
    if (got.rows != want.rows || got.cols != want.cols) return testing::AssertionFailure() << "shapes differ";
    for (int r = 0; r < got.rows; r++)
        for (int c = 0; c < got.cols; c++)
            if (wtl_bits_from_f32(got.at(r, c)) != wtl_bits_from_f32(want.at(r, c)))
                return testing::AssertionFailure() << "bits differ at row " << r << ", col " << c << ": got "
                                                   << testing::PrintToString(got.at(r, c)) << ", want "
                                                   << testing::PrintToString(want.at(r, c));
    return testing::AssertionSuccess();
}

testing::AssertionResult within(const Host &got, const Host &want, const std::vector<double> &bound) {
    double worst = 0;
    size_t where = 0, n_bad = 0;
    for (size_t i = 0; i < got.v.size(); i++) {
        double error = std::fabs((double)got.v[i] - (double)want.v[i]), ratio = error / bound[i];
        if (!std::isfinite(want.v[i])) {
            ratio = std::isfinite(got.v[i]) ? HUGE_VAL : 0;
        } else if (!std::isfinite(got.v[i])) {
            ratio = HUGE_VAL;
        } else if (error == 0) {
            ratio = 0;
        }
        n_bad += ratio > 1;
        if (ratio > worst) {
            worst = ratio;
            where = i;
        }
    }
    if (worst <= 1) return testing::AssertionSuccess() << "worst error / bound " << worst;
    return testing::AssertionFailure() << n_bad << " of " << got.v.size() << " outside the bound; worst at row "
                                       << where / got.cols << ", col " << where % got.cols << ": got " << got.v[where]
                                       << ", want " << want.v[where] << ", error / bound " << worst << " (bound "
                                       << bound[where] << ")";
}

} // namespace checker
