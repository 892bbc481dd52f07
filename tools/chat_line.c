// Reading messages. See chat_line.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/chat_line.h"

#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "tools/cli.h"

enum { HISTORY_ENTRIES = 1000, MESSAGE_MAX = 16 << 20 };
static const char PASTE_END[] = "\033[201~";

struct chat_line {
    EditLine *editor; // NULL: a pipe
    History *history;
    const char *history_path;
    bool dropped; // Ctrl-C was typed
};

// ---- Keys ---------------------------------------------------------------------------------------------------------
static chat_line *owner(EditLine *editor) {
    chat_line *line = NULL;
    el_get(editor, EL_CLIENTDATA, &line);
    return line;
}

static unsigned char key_interrupt(EditLine *editor, int key) {
    (void)key;
    owner(editor)->dropped = true;
    return CC_EOF;
}

static unsigned char key_newline(EditLine *editor, int key) {
    (void)key;
    return el_insertstr(editor, "\n") == 0 ? CC_REFRESH : CC_ERROR;
}

// What stands between ESC[200~ and ESC[201~ is text: its line ends do not send it.
static unsigned char key_paste(EditLine *editor, int key) {
    (void)key;
    size_t len = 0, cap = 4096;
    char *text = malloc(cap), c;
    while (text && len < MESSAGE_MAX && el_getc(editor, &c) == 1) {
        if (len + 2 > cap) {
            char *grown = realloc(text, cap *= 2);
            if (!grown) break;
            text = grown;
        }
        text[len++] = c == '\r' ? '\n' : c;
        const size_t n = sizeof PASTE_END - 1;
        if (len >= n && memcmp(text + len - n, PASTE_END, n) == 0) {
            len -= n;
            break;
        }
    }
    if (!text) return CC_ERROR;
    while (len > 0 && text[len - 1] == '\n') len--; // a paste that ends with a line end still waits for Enter
    text[len] = '\0';
    bool inserted = len == 0 || el_insertstr(editor, text) == 0;
    free(text);
    return inserted ? CC_REFRESH : CC_ERROR;
}

// One character of UTF-8. libedit's own reader goes on after a signal; this one ends when the program is asked to.
static int get_character(EditLine *editor, wchar_t *out) {
    (void)editor;
    mbstate_t state = {0};
    for (;;) {
        char byte;
        const ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n < 0 && errno == EINTR && !cli_interrupted()) continue;
        if (n <= 0) return n == 0 || errno == EINTR ? 0 : -1;
        if (byte == '\0') continue; // Ctrl-D typed before the line was asked for; libedit would take what follows literally
        const size_t used = mbrtowc(out, &byte, 1, &state);
        if (used == (size_t)-1) {
            *out = 0xFFFD;
            return 1;
        }
        if (used != (size_t)-2) return 1;
    }
}

static char *prompt(EditLine *editor) {
    (void)editor;
    return "> ";
}

// ---- Opening ------------------------------------------------------------------------------------------------------
// Characters of more than one byte need a UTF-8 locale; C.UTF-8 is always there.
static void take_utf8_locale(void) {
    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX < 4) setlocale(LC_CTYPE, "C.UTF-8");
}

