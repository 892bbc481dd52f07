// A look-alike of the NVIDIA Management Library, for tests on machines without a GPU. Built as libfake_nvml.so and loaded through the same
// dlopen path as the real one (option nvml_path, WTL_NVML_PATH); as libfake_nvml_old.so without what drivers of 2013 lacked (FAKE_NVML_OLD).
// The environment variable WTL_FAKE_NVML_SCRIPT names the script, WTL_FAKE_NVML_LOG a file to which every setting made is appended
// ("SetPowerManagementLimit 0 250000": function, device, values). A script that is wrong makes nvmlInit fail with 999.
//
// The script has one item per line, # begins a comment. Before the first device:
//   clock monotonic|virtual       virtual: stands until fake_nvml_set_time_us() is called. The script's time 0 is when it was loaded
//                                 (virtual: 0)
//   fail FUNCTION CODE [AFTER [COUNT]]   FUNCTION (named without "nvml": "Init", "DeviceGetCount") gives CODE, after AFTER good calls,
//                                 COUNT times (0: for ever)
// `device` begins a board (first a 3090 at 0000:01:00.0 with 100 W); then, each optional:
//   name TEXT, pci 0000:01:00, arch N (nvmlDeviceArchitecture_t), mig on|off
//   truth constant MW | square LOW_MW HIGH_MW PERIOD_US DUTY (high part first) | csv FILE (t_us,power_mw; each holds until the next)
//   step_us, window_us, delay_us, gain, offset_mw   the sensor: every step one reading, the mean of the window before it, seen delay later;
//                                 a window shorter than the step is a part-time sensor
//   average_us                    what nvmlDeviceGetPowerUsage averages
//   counter_step_us, counter_delay_us, counter_start_mj, counter_reset_us (at this time it begins again at 0)
//   ring N, ring_step_us, ring_stop_us (no samples after), stamps meter|boot|wall, stamp_shift_us, field_stamps on|off
//   value_type double|uint|ulong|ulonglong|longlong|int|ushort   of samples and fields
//   limit_mw, limit_default_mw, limit_range_mw MIN MAX, clocks_mhz SM MEM
//   latency_us                    every call to this board takes so long
//   lost_us FROM TO               GPU_IS_LOST between these times
//   fail FUNCTION CODE [AFTER [COUNT]]   "DeviceGetSamples", ...; "field" is the result inside a field value
// Power limits and clock locks are kept and logged; they do not change the truth.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "telemetry/nvml_api.h"
#include "tests/support/fake_nvml_model.h"

#define EXPORT __attribute__((visibility("default")))

struct nvml_device_handle {
    unsigned index, generation;
};

enum { GENERATIONS = 64 };
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static fake_model model;
static bool loaded;
static unsigned inits, generation; // handles of an earlier initialisation are worthless
static uint64_t origin_us, virtual_us;
static struct nvml_device_handle handles[GENERATIONS][FAKE_DEVICES_MAX];

