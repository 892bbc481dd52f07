// Inside telemetry: which sources are opened, and which of the domains that they found count.
//
// meter.c calls in this order: tel_plan_make (what the option "source" asks for), open() of plan.sources, tel_choose over all
// found domains, tel_choose_check. The promise: the counting domains never share a joule. Rules, in order:
//   - a domain with a reason cannot be read and does not count; neither does key "": nobody knows what it covers
//   - a key with a slash ("cpu_package:0/cores") is a part of the key before the slash and never counts
//   - of one key the lowest rank counts, then the first found
//   - a domain that contains a counting key does not count: parts are preferred to wholes, because they can be attributed. So
//     packages and dram go before psys, and battery and node count only when nothing inside them does
//   - a modelled domain counts only when no other does
// Every domain that does not count has a reason afterwards. Touches no file and takes no memory. `contains` never reaches a key
// of the domain's own kind (the text before the colon): two batteries that both contain "*" are neighbours.
// SPDX-License-Identifier: Apache-2.0
#ifndef TEL_CHOOSE_H
#define TEL_CHOOSE_H

#include "telemetry/source.h"

enum { TEL_SOURCES_MAX = 8, TEL_EXPLAIN_MAX = 1024 };

// What the option "source" asks for.
typedef struct tel_plan {
    const tel_source *sources[TEL_SOURCES_MAX]; // to be opened, best rank first; none for "none"
    size_t n_sources;
    bool required;          // opening fails when nothing counts ("require", or a source by name)
    const char *asked;      // the option as given, "auto" for NULL; borrowed from the caller
    const char *replay_path; // of "replay:FILE", inside `asked`; "" otherwise: goes into tel_env
    double simulated_w;     // of "simulated:WATTS"; 0 otherwise: goes into tel_env
} tel_plan;

// option: NULL is "auto". Errors: INVALID (the message lists the names).
tel_result tel_plan_make(const char *option, tel_plan *out, tel_error *err);

// A found domain, with where it came from.
typedef struct tel_candidate {
    const tel_source *source;
    void *state;         // of that source: the caller's, carried along
    tel_domain *domain;  // borrowed; reason and fix are completed here
    bool readable;       // out: had no reason of its own (one that does not count may still be read, for comparison)
    bool counts;         // out
} tel_candidate;

// Decides, and sorts: the counting ones first (by scope, then by key), then the rest as they were. Returns how many count.
size_t tel_choose(tel_candidate *candidates, size_t n);
// One or two sentences on the choice, for tel_meter_explain; cut after a whole piece when longer than cap.
void tel_choose_explain(const tel_plan *plan, const tel_candidate *candidates, size_t n, char *text, size_t cap);
// After tel_choose. Errors: UNAVAILABLE when the plan requires a source and nothing counts: the message has the reason and the
// fix.
tel_result tel_choose_check(const tel_plan *plan, const tel_candidate *candidates, size_t n, tel_error *err);

#endif
