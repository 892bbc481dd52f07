// The text of a reply on its way out: tokens -> whole characters -> what no stop string can take back -> standard output.
//
// Invariant: text[0..printed) is on standard output, and no later token can make any of it part of a stop string.
// Used by cmd_run.c only.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_RUN_OUTPUT_H
#define WTL_TOOLS_RUN_OUTPUT_H

#include "runtime/wattle.h"
#include "tools/cli.h"

typedef struct run_output {
    const cli_list *stops; // borrowed; never printed
    bool stream;           // false: keep the text, print nothing
    bool visible_controls; // a person's terminal: control bytes that a model writes must not steer it; they are printed as U+FFFD
    bool stopped;          // a stop string was met; text ends before it
    bool no_memory;
    wtl_text_stream characters;
    char *text;            // malloc'ed
    size_t len, cap, printed;
} run_output;

void run_output_push(run_output *out, const char *bytes, size_t len); // bytes of one token
void run_output_finish(run_output *out);                              // the rest, when no stop string was met
void run_output_free(run_output *out);

#endif