// ---- Time ---------------------------------------------------------------------------------------------------------
static uint64_t clock_us(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t now_us(void) { return model.virtual_clock ? virtual_us : clock_us(CLOCK_MONOTONIC) - origin_us; }

// ---- Control by tests ---------------------------------------------------------------------------------------------
static bool load_script(void) {
    const char *path = getenv("WTL_FAKE_NVML_SCRIPT");
    int line = 0;
    fake_model_free(&model);
    loaded = path && fake_model_load(&model, path, &line);
    if (!loaded) fprintf(stderr, "fake NVML: %s:%d: not understood\n", path ? path : "WTL_FAKE_NVML_SCRIPT is not set", line);
    origin_us = clock_us(CLOCK_MONOTONIC);
    return loaded;
}

EXPORT void fake_nvml_set_time_us(uint64_t t_us) {
    pthread_mutex_lock(&mutex);
    virtual_us = t_us;
    pthread_mutex_unlock(&mutex);
}

// Reads the script again and begins anew: counts of calls, limits, locks; boards that are open stay open.
EXPORT int fake_nvml_reload(void) {
    pthread_mutex_lock(&mutex);
    const bool ok = load_script();
    pthread_mutex_unlock(&mutex);
    return ok ? 0 : 1;
}

// Truth of board i from 0 to t, in microjoules: what a perfect meter would say.
EXPORT double fake_nvml_truth_uj(unsigned i, uint64_t t_us) {
    pthread_mutex_lock(&mutex);
    const double mj = i < model.n ? fake_truth_mj(&model.devices[i], t_us) : NAN;
    pthread_mutex_unlock(&mutex);
    return mj * 1e3;
}

EXPORT unsigned fake_nvml_open_count(void) { return inits; }

__attribute__((destructor)) static void unload(void) { fake_model_free(&model); }

// ---- Calls --------------------------------------------------------------------------------------------------------
static nvml_result scripted(fake_fail *fails, size_t n, const char *function) {
    for (size_t i = 0; i < n; i++) {
        fake_fail *fail = &fails[i];
        if (strcmp(fail->function, function) != 0) continue;
        const uint64_t call = fail->n_calls++;
        if (call >= fail->after && (fail->count == 0 || call < fail->after + fail->count)) return (nvml_result)fail->code;
    }
    return NVML_OK;
}

static nvml_result begin_library(const char *function) {
    pthread_mutex_lock(&mutex);
    if (!inits) return NVML_UNINITIALIZED;
    return scripted(model.fails, model.n_fails, function);
}

// Begins a call to a board; the mutex is held until finish().
static nvml_result begin(nvml_device handle, const char *function, fake_device **out) {
    pthread_mutex_lock(&mutex);
    if (!inits) return NVML_UNINITIALIZED;
    if (!handle || handle->generation != generation || handle->index >= model.n) return NVML_INVALID_ARGUMENT;
    fake_device *d = *out = &model.devices[handle->index];
    if (d->latency_us) {
        const struct timespec wait = {.tv_sec = (time_t)(d->latency_us / 1000000), .tv_nsec = (long)(d->latency_us % 1000000) * 1000};
        nanosleep(&wait, NULL);
    }
    const uint64_t t = now_us();
    if (d->lost_to_us && t >= d->lost_from_us && t < d->lost_to_us) return NVML_GPU_IS_LOST;
    return scripted(d->fails, d->n_fails, function);
}

static nvml_result finish(nvml_result result) {
    pthread_mutex_unlock(&mutex);
    return result;
}

static nvml_result init(void) {
    pthread_mutex_lock(&mutex);
    if (!loaded && !load_script()) return finish(NVML_UNKNOWN);
    const nvml_result result = scripted(model.fails, model.n_fails, "Init");
    if (result != NVML_OK) return finish(result);
    if (inits++ == 0) generation++;
    return finish(NVML_OK);
}

static nvml_result count(unsigned *n) {
    const nvml_result result = begin_library("DeviceGetCount");
    if (result == NVML_OK) *n = model.n;
    return finish(result);
}

static nvml_result handle_of(unsigned i, nvml_device *out) {
    struct nvml_device_handle *handle = &handles[generation % GENERATIONS][i];
    *handle = (struct nvml_device_handle){.index = i, .generation = generation};
    const fake_device *d = &model.devices[i];
    const uint64_t t = now_us();
    if (d->lost_to_us && t >= d->lost_from_us && t < d->lost_to_us) return NVML_GPU_IS_LOST;
    *out = handle;
    return scripted(model.devices[i].fails, model.devices[i].n_fails, "DeviceGetHandle");
}

static nvml_result by_index(unsigned i, nvml_device *out) {
    const nvml_result result = begin_library("DeviceGetHandleByIndex");
    if (result != NVML_OK) return finish(result);
    return finish(i < model.n ? handle_of(i, out) : NVML_INVALID_ARGUMENT);
}

static nvml_result pci_info(nvml_device handle, nvml_pci_info *out, size_t bytes) {
    fake_device *d;
    const nvml_result result = begin(handle, "DeviceGetPciInfo", &d);
    if (result != NVML_OK) return finish(result);
    nvml_pci_info info = {.domain = d->domain, .bus = d->bus, .device = d->slot, .pci_device_id = 0x220410deu};
    snprintf(info.bus_id_legacy, sizeof info.bus_id_legacy, "%04X:%02X:%02X.0", d->domain & 0xffff, d->bus & 0xff, d->slot & 0x1f);
    snprintf(info.bus_id, sizeof info.bus_id, "%08X:%02X:%02X.0", d->domain, d->bus, d->slot);
    memcpy(out, &info, bytes);
    return finish(NVML_OK);
}

EXPORT nvml_result nvmlInit(void) { return init(); }

EXPORT nvml_result nvmlShutdown(void) {
    pthread_mutex_lock(&mutex);
    if (!inits) return finish(NVML_UNINITIALIZED);
    inits--;
    return finish(NVML_OK);
}

EXPORT nvml_result nvmlDeviceGetCount(unsigned *n) { return count(n); }
EXPORT nvml_result nvmlDeviceGetHandleByIndex(unsigned i, nvml_device *out) { return by_index(i, out); }
// The first form ends before the members that came later.
EXPORT nvml_result nvmlDeviceGetPciInfo(nvml_device handle, nvml_pci_info *out) {
    return pci_info(handle, out, offsetof(nvml_pci_info, pci_subsystem_id));
}

EXPORT nvml_result nvmlDeviceGetName(nvml_device handle, char *name, unsigned cap) {
    fake_device *d;
    const nvml_result result = begin(handle, "DeviceGetName", &d);
    if (result != NVML_OK) return finish(result);
    if (strlen(d->name) >= cap) return finish(NVML_INSUFFICIENT_SIZE);
    strcpy(name, d->name);
    return finish(NVML_OK);
}

EXPORT nvml_result nvmlDeviceGetPowerUsage(nvml_device handle, unsigned *mw) {
    fake_device *d;
    const nvml_result result = begin(handle, "DeviceGetPowerUsage", &d);
    if (result == NVML_OK) *mw = (unsigned)lround(fake_sensor_mw(d, now_us(), d->average_us));
    return finish(result);
}

EXPORT nvml_result nvmlDeviceGetPowerManagementLimit(nvml_device handle, unsigned *mw) {
    fake_device *d;
    const nvml_result result = begin(handle, "DeviceGetPowerManagementLimit", &d);
    if (result == NVML_OK) *mw = d->limit_mw;
    return finish(result);
}

#ifndef FAKE_NVML_OLD // ---- Newer than the oldest driver ---------------------------------------------------------------
EXPORT nvml_result nvmlInit_v2(void) { return init(); }
EXPORT nvml_result nvmlDeviceGetCount_v2(unsigned *n) { return count(n); }
EXPORT nvml_result nvmlDeviceGetHandleByIndex_v2(unsigned i, nvml_device *out) { return by_index(i, out); }
EXPORT nvml_result nvmlDeviceGetPciInfo_v3(nvml_device handle, nvml_pci_info *out) { return pci_info(handle, out, sizeof *out); }
EXPORT const char *nvmlErrorString(nvml_result result) { return tel_nvml_text(result); }

EXPORT nvml_result nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvml_device *out) {
    const nvml_result result = begin_library("DeviceGetHandleByPciBusId");
    if (result != NVML_OK) return finish(result);
    for (unsigned i = 0; i < model.n; i++) {
        char text[32];
        snprintf(text, sizeof text, "%08X:%02X:%02X.0", model.devices[i].domain, model.devices[i].bus, model.devices[i].slot);
        if (strcasecmp(text, bus_id) == 0) return finish(handle_of(i, out));
    }
    return finish(NVML_NOT_FOUND);
}

