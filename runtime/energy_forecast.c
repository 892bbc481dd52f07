// What work would take that has not run: forecasts of requests, and what cached tokens would have cost as new ones.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/energy_private.h"
#include "runtime/energy_record.h"

bool energy_domain_sums(const energy_book *b, size_t domain) {
    bool measured = false;
    for (size_t d = 0; d < b->machine.n_domains; d++) measured = measured || b->domains[d].info.method != TEL_METHOD_MODELLED;
    return !measured || b->domains[domain].info.method != TEL_METHOD_MODELLED;
}

void energy_predict(const energy_book *b, int64_t n_past, int64_t n_new, int32_t chunk, int32_t n_logits, energy_pending *out) {
    for (int64_t done = 0; done < n_new;) {
        const int64_t left = n_new - done, size = left < chunk ? left : chunk;
        const bool last = done + size == n_new;
        wtl_seq_work q = {.n_new_tok = (int32_t)size, .n_past_tok = (int32_t)(n_past + done), .n_logits = last || chunk == 1 ? n_logits : 0};
        work_count_seq(&b->shape, &q);
        const double x[ENERGY_TERMS] = {(double)work_weight_bytes(&b->shape, q.n_logits) * 1e-9, (double)q.macs * 1e-9,
                                        (double)(q.kv_read_bytes + q.kv_written_bytes) * 1e-9};
        for (size_t j = 0; j < ENERGY_TERMS; j++) out->x[j] += x[j];
        out->busy_ns += energy_cost(b->time_model.theta, x);
        done += size;
    }
}

tel_energy energy_predicted_sum(const wtl_energy *e, const energy_pending *work) {
    tel_energy sum = tel_energy_unavailable(e->no_meter, e->no_meter_fix);
    bool first = true;
    for (size_t d = 0; d < e->book.machine.n_domains; d++) {
        if (!energy_domain_sums(&e->book, d)) continue;
        const tel_energy one = energy_record_predicted(&e->book.domains[d], work);
        sum = first ? one : tel_energy_add(&sum, &one);
        first = false;
    }
    return sum;
}

wtl_energy_forecast wtl_energy_forecast_of(wtl_energy *e, int32_t n_prompt_tok, int32_t n_cached_tok, int32_t n_decode_tok) {
    wtl_energy_forecast out = {0};
    energy_pending prefill = {0}, decode = {0};
    if (n_prompt_tok < 0 || n_cached_tok < 0 || n_cached_tok > n_prompt_tok || n_decode_tok < 0 || n_decode_tok > INT32_MAX - n_prompt_tok) {
        out.prefill = out.decode = out.total = tel_energy_unavailable("there is no request of so many tokens", NULL);
        return out;
    }
    pthread_mutex_lock(&e->mutex);
    energy_predict(&e->book, n_cached_tok, n_prompt_tok - n_cached_tok, ENERGY_CHUNK_TOK, 1, &prefill);
    energy_predict(&e->book, n_prompt_tok, n_decode_tok, 1, 1, &decode);
    energy_pending all = prefill;
    for (size_t j = 0; j < ENERGY_TERMS; j++) all.x[j] += decode.x[j];
    all.busy_ns += decode.busy_ns;
    out.prefill = energy_predicted_sum(e, &prefill);
    out.decode = energy_predicted_sum(e, &decode);
    out.total = energy_predicted_sum(e, &all);
    if (e->book.time_model.known) {
        out.prefill_ns = (uint64_t)prefill.busy_ns;
        out.decode_ns = (uint64_t)decode.busy_ns;
    }
    pthread_mutex_unlock(&e->mutex);
    return out;
}
