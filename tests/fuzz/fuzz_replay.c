// Fuzz entry of recordings: plays the input back through a whole meter and asks it everything.
//
// fuzz_replay() is shared by the libFuzzer program (WTL_LIBFUZZER) and by the replay in the ordinary tests. What is checked beside memory:
// a refusal names its line, totals never fall, energies are inside their own interval.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "telemetry/replay_parse.h"
#include "telemetry/telemetry.h"

int fuzz_replay(const uint8_t *data, size_t bytes); // 1: the input could be played back

static uint64_t now_ns;
static uint64_t now(void *user) {
    (void)user;
    return now_ns;
}

static void ask(const tel_meter *meter, size_t i) {
    static tel_edge edges[4096];
    size_t n = tel_meter_edges(meter, i, 0, edges, sizeof edges / sizeof edges[0]);
    for (size_t k = 1; k < n; k++)
        if (edges[k].t_ns <= edges[k - 1].t_ns || edges[k].total_uj < edges[k - 1].total_uj || edges[k].gaps < edges[k - 1].gaps) abort();
    uint64_t first = n ? edges[0].t_ns : 0, settled = tel_meter_settled(meter, i);
    const uint64_t windows[][2] = {{first, settled}, {first + 1, settled}, {settled - 1, settled}, {0, settled}, {first, settled + 1},
                                   {first + (settled - first) / 3, settled - (settled - first) / 3}};
    for (size_t k = 0; k < sizeof windows / sizeof windows[0]; k++) {
        tel_energy e = tel_meter_energy(meter, i, windows[k][0], windows[k][1]);
        if (e.status == TEL_UNAVAILABLE ? !e.reason : e.low_uj > e.energy_uj + 1 || e.high_uj + 1 < e.energy_uj) abort();
    }
    tel_meter_trust(meter, i);
}

static int play(const char *path) {
    char source[64];
    snprintf(source, sizeof source, "replay:%s", path);
    now_ns = 1000000000;
    tel_options options = {.source = source, .manual = true, .history_ns = 1000000000, .clock = {.now_ns = now}};
    tel_meter *meter = NULL;
    tel_error err = {0};
    tel_result result = tel_meter_open(&options, &meter, &err);
    if (result) {
        if (meter || !err.message[0]) abort();
        return 0;
    }
    const uint64_t steps[] = {0, 1000000, 20000000, 3000000000, 4000000000000, 400000000000000000};
    for (size_t k = 0; k < sizeof steps / sizeof steps[0]; k++) {
        now_ns += steps[k];
        tel_meter_poll(meter);
    }
    for (size_t i = 0; i < tel_meter_n_domains(meter); i++) {
        if (!tel_meter_domain(meter, i).name[0]) abort();
        if (i < tel_meter_n_counting(meter)) ask(meter, i);
    }
    tel_meter_close(&meter);
    return 1;
}

int fuzz_replay(const uint8_t *data, size_t bytes) {
    // First the parser alone: most inputs end there, and it needs no file.
    FILE *in = bytes ? fmemopen((void *)(uintptr_t)data, bytes, "r") : NULL;
    if (!in) return 0;
    replay_file file;
    tel_error err = {0};
    tel_result result = tel_replay_parse(in, "fuzz", &file, &err);
    fclose(in);
    tel_replay_free(&file);
    if (result) {
        if (err.code != result || !strstr(err.message, "line ")) abort();
        return 0;
    }
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0) return 0;
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int played = write(fd, data, bytes) == (ssize_t)bytes ? play(path) : 0;
    close(fd);
    return played;
}

#ifdef WTL_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    fuzz_replay(data, bytes);
    return 0;
}
#endif