EXPORT nvml_result nvmlDeviceGetArchitecture(nvml_device handle, unsigned *arch) {
    fake_device *d;
    const nvml_result result = begin(handle, "DeviceGetArchitecture", &d);
    if (result == NVML_OK) *arch = d->arch;
    return finish(result);
}

EXPORT nvml_result nvmlDeviceGetMigMode(nvml_device handle, unsigned *current, unsigned *pending) {
    fake_device *d;
    const nvml_result result = begin(handle, "DeviceGetMigMode", &d);
    if (result == NVML_OK) *current = *pending = d->mig;
    return finish(result);
}

EXPORT nvml_result nvmlDeviceGetEnforcedPowerLimit(nvml_device handle, unsigned *mw) {
    fake_device *d;
    const nvml_result result = begin(handle, "DeviceGetEnforcedPowerLimit", &d);
    if (result == NVML_OK) *mw = d->limit_mw;
    return finish(result);
}

EXPORT nvml_result nvmlDeviceGetTotalEnergyConsumption(nvml_device handle, unsigned long long *mj) {
    fake_device *d;
    const nvml_result result = begin(handle, "DeviceGetTotalEnergyConsumption", &d);
    if (result == NVML_OK) *mj = (unsigned long long)fmax(0, fake_counter_mj(d, now_us()));
    return finish(result);
}

