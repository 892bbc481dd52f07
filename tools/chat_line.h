// One message after another, from a terminal (libedit: history, paste, editing) or from a pipe (a line is a message).
//
// On a terminal a paste of many lines stays one message (bracketed paste), Alt-Enter begins a new line, Ctrl-C drops what was typed,
// Ctrl-D on an empty line ends. In a pipe a line that ends with a backslash goes on in the next one. Owned by cmd_chat.c; one thread.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_CHAT_LINE_H
#define WTL_TOOLS_CHAT_LINE_H

#include <stdbool.h>

typedef struct chat_line chat_line;

typedef enum chat_line_kind {
    CHAT_LINE_TEXT,
    CHAT_LINE_DROPPED, // Ctrl-C on a terminal
    CHAT_LINE_END,     // Ctrl-D, end of the pipe
    CHAT_LINE_FAILED,  // a message said why
} chat_line_kind;

// history: file of earlier messages, made when missing, readable by its owner only; NULL: none is kept. NULL when memory is short.
chat_line *chat_line_open(const char *history);
void chat_line_close(chat_line *line); // writes the history
bool chat_line_is_terminal(const chat_line *line);
// *text is malloc'ed, without the line's end, valid UTF-8; only with CHAT_LINE_TEXT.
chat_line_kind chat_line_read(chat_line *line, char **text);

#endif
