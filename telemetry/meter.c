// Asking a meter: energies, edges, domains, the observer. What is answered was stored by meter_thread.c; nothing here touches a device
// but tel_meter_poll.
//
// In a child process after fork() there is no sampling thread, and a lock may have been held at that moment: every question is answered
// there without locks, with a reason, and closing frees nothing.
// SPDX-License-Identifier: Apache-2.0
#include "telemetry/meter.h"

#include <string.h>
#include <unistd.h>

// As long as a counter that stands still is not yet taken as stopped (series.c).
static const uint64_t STALLED_STEPS = 20, STALLED_MIN_NS = 2000000000u;

static bool forked(const tel_meter *meter) { return meter->pid != getpid(); }

uint64_t tel_meter_now(const tel_meter *meter) { return tel_env_now(&meter->env); }

void tel_meter_poll(tel_meter *meter) {
    if (forked(meter)) return;
    pthread_mutex_lock(&meter->read_lock);
    meter_round(meter, meter->options.manual ? METER_ALL : METER_COUNTING);
    pthread_mutex_unlock(&meter->read_lock);
    meter_call(meter);
}

void tel_meter_poke(tel_meter *meter) {
    if (forked(meter) || !meter->running) return;
    pthread_mutex_lock(&meter->wake_lock);
    meter->poked = true;
    pthread_cond_signal(&meter->wake);
    pthread_mutex_unlock(&meter->wake_lock);
}

void tel_meter_on_poll(tel_meter *meter, void (*call)(void *user), void *user) {
    if (forked(meter)) return;
    pthread_mutex_lock(&meter->call_lock); // waits for a call that is running
    meter->call = call;
    meter->call_user = user;
    pthread_mutex_unlock(&meter->call_lock);
}

// ---- Domains ------------------------------------------------------------------------------------------------------
size_t tel_meter_n_domains(const tel_meter *meter) { return meter->n_domains; }
size_t tel_meter_n_counting(const tel_meter *meter) { return meter->n_counting; }
const char *tel_meter_explain(const tel_meter *meter) { return meter->explain; }

static const char *sensor_name(const tel_domain *domain) {
    const tel_card *card = domain->card ? domain->card : domain->kind == TEL_SERIES_COUNTER ? tel_card_counter() : tel_card_instant();
    return tel_card_class_name(card->kind);
}

// What counts needs no mending, unless it is only a model; a model that does not count needs none either.
static const char *fix_of(const meter_domain *d) {
    return d->counts == (d->domain.method == TEL_METHOD_MODELLED) ? d->domain.fix : "";
}

tel_domain_info tel_meter_domain(const tel_meter *meter, size_t i) {
    if (i >= meter->n_domains)
        return (tel_domain_info){.name = "", .device = "", .source = "", .unit = "", .path = "", .sensor = "", .reason = "no such domain", .fix = ""};
    const meter_domain *d = &meter->domains[i];
    tel_domain_info info = {.name = d->domain.name, .device = d->domain.device, .source = d->source->name,
                            .unit = d->domain.unit ? d->domain.unit : "", .path = d->domain.path, .sensor = sensor_name(&d->domain),
                            .scope = d->domain.scope, .method = d->domain.method, .counts = d->counts,
                            .reason = d->counts ? "" : d->domain.reason, .fix = fix_of(d),
                            .calibrated = d->calibrated, .replay_zero_ns = d->domain.zero_ns};
    if (!d->track || forked(meter)) return info;
    pthread_mutex_lock(meter_lock_of(meter));
    meter_figures f = d->figures;
    info.power_known = tel_track_power(d->track, &info.power_uw);
    pthread_mutex_unlock(meter_lock_of(meter));
    info.step_ns = f.step_ns;
    info.read_mean_ns = f.read_mean_ns;
    info.read_p99_ns = f.read_p99_ns;
    info.n_reads = f.n_reads;
    info.n_samples = f.n_samples;
    info.n_gaps = f.n_gaps;
    return info;
}

