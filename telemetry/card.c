// Table of power sensors by device name.
//
// Classes, update steps and windows: Yang, Adamek, Armour 2023, "Part-time Power Measurements: nvidia-smi's Lack of Attention"
// (arXiv 2312.02741), 70 boards of 12 generations. Errors: the steady-state fits of its data set (GPU_Power_Benchmark, 19 boards against
// an external meter): gain -9.5 to +6.4 %, offset -12.4 to +11.8 W, one RTX 4090 -22.6 W; five RTX 3090: -5.5 to +1.7 %,
// -8.5 to +3.9 W. A gain error of 8 % of the truth is 8 / 92 of the reading. Power limits: the makers' data sheets.
// SPDX-License-Identifier: Apache-2.0
#include "telemetry/card.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>

#define MS(n) ((uint64_t)(n) * 1000000u)

enum { LAG_MS = 8 }; // window's end to visible reading: 0 to 5 ms seen on an RTX 3090 and an A100

#define FULL(name, gain, offset, limit) {name, TEL_CARD_FULL_WINDOW, MS(100), MS(100), MS(LAG_MS), gain, offset, limit}
#define PART(name, step, window, limit) {name, TEL_CARD_PART_TIME, MS(step), MS(window), MS(LAG_MS), 0.09, 26, limit}

// The longest match wins, so the order is for reading.
static const tel_card cards[] = {
    // GA100 and Hopper: 25 ms in every 100.
    PART("A100", 100, 25, 400), PART("A800", 100, 25, 400), PART("A30", 100, 25, 165), PART("H100", 100, 25, 700),
    PART("H800", 100, 25, 700), PART("H200", 100, 25, 700), PART("GH200", 100, 25, 900), PART("H20", 100, 25, 500),
    // Volta and the large Pascal: 10 ms in every 20.
    PART("V100", 20, 10, 300), PART("P100", 20, 10, 300), PART("TITAN V", 20, 10, 250),
    // Ampere (GA10x), Ada, Turing, Maxwell: the whole time, in steps of 100 ms. One board tells little of its kind (two of one name differ
    // by 7 % and 12 W), so only a kind of which several were measured gets narrower errors than the widest seen on any board.
    FULL("RTX 3090", 0.087, 12, 350), FULL("RTX 4090", 0.09, 26, 450), FULL("RTX A5000", 0.105, 26, 230), FULL("RTX 3070 Ti", 0.09, 26, 290),
    FULL("RTX 2080 Ti", 0.09, 26, 250), FULL("RTX 2060 SUPER", 0.09, 26, 175), FULL("GTX TITAN X", 0.09, 26, 250),
    FULL("Tesla M40", 0.09, 26, 250),
    FULL("RTX 3090 Ti", 0.09, 26, 450), FULL("RTX 3080 Ti", 0.09, 26, 350), FULL("RTX 3080", 0.09, 26, 320), FULL("RTX 3070", 0.09, 26, 220),
    FULL("RTX 3060 Ti", 0.09, 26, 200), FULL("RTX 3060", 0.09, 26, 170), FULL("RTX 3050", 0.09, 26, 130), FULL("RTX 4080", 0.09, 26, 320),
    FULL("RTX 4070 Ti", 0.09, 26, 285), FULL("RTX 4070", 0.09, 26, 220), FULL("RTX 4060 Ti", 0.09, 26, 165), FULL("RTX 4060", 0.09, 26, 115),
    FULL("RTX A6000", 0.09, 26, 300), FULL("RTX A4000", 0.09, 26, 140), FULL("A40", 0.09, 26, 300), FULL("A10", 0.09, 26, 150),
    FULL("A10G", 0.09, 26, 300), FULL("A16", 0.09, 26, 250), FULL("A2", 0.09, 26, 60), FULL("L40S", 0.09, 26, 350), FULL("L40", 0.09, 26, 300),
    FULL("L4", 0.09, 26, 72), FULL("RTX 6000 Ada", 0.09, 26, 300), FULL("RTX 5000 Ada", 0.09, 26, 250), FULL("RTX 2080", 0.09, 26, 225),
    FULL("RTX 2070", 0.09, 26, 185), FULL("RTX 2060", 0.09, 26, 160), FULL("TITAN RTX", 0.09, 26, 280), FULL("Tesla T4", 0.09, 26, 70),
    FULL("Quadro RTX", 0.09, 26, 295),
    // Kepler: the reading creeps towards the truth for about a second.
    {"K20", TEL_CARD_AVERAGED, MS(15), MS(1000), MS(100), 0.09, 26, 225}, {"K40m", TEL_CARD_AVERAGED, MS(15), MS(1000), MS(100), 0.09, 26, 235},
    {"K80", TEL_CARD_AVERAGED, MS(15), MS(1000), MS(100), 0.09, 26, 300},
};

