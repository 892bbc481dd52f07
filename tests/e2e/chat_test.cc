// `wattle chat` through a pipe and on a terminal, with a tiny random model: commands, files, signals, pastes. With SmolLM2 (WTL_TEST_SMOLLM2):
// answers that remember, and cached tokens.
// SPDX-License-Identifier: Apache-2.0
#include <pty.h>

#include <regex>

#include "tests/e2e/run_binary.h"
#include "tests/support/tiny_model.h"

namespace {

const TinyModel &tiny() {
    static TinyModel model({});
    return model;
}

std::vector<std::string> chat_args(std::vector<std::string> more = {}) {
    std::vector<std::string> args = {"chat", "-m", tiny().path(), "--meter", "none", "--ledger", "none", "-n", "6", "--seed", "1", "--chat-template", "plain"};
    args.insert(args.end(), more.begin(), more.end());
    return args;
}

RunResult piped(const std::string &input, std::vector<std::string> more = {}) { return run_wattle(chat_args(std::move(more)), with_input(input)); }

size_t count(const std::string &text, const std::string &what) {
    size_t n = 0;
    for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + what.size())) n++;
    return n;
}

TEST(Chat, PipeAnswersEachLine) {
    RunResult r = piped("hello\nand again\n");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(count(r.err, "no joules: the meter is switched off"), 2u) << r.err;
    EXPECT_NE(r.out, "");
    EXPECT_EQ(r.out.find("joules"), std::string::npos); // stdout holds answers only
}

TEST(Chat, SecondTurnFindsTheFirstInTheCache) {
    RunResult r = piped("hello there my friend\nand again\n");
    ASSERT_EQ(r.code, 0) << r.err;
    std::smatch m;
    ASSERT_TRUE(std::regex_search(r.err, m, std::regex("([0-9]+) cached tokens"))) << r.err;
    EXPECT_GE(std::stoi(m[1]), 25); // at least the first question, byte by byte
}

TEST(Chat, LinesJoinAtABackslash) {
    TempDir dir;
    RunResult r = piped("first\\\nsecond\n/save " + dir.path("talk.json") + "\n");
    ASSERT_EQ(r.code, 0) << r.err;
    Json j(read_whole(dir.path("talk.json")));
    EXPECT_STREQ(json_string_value(json_object_get(json_array_get(j.at("messages"), 0), "content")), "first\nsecond");
}