static uint64_t stamp_us(const fake_device *d, uint64_t t_us) {
    uint64_t stamp = model.virtual_clock ? t_us : t_us + origin_us;
    if (d->stamps != FAKE_METER) stamp = clock_us(d->stamps == FAKE_BOOT ? CLOCK_BOOTTIME : CLOCK_REALTIME) - (now_us() - t_us);
    return stamp + (uint64_t)d->stamp_shift_us;
}

static nvml_value value_of(unsigned type, double mw) {
    nvml_value value = {.ull = 0};
    switch (type) {
    case NVML_TYPE_DOUBLE: value.d = mw; break;
    case NVML_TYPE_ULONG: value.ul = (unsigned long)llround(mw); break;
    case NVML_TYPE_ULONG_LONG: value.ull = (unsigned long long)llround(mw); break;
    case NVML_TYPE_LONG_LONG: value.ll = llround(mw); break;
    case NVML_TYPE_INT: value.i = (int)lround(mw); break;
    case NVML_TYPE_USHORT: value.us = (unsigned short)lround(mw); break;
    default: value.u = (unsigned)lround(mw); break;
    }
    return value;
}

EXPORT nvml_result nvmlDeviceGetFieldValues(nvml_device handle, int n, nvml_field_value *values) {
    fake_device *d;
    nvml_result result = begin(handle, "DeviceGetFieldValues", &d);
    for (int i = 0; result == NVML_OK && i < n; i++) {
        nvml_field_value *v = &values[i];
        v->result = v->field == NVML_FIELD_POWER_INSTANT && v->scope == 0 ? scripted(d->fails, d->n_fails, "field") : NVML_NOT_SUPPORTED;
        const uint64_t t = now_us(), frozen = d->ring_stop_us && t > d->ring_stop_us ? d->ring_stop_us : t;
        v->timestamp_us = d->field_stamps ? (long long)stamp_us(d, frozen) : 0;
        v->type = d->value_type;
        v->value = value_of(d->value_type, fake_sensor_mw(d, frozen, d->window_us));
    }
    return finish(result);
}

// Samples lie at multiples of ring_step_us; the ring holds the newest of them.
EXPORT nvml_result nvmlDeviceGetSamples(nvml_device handle, unsigned type, unsigned long long last_seen_us, unsigned *value_type,
                                        unsigned *n, nvml_sample *out) {
    fake_device *d;
    const nvml_result result = begin(handle, "DeviceGetSamples", &d);
    if (result != NVML_OK) return finish(result);
    if (type != NVML_SAMPLES_TOTAL_POWER || d->ring == 0) return finish(NVML_NOT_SUPPORTED);
    *value_type = d->value_type;
    if (!out) {
        *n = d->ring;
        return finish(NVML_OK);
    }
    uint64_t end_us = now_us();
    if (d->ring_stop_us && end_us > d->ring_stop_us) end_us = d->ring_stop_us;
    const uint64_t newest = end_us / d->ring_step_us, oldest = newest > d->ring ? newest - d->ring + 1 : 1;
    unsigned k = 0;
    for (uint64_t i = oldest; i <= newest && k < *n; i++) {
        const uint64_t t = i * d->ring_step_us, stamp = stamp_us(d, t);
        if (stamp <= last_seen_us) continue;
        out[k++] = (nvml_sample){.timestamp_us = stamp, .value = value_of(d->value_type, fake_sample_mw(d, t))};
    }
    *n = k;
    return finish(k ? NVML_OK : NVML_NOT_FOUND);
}

