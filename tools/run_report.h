// What `wattle run` says about a finished reply: the summary for people and the JSON object.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_RUN_REPORT_H
#define WTL_TOOLS_RUN_REPORT_H

#include "runtime/energy.h"
#include "tools/cli.h"

typedef struct run_report {
    const char *model, *arch, *backend;
    const char *chat_template; // name; NULL: no chat
    const char *stop_reason; // "end", "stop", "length", "context", "energy", "interrupted"
    const char *text;        // [text_len] UTF-8
    size_t text_len;
    const int32_t *tokens;   // [completion_tok] without the end token
    int64_t prompt_tok, completion_tok;
    int64_t prompt_done_tok; // prefilled; less than prompt_tok after an interruption
    int64_t decode_steps;    // the first token comes from prefill, the end token from one more step
    uint64_t load_ns, prefill_ns, decode_ns;
    uint64_t ttft_ns;        // from process start; 0: there was no token
    int64_t seed;
    wtl_energy_report energy;
    tel_meter *meter;     // NULL: none
    const char *scopes;   // of the counting domains: "cpu_package,dram"
    json_t *forecast;     // borrowed; NULL: not asked for
} run_report;

void run_report_summary(const run_report *report); // standard error
json_t *run_report_json(const run_report *report); // NULL: out of memory

#endif
