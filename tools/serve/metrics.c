// What is counted, and its histograms. The text is in metrics_text.c; see metrics.h.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "tools/serve/metrics_counts.h"

const char *const metrics_outcomes[METRICS_OUTCOMES] = {"end", "stop", "length", "context", "energy", "aborted", "error"};

struct server_metrics {
    pthread_mutex_t mutex;
    metrics_counts counts;
};

server_metrics *server_metrics_open(void) {
    server_metrics *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    pthread_mutex_init(&m->mutex, NULL);
    m->counts.ttft.bounds = metrics_seconds;
    m->counts.total.bounds = metrics_seconds;
    m->counts.tpot.bounds = metrics_short_seconds;
    m->counts.joules.bounds = metrics_joules;
    return m;
}

void server_metrics_close(server_metrics **metrics) {
    if (!*metrics) return;
    pthread_mutex_destroy(&(*metrics)->mutex);
    free(*metrics);
    *metrics = NULL;
}

const double metrics_seconds[METRICS_BUCKETS] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30};
const double metrics_short_seconds[METRICS_BUCKETS] = {0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1};
const double metrics_joules[METRICS_BUCKETS] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 20};

void metrics_observe(metrics_histogram *h, double value) {
    size_t i = 0;
    while (i < METRICS_BUCKETS && value > h->bounds[i]) i++;
    h->n[i]++;
    h->sum += value;
}

static size_t outcome_of(const char *finish) {
    for (size_t i = 0; i < METRICS_OUTCOMES; i++)
        if (strcmp(finish, metrics_outcomes[i]) == 0) return i;
    return METRICS_OUTCOMES - 1;
}

void server_metrics_answer(server_metrics *m, const server_outcome *o) {
    const wtl_batch_facts *f = &o->facts;
    pthread_mutex_lock(&m->mutex);
    metrics_counts *c = &m->counts;
    c->outcome[outcome_of(o->finish)]++;
    if (f->first_token_ns && f->first_token_ns >= f->arrived_ns) metrics_observe(&c->ttft, (double)(f->first_token_ns - f->arrived_ns) / 1e9);
    if (f->last_token_ns && f->last_token_ns >= f->arrived_ns) metrics_observe(&c->total, (double)(f->last_token_ns - f->arrived_ns) / 1e9);
    if (f->started_ns && f->first_token_ns > f->started_ns) c->prefill_ns += f->first_token_ns - f->started_ns;
    if (f->n_decoded_tok > 1 && f->last_token_ns > f->first_token_ns) {
        c->decode_ns += f->last_token_ns - f->first_token_ns;
        metrics_observe(&c->tpot, (double)(f->last_token_ns - f->first_token_ns) / 1e9 / (f->n_decoded_tok - 1));
    }
    pthread_mutex_unlock(&m->mutex);
}

void server_metrics_joules(server_metrics *m, const wtl_energy_report *r) {
    pthread_mutex_lock(&m->mutex);
    metrics_counts *c = &m->counts;
    if (r->total.status == TEL_UNAVAILABLE) c->n_unknown++;
    else if (r->decode.n_tok > 0) metrics_observe(&c->joules, (double)r->total.energy_uj / 1e6 / r->decode.n_tok);
    if (r->avoided.status != TEL_UNAVAILABLE) c->avoided_uj += r->avoided.energy_uj;
    pthread_mutex_unlock(&m->mutex);
}

void server_metrics_refused(server_metrics *m) {
    pthread_mutex_lock(&m->mutex);
    m->counts.n_refused++;
    pthread_mutex_unlock(&m->mutex);
}

metrics_counts metrics_copy(server_metrics *m) {
    pthread_mutex_lock(&m->mutex);
    const metrics_counts copy = m->counts;
    pthread_mutex_unlock(&m->mutex);
    return copy;
}
