// Reading one NVIDIA board: samples ring, POWER_INSTANT field, energy counter, averaged power.
//
// Values come as milliwatts or millijoules in any of NVML's number types. What is not a power of a board that is switched on (0, negative, not finite,
// beyond a megawatt, "not available" as all ones) is a failed read, never a number.
// SPDX-License-Identifier: Apache-2.0
#include "telemetry/nvml_board.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const uint64_t STALL_MIN_NS = 2000000000u; // a sensor without news for this long, and for 20 of its steps, has stopped
static const uint64_t MW_MAX = 1000000000u;
static const unsigned STALL_STEPS = 20, HOLE_STEPS = 5;

bool tel_nvml_is_loss(nvml_result result) {
    return result == NVML_GPU_IS_LOST || result == NVML_RESET_REQUIRED || result == NVML_UNINITIALIZED || result == NVML_DRIVER_NOT_LOADED ||
           result == NVML_VERSION_MISMATCH || result == NVML_GPU_NOT_FOUND;
}

// ---- Clocks -------------------------------------------------------------------------------------------------------
static uint64_t system_ns(clockid_t id) {
    struct timespec t;
    return clock_gettime(id, &t) == 0 ? (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec : 0;
}

static uint64_t meter_ns(const nvml_reader *reader) { return reader->clock.now_ns(reader->clock.user); }

// The three clocks at one moment: between two looks at the meter's clock, again when the thread was put aside between them.
static nvml_now all_clocks(const nvml_reader *reader) {
    nvml_now now = {0};
    for (int i = 0; i < 3; i++) {
        const uint64_t before = meter_ns(reader);
        now.wall_ns = system_ns(CLOCK_REALTIME);
        now.boot_ns = system_ns(CLOCK_BOOTTIME);
        const uint64_t after = meter_ns(reader);
        now.meter_ns = before + (after - before) / 2;
        if (after - before < 200000) break;
    }
    return now;
}

// ---- Values -------------------------------------------------------------------------------------------------------
static bool to_mw(unsigned type, const nvml_value *value, uint64_t *mw) {
    uint64_t v = 0;
    switch (type) {
    case NVML_TYPE_DOUBLE:
        if (!(value->d >= 0.5 && value->d <= (double)MW_MAX)) return false; // also NaN
        v = (uint64_t)llround(value->d);
        break;
    case NVML_TYPE_UINT: v = value->u; break;
    case NVML_TYPE_ULONG: v = value->ul; break;
    case NVML_TYPE_ULONG_LONG: v = value->ull; break;
    case NVML_TYPE_LONG_LONG: v = value->ll > 0 ? (uint64_t)value->ll : 0; break;
    case NVML_TYPE_INT: v = value->i > 0 ? (uint64_t)value->i : 0; break;
    case NVML_TYPE_USHORT: v = value->us; break;
    default: return false;
    }
    *mw = v;
    return v > 0 && v <= MW_MAX;
}

// ---- The samples ring ---------------------------------------------------------------------------------------------
// A batch is in the order of time. Where the driver's clock was set back, only what comes after that can be placed.
static unsigned last_run(const nvml_sample *batch, unsigned n) {
    unsigned first = n ? n - 1 : 0;
    while (first > 0 && batch[first - 1].timestamp_us < batch[first].timestamp_us) first--;
    return first;
}

static nvml_result fetch(const nvml_reader *reader, const nvml_board *board, uint64_t after_us, unsigned *type, unsigned *n) {
    *n = board->ring_cap;
    const nvml_result result = reader->api->samples(board->device, NVML_SAMPLES_TOTAL_POWER, after_us, type, n, reader->batch);
    if (*n > board->ring_cap) *n = board->ring_cap;
    return result;
}

static int by_value(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t median_step_ns(const nvml_sample *batch, unsigned first, unsigned n) {
    uint64_t steps[256];
    unsigned k = 0;
    for (unsigned i = n; i-- > first + 1 && k < 256;) steps[k++] = batch[i].timestamp_us - batch[i - 1].timestamp_us;
    qsort(steps, k, sizeof steps[0], by_value);
    return k ? steps[k / 2] * 1000 : 0;
}

static nvml_result probe_ring(const nvml_reader *reader, nvml_board *board) {
    if (!reader->api->samples) return NVML_FUNCTION_NOT_FOUND;
    unsigned type = NVML_TYPE_UINT, n = 0;
    nvml_result result = reader->api->samples(board->device, NVML_SAMPLES_TOTAL_POWER, 0, &type, &n, NULL);
    if (result != NVML_OK) return result;
    board->ring_cap = n < NVML_RING_MAX ? n : NVML_RING_MAX;
    if (!board->ring_cap) return NVML_NO_DATA;
    result = fetch(reader, board, 0, &type, &n);
    if (result != NVML_OK) return result;
    const unsigned first = last_run(reader->batch, n);
    uint64_t mw;
    if (n < first + 3 || !to_mw(type, &reader->batch[n - 1].value, &mw)) return NVML_NO_DATA;
    const nvml_now now = all_clocks(reader);
    const uint64_t newest_us = reader->batch[n - 1].timestamp_us;
    if (!tel_nvml_stamps_recognise(&board->stamps, &now, newest_us)) return NVML_NO_DATA;
    // The newest one is read again as the first sample: the meter then knows the power from its opening on.
    board->stamps.last_us = newest_us - 1;
    board->ring_step_ns = median_step_ns(reader->batch, first, n);
    board->ring_news_ns = now.meter_ns;
    return NVML_OK;
}

static uint64_t stall_ns(uint64_t step_ns) {
    return STALL_STEPS * step_ns > STALL_MIN_NS ? STALL_STEPS * step_ns : STALL_MIN_NS;
}

// A ring that stands still is looked at afresh, because a driver's clock that was set back looks the same.
static void ring_without_news(nvml_board *board, const nvml_now *now, tel_series *series) {
    if (board->ring_stalled || now->meter_ns - board->ring_news_ns < stall_ns(board->ring_step_ns)) return;
    board->ring_stalled = true;
    tel_nvml_stamps_forget(&board->stamps, now);
    tel_series_fault(series, now->meter_ns, TEL_FAULT_FROZEN);
}

// Stores a batch, or as much of it as one call may; the rest is fetched again by the next. Returns whether a sample was new.
static bool take_batch(nvml_board *board, const nvml_now *now, const nvml_sample *batch, unsigned n, unsigned type, tel_series *series) {
    bool news = false;
    size_t room = series->options.capacity / 2;
    for (unsigned i = last_run(batch, n); i < n && room; i++) {
        const uint64_t stamp_us = batch[i].timestamp_us;
        uint64_t t_ns, mw;
        if (!tel_nvml_stamps_map(&board->stamps, now, stamp_us, &t_ns)) continue;
        // Samples fell out of the ring before they were fetched, or the driver took none.
        if (board->stamps.last_us && (stamp_us - board->stamps.last_us) * 1000 > HOLE_STEPS * board->ring_step_ns)
            tel_series_fault(series, t_ns, TEL_FAULT_LATE);
        board->stamps.last_us = stamp_us;
        news = true;
        room--;
        if (to_mw(type, &batch[i].value, &mw)) tel_series_push_at(series, t_ns, mw);
        else tel_series_fault(series, t_ns, TEL_FAULT_READ);
    }
    return news;
}

// Recognises the stamps' clock where it is not known; a stamp ahead of now is of another clock than was thought.
static bool can_place(nvml_board *board, const nvml_now *now, uint64_t newest_us) {
    if (board->stamps.base == NVML_BASE_UNKNOWN) return tel_nvml_stamps_recognise(&board->stamps, now, newest_us);
    if (!tel_nvml_stamps_ahead(&board->stamps, now, newest_us)) return true;
    tel_nvml_stamps_forget(&board->stamps, now);
    return false;
}

static nvml_result read_ring(const nvml_reader *reader, nvml_board *board, tel_series *series) {
    unsigned type = NVML_TYPE_UINT, n = 0;
    const uint64_t t0 = meter_ns(reader);
    const nvml_result result = fetch(reader, board, board->stamps.last_us, &type, &n);
    tel_series_cost(series, meter_ns(reader) - t0);
    const nvml_now now = all_clocks(reader);
    if (result != NVML_OK && result != NVML_NOT_FOUND) return result;
    if (!tel_nvml_stamps_anchor(&board->stamps, &now)) { // nobody knows where the samples of this batch belong
        tel_series_fault(series, now.meter_ns, TEL_FAULT_READ);
        return NVML_OK;
    }
    if (result == NVML_NOT_FOUND) n = 0; // nothing newer
    if (n && !can_place(board, &now, reader->batch[n - 1].timestamp_us)) {
        tel_series_fault(series, now.meter_ns, TEL_FAULT_READ);
        return NVML_OK;
    }
    if (take_batch(board, &now, reader->batch, n, type, series)) {
        board->ring_news_ns = now.meter_ns;
        board->ring_stalled = false;
    } else {
        ring_without_news(board, &now, series);
    }
    return NVML_OK;
}

// ---- POWER_INSTANT ------------------------------------------------------------------------------------------------
static nvml_result instant(const nvml_reader *reader, const nvml_board *board, nvml_field_value *field) {
    *field = (nvml_field_value){.field = NVML_FIELD_POWER_INSTANT};
    const nvml_result result = reader->api->field_values(board->device, 1, field);
    return result != NVML_OK ? result : (nvml_result)field->result;
}

static nvml_result probe_instant(const nvml_reader *reader, nvml_board *board) {
    if (!reader->api->field_values) return NVML_FUNCTION_NOT_FOUND;
    nvml_field_value field;
    const nvml_result result = instant(reader, board, &field);
    uint64_t mw;
    board->instant_news_ns = meter_ns(reader);
    return result != NVML_OK ? result : to_mw(field.type, &field.value, &mw) ? NVML_OK : NVML_NO_DATA;
}

// The time of the read is the time of the sample: what the stamp is of differs between drivers. But a stamp that stands still over many
// reads tells of a driver that hands out one old value.
static bool instant_stalled(nvml_board *board, long long stamp_us, uint64_t now_ns) {
    if (stamp_us <= 0 || stamp_us != board->instant_stamp_us) {
        board->instant_stamp_us = stamp_us;
        board->instant_news_ns = now_ns;
        return false;
    }
    return now_ns - board->instant_news_ns >= STALL_MIN_NS;
}

static nvml_result read_instant(const nvml_reader *reader, nvml_board *board, tel_series *series) {
    nvml_field_value field;
    const uint64_t t0 = meter_ns(reader);
    const nvml_result result = instant(reader, board, &field);
    const uint64_t t1 = meter_ns(reader);
    uint64_t mw;
    if (result != NVML_OK) return result;
    const bool stalled = instant_stalled(board, field.timestamp_us, t1);
    if (stalled && !board->instant_stalled) tel_series_fault(series, t1, TEL_FAULT_FROZEN);
    board->instant_stalled = stalled;
    if (stalled) tel_series_cost(series, t1 - t0);
    else if (to_mw(field.type, &field.value, &mw)) tel_series_push(series, t0, t1, mw);
    else tel_series_fault(series, t1, TEL_FAULT_READ);
    return NVML_OK;
}

// ---- Energy counter and averaged power ----------------------------------------------------------------------------
static nvml_result probe_counter(const nvml_reader *reader, nvml_board *board) {
    if (!reader->api->total_energy) return NVML_FUNCTION_NOT_FOUND;
    unsigned long long mj = 0;
    const nvml_result result = reader->api->total_energy(board->device, &mj);
    return result != NVML_OK ? result : mj > 0 && mj != ~0ull ? NVML_OK : NVML_NO_DATA;
}

static nvml_result read_counter(const nvml_reader *reader, nvml_board *board, tel_series *series) {
    unsigned long long mj = 0;
    const uint64_t t0 = meter_ns(reader);
    const nvml_result result = reader->api->total_energy(board->device, &mj);
    const uint64_t t1 = meter_ns(reader);
    if (result != NVML_OK) return result;
    if (mj != ~0ull) tel_series_push(series, t0, t1, mj);
    else tel_series_fault(series, t1, TEL_FAULT_READ);
    return NVML_OK;
}

static nvml_result probe_usage(const nvml_reader *reader, nvml_board *board) {
    if (!reader->api->power_usage) return NVML_FUNCTION_NOT_FOUND;
    nvml_value value = {0};
    uint64_t mw;
    const nvml_result result = reader->api->power_usage(board->device, &value.u);
    return result != NVML_OK ? result : to_mw(NVML_TYPE_UINT, &value, &mw) ? NVML_OK : NVML_NO_DATA;
}

static nvml_result read_usage(const nvml_reader *reader, nvml_board *board, tel_series *series) {
    nvml_value value = {0};
    uint64_t mw;
    const uint64_t t0 = meter_ns(reader);
    const nvml_result result = reader->api->power_usage(board->device, &value.u);
    const uint64_t t1 = meter_ns(reader);
    if (result != NVML_OK) return result;
    if (to_mw(NVML_TYPE_UINT, &value, &mw)) tel_series_push(series, t0, t1, mw);
    else tel_series_fault(series, t1, TEL_FAULT_READ);
    return NVML_OK;
}

// ---- All four -----------------------------------------------------------------------------------------------------
void tel_nvml_board_probe(const nvml_reader *reader, nvml_board *board) {
    board->works[NVML_RING] = probe_ring(reader, board);
    board->works[NVML_INSTANT] = probe_instant(reader, board);
    board->works[NVML_COUNTER] = probe_counter(reader, board);
    board->works[NVML_USAGE] = probe_usage(reader, board);
}

nvml_result tel_nvml_board_read(const nvml_reader *reader, nvml_board *board, nvml_reading how, tel_series *series) {
    static nvml_result (*const reads[NVML_N_READINGS])(const nvml_reader *, nvml_board *, tel_series *) = {
        [NVML_RING] = read_ring, [NVML_INSTANT] = read_instant, [NVML_COUNTER] = read_counter, [NVML_USAGE] = read_usage};
    const nvml_result result = reads[how](reader, board, series);
    if (result != NVML_OK)
        tel_series_fault(series, meter_ns(reader), tel_nvml_is_loss(result) ? TEL_FAULT_VANISHED : TEL_FAULT_READ);
    return result;
}

void tel_nvml_board_renew(const nvml_reader *reader, nvml_board *board) {
    const nvml_now now = all_clocks(reader);
    tel_nvml_stamps_forget(&board->stamps, &now);
    board->ring_news_ns = board->instant_news_ns = now.meter_ns;
    board->ring_stalled = board->instant_stalled = false;
    board->instant_stamp_us = 0;
}
