// Saved prefix caches: what comes back gives the same bits; what is damaged, foreign or forged is refused and changes nothing.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>

#include "kernels/cpu/cpu.h"
#include "runtime/base/alloc.h"
#include "runtime/base/xxh64.h"
#include "tests/support/sessions.h"

namespace {

namespace fs = std::filesystem;
constexpr int kVocab = TinyModel::kVocab;

TinyOptions small(const char *arch, unsigned seed = 1) {
    TinyOptions o;
    o.arch = arch;
    o.type = WTL_DTYPE_Q8_0;
    o.n_layers = 2;
    o.n_heads = 2;
    o.n_heads_kv = 1;
    o.head_dim = 32;
    o.n_embd = 64;
    o.n_ff = 64;
    o.seed = seed;
    return o;
}

class TempFolder {
  public:
    TempFolder() {
        std::string t = (fs::temp_directory_path() / "wattle-kv-XXXXXX").string();
        path_ = mkdtemp(t.data()) ? t : "";
    }
    ~TempFolder() { fs::remove_all(path_); }
    std::string file(const char *name = "cache.kv") const { return path_ + "/" + name; }
    size_t n_files() const { return (size_t)std::distance(fs::directory_iterator(path_), fs::directory_iterator()); }

  private:
    std::string path_;
};

std::vector<uint8_t> read_file(const std::string &path) {
    std::ifstream f(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(f), {}};
}
void write_file(const std::string &path, const std::vector<uint8_t> &bytes) {
    std::ofstream(path, std::ios::binary).write((const char *)bytes.data(), (std::streamsize)bytes.size());
}

// Runs a prompt to its end and closes or keeps it; logits of what was not cached.
std::vector<Logits> ask(Session &s, const Tokens &tokens, int *n_cached, bool close = true) {
    const int seq = s.open_prefix(tokens, n_cached);
    std::vector<Logits> out = s.run(seq, tokens, (size_t)*n_cached, tokens.size());
    if (close) wtl_seq_close(s.s, seq);
    return out;
}
int find(const Session &s, const Tokens &t) { return wtl_session_find_prefix(s.s, t.data(), t.size()); }

struct KvFile : testing::Test {
    KvFile() : model(small("gemma3")), engine(model.path()) {}
    // A file of a system prompt, two conversations behind it and one of its own.
    std::vector<uint8_t> make_file(const wtl_session_options &o) {
        std::mt19937 rng(5);
        Session s(engine, o);
        const Tokens system = random_tokens(rng, 37, kVocab);
        for (int i = 0; i < 3; i++) {
            Tokens t = i < 2 ? system : Tokens();
            for (int32_t x : random_tokens(rng, 30, kVocab)) t.push_back(x);
            prompts.push_back(t);
            int n;
            ask(s, t, &n);
        }
        wtl_error err = {};
        EXPECT_EQ(wtl_session_save(s.s, folder.file().c_str(), &n_saved, &err), WTL_OK) << err.message;
        return read_file(folder.file());
    }
    // That this content is refused with such a sentence, and that the session is as before.
    void expect_refused(Session &s, const std::vector<uint8_t> &bytes, const char *sentence = "") {
        const wtl_kv_usage before = s.usage();
        write_file(folder.file("other.kv"), bytes);
        uint64_t n = 77;
        wtl_error err = {};
        ASSERT_EQ(wtl_session_load(s.s, folder.file("other.kv").c_str(), &n, &err), WTL_ERR_FORMAT) << err.message;
        EXPECT_NE(std::string(err.message).find(sentence), std::string::npos) << err.message;
        EXPECT_EQ(n, 77u);
        const wtl_kv_usage after = s.usage();
        ASSERT_EQ(memcmp(&before, &after, sizeof before), 0);
        for (const Tokens &t : prompts) ASSERT_EQ(find(s, t), 0);
    }
    TempFolder folder;
    TinyModel model;
    Engine engine;
    std::vector<Tokens> prompts;
    uint64_t n_saved = 0;
};

using Case = std::tuple<const char *, wtl_kv_type>;
class KvFileRoundTrip : public testing::TestWithParam<Case> {};

TEST_P(KvFileRoundTrip, WhatWasSavedIsFoundAgainWithTheSameBits) {
    TinyModel model(small(std::get<0>(GetParam())));
    TempFolder folder;
    std::mt19937 rng(9);
    const wtl_session_options o = prefix_options(512, 3, 128, 4 << 20, std::get<1>(GetParam()));
    Engine one(model.path(), 1), two(model.path(), 2);
    std::vector<Tokens> asked;
    uint64_t saved = 0, loaded = 0;
    Session first(one, o), second(two, o);
    for (int i = 0; i < 8; i++) {
        Tokens t = i && rng() % 3 ? asked[rng() % asked.size()] : Tokens();
        if (!t.empty()) t.resize(1 + rng() % t.size());
        for (int32_t x : random_tokens(rng, 2 + rng() % 60, kVocab)) t.push_back(x);
        if (t.size() > 120) t.resize(120);
        int n;
        ask(first, t, &n, i != 3); // one stays open: its full blocks are saved
        asked.push_back(t);
    }
    wtl_error err = {};
    ASSERT_EQ(wtl_session_save(first.s, folder.file().c_str(), &saved, &err), WTL_OK) << err.message;
    ASSERT_EQ(wtl_session_load(second.s, folder.file().c_str(), &loaded, &err), WTL_OK) << err.message;
    EXPECT_EQ(saved, loaded);
    EXPECT_GT(saved, 100u);
    EXPECT_EQ(second.usage().n_used, 0u);
    const uint64_t n_groups = std::get<0>(GetParam()) == std::string("gemma3") ? 2 : 1, n_tails = asked[3].size() % 16 ? n_groups : 0;
    EXPECT_EQ(second.usage().n_cached, first.usage().n_used + first.usage().n_cached - n_tails);
    for (const Tokens &t : asked) EXPECT_EQ(find(first, t), find(second, t));
    // The same order, the same bytes: saving what was loaded gives the file again.
    Session third(one, o), fourth(two, o);
    ASSERT_EQ(wtl_session_save(second.s, folder.file("b").c_str(), nullptr, &err), WTL_OK) << err.message;
    ASSERT_EQ(wtl_session_load(third.s, folder.file("b").c_str(), nullptr, &err), WTL_OK) << err.message;
    ASSERT_EQ(wtl_session_save(third.s, folder.file("c").c_str(), nullptr, &err), WTL_OK) << err.message;
    EXPECT_EQ(read_file(folder.file("b")), read_file(folder.file("c")));
    int hits = 0;
    for (const Tokens &t : asked) {
        Session fresh(one, o);
        int n, none;
        const std::vector<Logits> got = ask(second, t, &n), want = ask(fresh, t, &none);
        ASSERT_EQ(none, 0);
        hits += n > 0;
        for (size_t i = 0; i < got.size(); i++) ASSERT_TRUE(same_bits(got[i], want[(size_t)n + i])) << "position " << (size_t)n + i;
    }
    EXPECT_GT(hits, 6);
    ASSERT_EQ(wtl_session_load(first.s, folder.file().c_str(), &loaded, &err), WTL_OK) << err.message;
    EXPECT_EQ(loaded, 0u) << "all of it was there already";
}
INSTANTIATE_TEST_SUITE_P(Models, KvFileRoundTrip, testing::Combine(testing::Values("llama", "gemma3"), testing::Values(WTL_KV_F16, WTL_KV_F32, WTL_KV_Q8_0)));

TEST_F(KvFile, EveryFlippedByteIsRefused) {
    const std::vector<uint8_t> good = make_file(prefix_options(256, 2, 128, 0));
    Session s(engine, prefix_options(256, 2, 128, 0));
    const std::string path = folder.file();
    std::fstream f(path, std::ios::binary | std::ios::in | std::ios::out);
    const wtl_kv_usage before = s.usage();
    size_t tried = 0;
    for (size_t at = 0; at < good.size(); at += at < 400 || at + 20 > good.size() ? 1 : 17, tried++) {
        const char bad = (char)(good[at] ^ (1 + at % 255));
        f.seekp((std::streamoff)at).write(&bad, 1).flush();
        wtl_error err = {};
        ASSERT_EQ(wtl_session_load(s.s, path.c_str(), nullptr, &err), WTL_ERR_FORMAT) << "byte " << at << " of " << good.size();
        ASSERT_NE(std::string(err.message).find(path), std::string::npos) << err.message;
        f.seekp((std::streamoff)at).write((const char *)&good[at], 1).flush();
    }
    EXPECT_GT(tried, 1000u);
    const wtl_kv_usage after = s.usage();
    EXPECT_EQ(memcmp(&before, &after, sizeof before), 0);
    for (const Tokens &t : prompts) EXPECT_EQ(find(s, t), 0);
    uint64_t n = 0;
    EXPECT_EQ(wtl_session_load(s.s, path.c_str(), &n, nullptr), WTL_OK);
    EXPECT_EQ(n, n_saved);
    for (const Tokens &t : prompts) EXPECT_EQ(find(s, t), (int)t.size() - 1);
}

TEST_F(KvFile, EveryOtherLengthIsRefused) {
    std::vector<uint8_t> good = make_file(prefix_options(256, 2, 128, 0));
    Session s(engine, prefix_options(256, 2, 128, 0));
    std::vector<uint8_t> longer = good;
    longer.push_back(0);
    expect_refused(s, longer, "behind the end");
    const std::string path = folder.file();
    for (size_t n = good.size(); n-- > 0; n -= n > 300 && n + 300 < good.size() ? std::min<size_t>(n - 1, 61) : 0) {
        ASSERT_EQ(truncate(path.c_str(), (off_t)n), 0);
        ASSERT_EQ(wtl_session_load(s.s, path.c_str(), nullptr, nullptr), WTL_ERR_FORMAT) << n << " of " << good.size() << " bytes";
    }
    for (const Tokens &t : prompts) EXPECT_EQ(find(s, t), 0);
}

TEST_F(KvFile, AnotherModelTypeOrMachineIsRefused) {
    const wtl_session_options o = prefix_options(256, 2, 128, 0);
    const std::vector<uint8_t> good = make_file(o);
    auto refused = [&](const Engine &e, wtl_session_options so, const char *why) {
        Session s(e, so);
        expect_refused(s, good, why);
    };
    TinyModel other(small("gemma3", 2)), llama(small("llama"));
    Engine other_engine(other.path()), llama_engine(llama.path());
    refused(other_engine, o, "another model");
    refused(llama_engine, o, "another model");
    wtl_session_options other_type = o;
    other_type.kv_type = WTL_KV_F32;
    refused(engine, other_type, "number type");
    other_type.kv_type = WTL_KV_Q8_0;
    refused(engine, other_type, "number type");
    if (cpu_isa_available(CPU_ISA_AVX2)) {
        ScopedEnv env("WTL_CPU_MASK", "scalar");
        Engine scalar(model.path());
        refused(scalar, o, "not the same bits");
    }
    wtl_session_options keeps_nothing = o;
    keeps_nothing.keep_prefixes = false;
    Session none(engine, keeps_nothing), s(engine, o);
    EXPECT_EQ(wtl_session_load(none.s, folder.file().c_str(), nullptr, nullptr), WTL_ERR_INVALID);
    EXPECT_EQ(wtl_session_save(none.s, folder.file().c_str(), nullptr, nullptr), WTL_ERR_INVALID);
    EXPECT_EQ(read_file(folder.file()), good);
    EXPECT_EQ(wtl_session_load(s.s, folder.file("absent").c_str(), nullptr, nullptr), WTL_ERR_NOT_FOUND);
    EXPECT_EQ(wtl_session_load(s.s, "/dev/zero", nullptr, nullptr), WTL_ERR_FORMAT);
    EXPECT_EQ(wtl_session_save(s.s, folder.file("no/such/folder").c_str(), nullptr, nullptr), WTL_ERR_IO);
    fs::create_directory(folder.file("folder"));
    EXPECT_EQ(wtl_session_save(s.s, folder.file("folder").c_str(), nullptr, nullptr), WTL_ERR_IO);
}

TEST_F(KvFile, AModelFileThatWasWrittenToIsNoIdentity) {
    Session s(engine, prefix_options(256, 2, 128, 0));
    std::fstream(model.path(), std::ios::binary | std::ios::in | std::ios::out).seekp(-1, std::ios::end).put('x').flush();
    const struct timespec times[2] = {{1, 0}, {1, 0}};
    ASSERT_EQ(utimensat(AT_FDCWD, model.path(), times, 0), 0);
    wtl_error err = {};
    EXPECT_EQ(wtl_session_save(s.s, folder.file().c_str(), nullptr, &err), WTL_ERR_IO);
    EXPECT_NE(std::string(err.message).find("written to"), std::string::npos) << err.message;
    EXPECT_EQ(folder.n_files(), 0u);
}

// Offsets of the format, for forgeries whose checksums are right.
constexpr size_t kHeader = 200, kRecord = 88, kRecords = 184;
struct Forgery {
    std::vector<uint8_t> bytes;
    std::vector<size_t> at; // of records
    explicit Forgery(const std::vector<uint8_t> &good) : bytes(good) {
        uint64_t block[2];
        memcpy(block, &good[168], sizeof block);
        for (size_t p = kHeader; p + 8 < good.size();) {
            at.push_back(p);
            p += kRecord + block[0] + (get(p + 8) & 2 ? block[1] : 0);
        }
        ends = at;
        ends.push_back(good.size() - 8);
    }
    std::vector<size_t> ends;
    int32_t get(size_t p) const {
        int32_t v;
        memcpy(&v, &bytes[p], 4);
        return v;
    }
    template <class T> Forgery &put(size_t p, T v) {
        memcpy(&bytes[p], &v, sizeof v);
        return *this;
    }
    const std::vector<uint8_t> &seal() {
        put(kHeader - 8, xxh64_of(bytes.data(), kHeader - 8));
        xxh64 all;
        xxh64_start(&all, 0);
        xxh64_add(&all, &bytes[kHeader - 8], 8);
        for (size_t i = 0; i < at.size(); i++) {
            xxh64 h;
            xxh64_start(&h, 0);
            xxh64_add(&h, &bytes[at[i]], kRecord - 8);
            xxh64_add(&h, &bytes[at[i] + kRecord], ends[i + 1] - at[i] - kRecord);
            put(at[i] + kRecord - 8, xxh64_value(&h));
            xxh64_add(&all, &bytes[at[i] + kRecord - 8], 8);
        }
        put(bytes.size() - 8, xxh64_value(&all));
        return bytes;
    }
};

TEST_F(KvFile, ForgeriesWithRightChecksumsAreRefused) {
    const std::vector<uint8_t> good = make_file(prefix_options(256, 2, 128, 0));
    Session s(engine, prefix_options(256, 2, 128, 0));
    ASSERT_EQ(Forgery(good).seal(), good) << "the test's idea of the format is wrong";
    ASSERT_GE(Forgery(good).at.size(), 5u);
    const std::function<void(Forgery &)> damages[] = {
        [](Forgery &f) { f.put(f.at[0], (int32_t)0); },                     // its own parent
        [](Forgery &f) { f.put(f.at[1], (int32_t)f.at.size() - 1); },       // a parent that comes later
        [](Forgery &f) { f.put(f.at[1], INT32_MAX); },
        [](Forgery &f) { f.put(f.at[1], (int32_t)-2); },
        [](Forgery &f) { f.put(f.at[2] + 4, (int32_t)0); },                 // lengths
        [](Forgery &f) { f.put(f.at[2] + 4, (int32_t)17); },
        [](Forgery &f) { f.put(f.at[2] + 4, (int32_t)-1); },
        [](Forgery &f) { f.put(f.at[0] + 16, (int32_t)kVocab); },           // tokens
        [](Forgery &f) { f.put(f.at[0] + 16, (int32_t)-1); },
        [](Forgery &f) { f.put(f.at[0] + 8, f.get(f.at[0] + 8) | 4); },     // groups
        [](Forgery &f) { f.put(f.at[0] + 12, (int32_t)1); },
        [](Forgery &f) { f.put(f.at[0] + 4, (int32_t)15).put(f.at[0] + 76, (int32_t)0); }, // a parent that is not full
    };
    int i = 0;
    for (auto &damage : damages) {
        SCOPED_TRACE(i++);
        Forgery f(good);
        damage(f);
        expect_refused(s, f.seal(), "damaged");
        if (HasFatalFailure()) return;
    }
    for (uint64_t n : {UINT64_MAX, (uint64_t)1 << 31, (uint64_t)100000}) expect_refused(s, Forgery(good).put(kRecords, n).seal(), "cut short");
    expect_refused(s, Forgery(good).put(kRecords, (uint64_t)0).seal(), "checksum of the whole file");
    expect_refused(s, Forgery(good).put(8, (uint32_t)3).seal(), "version 3");
    expect_refused(s, Forgery(good).put(12, (uint32_t)0x04030201).seal(), "byte order");
    expect_refused(s, Forgery(good).put(168, (uint64_t)1 << 40).seal(), "another shape");
    // Twice the same block is no damage: it takes no memory twice.
    Forgery twice(good);
    size_t same = 0;
    for (size_t j = 1; j < twice.at.size() && !same; j++)
        if (twice.get(twice.at[j]) == twice.get(twice.at[0]) && twice.get(twice.at[j] + 4) == 16) same = j;
    ASSERT_GT(same, 0u);
    std::copy_n(&twice.bytes[twice.at[0] + 16], 64, &twice.bytes[twice.at[same] + 16]);
    write_file(folder.file("twice"), twice.seal());
    uint64_t n = 0;
    const uint64_t n_free = s.usage().n_free;
    ASSERT_EQ(wtl_session_load(s.s, folder.file("twice").c_str(), &n, nullptr), WTL_OK);
    EXPECT_EQ(n, n_saved - 16);
    EXPECT_EQ(s.usage().n_free, n_free - 2 * (twice.at.size() - 1));
}

TEST_F(KvFile, ASmallerCacheTakesWhatWasUsedLast) {
    const std::vector<uint8_t> good = make_file(prefix_options(256, 2, 128, 0));
    Session tiny(engine, prefix_options(96, 1, 96, 0)); // six blocks in each group
    uint64_t n = 0;
    wtl_error err = {};
    ASSERT_EQ(wtl_session_load(tiny.s, folder.file().c_str(), &n, &err), WTL_OK) << err.message;
    EXPECT_LT(n, n_saved);
    EXPECT_EQ(find(tiny, prompts[2]), 29) << "the last one";
    EXPECT_GE(find(tiny, prompts[1]), 32) << "as much of the one before as fits";
    int cached;
    ask(tiny, Tokens(90, 3), &cached); // takes it all: what was loaded makes room
    EXPECT_EQ(find(tiny, Tokens(90, 3)), 89);
    EXPECT_EQ(find(tiny, prompts[2]), 0);
}

TEST_F(KvFile, AFullDiskLeavesTheOldFile) {
    const std::vector<uint8_t> good = make_file(prefix_options(256, 2, 128, 0));
    Session s(engine, prefix_options(256, 2, 128, 0));
    ASSERT_EQ(wtl_session_load(s.s, folder.file().c_str(), nullptr, nullptr), WTL_OK);
    int n;
    ask(s, Tokens(60, 9), &n);
    struct rlimit before;
    getrlimit(RLIMIT_FSIZE, &before);
    auto *old = std::signal(SIGXFSZ, SIG_IGN);
    for (rlim_t limit : {(rlim_t)0, (rlim_t)100, (rlim_t)3000, (rlim_t)good.size()}) {
        const struct rlimit small_limit = {limit, before.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small_limit);
        wtl_error err = {};
        const wtl_status status = wtl_session_save(s.s, folder.file().c_str(), nullptr, &err);
        setrlimit(RLIMIT_FSIZE, &before);
        EXPECT_EQ(status, WTL_ERR_IO) << limit;
        EXPECT_NE(std::string(err.message).find("File too large"), std::string::npos) << err.message;
        EXPECT_EQ(read_file(folder.file()), good);
        EXPECT_EQ(folder.n_files(), 1u) << "something was left behind";
    }
    std::signal(SIGXFSZ, old);
    write_file(folder.file("cache.kv.partial"), good); // left by one that was killed
    EXPECT_EQ(wtl_session_save(s.s, folder.file().c_str(), nullptr, nullptr), WTL_OK);
    EXPECT_NE(read_file(folder.file()), good);
    EXPECT_EQ(folder.n_files(), 1u);
    struct stat st;
    ASSERT_EQ(stat(folder.file().c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0600u) << "what people wrote can be read out of KV";
}

int64_t refuse_at, allocations_seen;
bool limited(void *, size_t) { return allocations_seen++ != refuse_at; }

TEST_F(KvFile, EveryFailedAllocationIsACleanRefusal) {
    const std::vector<uint8_t> good = make_file(prefix_options(256, 2, 128, 0));
    for (int64_t n = 0;; n++) {
        Session s(engine, prefix_options(256, 2, 128, 0));
        refuse_at = n;
        allocations_seen = 0;
        wtl_alloc_set_hook(limited, nullptr);
        uint64_t loaded = 0;
        wtl_status status = wtl_session_load(s.s, folder.file().c_str(), &loaded, nullptr);
        const bool was_loaded = !status;
        if (!status) status = wtl_session_save(s.s, folder.file("again").c_str(), nullptr, nullptr);
        wtl_alloc_set_hook(nullptr, nullptr);
        EXPECT_EQ(s.usage().n_cached > 0, was_loaded);
        EXPECT_EQ(loaded, was_loaded ? n_saved : 0);
        if (allocations_seen <= n) {
            EXPECT_EQ(status, WTL_OK);
            EXPECT_GE(n, 5);
            EXPECT_EQ(read_file(folder.file("again")), good);
            break;
        }
        ASSERT_EQ(status, WTL_ERR_NO_MEMORY) << n;
        EXPECT_EQ(folder.n_files(), 1u);
    }
}

} // namespace
