// A machine whose true cost of every token is known, under a virtual clock: for tests of attribution.
//
// It runs steps like an engine (batches of prefill chunks beside decodes), draws power by a law with a part that the three-term model
// does not know, and shows that power to the code under test only through edges of a counter like those of a meter.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_ENERGY_SIM_H
#define WTL_TESTS_ENERGY_SIM_H

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "runtime/energy_private.h"

namespace energy_sim {

struct Law { // the truth, in joules and seconds per 1e9 units
    double j_per_gb = 1.1, j_per_gmac = 0.16, j_per_kv_gb = 2.0; // 0.2 J a token, 30 W beside the idle power
    double s_per_gb = 1 / 18.0, s_per_gmac = 1 / 90.0, s_per_kv_gb = 1 / 10.0, s_per_step = 0.0003;
    double j_per_row = 0.0004;    // unknown to the model: overhead of a row
    double crowd_factor = 0.85;   // unknown to the model: clocks fall when many rows are computed
    int crowd_rows = 64;
    double noise = 0.04;          // of every step's energy
    double idle_w = 12;
};

struct Sensor {
    uint64_t step_ns = 1000000;
    uint64_t poll_ns = 20000000;
    double jitter = 0.3; // of poll_ns
};

// Plays the part of a meter: cumulative joules at moments, and what is uncertain about them.
struct Machine {
    Law law;
    Sensor sensor;
    std::mt19937_64 rng;
    uint64_t now_ns = 1000000000;
    wtl_energy *energy = nullptr;
    std::vector<std::pair<uint64_t, double>> curve{{1000000000, 0.0}}; // moments and true joules so far
    std::vector<tel_edge> edges;
    uint64_t next_poll_ns = 1000000000, last_poll_ns = 0, shown_ns = 0;
    double max_w = 60;
    bool limit_told = true;             // max_w is known as the highest power there can be
    double highest_w = 0;               // seen so far in a step, without what runs beside it
    double gain_frac = 0, offset_uw = 0;
    double gain = 1, offset_w = 0;      // of the readings: gain * truth + offset
    double unseen_frac = 0, swing_w = 0; // a part-time sensor: share of the time that it does not look, and what may happen there
    double lag_ns = 0;                  // readings are late by a random part of this
    double (*background_w)(double s) = nullptr; // beside law.idle_w, whatever runs
    bool told = true;                   // the server says when steps begin
    uint64_t stepped_ns = 0;            // end of the last step
    struct Second {                     // domain 1: a part of the power is seen there, by another sensor
        double frac = 0.5;              // of all power
        uint64_t poll_ns = 100000000, end_ns = UINT64_MAX, back_ns = UINT64_MAX; // no edges between end and back
        uint64_t next_ns = 0;
        std::vector<tel_edge> edges;
    } second;
    tel_method method = TEL_METHOD_SIMULATED;
    double low_factor = 1, high_factor = 1;
    bool blind = false; // reads fail: time without edges, told as a gap afterwards
    uint32_t gaps = 0;
    bool was_blind = false;
    bool stalled[2] = {false, false}; // what the meter says of its domains to who would wait for them

    explicit Machine(uint64_t seed) : rng(seed) {}

    double joules_at(uint64_t t) const {
        auto after = std::upper_bound(curve.begin(), curve.end(), t, [](uint64_t a, const auto &b) { return a < b.first; });
        if (after == curve.begin()) return 0;
        auto before = after - 1;
        if (after == curve.end()) return before->second;
        return before->second + (after->second - before->second) * (double)(t - before->first) / (double)(after->first - before->first);
    }

    // What a part-time sensor makes of it: of every 100 ms it looks at the first part and takes the rest for the same.
    double seen_at(uint64_t t) {
        if (unseen_frac <= 0) return joules_at(t);
        const uint64_t period = 100000000;
        for (; looked_ns + period <= t; looked_ns += period)
            looked_j += (joules_at(looked_ns + (uint64_t)((1 - unseen_frac) * (double)period)) - joules_at(looked_ns)) / (1 - unseen_frac);
        return looked_j;
    }
    uint64_t looked_ns = 1000000000;
    double looked_j = 0;

