// The ledger among other processes and in trouble: killed writers, full disks, damaged and foreign files, folders without permission.
// Children are forked while this process has no ledger and no thread of its own.
// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <atomic>
#include <functional>
#include <random>

#include "tests/tools/ledger_rig.h"

namespace {

using std::string;

uint64_t now_ms() {
    return (uint64_t)std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Runs in a child that never returns into the test program; its exit code is what the function returns.
pid_t fork_child(const std::function<int()> &work) {
    fflush(nullptr);
    pid_t child = fork();
    if (child == 0) _exit(work());
    return child;
}

int wait_for(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// What a writer leaves behind for the one who looks after its death.
struct Diary {
    std::atomic<int64_t> n_added;
    uint64_t added_ms[1 << 20];
};

struct SharedDiary {
    Diary *d = static_cast<Diary *>(mmap(nullptr, sizeof(Diary), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    ~SharedDiary() { munmap(d, sizeof(Diary)); }
};

// Adds numbered entries until it is killed.
int write_until_killed(const string &path, const string &name, Diary *diary, useconds_t pause_us) {
    ledger *book;
    char err[LEDGER_ERR];
    if (!ledger_open(path.c_str(), &book, err)) return 1;
    ledger_request r = request_of(joules_of(1000, 10));
    r.user = name.c_str();
    for (int64_t i = 0; i < 1 << 20; i++) {
        r.decoded_tok = i;
        diary->added_ms[i] = now_ms();
        while (!ledger_add_request(book, &r)) usleep(1000);
        diary->n_added.store(i + 1);
        if (pause_us) usleep(pause_us);
    }
    return 2;
}

// Rows of one writer are 0, 1, 2, ... without a hole; returns how many.
int64_t expect_prefix(const string &path, const string &name) {
    auto row = look(path, "SELECT count(*), count(DISTINCT decoded_tok), ifnull(max(decoded_tok), -1) + 1 FROM requests WHERE user = '" + name + "'");
    EXPECT_EQ(row[0][0], row[0][1]) << name;
    EXPECT_EQ(row[0][0], row[0][2]) << name << ": a hole";
    return atoll(row[0][0].c_str());
}

TEST(LedgerFaults, FiftyKillsAtRandomMoments) {
    TempDir dir;
    const string path = dir.path("ledger.db");
    const char *seed_text = getenv("TEST_SEED");
    const unsigned seed = seed_text ? (unsigned)atoi(seed_text) : 1;
    printf("seed %u\n", seed);
    std::mt19937 random(seed);
    int64_t n_rows = 0, n_added = 0, n_with_rows = 0;
    for (int i = 0; i < 50; i++) {
        SharedDiary diary;
        const string name = "writer-" + std::to_string(i);
        pid_t child = fork_child([&] { return write_until_killed(path, name, diary.d, 0); });
        usleep((useconds_t)(random() % 30000));
        kill(child, SIGKILL);
        ASSERT_EQ(wait_for(child), 128 + SIGKILL);
        if (access(path.c_str(), F_OK) != 0 || cell(path, "SELECT count(*) FROM sqlite_schema") == "0") continue; // killed before it was made
        const int64_t n = expect_prefix(path, name);
        EXPECT_LE(n, diary.d->n_added + 1);
        n_rows += n;
        n_added += diary.d->n_added;
        n_with_rows += n > 0;
        if (i % 10 == 9) expect_sound(path);
    }
    expect_sound(path);
    printf("50 kills: %lld added, %lld in the file, %lld writers got as far as a commit\n", (long long)n_added, (long long)n_rows,
           (long long)n_with_rows);
    Book after(path);
    EXPECT_TRUE(after.opened) << after.err;
    ledger_request r = request_of(joules_of(1, 0));
    EXPECT_TRUE(ledger_add_request(after.book, &r));
    EXPECT_TRUE(after.close()) << after.err;
}

TEST(LedgerFaults, AKillLosesAtMostTheLastSecond) {
    TempDir dir;
    const string path = dir.path("ledger.db");
    SharedDiary diary;
    pid_t child = fork_child([&] { return write_until_killed(path, "w", diary.d, 5000); });
    usleep(800000);
    kill(child, SIGKILL);
    const uint64_t killed_ms = now_ms();
    ASSERT_EQ(wait_for(child), 128 + SIGKILL);
    const int64_t n = expect_prefix(path, "w"), n_added = diary.d->n_added;
    ASSERT_GT(n, 0);
    printf("%lld of %lld entries; the first one lost was %llu ms old\n", (long long)n, (long long)n_added,
           n < n_added ? (unsigned long long)(killed_ms - diary.d->added_ms[n]) : 0);
    if (n < n_added) { EXPECT_LE(killed_ms - diary.d->added_ms[n], 1000u); }
}

TEST(LedgerFaults, TwoProcessesMakeAndWriteTheSameFile) {
    TempDir dir;
    for (int round = 0; round < 8; round++) {
        const string path = dir.path("new/" + std::to_string(round) + ".db");
        std::vector<pid_t> children;
        for (int c = 0; c < 4; c++)
            children.push_back(fork_child([&, c] {
                ledger *book;
                char err[LEDGER_ERR];
                if (!ledger_open(path.c_str(), &book, err)) {
                    fprintf(stderr, "%s\n", err);
                    return 1;
                }
                ledger_request r = request_of(joules_of(1000, 10));
                const string name = std::to_string(c);
                r.user = name.c_str();
                for (int i = 0; i < 100; i++) {
                    r.decoded_tok = i;
                    if (!ledger_add_request(book, &r)) return 3;
                    if (i % 20 == 0) ledger_flush(book, 5000);
                }
                return ledger_close(&book, err) ? 0 : 2;
            }));
        for (pid_t child : children) EXPECT_EQ(wait_for(child), 0);
        for (int c = 0; c < 4; c++) EXPECT_EQ(expect_prefix(path, std::to_string(c)), 100);
        expect_sound(path);
    }
}

// What every trouble has in common: a sentence, entries counted, nothing else.
void expect_useless(const string &path, const string &word) {
    Book b(path);
    EXPECT_FALSE(b.opened) << path;
    EXPECT_NE(string(b.err).find(word), string::npos) << b.err;
    EXPECT_EQ(string(b.err).find('\n'), string::npos);
    ASSERT_NE(b.book, nullptr);
    ledger_request r = request_of(joules_of(1, 0));
    EXPECT_FALSE(ledger_add_request(b.book, &r));
    EXPECT_EQ(ledger_count(b.book).n_lost, 1u);
    EXPECT_TRUE(ledger_flush(b.book, 1000));
    char text[LEDGER_ERR];
    EXPECT_FALSE(ledger_trouble(b.book, text)) << "was told at opening";
    EXPECT_FALSE(b.close());
    EXPECT_STREQ(b.err, "") << "was told at opening";
}

TEST(LedgerFaults, PathsThatAreNoFile) {
    TempDir dir;
    expect_useless("/dev/full", "not a regular file");
    expect_useless("/dev/null/x/ledger.db", "/dev/null");
    expect_useless(dir.path(), "not a regular file");
    expect_useless("/proc/nowhere/ledger.db", "cannot be made");
}

TEST(LedgerFaults, DamagedFiles) {
    TempDir dir;
    std::mt19937 random(7);
    for (size_t size : {1u, 15u, 100u, 4096u, 100000u}) {
        string junk(size, '\0');
        for (char &c : junk) c = (char)random();
        const string path = dir.write("junk" + std::to_string(size), junk);
        expect_useless(path, "damaged");
        EXPECT_TRUE(read_whole(path) == junk) << "changed";
    }
}

// Every page of a good file overwritten in turn: no crash, and whatever is lost is counted.
TEST(LedgerFaults, DamageInTheMiddle) {
    TempDir dir;
    const string path = dir.path("ledger.db");
    {
        Book b(path);
        ledger_request r = request_of(joules_of(1, 0));
        for (int i = 0; i < 300; i++) ledger_add_request(b.book, &r);
        ASSERT_TRUE(b.close());
    }
    const string good = read_whole(path);
    std::mt19937 random(11);
    for (size_t page = 0; page < good.size() / 4096; page += 3) {
        string bad = good;
        for (size_t i = 0; i < 4096; i++) bad[page * 4096 + i + (page ? 0 : 100) * (i < 3900)] = (char)random();
        const string copy = dir.write("bad.db", bad);
        std::remove((copy + "-wal").c_str());
        std::remove((copy + "-shm").c_str());
        Book b(copy);
        ledger_request r = request_of(joules_of(1, 0));
        for (int i = 0; i < 20; i++) ledger_add_request(b.book, &r);
        ledger_flush(b.book, 5000);
        const ledger_counts c = ledger_count(b.book);
        EXPECT_EQ(c.n_added, c.n_written + c.n_lost);
        EXPECT_EQ(b.close(), c.n_lost == 0);
    }
}

TEST(LedgerFaults, ANewerFormatIsLeftAlone) {
    TempDir dir;
    const string path = dir.path("ledger.db");
    Book(path).close();
    EXPECT_EQ(cell(path, "PRAGMA user_version"), "1");
    look(path, "PRAGMA user_version=2");
    expect_useless(path, "newer wattle (format 2");
    EXPECT_EQ(cell(path, "PRAGMA user_version"), "2");
}

TEST(LedgerFaults, ADatabaseOfAnotherProgramIsLeftAlone) {
    TempDir dir;
    const string path = dir.path("notes.db");
    dir.write("notes.db", "");
    look(path, "CREATE TABLE notes(text)");
    expect_useless(path, "another program");
    EXPECT_EQ(cell(path, "SELECT group_concat(name) FROM sqlite_schema"), "notes");
}

TEST(LedgerFaults, FoldersAndFilesWithoutPermission) {
    TempDir dir;
    const string folder = dir.path("locked"), path = folder + "/ledger.db", fresh = folder + "/fresh.db";
    std::filesystem::create_directory(folder);
    Book(path).close();
    chmod(path.c_str(), 0444);
    chmod(folder.c_str(), 0555);
    chmod(dir.path().c_str(), 0755);
    pid_t child = fork_child([&] { // root may write everything: be nobody
        if (geteuid() == 0 && (setgid(65534) || setuid(65534))) return 77;
        int wrong = 0;
        for (const string &p : {path, fresh}) {
            ledger *book;
            char err[LEDGER_ERR];
            const bool opened = ledger_open(p.c_str(), &book, err);
            ledger_request r = request_of(joules_of(1, 0));
            const bool added = ledger_add_request(book, &r);
            if (opened || added || !strstr(err, "ermission")) {
                fprintf(stderr, "%s: %s\n", p.c_str(), err);
                wrong++;
            }
            ledger_close(&book, err);
        }
        return wrong;
    });
    const int code = wait_for(child);
    chmod(folder.c_str(), 0755);
    if (code == 77) GTEST_SKIP() << "cannot give up the rights of root here";
    EXPECT_EQ(code, 0);
}

// A limit on the size of files fails writes as a full disk does.
TEST(LedgerFaults, FullDisk) {
    TempDir dir;
    const string path = dir.path("ledger.db");
    {
        Book b(path);
        ledger_request r = request_of(joules_of(1, 0));
        ledger_add_request(b.book, &r);
        ASSERT_TRUE(b.close());
    }
    pid_t child = fork_child([&] {
        signal(SIGXFSZ, SIG_IGN);
        struct rlimit limit = {200000, 200000};
        setrlimit(RLIMIT_FSIZE, &limit);
        ledger *book;
        char err[LEDGER_ERR];
        if (!ledger_open(path.c_str(), &book, err)) return 1;
        ledger_request r = request_of(joules_of(1, 0));
        for (int i = 0; i < 3000; i++) {
            ledger_add_request(book, &r);
            if (i % 100 == 99) ledger_flush(book, 5000);
        }
        char text[LEDGER_ERR];
        if (!ledger_trouble(book, text) || ledger_trouble(book, text)) return 2; // once
        const ledger_counts c = ledger_count(book);
        if (c.n_added != 3000 || !c.n_lost || !c.n_written || c.n_written + c.n_lost != 3000) return 3;
        const bool clean = ledger_close(&book, err);
        return clean || *err ? 4 : 0;
    });
    EXPECT_EQ(wait_for(child), 0);
    expect_sound(path);
    Book after(path); // there is room again
    EXPECT_TRUE(after.opened) << after.err;
    ledger_request r = request_of(joules_of(1, 0));
    EXPECT_TRUE(ledger_add_request(after.book, &r));
    EXPECT_TRUE(after.close()) << after.err;
}

} // namespace
