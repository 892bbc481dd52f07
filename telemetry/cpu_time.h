// Inside telemetry: how much CPU time is ours, and how many processors we may use.
//
// "What did this program cost" is answered by CPU time that nobody else can add to. That is a control group's counter only while
// every process in the group is this one, an ancestor (the shell or init of a container) or a descendant: it then also holds helpers that
// have ended. A group with anyone else in it, or a machine's root group, would book a neighbour's work on us; so would whole-machine time. In
// those cases the process's own clock is taken. Decided once, when the model opens. Used by cpu_model.c, one thread.
// SPDX-License-Identifier: Apache-2.0
#ifndef TEL_CPU_TIME_H
#define TEL_CPU_TIME_H

#include <stdbool.h>
#include <stdint.h>

#include "telemetry/sysfs.h"

typedef enum tel_cpu_basis { TEL_CPU_PROCESS = 0, TEL_CPU_CGROUP_V2, TEL_CPU_CGROUP_V1 } tel_cpu_basis;

typedef struct tel_cpu_time {
    tel_cpu_basis basis;
    char path[TEL_SYSFS_PATH]; // file that is read; "" for the process clock
    double n_usable;           // processors that this process may use: affinity, cut by the group's quota; > 0
    double quota;              // the quota in processors; 0: none
    int n_online;              // processors of the machine; 0: not known
} tel_cpu_time;

void tel_cpu_time_find(const char *root, tel_cpu_time *out);
// CPU time so far. False: the file is gone or holds something else.
bool tel_cpu_time_read(const tel_cpu_time *place, uint64_t *cpu_ns);

#endif