    void poll_second() {
        if (now_ns < second.next_ns) return;
        second.next_ns = now_ns + second.poll_ns;
        if (now_ns >= second.end_ns && now_ns < second.back_ns) return;
        tel_edge e = {};
        e.t_ns = now_ns;
        e.total_uj = (uint64_t)(second.frac * joules_at(now_ns) * 1e6);
        e.edge_uj = (uint64_t)(max_w * 1e3);
        e.gaps = now_ns >= second.back_ns;
        second.edges.push_back(e);
    }

    void poll() {
        poll_second();
        // The counter moved at the last multiple of its step; seen changed at this poll, it moved since the poll before.
        const uint64_t moved = now_ns / sensor.step_ns * sensor.step_ns;
        if (moved > shown_ns && !blind) {
            tel_edge e = {};
            const bool fine = sensor.step_ns < sensor.poll_ns;
            const uint64_t early = std::max(last_poll_ns, moved > sensor.step_ns ? moved - sensor.step_ns : 0);
            e.t_ns = fine ? now_ns : early + (now_ns - early) / 2;
            const double off = fine ? (double)sensor.step_ns : (double)(now_ns - early) / 2;
            const double late = lag_ns > 0 ? lag_ns * std::uniform_real_distribution<double>(0, 1)(rng) : 0, s = (double)(moved - curve.front().first) * 1e-9;
            e.total_uj = (uint64_t)(seen_at(moved - (uint64_t)late) * gain * 1e6 + offset_w * s * 1e6);
            e.edge_uj = (uint64_t)(max_w * (off + lag_ns) * 1e-3);
            e.unseen_uj = (uint64_t)(unseen_frac * swing_w * s * 1e6);
            if (was_blind) gaps++;
            e.gaps = gaps;
            was_blind = false;
            if (edges.empty() || (e.t_ns > edges.back().t_ns && e.total_uj >= edges.back().total_uj)) edges.push_back(e);
            shown_ns = moved;
        }
        was_blind = was_blind || blind;
        last_poll_ns = now_ns;
        if (energy) energy_on_poll(energy);
    }

    // Time passes at constant power.
    void pass(uint64_t ns, double joules) {
        const uint64_t start = now_ns, end = start + ns;
        const double before = curve.back().second;
        double more = 0;
        if (background_w) { // in pieces of 50 ms at most
            const int pieces = 1 + (int)(ns / 50000000);
            for (int i = 1; i <= pieces; i++) {
                const double at_s = ((double)start + ((double)i - 0.5) * (double)ns / pieces) * 1e-9;
                more += background_w(at_s) * (double)ns / pieces * 1e-9;
                if (i < pieces) curve.push_back({start + ns * (uint64_t)i / (uint64_t)pieces, before + more + joules * i / pieces});
            }
        }
        curve.push_back({end, before + joules + more});
        passed_j = more;
        pause_background_j += more;
        while (next_poll_ns <= end) {
            now_ns = std::max(next_poll_ns, start);
            poll();
            std::uniform_real_distribution<double> u(-sensor.jitter, sensor.jitter);
            next_poll_ns += (uint64_t)((double)sensor.poll_ns * (1 + u(rng)));
        }
        now_ns = end;
    }
    double passed_j = 0; // of the background in the last pass
    double pause_background_j = 0; // of the background since the last step
    void rest(uint64_t ns) { pass(ns, law.idle_w * (double)ns * 1e-9); }

