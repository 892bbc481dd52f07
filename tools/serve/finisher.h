// The end of answers: waiting for their joules, booking, counting, logging. server_finish itself is declared in server.h.
//
// One thread. An answer waits at most --settle-ms for its joules, and not for a meter that resolves nothing: then its last bytes leave with an
// estimate ("settled": false). It stays with the finisher until the joules have settled, or a bound has passed, and is booked in the ledger once,
// with the better figure.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_FINISHER_H
#define WTL_TOOLS_SERVE_FINISHER_H

#include "tools/serve/server.h"

// Starts the thread, sets s->finisher. False: no memory or no thread.
bool server_finisher_open(server *s);
// Ends what still waits with the figures of now, books it, ends the thread. After the batch was closed; accepts a server without one.
void server_finisher_close(server *s);
// Joules have been booked: for wtl_energy_on_booked, on the meter's thread.
void server_finisher_booked(void *finisher);
// Answers whose last bytes were not given out yet. Thread: any.
size_t server_finisher_pending(struct server_finisher *f);

#endif
