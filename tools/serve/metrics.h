// What `wattle serve` counts, and the text that Prometheus reads.
//
// Counters here are fed by the finisher, once per answer; everything else (running requests, joules of the machine, KV blocks) is asked of
// its owner when the text is made, so no figure exists twice. Counting never waits for a reader longer than one copy of the numbers.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_METRICS_H
#define WTL_TOOLS_SERVE_METRICS_H

#include "tools/serve/server.h"

server_metrics *server_metrics_open(void); // NULL: no memory
void server_metrics_close(server_metrics **metrics);
// An answer has ended; its joules are final. Each once per answer. Thread: any.
void server_metrics_answer(server_metrics *metrics, const server_outcome *outcome);
void server_metrics_joules(server_metrics *metrics, const wtl_energy_report *report);
void server_metrics_refused(server_metrics *metrics); // a connection or a request was turned away: limits, a full queue
// The whole text, malloc'ed; NULL: no memory. aliases: also the names of other servers, which hold colons. Thread: any, while READY or DRAINING.
char *server_metrics_text(server *s, bool aliases, size_t *len);

#endif