    energy_machine seam(size_t n_domains = 1) {
        energy_machine m = {};
        m.n_domains = n_domains;
        m.user = this;
        m.now_ns = [](void *u) { return static_cast<Machine *>(u)->now_ns; };
        m.edges = [](void *u, size_t domain, uint64_t after, tel_edge *out, size_t cap) {
            const auto &e = domain ? static_cast<Machine *>(u)->second.edges : static_cast<Machine *>(u)->edges;
            auto at = std::upper_bound(e.begin(), e.end(), after, [](uint64_t a, const tel_edge &b) { return a < b.t_ns; });
            size_t n = 0;
            for (; at != e.end() && n < cap; ++at) out[n++] = *at;
            return n;
        };
        m.trust = [](void *u, size_t) {
            auto *self = static_cast<Machine *>(u);
            return tel_trust{self->gain_frac, self->offset_uw, self->low_factor, self->high_factor, 1, self->limit_told ? self->max_w * 1e6 : 0};
        };
        m.stalled = [](void *u, size_t domain, uint64_t) { return static_cast<Machine *>(u)->stalled[domain]; };
        m.info = [](void *u, size_t domain) {
            auto *self = static_cast<Machine *>(u);
            tel_domain_info i = {};
            i.name = "package-0";
            i.source = "simulated";
            i.scope = TEL_SCOPE_CPU_PACKAGE;
            i.method = self->method;
            i.counts = true;
            i.step_ns = domain ? self->second.poll_ns : self->sensor.step_ns;
            if (domain) {
                i.name = "gpu-0";
                i.scope = TEL_SCOPE_GPU_BOARD;
            }
            return i;
        };
        return m;
    }
};

// A model of 135 million parameters at 8 bits.
inline work_shape small_shape() {
    work_shape s = {};
    s.n_groups = 1;
    s.n_layers[0] = 30;
    s.position_bytes = 768;
    s.head_width = 576;
    s.step_bytes = 113000000;
    s.head_bytes = 30000000;
    s.tail_bytes = 3000000;
    s.row_macs = 106000000;
    s.tail_macs = 2700000;
    s.head_macs = 28000000;
    return s;
}

struct Truth { // joules
    double dynamic[3] = {0, 0, 0}; // by energy_kind leaf: new, cached, decoded
    double cached_idle = 0;        // the part of the prefill's idle joules in the time that attention to cached positions took
    double idle[2] = {0, 0};       // prefill, decode
    double first_s = -1, last_s = 0;
    double prefill() const { return dynamic[0] + dynamic[1] + idle[0]; }
    double decode() const { return dynamic[2] + idle[1]; }
    double total() const { return prefill() + decode(); }
};

struct Request {
    int n_prompt, n_cached, n_decode;
    int stop_after = -1; // decoded tokens after which it is aborted
    uint64_t id = 0;
    int past = 0, prefilled = 0, decoded = 0;
    bool done = false;
    Truth truth;
};

// The time since the last step is that of those who had run before; what it took above the idle machine is dynamic.
inline void book_pause(Machine &m, const std::vector<std::pair<Request *, int>> &batch) {
    std::vector<Request *> owners;
    for (auto &[r, n] : batch)
        if (r->truth.first_s >= 0) owners.push_back(r);
    const double ns = (double)(m.now_ns - m.stepped_ns);
    if (!m.stepped_ns || owners.empty() || ns > 1e9) return;
    const double all = m.joules_at(m.now_ns) - m.joules_at(m.stepped_ns), idle = m.law.idle_w * ns * 1e-9 + m.pause_background_j;
    for (Request *r : owners) {
        const bool decoding = r->decoded > 0;
        r->truth.idle[decoding] += idle / (double)owners.size();
        r->truth.dynamic[decoding ? 2 : 0] += (all - idle) / (double)owners.size();
    }
}

// Runs one step of the given (request, new tokens) pairs and stamps it.
inline void run_step(Machine &m, const work_shape &shape, const std::vector<std::pair<Request *, int>> &batch) {
    std::vector<wtl_seq_work> seqs;
    std::vector<uint64_t> ids;
    wtl_step_work w = {};
    double kv = 0;
    for (auto &[r, n] : batch) {
        wtl_seq_work q = {};
        q.seq = (int32_t)seqs.size();
        q.n_new_tok = n;
        q.n_past_tok = r->past;
        q.n_logits = r->prefilled + n >= r->n_prompt - r->n_cached ? 1 : 0;
        work_count_seq(&shape, &q);
        w.n_rows += n;
        w.n_logits += q.n_logits;
        w.macs += q.macs;
        w.kv_read_bytes += q.kv_read_bytes;
        w.kv_written_bytes += q.kv_written_bytes;
        kv += (double)(q.kv_read_bytes + q.kv_written_bytes);
        seqs.push_back(q);
        ids.push_back(r->id);
    }
    w.n_seqs = (int32_t)seqs.size();
    w.seqs = seqs.data();
    w.weight_bytes = work_weight_bytes(&shape, w.n_logits);
    book_pause(m, batch);
    const Law &law = m.law;
    const double seconds = law.s_per_step + law.s_per_gb * (double)w.weight_bytes * 1e-9 + law.s_per_gmac * (double)w.macs * 1e-9 + law.s_per_kv_gb * kv * 1e-9;
    const double crowd = w.n_rows > law.crowd_rows ? law.crowd_factor : 1;
    const double noise = std::exp(std::normal_distribution<double>(0, law.noise)(m.rng));
    double joules = 0;
    std::vector<bool> prefilling;
    for (size_t i = 0; i < seqs.size(); i++) {
        Request &r = *batch[i].first;
        const wtl_seq_work &q = seqs[i];
        const bool prefill = r.prefilled < r.n_prompt - r.n_cached;
        uint64_t cached_macs = 0, cached_kv = 0;
        if (prefill) work_count_cached(&shape, &q, r.n_cached, &cached_macs, &cached_kv);
        const double cached = noise * 1e-9 * (law.j_per_gmac * crowd * (double)cached_macs + law.j_per_kv_gb * (double)cached_kv);
        const double all = noise * (law.j_per_gb * (double)w.weight_bytes * 1e-9 / w.n_seqs + law.j_per_gmac * crowd * (double)q.macs * 1e-9 +
                                    law.j_per_kv_gb * (double)(q.kv_read_bytes + q.kv_written_bytes) * 1e-9 + law.j_per_row * q.n_new_tok);
        joules += all;
        if (prefill) {
            r.truth.dynamic[1] += cached;
            r.truth.dynamic[0] += all - cached;
            const double own_s = law.s_per_gb * (double)w.weight_bytes * 1e-9 / w.n_seqs + law.s_per_gmac * (double)q.macs * 1e-9 +
                                 law.s_per_kv_gb * (double)(q.kv_read_bytes + q.kv_written_bytes) * 1e-9;
            const double cached_s = law.s_per_gmac * (double)cached_macs * 1e-9 + law.s_per_kv_gb * (double)cached_kv * 1e-9;
            r.truth.cached_idle += law.idle_w * seconds / w.n_seqs * cached_s / own_s;
            r.prefilled += q.n_new_tok;
        } else {
            r.truth.dynamic[2] += all;
            r.decoded += q.n_new_tok;
        }
        r.truth.idle[prefill ? 0 : 1] += law.idle_w * seconds / w.n_seqs;
        prefilling.push_back(prefill);
        if (r.truth.first_s < 0) r.truth.first_s = (double)m.now_ns * 1e-9;
        r.truth.last_s = (double)m.now_ns * 1e-9 + seconds;
        r.past += q.n_new_tok;
    }
    w.start_ns = m.now_ns;
    w.end_ns = m.now_ns + (uint64_t)(seconds * 1e9);
    if (m.energy && m.told) wtl_energy_step_begin(m.energy);
    m.pass(w.end_ns - w.start_ns, joules + law.idle_w * seconds);
    m.highest_w = std::max(m.highest_w, joules / seconds + law.idle_w);
    m.stepped_ns = m.now_ns;
    m.pause_background_j = 0;
    for (size_t i = 0; i < seqs.size(); i++) { // what runs beside is there anyhow: idle power of that moment
        Request &r = *batch[i].first;
        r.truth.idle[prefilling[i] ? 0 : 1] += m.passed_j / w.n_seqs;
    }
    if (m.energy) wtl_energy_step(m.energy, &w, ids.data());
}

// A server's loop: up to max_seqs at once, one prefill chunk beside the decodes.
struct Server {
    Machine &m;
    work_shape shape;
    std::vector<std::unique_ptr<Request>> requests;
    std::vector<Request *> running;
    int chunk = 256, max_seqs = 16;
    uint64_t longest_pause_ns = 0; // between two steps, at random; 0: always a tenth of a millisecond
    double pause_w = 2;            // beside the idle power in it

