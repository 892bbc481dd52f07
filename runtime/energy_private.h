// Inside of the runtime: the wtl_energy object and what its files share.
//
// The step call touches only ring and the cpu clock's marks. Everything else is under the mutex, which the telemetry thread takes after every
// round of samples and callers take to ask. The meter's own lock is taken inside of ours, never the other way round.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_ENERGY_PRIVATE_H
#define WTL_RUNTIME_ENERGY_PRIVATE_H

#include <pthread.h>

#include "runtime/energy_book.h"

#ifdef __cplusplus
extern "C" {
#endif

// Everything that wtl_energy_open derives from meter and engine: tests fill it in themselves.
typedef struct energy_setup {
    energy_machine machine;   // n_domains 0: facts only
    work_shape shape;
    const char *no_meter, *no_meter_fix; // static; why there is no energy
    const char *fit_path;     // NULL: not kept
    const char *fit_key;      // model name and file size, backend; copied
    uint32_t n_stamps;
} energy_setup;

wtl_status energy_open(const energy_setup *setup, wtl_energy **out, wtl_error *err);
// The meter's callback: books what has settled.
void energy_on_poll(void *energy);

// State of the step call, which only the stepping thread touches; the mark is set by any thread.
typedef struct energy_hot energy_hot;

struct wtl_energy {
    energy_hot *hot;
    energy_book book;
    pthread_mutex_t mutex;
    pthread_cond_t booked;
    void (*call)(void *user); // when something has been booked; NULL: nobody wants to know
    void *call_user;
    const char *no_meter, *no_meter_fix;
    char *fit_path, *fit_key;
    void (*detach)(void *user); // stops the callback before closing; NULL: there is none
    void *detach_user;
};

// Every domain has booked past the end of a request that has ended.
bool energy_entry_settled(const energy_book *book, const energy_entry *entry);
// It has ended, and no domain that has not booked past its end can be waited for.
bool energy_entry_stalled(const energy_book *book, const energy_entry *entry);

// Work and time of n_new tokens behind n_past, in chunks, added to out. Each chunk streams the weights once. n_logits: of the last one.
void energy_predict(const energy_book *book, int64_t n_past, int64_t n_new, int32_t chunk, int32_t n_logits, energy_pending *out);
// Sums work that never ran over the measured domains (or the modelled one).
tel_energy energy_predicted_sum(const wtl_energy *energy, const energy_pending *work);
// Domains that make up sums: the measured ones, or the modelled ones when nothing is measured.
bool energy_domain_sums(const energy_book *book, size_t domain);
enum { ENERGY_CHUNK_TOK = 512 }; // of a prefill that is predicted: the session's default

// ---- The file of fits (energy_store.c) ----
// One line per model, backend and domain; lines of others are kept. A line that is damaged counts as not there.
void energy_store_load(const char *path, const char *key, energy_book *book);
// Replaces the lines of this key, by way of a second file and a rename. False: the file could not be written.
bool energy_store_save(const char *path, const char *key, const energy_book *book);

#ifdef __cplusplus
}
#endif
#endif