TEST(Chat, SaveLoadGoesOnWhereItWas) {
    TempDir dir;
    RunResult a = piped("one\n/save " + dir.path("talk.json") + "\ntwo\n");
    ASSERT_EQ(a.code, 0) << a.err;
    RunResult b = piped("/load " + dir.path("talk.json") + "\n/set seed 2\ntwo\n");
    ASSERT_EQ(b.code, 0) << b.err;
    EXPECT_EQ(a.out.substr(a.out.size() - b.out.size()), b.out); // the second answer, word for word
    struct stat st;
    ASSERT_EQ(stat(dir.path("talk.json").c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0600u);
}

TEST(Chat, DamagedFilesLeaveTheConversation) {
    TempDir dir;
    const std::vector<std::pair<std::string, std::string>> cases = {
        {"{", "line 1"}, {"{}", "\"messages\""}, {"{\"messages\": [{\"role\": \"god\", \"content\": \"x\"}]}", "messages[0]"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": 1}]}", "messages[0]"}, {"{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"system\", \"content\": \"b\"}]}", "messages[1]"}};
    for (const auto &c : cases) {
        dir.write("bad.json", c.first);
        RunResult r = piped("hi\n/load " + dir.path("bad.json") + "\n/save " + dir.path("out.json") + "\n");
        EXPECT_EQ(r.code, 0) << r.err;
        EXPECT_NE(r.err.find(c.second), std::string::npos) << c.first << ": " << r.err;
        EXPECT_EQ(json_array_size(Json(read_whole(dir.path("out.json"))).at("messages")), 2u) << c.first;
    }
    RunResult r = piped("/load " + dir.path("missing.json") + "\n/save /nonexistent/x\n/save\n");
    EXPECT_NE(r.err.find("missing.json cannot be read: No such file"), std::string::npos) << r.err;
    EXPECT_NE(r.err.find("/nonexistent/x cannot be written"), std::string::npos) << r.err;
}

TEST(Chat, CommandsSayWhatTheyDid) {
    RunResult r = piped("/help\n/set\n/set temp 0.25\n/set temp 1000\n/set top-k 1.5\n/set nonsense 1\n/frobnicate\n/system You are brief.\n/system\n/system none\n/energy\n/energy "
                        "off\nhi\n/energy\n/retry\n/new\n/quit\nnever read\n");
    EXPECT_EQ(r.code, 0) << r.err;
    for (const char *words : {"/save FILE", "frequency-penalty", "temp is now 0.25", "1000 is no number from 0 to 100", "1.5 is no whole number", "no setting \"nonsense\"", "no command /frobnicate",
                              "system prompt: You are brief.", "the system prompt is gone", "no answer yet", "1 answer; unknown in 1", "a new conversation"})
        EXPECT_NE(r.err.find(words), std::string::npos) << "'" << words << "' is not in: " << r.err;
    EXPECT_EQ(count(r.err, "no joules"), 0u); // the line was switched off
    EXPECT_EQ(r.err.find("never read"), std::string::npos);
}

TEST(Chat, ASlashCanBeSent) {
    TempDir dir;
    RunResult r = piped("//etc/hosts\n/save " + dir.path("t.json") + "\n");
    Json j(read_whole(dir.path("t.json")));
    EXPECT_STREQ(json_string_value(json_object_get(json_array_get(j.at("messages"), 0), "content")), "/etc/hosts");
}

TEST(Chat, ATooLongConversationIsRefusedAndTakenBack) {
    TempDir dir;
    RunResult r = piped(std::string(300, 'x') + "\n", {"-c", "128"});
    EXPECT_EQ(r.code, 1);
    EXPECT_NE(r.err.find("the context holds 128: /new begins another one"), std::string::npos) << r.err;
}

TEST(Chat, BytesThatAreNoTextAreNotSent) {
    RunResult r = piped("\xff\xfe\nhello\n");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.err.find("no UTF-8"), std::string::npos) << r.err;
    EXPECT_EQ(count(r.err, "no joules"), 1u);
}

TEST(Chat, FullDiskAndClosedPipeEnd) {
    RunOptions full = with_full_output();
    full.input = "hello\n";
    RunResult r = run_wattle(chat_args(), full);
    EXPECT_EQ(r.code, 1);
    EXPECT_NE(r.err.find("standard output cannot be written"), std::string::npos) << r.err;
}

TEST(Chat, AnInterruptWhileThePipeIsSilentIsNoError) {
    TempDir dir;
    RunOptions o;
    o.env = {"D=" + dir.path()};
    o.before = {"bash", "-c",
                "mkfifo $D/in; \"$@\" <$D/in >$D/out 2>$D/err & exec 3>$D/in; echo hello >&3; until grep -q 'no joules' $D/err; do sleep 0.05; done; sleep 0.2; "
                "kill -INT $!; wait $!; code=$?; cat $D/err >&2; exit $code",
                "bash"};
    RunResult r = run_wattle(chat_args(), o);
    EXPECT_EQ(r.code, 130) << r.err;
    EXPECT_EQ(r.err.find("wattle: "), std::string::npos) << r.err;
}