// ---- Asking -------------------------------------------------------------------------------------------------------
tel_energy tel_meter_energy(const tel_meter *meter, size_t i, uint64_t t0_ns, uint64_t t1_ns) {
    if (i >= meter->n_counting) return tel_energy_unavailable("there is no such counting domain", NULL);
    if (forked(meter)) return tel_energy_unavailable("this process was forked from the one that samples", NULL);
    const meter_domain *d = &meter->domains[i];
    pthread_mutex_lock(meter_lock_of(meter));
    tel_energy energy = tel_track_energy(d->track, t0_ns, t1_ns);
    bool disputed = meter_disputed(d, t0_ns, t1_ns);
    bool beyond = d->figures.ended && t1_ns > tel_track_settled(d->track);
    if (energy.status == TEL_UNAVAILABLE && beyond && t1_ns > t0_ns) energy.reason = d->figures.ended;
    pthread_mutex_unlock(meter_lock_of(meter));
    if (energy.status == TEL_MODELLED && *d->domain.fix) energy.fix = d->domain.fix;
    if (disputed && (energy.status == TEL_MEASURED || energy.status == TEL_BELOW_RESOLUTION)) energy.status = TEL_DISPUTED;
    return energy;
}

uint64_t tel_meter_settled(const tel_meter *meter, size_t i) {
    if (i >= meter->n_counting || forked(meter)) return 0;
    pthread_mutex_lock(meter_lock_of(meter));
    uint64_t settled = tel_track_settled(meter->domains[i].track);
    pthread_mutex_unlock(meter_lock_of(meter));
    return settled;
}

bool tel_meter_stalled(const tel_meter *meter, size_t i, uint64_t t_ns) {
    if (i >= meter->n_counting || forked(meter)) return true;
    const meter_domain *d = &meter->domains[i];
    pthread_mutex_lock(meter_lock_of(meter));
    const uint64_t settled = tel_track_settled(d->track), since = settled > meter->began_ns ? settled : meter->began_ns;
    const meter_figures f = d->figures;
    pthread_mutex_unlock(meter_lock_of(meter));
    uint64_t step = f.step_ns > f.every_ns ? f.step_ns : f.every_ns;
    if (d->domain.step_ns > step) step = d->domain.step_ns;
    const uint64_t patience = STALLED_STEPS * step > STALLED_MIN_NS ? STALLED_STEPS * step : STALLED_MIN_NS;
    return settled < t_ns && (f.ended || (f.read_ns > t_ns && f.read_ns > since && f.read_ns - since > patience));
}

size_t tel_meter_edges(const tel_meter *meter, size_t i, uint64_t after_ns, tel_edge *out, size_t cap) {
    if (i >= meter->n_counting || forked(meter)) return 0;
    pthread_mutex_lock(meter_lock_of(meter));
    size_t n = tel_track_edges(meter->domains[i].track, after_ns, out, cap);
    pthread_mutex_unlock(meter_lock_of(meter));
    return n;
}

tel_trust tel_meter_trust(const tel_meter *meter, size_t i) {
    if (i >= meter->n_counting || forked(meter)) return (tel_trust){.low_factor = 1, .high_factor = 1};
    pthread_mutex_lock(meter_lock_of(meter));
    tel_trust trust = tel_track_trust(meter->domains[i].track);
    pthread_mutex_unlock(meter_lock_of(meter));
    return trust;
}

// ---- The observer -------------------------------------------------------------------------------------------------
tel_observer tel_meter_observer(const tel_meter *meter) {
    tel_observer o = {.wall_ns = tel_monotonic_ns() - meter->opened_ns};
    if (forked(meter)) return o;
    uint64_t total_ns = 0;
    pthread_mutex_lock(meter_lock_of(meter));
    o.cpu_ns = meter->shown_cpu_ns;
    o.interval_ns = meter->shown_interval_ns;
    for (size_t i = 0; i < meter->n_domains; i++) {
        const meter_figures *f = &meter->domains[i].figures;
        o.n_reads += f->n_reads;
        total_ns += f->n_reads * f->read_mean_ns;
        if (f->read_p99_ns > o.read_p99_ns) o.read_p99_ns = f->read_p99_ns; // of the slowest domain
    }
    pthread_mutex_unlock(meter_lock_of(meter));
    if (o.n_reads) o.read_mean_ns = total_ns / o.n_reads;
    return o;
}
