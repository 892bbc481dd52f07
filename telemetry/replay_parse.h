// Inside telemetry: the files that can be played back, parsed whole and checked before the first row is used.
//
// Two forms. A table of powers, as sensor tools write it: a line of column names with t_us and one of instant_mw, average_mw, power_mw
// (preferred in this order; other columns are skipped), then rows of numbers. Or a recording (recording.c writes it):
//   # wattle recording 1
//   # domain NAME scope=gpu_board source=nvml kind=power unit=uW scale=1 ... device="..."     one line per domain, numbered from 0
//   t_us,domain,value,read_ns
//   0.000,0,56120000,182000        a reading: middle of the read, raw value, how long the read took
//   100000.250,0,56310000,         one that the device stamped itself
//   200000.000,0,!read,            a fault, by its name (tel_fault_name)
// Times are microseconds with up to three decimals, may be negative, and never fall within a domain. Content is hostile: every number is
// checked, memory is bounded by REPLAY_ROWS_MAX, an error names file, line and field.
// SPDX-License-Identifier: Apache-2.0
#ifndef TEL_REPLAY_PARSE_H
#define TEL_REPLAY_PARSE_H

#include <stdio.h>

#include "telemetry/source.h"

enum { REPLAY_ROWS_MAX = 50000000 };

typedef enum replay_kind { REPLAY_READ = 0, REPLAY_STAMPED, REPLAY_FAULT } replay_kind;

typedef struct replay_row {
    int64_t t_ns;     // of the recording
    uint64_t raw;     // REPLAY_FAULT: the tel_fault
    uint32_t read_ns;
    uint8_t kind;     // replay_kind
} replay_row;

typedef struct replay_rows {
    replay_row *items;
    size_t n, capacity;
} replay_rows;

typedef struct replay_file {
    tel_found domains;                  // as recorded; card, zero_ns and path are left to the source
    replay_rows rows[TEL_DOMAINS_MAX];  // of each domain, in the order of the file
    int64_t first_ns;                   // time of the first row
    bool is_recording;                  // false: a table of powers
    bool averaged;                      // of the table's column average_mw: there is no other
} replay_file;

// name: of the file, for messages. Owns: caller frees *out, also after failure. Errors: FORMAT, IO, NO_MEMORY.
tel_result tel_replay_parse(FILE *in, const char *name, replay_file *out, tel_error *err);
void tel_replay_free(replay_file *file);

// "exact", "averaged", ...: cards that are not found by the name of the device. NULL: this one is.
const char *tel_replay_card_name(const tel_card *card);

#endif