// What nothing is known of gets the widest errors that were seen on any board: 8 % and 23 W of the truth.
static const tel_card unknown = {NULL, TEL_CARD_UNKNOWN, 0, 0, MS(LAG_MS), 0.09, 26, 0};
static const tel_card averaged = {NULL, TEL_CARD_AVERAGED, MS(100), MS(1000), MS(100), 0.09, 26, 0};
// hwmon and batteries: amplifiers of a few per cent; makers state no offset.
static const tel_card instant = {NULL, TEL_CARD_INSTANT, 0, 0, 0, 0.05, 0.5, 0};
// NVML's energy counter integrates the same sensor, in steps of 20 to 100 ms, up to two steps late.
static const tel_card gpu_counter = {NULL, TEL_CARD_COUNTER, 0, 0, MS(200), 0.09, 26, 0};
// RAPL since Haswell and Zen: within 5 % of measured power (Hackenberg et al. 2015; Khan et al. 2018), updated every millisecond.
static const tel_card counter = {NULL, TEL_CARD_COUNTER, MS(1), 0, 0, 0.05, 0, 0};
static const tel_card exact = {NULL, TEL_CARD_COUNTER, MS(1), 0, 0, 0, 0, 0};

const char *tel_card_class_name(tel_card_class kind) {
    static const char *const names[] = {"counter", "full-window", "part-time", "averaged", "instant", "unknown"};
    return (unsigned)kind < sizeof names / sizeof names[0] ? names[kind] : "unknown";
}

// Does `name` hold `words` as whole words ("A10" is not in "A100-PCIE", "RTX 3090" is not in "RTX 3090Ti")? Case does not count. Returns the
// length of the match or 0.
static size_t match(const char *name, const char *words) {
    size_t n = strlen(words);
    for (const char *at = name; *at; at++) {
        if (at != name && isalnum((unsigned char)at[-1])) continue;
        size_t i = 0;
        while (i < n && at[i] && tolower((unsigned char)at[i]) == tolower((unsigned char)words[i])) i++;
        if (i == n && !isalnum((unsigned char)at[n])) return n;
    }
    return 0;
}

const tel_card *tel_card_by_name(const char *device) {
    const tel_card *best = &unknown;
    size_t longest = 0;
    for (size_t i = 0; device && i < sizeof cards / sizeof cards[0]; i++) {
        size_t n = match(device, cards[i].match);
        if (n > longest) {
            longest = n;
            best = &cards[i];
        }
    }
    return best;
}

bool tel_card_is_ga100(const char *device) { return device && (match(device, "A100") || match(device, "A800") || match(device, "A30")); }

const tel_card *tel_card_averaged(void) { return &averaged; }
const tel_card *tel_card_instant(void) { return &instant; }
const tel_card *tel_card_gpu_counter(void) { return &gpu_counter; }
const tel_card *tel_card_counter(void) { return &counter; }
const tel_card *tel_card_exact(void) { return &exact; }