    explicit Server(Machine &machine) : m(machine), shape(small_shape()) {}

    void admit(Request r) {
        requests.push_back(std::make_unique<Request>(r));
        Request *q = requests.back().get();
        wtl_energy_request info = {};
        info.n_prompt_tok = q->n_prompt;
        info.n_cached_tok = q->n_cached;
        q->past = q->n_cached;
        if (m.energy) q->id = wtl_energy_begin(m.energy, &info);
        running.push_back(q);
    }
    bool step() {
        std::vector<std::pair<Request *, int>> batch;
        bool prefilling = false;
        for (Request *r : running) {
            const int left = r->n_prompt - r->n_cached - r->prefilled;
            if (left <= 0) batch.push_back({r, 1});
            else if (!prefilling) {
                batch.push_back({r, std::min(left, chunk)});
                prefilling = true;
            }
        }
        if (batch.empty()) return false;
        run_step(m, shape, batch);
        for (Request *r : running) {
            const bool aborted = r->stop_after >= 0 && r->prefilled >= r->n_prompt - r->n_cached && r->decoded >= r->stop_after;
            if (r->decoded < r->n_decode && !aborted) continue;
            r->done = true;
            if (m.energy) wtl_energy_end(m.energy, r->id);
        }
        running.erase(std::remove_if(running.begin(), running.end(), [](Request *r) { return r->done; }), running.end());
        // Sampling and the network between two steps: the machine is not quite idle.
        const uint64_t pause_ns = longest_pause_ns ? 1 + m.rng() % longest_pause_ns : 100000;
        m.pass(pause_ns, (double)pause_ns * 1e-9 * (m.law.idle_w + pause_w));
        return true;
    }
    void drain() {
        while (step()) {}
    }
};

inline int pick(std::mt19937_64 &rng, int low, int high) { return low + (int)(rng() % (uint64_t)(high - low + 1)); }

// Arrivals at random moments, some of them aborted, with prompts from short to long and prefixes from the cache.
inline void random_schedule(Server &s, double seconds) {
    std::mt19937_64 &rng = s.m.rng;
    const int crowd = pick(rng, 1, s.max_seqs);
    s.chunk = 1 << pick(rng, 6, 9);
    s.m.rest((uint64_t)pick(rng, 1200, 2500) * 1000000);
    const uint64_t end = s.m.now_ns + (uint64_t)(seconds * 1e9);
    while (s.m.now_ns < end) {
        if ((int)s.running.size() < crowd && rng() % (s.running.empty() ? 2 : 12) == 0) {
            Request r = {};
            r.n_prompt = pick(rng, 0, 3) ? pick(rng, 8, 300) : pick(rng, 300, 1500);
            r.n_cached = pick(rng, 0, 2) ? 0 : pick(rng, 1, r.n_prompt - 1);
            r.n_decode = pick(rng, 1, 400);
            if (pick(rng, 0, 9) == 0) r.stop_after = pick(rng, 0, r.n_decode);
            s.admit(r);
        }
        if (!s.step()) s.m.rest((uint64_t)pick(rng, 1, 600) * 1000000);
    }
    s.drain();
    s.m.rest(1500000000);
}

// An energy object over the machine.
struct Open {
    wtl_energy *e = nullptr;
    Machine &m;
    explicit Open(Machine &machine, const char *fit_path = nullptr, uint32_t n_stamps = 0, size_t n_domains = 1) : m(machine) {
        energy_setup setup = {};
        setup.machine = m.seam(n_domains);
        setup.shape = small_shape();
        setup.fit_path = fit_path;
        setup.fit_key = "small 1 sim";
        setup.n_stamps = n_stamps;
        setup.no_meter = "no meter in this test";
        wtl_error err = {};
        if (energy_open(&setup, &e, &err) != WTL_OK) e = nullptr;
        m.energy = e;
    }
    ~Open() {
        wtl_energy_close(&e);
        m.energy = nullptr;
    }
};

} // namespace energy_sim

#endif
