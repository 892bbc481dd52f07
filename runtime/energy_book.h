// Inside of the runtime: the books. Requests with their accounts, domains with what was booked, and the booking of one interval.
//
// For every domain: source = requests + idle + unattributed, in integers, after every interval. An account keeps beside its joules what its
// bound follows from: how its share changed at every edge, how its work leaned away from the average of its intervals (the sensitivity
// to each coefficient), and how much was split at all. Not locked: energy.c holds its mutex.
// Time between two steps belongs to the requests of the second one that had run before, equally: sampling their tokens and sending their
// text is their work. So from its first step to its last a request takes all that its share of the machine draws, whatever is known of
// idle power. A pause of more than ENERGY_PAUSE_NS is nobody's.
// Nothing here knows a meter or a model: the machine is a few functions, so that tests put a simulated one in its place.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_ENERGY_BOOK_H
#define WTL_RUNTIME_ENERGY_BOOK_H

#include "runtime/energy.h"
#include "runtime/energy_fit.h"
#include "runtime/energy_idle.h"
#include "runtime/energy_ring.h"
#include "runtime/work.h"

#ifdef __cplusplus
extern "C" {
#endif

// What the books see of a meter (energy_open.c fills it from one).
typedef struct energy_machine {
    size_t n_domains;
    size_t (*edges)(void *user, size_t domain, uint64_t after_ns, tel_edge *out, size_t cap);
    tel_trust (*trust)(void *user, size_t domain);
    tel_domain_info (*info)(void *user, size_t domain);
    uint64_t (*now_ns)(void *user);
    void (*poke)(void *user); // asks for a sample soon; may be NULL
    bool (*stalled)(void *user, size_t domain, uint64_t t_ns); // tel_meter_stalled; NULL: never
    void *user;
} energy_machine;

#define ENERGY_PAUSE_NS UINT64_C(1000000000)

// Kinds of tokens whose joules are told apart; the last two are sums.
typedef enum energy_kind { ENERGY_NEW, ENERGY_CACHED, ENERGY_DECODED, ENERGY_PREFILLED, ENERGY_ALL } energy_kind;
enum { ENERGY_LEAVES = 3, ENERGY_ACCOUNTS = 5 };

typedef struct energy_account {
    uint64_t dynamic_uj, idle_uj;
    double lean[ENERGY_TERMS]; // sum of E_dynamic / cost * (work - share * work of all), in 1e9 units
    double split_uj;           // sum of share (1 - share) E_dynamic: what the model decided
    double hidden_uj;          // attention to cached positions, told from that to new ones: no interval ever shows it alone
    double guess_uj;           // the same for joules shared with steps whose stamps were dropped
    double edge_uj;            // sum of |change of share| x uncertainty of the edge, the open end not included
    double unseen_uj;
    double own_uj, others_uj;  // joules of intervals with others in them, its own and theirs: all that splitting can be wrong by
    double present_ns;         // of the steps that it took part in, whole, and of its pauses: it drew nothing at any other time
    double border_uj;          // at the border of two phases: what the intervals before and after it would have split otherwise
    double share_ns, busy_ns;  // sums of share x interval, and of its part of the time of steps and pauses
    double aged_share_uj, aged_busy_uj; // what the baseline may have drifted when they were booked, over both
    double late_share_ns, late_busy_ns; // of those, booked before a baseline was known: idle is inside dynamic_uj
    double outside_idle_uj;        // of outside_ns, what was taken for the idle machine's
    double outside_ns, outside_uj; // time before its first and after its last step in intervals that it fills in part, and their joules at most
    double last_share, last_edge_uj;    // at the end of the last interval it was in
    uint64_t last_interval;
    uint32_t n_intervals, n_gaps;
} energy_account;

// Work that ran where no interval covers it.
typedef struct energy_pending {
    double x[ENERGY_TERMS];
    double busy_ns;
    double present_ns; // of the whole steps
    bool lost; // there was more, and its stamps had to make room
} energy_pending;

// Where prefill ends and decode begins inside an interval. The work says how to split it; so do the powers in the intervals around it.
typedef struct energy_border {
    uint64_t interval;   // number of the last interval that the request had to itself, all of it; 0: there was none
    double prefill_uw;   // its power, when it was all prefill; 0: it was not
    double decode_ns, decode_uj, said_uj; // when it held the border: the decode in it, and what the power before it had said otherwise
} energy_border;

typedef struct energy_share { // of one request in one domain
    energy_border border;
    energy_account account[ENERGY_ACCOUNTS];
    energy_pending missed[ENERGY_LEAVES]; // before the domain's first edge; lost: while it gave none
} energy_share;

typedef struct energy_facts {
    uint64_t first_ns, last_ns;
    double busy_ns, pause_ns; // inside steps; pauses before them
    double cpu_ns, weight_bytes;
    uint64_t kv_bytes, macs;
    int32_t n_tok;
} energy_facts;

typedef struct energy_entry { // a request
    uint64_t id;
    wtl_energy_request info;
    bool ended;
    uint64_t dropped_before; // stamps dropped when it began
    uint64_t dropped_after;  // and when it ended
    energy_facts facts[2];   // by energy_phase
    int32_t n_rejected_tok;  // of the rows decoded, guesses that were wrong
    uint64_t mark;           // number of the interval that its claims belong to
    size_t claim;            // first of its ENERGY_LEAVES claims there
    energy_share share[];    // [n_domains]
} energy_entry;

typedef struct energy_domain {
    bool open;              // has a first edge
    tel_edge from;          // booked up to here
    uint64_t cursor;        // first slot whose step ends later
    uint64_t n_intervals;
    uint64_t busy_until_ns; // end of the last step met
    uint64_t lost_from_ns, lost_until_ns; // steps whose stamps were given up because no edge came; 0, 0: none
    wtl_energy_totals totals;
    energy_fit fit;
    energy_fit kind_fit[ENERGY_MIXES]; // by the kind of work in an interval
    energy_model model;     // solved from fit after the last interval with steps
    double kind_theta[ENERGY_MIXES][ENERGY_TERMS]; // what each kind says on its own
    energy_idle idle;
    energy_idle_value baseline;
    double busy_uw;         // power while steps ran, smoothed; 0: not yet known
    double peak_uw, least_uw; // highest and lowest of an interval
    tel_trust trust;
    tel_domain_info info;
} energy_domain;

typedef struct energy_book {
    energy_machine machine;
    work_shape shape;
    energy_ring *ring;
    uint64_t opened_ns;
    uint64_t ingested;       // slots before this one have been taken into the facts
    uint64_t last_end_ns;    // end of the last step taken; 0: there was none
    uint64_t complete_ns;    // nothing that overlaps a moment before this can still be stamped
    uint64_t dropped_seen;   // as told by the last stamp
    uint64_t hole_from_ns, hole_until_ns; // dropped stamps after the last one taken; 0, 0: none
    energy_fit time_fit;     // ns of steps
    energy_model time_model;
    energy_domain *domains;  // [machine.n_domains]
    energy_entry **entries;  // [cap_entries] by slot of the id
    size_t n_entries, cap_entries, n_active;
    size_t n_started;        // of the active ones, those that have run
    uint64_t generation;
    energy_claim *claims;    // [ENERGY_LEAVES * cap_entries + 2]: nobody, forgotten requests, then those met
    energy_entry **claimants; // [cap_entries]
    energy_rank *ranks;
    size_t *order;
    uint64_t mark;
} energy_book;

bool energy_book_init(energy_book *book, const energy_machine *machine, const work_shape *shape, uint32_t n_stamps);
void energy_book_free(energy_book *book);

energy_entry *energy_book_begin(energy_book *book, const wtl_energy_request *request); // NULL: memory is short
energy_entry *energy_book_find(const energy_book *book, uint64_t id);                  // NULL: no such request
void energy_book_end(energy_book *book, energy_entry *entry);
void energy_book_forget(energy_book *book, energy_entry *entry);

// Takes new stamps into facts, then books every interval that is complete in every domain.
void energy_book_run(energy_book *book);
void energy_book_ingest(energy_book *book); // facts only

// Work of one sequence of a step in 1e9 units, by leaf: x[leaf][term].
void energy_seq_leaves(const energy_stamp *step, const energy_seq_stamp *seq, double frac, double x[ENERGY_LEAVES][ENERGY_TERMS]);
// Time of a step, or of the pause before it, from from_ns to to_ns.
double energy_step_overlap(const energy_stamp *step, uint64_t from_ns, uint64_t to_ns);
double energy_pause_overlap(const energy_stamp *step, uint64_t from_ns, uint64_t to_ns);
void energy_book_solve(energy_book *book, energy_domain *domain); // what a domain costs, from its fits
void energy_book_time(energy_book *book); // solves the time model anew
// Ratios that shares start from: a step's joules in proportion to its time.
void energy_book_prior(const energy_book *book, double prior[ENERGY_TERMS]);

#ifdef __cplusplus
}
#endif
#endif
