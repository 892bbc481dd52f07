// Inside telemetry: one NVIDIA board and the four ways to read its power. Used by nvml.c alone.
// SPDX-License-Identifier: Apache-2.0
#ifndef TEL_NVML_BOARD_H
#define TEL_NVML_BOARD_H

#include "telemetry/card.h"
#include "telemetry/nvml_api.h"
#include "telemetry/nvml_stamps.h"
#include "telemetry/series.h"

// In order of preference: see nvml.c for the reasons.
typedef enum nvml_reading { NVML_RING = 0, NVML_INSTANT, NVML_COUNTER, NVML_USAGE, NVML_N_READINGS } nvml_reading;

typedef struct nvml_board {
    nvml_device device;
    unsigned index;                 // the driver's number
    bool lost;                      // device is not to be used until it was found again
    char bus_id[32], name[NVML_NAME_BYTES];
    unsigned domain, bus, slot;     // of PCI
    bool mig;
    uint64_t limit_uw;              // 0: not known
    nvml_result found;              // of looking for the board itself; anything but OK: nothing below holds
    nvml_result works[NVML_N_READINGS];
    // The samples ring.
    unsigned ring_cap;              // samples that the driver keeps
    uint64_t ring_step_ns;          // distance of samples
    uint64_t ring_news_ns;          // meter time of the last read that brought something
    bool ring_stalled;
    nvml_stamps stamps;
    // POWER_INSTANT: the driver's stamp, and since when it is the same.
    long long instant_stamp_us;
    uint64_t instant_news_ns;
    bool instant_stalled;
    const tel_card *usage_card; // NVML_USAGE is a long average or the plain sensor
} nvml_board;

enum { NVML_RING_MAX = 4096 }; // samples of one batch; drivers keep about 120

// What reading needs besides the board.
typedef struct nvml_reader {
    const nvml_api *api;
    tel_clock clock;
    nvml_sample *batch; // [NVML_RING_MAX]
} nvml_reader;

// Tries each way once and stores in board->works what it gave. A power of 0 does not count as working: a board that answers draws power.
void tel_nvml_board_probe(const nvml_reader *reader, nvml_board *board);
// Reads into the series, or puts a gap into it. The result says whether the board is still there.
nvml_result tel_nvml_board_read(const nvml_reader *reader, nvml_board *board, nvml_reading how, tel_series *series);
// The board was found again: nothing is known of its ring.
void tel_nvml_board_renew(const nvml_reader *reader, nvml_board *board);
// Whether the result says that the board, or the driver below it, is gone.
bool tel_nvml_is_loss(nvml_result result);

#endif
