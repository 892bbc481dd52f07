// Writes GGUF files in memory, well-formed by default and damaged on request, for tests of everything that reads them.
//
// Strings and tensors are appended in call order; build() puts header, keys, tensor infos and data together. What a
// test wants wrong it sets through the public fields or patches in the returned bytes.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_GGUF_WRITER_H
#define WTL_TESTS_GGUF_WRITER_H

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "models/gguf.h"

class GgufWriter {
  public:
    uint32_t version = 3;
    uint32_t alignment = 32; // of the data section; write_alignment() also states it as a key
    bool pad_data = true;    // false: the file ends after the tensor infos
    uint64_t claimed_kv = UINT64_MAX, claimed_tensors = UINT64_MAX; // UINT64_MAX: the truth

    // ---- Keys: key() starts one, the raw writers after it give the value.
    GgufWriter &key(const std::string &name, uint32_t type) {
        put_str(kv_, name);
        put(kv_, type);
        n_kv_++;
        return *this;
    }
    template <class T> GgufWriter &raw(T value) {
        put(kv_, value);
        return *this;
    }
    GgufWriter &raw_str(const std::string &s) {
        put_str(kv_, s);
        return *this;
    }
    GgufWriter &u8(const std::string &k, uint8_t v) { return key(k, GGUF_U8).raw(v); }
    GgufWriter &i8(const std::string &k, int8_t v) { return key(k, GGUF_I8).raw(v); }
    GgufWriter &u16(const std::string &k, uint16_t v) { return key(k, GGUF_U16).raw(v); }
    GgufWriter &i16(const std::string &k, int16_t v) { return key(k, GGUF_I16).raw(v); }
    GgufWriter &u32(const std::string &k, uint32_t v) { return key(k, GGUF_U32).raw(v); }
    GgufWriter &i32(const std::string &k, int32_t v) { return key(k, GGUF_I32).raw(v); }
    GgufWriter &u64(const std::string &k, uint64_t v) { return key(k, GGUF_U64).raw(v); }
    GgufWriter &i64(const std::string &k, int64_t v) { return key(k, GGUF_I64).raw(v); }
    GgufWriter &f32(const std::string &k, float v) { return key(k, GGUF_F32).raw(v); }
    GgufWriter &f64(const std::string &k, double v) { return key(k, GGUF_F64).raw(v); }
    GgufWriter &boolean(const std::string &k, uint8_t v) { return key(k, GGUF_BOOL).raw(v); }
    GgufWriter &str(const std::string &k, const std::string &v) { return key(k, GGUF_STRING).raw_str(v); }
    GgufWriter &strs(const std::string &k, const std::vector<std::string> &v) {
        key(k, GGUF_ARRAY).raw((uint32_t)GGUF_STRING).raw((uint64_t)v.size());
        for (const auto &s : v) raw_str(s);
        return *this;
    }
    template <class T> GgufWriter &array(const std::string &k, gguf_type elem, const std::vector<T> &v) {
        key(k, GGUF_ARRAY).raw((uint32_t)elem).raw((uint64_t)v.size());
        for (T x : v) raw(x);
        return *this;
    }
    GgufWriter &write_alignment(uint32_t a) {
        alignment = a;
        return u32("general.alignment", a);
    }

    // ---- Tensors: infos only. The data is zero unless given; offsets follow each other, aligned.
    GgufWriter &tensor(const std::string &name, const std::vector<uint64_t> &dims, uint32_t dtype,
                       const std::vector<uint8_t> &data = {}) {
        const wtl_dtype_info *info = wtl_dtype_get(dtype);
        uint64_t elements = 1;
        for (uint64_t d : dims) elements *= d;
        size_t bytes = info->name ? (size_t)(elements / info->block_weights * info->block_bytes) : 0;
        tensor_at(name, dims, dtype, data_.size());
        std::vector<uint8_t> content = data;
        content.resize(bytes);
        data_.insert(data_.end(), content.begin(), content.end());
        data_.resize((data_.size() + alignment - 1) / alignment * alignment);
        return *this;
    }
    // An info whose offset is as given and for which no data is written.
    GgufWriter &tensor_at(const std::string &name, const std::vector<uint64_t> &dims, uint32_t dtype, uint64_t offset) {
        put_str(infos_, name);
        put(infos_, (uint32_t)dims.size());
        for (uint64_t d : dims) put(infos_, d);
        put(infos_, dtype);
        put(infos_, offset);
        n_tensors_++;
        return *this;
    }
    GgufWriter &f32_tensor(const std::string &name, const std::vector<uint64_t> &dims, const std::vector<float> &values) {
        std::vector<uint8_t> bytes(values.size() * sizeof(float));
        memcpy(bytes.data(), values.data(), bytes.size());
        return tensor(name, dims, WTL_DTYPE_F32, bytes);
    }

    std::vector<uint8_t> build() const {
        std::vector<uint8_t> out = {'G', 'G', 'U', 'F'};
        put(out, version);
        put(out, claimed_tensors == UINT64_MAX ? n_tensors_ : claimed_tensors);
        put(out, claimed_kv == UINT64_MAX ? n_kv_ : claimed_kv);
        out.insert(out.end(), kv_.begin(), kv_.end());
        out.insert(out.end(), infos_.begin(), infos_.end());
        if (!pad_data) return out;
        out.resize((out.size() + alignment - 1) / alignment * alignment);
        out.insert(out.end(), data_.begin(), data_.end());
        return out;
    }

  private:
    template <class T> static void put(std::vector<uint8_t> &to, T value) {
        uint8_t bytes[sizeof value];
        memcpy(bytes, &value, sizeof value); // tests run on little-endian machines
        to.insert(to.end(), bytes, bytes + sizeof value);
    }
    static void put_str(std::vector<uint8_t> &to, const std::string &s) {
        put(to, (uint64_t)s.size());
        to.insert(to.end(), s.begin(), s.end());
    }
    std::vector<uint8_t> kv_, infos_, data_;
    uint64_t n_kv_ = 0, n_tensors_ = 0;
};

// A file on disk that goes when the object does.
class TempFile {
  public:
    explicit TempFile(const std::vector<uint8_t> &bytes) : TempFile(bytes.data(), bytes.size()) {}
    explicit TempFile(const std::string &text) : TempFile(text.data(), text.size()) {}
    ~TempFile() { unlink(path_.c_str()); }
    TempFile(const TempFile &) = delete;
    TempFile &operator=(const TempFile &) = delete;
    const char *path() const { return path_.c_str(); }

  private:
    TempFile(const void *data, size_t bytes) {
        const char *dir = getenv("TMPDIR");
        path_ = std::string(dir && *dir ? dir : "/tmp") + "/wattle-test-XXXXXX";
        int fd = mkstemp(path_.data());
        if (fd < 0 || write(fd, data, bytes) != (ssize_t)bytes) perror(path_.c_str());
        if (fd >= 0) close(fd);
    }
    std::string path_;
};

#endif
