// Inside of the runtime: booking of intervals of one domain.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_ENERGY_INTERVAL_H
#define WTL_RUNTIME_ENERGY_INTERVAL_H

#include "runtime/energy_book.h"

#ifdef __cplusplus
extern "C" {
#endif

// Books every interval of domain d whose edges have settled and whose steps have all been stamped.
void energy_domain_run(energy_book *book, size_t d, uint64_t now_ns);
// Gives up stamps that domain d has had no edge for, when they are old or the ring fills up.
void energy_domain_give_up(energy_book *book, size_t d, uint64_t now_ns);
// Nothing that overlaps a moment before this can still be stamped. running_ns, told: as energy_ring_running says.
uint64_t energy_complete_until(const energy_book *book, uint64_t now_ns, uint64_t running_ns, bool told);

#ifdef __cplusplus
}
#endif
#endif