// ---- On a terminal ------------------------------------------------------------------------------------------------
class Terminal {
  public:
    explicit Terminal(std::vector<std::string> args, const char *term = "xterm", const char *no_color = "") {
        struct winsize size = {24, 100, 0, 0};
        child_ = forkpty(&fd_, nullptr, nullptr, &size);
        if (child_ == 0) {
            setenv("TERM", term, 1);
            setenv("NO_COLOR", no_color, 1);
            setenv("HOME", home_.path().c_str(), 1);
            setenv("LC_ALL", "C.UTF-8", 1);
            unsetenv("XDG_STATE_HOME");
            std::vector<char *> argv = {const_cast<char *>(WTL_BINARY)};
            for (auto &a : args) argv.push_back(a.data());
            argv.push_back(nullptr);
            execv(WTL_BINARY, argv.data());
            _exit(127);
        }
    }
    ~Terminal() {
        if (child_ > 0) {
            kill(child_, SIGKILL);
            waitpid(child_, nullptr, 0);
        }
        close(fd_);
    }
    void type(const std::string &keys) { ASSERT_EQ(write(fd_, keys.data(), keys.size()), (ssize_t)keys.size()); }
    // Reads until the words stand there; false after a while.
    bool expect(const std::string &words, int seconds = 30) {
        auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
        while (seen.find(words, from_) == std::string::npos) {
            auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
            struct pollfd p = {fd_, POLLIN, 0};
            char buffer[4096];
            ssize_t n = left > 0 && poll(&p, 1, (int)left) > 0 ? read(fd_, buffer, sizeof buffer) : -1;
            if (n <= 0) return false;
            seen.append(buffer, (size_t)n);
        }
        from_ = seen.find(words, from_) + words.size();
        return true;
    }
    // Its exit code, 128 + signal; one that does not end in 30 s is killed. Typed again and again: keys that the terminal may take for itself while
    // the program is not reading.
    int wait(const std::string &keys = "") {
        int status = 0;
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
        while (waitpid(child_, &status, WNOHANG) == 0) {
            if (std::chrono::steady_clock::now() > deadline) kill(child_, SIGKILL);
            if (!keys.empty() && write(fd_, keys.data(), keys.size()) < 0) usleep(10000); // it has just ended
            if (!expect("\x01never\x01", 1)) usleep(10000);
        }
        child_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    pid_t pid() const { return child_; }
    std::string home(const std::string &name) const { return home_.path(name); }
    std::string seen;

  private:
    TempDir home_;
    int fd_ = -1;
    pid_t child_ = -1;
    size_t from_ = 0;
};

TEST(ChatTerminal, APasteIsOneMessage) {
    Terminal t(chat_args());
    ASSERT_TRUE(t.expect("\033[?2004h")) << t.seen;
    t.type("\033[200~line one\nline two\nline three\033[201~");
    t.type("\r");
    ASSERT_TRUE(t.expect("no joules")) << t.seen;
    t.type("/save " + t.home("t.json") + "\r");
    ASSERT_TRUE(t.expect("1 question saved")) << t.seen;
    Json j(read_whole(t.home("t.json")));
    EXPECT_STREQ(json_string_value(json_object_get(json_array_get(j.at("messages"), 0), "content")), "line one\nline two\nline three");
    EXPECT_EQ(t.wait("\004"), 0);
}

TEST(ChatTerminal, LooksAreForTerminalsThatHaveThemAndPeopleWhoWantThem) {
    const struct {
        const char *term, *no_color;
        bool dim, draws;
    } cases[] = {{"xterm", "", true, true}, {"xterm", "1", false, true}, {"dumb", "", false, false}};
    for (const auto &c : cases) {
        Terminal t(chat_args(), c.term, c.no_color);
        ASSERT_TRUE(t.expect("> ")) << t.seen;
        t.type("hello\r");
        ASSERT_TRUE(t.expect("no joules")) << t.seen;
        EXPECT_EQ(t.wait("\004"), 0);
        EXPECT_EQ(t.seen.find("\033[2m") != std::string::npos, c.dim) << c.term << ' ' << c.no_color << ": " << t.seen;
        EXPECT_EQ(t.seen.find('\033') != std::string::npos, c.draws) << c.term << ' ' << c.no_color << ": " << t.seen;
    }
}

// While no line is asked for the terminal itself takes Ctrl-D, and leaves a NUL.
TEST(ChatTerminal, CtrlDTypedTooEarlyDoesNotHideTheNext) {
    Terminal t(chat_args());
    t.type("\004");
    ASSERT_TRUE(t.expect("\033[?2004h")) << t.seen;
    EXPECT_EQ(t.wait("\004"), 0) << t.seen;
}

TEST(ChatTerminal, CtrlCStopsTheAnswerAndKeepsTheChat) {
    std::vector<std::string> args = chat_args({"-c", "512"});
    for (auto &a : args)
        if (a == "6") a = "-1"; // the tiny model hardly ever ends by itself
    args.insert(args.end(), {"--backend", "ref"});
    Terminal t(args);
    ASSERT_TRUE(t.expect("\033[?2004h")) << t.seen;
    t.type("hello\r");
    ASSERT_TRUE(t.expect("\033[?2004l"));
    usleep(300000); // in the middle of the answer: the slow backend needs seconds for it
    t.type("\003");
    ASSERT_TRUE(t.expect("\033[?2004h")) << t.seen; // the next prompt
    t.type("/set n-predict 2\r");
    ASSERT_TRUE(t.expect("n-predict is now 2")) << t.seen;
    t.type("again\r");
    ASSERT_TRUE(t.expect("2 tokens")) << t.seen;
    t.type("half a mess\003");
    ASSERT_TRUE(t.expect("\033[?2004h")) << t.seen;
    t.type("/quit\r");
    EXPECT_EQ(t.wait(), 0);
    std::string history = read_whole(t.home(".local/state/wattle/chat_history"));
    EXPECT_NE(history.find("again"), std::string::npos) << history;
    EXPECT_EQ(history.find("half"), std::string::npos) << history;
}

// As when Ctrl-C is pressed between the end of an answer and the next prompt: the terminal then makes a signal of it.
TEST(ChatTerminal, AnInterruptAtThePromptKeepsTheChat) {
    Terminal t(chat_args());
    ASSERT_TRUE(t.expect("\033[?2004h")) << t.seen;
    usleep(100000);
    kill(t.pid(), SIGINT);
    ASSERT_TRUE(t.expect("\033[?2004h")) << t.seen;
    t.type("/set n-predict 2\r");
    ASSERT_TRUE(t.expect("n-predict is now 2")) << t.seen;
    t.type("/quit\r");
    EXPECT_EQ(t.wait(), 0);
}

TEST(ChatTerminal, SigtermAtThePromptEndsAndGivesTheTerminalBack) {
    Terminal t(chat_args());
    ASSERT_TRUE(t.expect("\033[?2004h")) << t.seen;
    usleep(100000);
    kill(t.pid(), SIGTERM);
    EXPECT_EQ(t.wait(), 130);
    EXPECT_NE(t.seen.find("\033[?2004l"), std::string::npos);
}

// ---- A real model -------------------------------------------------------------------------------------------------
TEST(ChatSmolLM2, RemembersAndFindsItsCache) {
    const char *model = getenv("WTL_TEST_SMOLLM2");
    if (!model) GTEST_SKIP() << "WTL_TEST_SMOLLM2 names no model file";
    RunResult r = run_wattle({"chat", "-m", model, "--temp", "0", "-n", "40", "--meter", "none", "--ledger", "none"}, with_input("My name is Ada.\nWhat is my name?\n/retry\n"));
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_GE(count(r.out, "Ada"), 1u) << r.out;
    std::regex cached("([0-9]+) cached tokens");
    std::vector<int> found;
    for (std::sregex_iterator i(r.err.begin(), r.err.end(), cached), end; i != end; ++i) found.push_back(std::stoi((*i)[1]));
    ASSERT_EQ(found.size(), 2u) << r.err;
    EXPECT_GT(found[0], 30);
    EXPECT_GT(found[1], found[0]); // the question asked again is all there but for its last token
}

} // namespace