static bool open_editor(chat_line *line) {
    take_utf8_locale();
    line->editor = el_init("wattle", stdin, stdout, stderr);
    line->history = history_init();
    if (!line->editor || !line->history) return false;
    HistEvent event;
    history(line->history, &event, H_SETSIZE, HISTORY_ENTRIES);
    history(line->history, &event, H_SETUNIQUE, 1);
    if (line->history_path) history(line->history, &event, H_LOAD, line->history_path);
    el_set(line->editor, EL_CLIENTDATA, line);
    el_set(line->editor, EL_PROMPT, prompt);
    el_set(line->editor, EL_SIGNAL, 1); // a new window size; the terminal as it was when the program is ended
    el_set(line->editor, EL_GETCFN, get_character);
    el_set(line->editor, EL_EDITOR, "emacs");
    el_set(line->editor, EL_HIST, history, line->history);
    el_set(line->editor, EL_ADDFN, "wattle-paste", "insert a paste as it is", key_paste);
    el_set(line->editor, EL_ADDFN, "wattle-newline", "begin a new line of the message", key_newline);
    el_set(line->editor, EL_ADDFN, "wattle-interrupt", "drop the message", key_interrupt);
    el_source(line->editor, NULL); // the person's own keys come first, ours are not theirs to lose
    el_set(line->editor, EL_SETTY, "-d", "-isig", NULL); // Ctrl-C is a key while a message is typed
    el_set(line->editor, EL_BIND, "\033[200~", "wattle-paste", NULL);
    el_set(line->editor, EL_BIND, "\033\r", "wattle-newline", NULL);
    el_set(line->editor, EL_BIND, "\033\n", "wattle-newline", NULL);
    el_set(line->editor, EL_BIND, "^C", "wattle-interrupt", NULL);
    el_set(line->editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
    return true;
}

chat_line *chat_line_open(const char *history) {
    chat_line *line = calloc(1, sizeof *line);
    if (!line) return NULL;
    line->history_path = history;
    if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !open_editor(line)) {
        chat_line_close(line);
        return NULL;
    }
    return line;
}

void chat_line_close(chat_line *line) {
    if (!line) return;
    HistEvent event;
    if (line->history && line->history_path) {
        mode_t before = umask(077);
        history(line->history, &event, H_SAVE, line->history_path);
        umask(before);
    }
    if (line->history) history_end(line->history);
    if (line->editor) el_end(line->editor);
    free(line);
}

bool chat_line_is_terminal(const chat_line *line) { return line->editor != NULL; }

// ---- Reading ------------------------------------------------------------------------------------------------------
static chat_line_kind read_terminal(chat_line *line, char **text) {
    line->dropped = false;
    const bool marks_pastes = cli_draws(STDOUT_FILENO);
    if (marks_pastes) fputs("\033[?2004h", stdout);
    fflush(stdout);
    int n = 0;
    const char *typed = el_gets(line->editor, &n);
    if (marks_pastes) fputs("\033[?2004l", stdout);
    if (line->dropped) fputs("\n", stdout);
    fflush(stdout);
    if (line->dropped) return CHAT_LINE_DROPPED;
    if (!typed || n <= 0) return CHAT_LINE_END;
    *text = strndup(typed, (size_t)n - (typed[n - 1] == '\n'));
    if (!*text) return cli_fail("out of memory for the message"), CHAT_LINE_FAILED;
    HistEvent event;
    if (**text) history(line->history, &event, H_ENTER, *text);
    return CHAT_LINE_TEXT;
}

// Appends the next line of the pipe to *text[0..*len). Returns false at its end.
static bool append_line(char **text, size_t *len) {
    char *more = NULL;
    size_t cap = 0;
    ssize_t n = getline(&more, &cap, stdin);
    char *grown = n > 0 ? realloc(*text, *len + (size_t)n + 1) : NULL;
    if (grown) {
        memcpy(grown + *len, more, (size_t)n + 1);
        *text = grown;
        *len += (size_t)n;
    }
    free(more);
    return grown != NULL;
}

static chat_line_kind read_pipe(char **text) {
    *text = NULL;
    size_t len = 0;
    errno = 0;
    while (append_line(text, &len)) {
        while (len > 0 && ((*text)[len - 1] == '\n' || (*text)[len - 1] == '\r')) (*text)[--len] = '\0';
        if (len == 0 || (*text)[len - 1] != '\\') return CHAT_LINE_TEXT;
        (*text)[len - 1] = '\n';
    }
    if (ferror(stdin) && cli_interrupted()) return CHAT_LINE_END;
    if (ferror(stdin)) return cli_fail("standard input cannot be read: %s", strerror(errno)), CHAT_LINE_FAILED;
    if (*text) return CHAT_LINE_TEXT; // the last line went on and nothing came
    return CHAT_LINE_END;
}

chat_line_kind chat_line_read(chat_line *line, char **text) {
    *text = NULL;
    chat_line_kind kind = line->editor ? read_terminal(line, text) : read_pipe(text);
    if (kind != CHAT_LINE_TEXT && kind != CHAT_LINE_FAILED) {
        free(*text);
        *text = NULL;
    }
    return kind;
}
