// Inside telemetry: what a CPU draws per logical processor, by its make, for machines without a counter.
//
// A figure here is a public average of one microarchitecture, never a measurement of this machine: whoever uses it applies
// tel_model_factors(). The table and the sources of its figures are in cpu_watts.c. Used by cpu_model.c; meter.c takes the factors.
// SPDX-License-Identifier: Apache-2.0
#ifndef TEL_CPU_WATTS_H
#define TEL_CPU_WATTS_H

#include "telemetry/source.h"

// What /proc/cpuinfo says. Numbers that it does not give are -1, texts "".
typedef struct tel_cpu_id {
    char vendor[32];     // "GenuineIntel"; aarch64: the implementer, "0x41"
    char model_name[64]; // "AMD EPYC 7763 64-Core Processor"; "" on most aarch64
    int family, model, stepping; // aarch64: model is the part of the largest core
    int n_processors;    // listed
    bool hypervisor;     // runs inside a virtual machine
} tel_cpu_id;

typedef struct tel_cpu_watts {
    const char *vendor;
    int family, first_model, last_model, first_stepping, last_stepping; // ranges, both ends included; family -1: not asked
    const char *name;   // "AMD EPYC 4th generation"
    double idle_w, busy_w; // of one logical processor
    const char *source; // where the two figures come from
} tel_cpu_watts;

// Reads <root>/proc/cpuinfo. False: it cannot be read or says nothing; id is then all unknown.
bool tel_cpu_id_read(const char *root, tel_cpu_id *id);
// Never NULL: the default for CPUs that the table does not know is named "CPU not in the table".
const tel_cpu_watts *tel_cpu_watts_find(const tel_cpu_id *id);

// The true energy lies between these times the modelled one.
void tel_model_factors(const tel_env *env, double *low_factor, double *high_factor);

#endif