// ---- Settings -----------------------------------------------------------------------------------------------------
static void log_setting(const char *function, unsigned device, const char *values) {
    const char *path = getenv("WTL_FAKE_NVML_LOG");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (!file) return;
    fprintf(file, "%s %u%s%s\n", function, device, values[0] ? " " : "", values);
    fclose(file);
}

EXPORT nvml_result nvmlDeviceGetPowerManagementLimitConstraints(nvml_device handle, unsigned *min_mw, unsigned *max_mw) {
    fake_device *d;
    const nvml_result result = begin(handle, "DeviceGetPowerManagementLimitConstraints", &d);
    if (result != NVML_OK) return finish(result);
    *min_mw = d->limit_min_mw;
    *max_mw = d->limit_max_mw;
    return finish(NVML_OK);
}

EXPORT nvml_result nvmlDeviceGetPowerManagementDefaultLimit(nvml_device handle, unsigned *mw) {
    fake_device *d;
    const nvml_result result = begin(handle, "DeviceGetPowerManagementDefaultLimit", &d);
    if (result == NVML_OK) *mw = d->limit_default_mw;
    return finish(result);
}

EXPORT nvml_result nvmlDeviceSetPowerManagementLimit(nvml_device handle, unsigned mw) {
    fake_device *d;
    const nvml_result result = begin(handle, "DeviceSetPowerManagementLimit", &d);
    if (result != NVML_OK) return finish(result);
    if (mw < d->limit_min_mw || mw > d->limit_max_mw) return finish(NVML_INVALID_ARGUMENT);
    char values[32];
    snprintf(values, sizeof values, "%u", mw);
    log_setting("SetPowerManagementLimit", handle->index, values);
    d->limit_mw = mw;
    return finish(NVML_OK);
}

static nvml_result lock_clock(nvml_device handle, const char *function, bool memory, unsigned min_mhz, unsigned max_mhz) {
    fake_device *d;
    const nvml_result result = begin(handle, function, &d);
    if (result != NVML_OK) return finish(result);
    if (min_mhz > max_mhz) return finish(NVML_INVALID_ARGUMENT);
    char values[32] = "";
    if (max_mhz) snprintf(values, sizeof values, "%u %u", min_mhz, max_mhz);
    log_setting(function + strlen("Device"), handle->index, values);
    *(memory ? &d->mem_lock_mhz : &d->sm_lock_mhz) = max_mhz;
    return finish(NVML_OK);
}

EXPORT nvml_result nvmlDeviceSetGpuLockedClocks(nvml_device handle, unsigned min_mhz, unsigned max_mhz) {
    return lock_clock(handle, "DeviceSetGpuLockedClocks", false, min_mhz, max_mhz);
}
EXPORT nvml_result nvmlDeviceResetGpuLockedClocks(nvml_device handle) {
    return lock_clock(handle, "DeviceResetGpuLockedClocks", false, 0, 0);
}
EXPORT nvml_result nvmlDeviceSetMemoryLockedClocks(nvml_device handle, unsigned min_mhz, unsigned max_mhz) {
    return lock_clock(handle, "DeviceSetMemoryLockedClocks", true, min_mhz, max_mhz);
}
EXPORT nvml_result nvmlDeviceResetMemoryLockedClocks(nvml_device handle) {
    return lock_clock(handle, "DeviceResetMemoryLockedClocks", true, 0, 0);
}

// clock: 0 graphics, 1 SM, 2 memory (nvmlClockType_t).
EXPORT nvml_result nvmlDeviceGetClockInfo(nvml_device handle, unsigned clock, unsigned *mhz) {
    fake_device *d;
    const nvml_result result = begin(handle, "DeviceGetClockInfo", &d);
    if (result != NVML_OK) return finish(result);
    const unsigned free_mhz = clock == 2 ? d->mem_mhz : d->sm_mhz, lock_mhz = clock == 2 ? d->mem_lock_mhz : d->sm_lock_mhz;
    *mhz = lock_mhz && lock_mhz < free_mhz ? lock_mhz : free_mhz;
    return finish(NVML_OK);
}
#endif
