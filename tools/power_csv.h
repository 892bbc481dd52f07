// Two columns of a CSV file with a header line: time and power, as recordings of sensors and meters have them.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_POWER_CSV_H
#define WTL_TOOLS_POWER_CSV_H

#include <stddef.h>

typedef struct power_csv {
    double *t_s, *power_w; // [n], times rising
    double *energy_j;      // [n + 1], from the beginning of the first reading's stretch to the end of each: see power_csv_energy
    double *edge_s;        // [n + 1], a reading stands for the time from halfway to the one before to halfway to the next
    size_t n;
} power_csv;

// Reads `t_us` and the first of the named columns that the file has (columns ends with NULL). CLI_GO, or CLI_FAILED after a message that
// names file, line and field. Free with power_csv_free.
int power_csv_read(const char *path, const char *const *columns, power_csv *out);
void power_csv_free(power_csv *csv);
// Joules between two moments inside edge_s[0]..edge_s[n].
double power_csv_energy(const power_csv *csv, double t0_s, double t1_s);
// As somebody without a second thought would: every reading holds until the next one.
double power_csv_held(const power_csv *csv, double t0_s, double t1_s);

#endif
