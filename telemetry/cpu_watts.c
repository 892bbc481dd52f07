// The table of idle and busy watts per logical processor, and the reading of /proc/cpuinfo that finds the row.
//
// Servers: watts of whole machines at idle and at full load divided by hardware threads, from published SPECpower_ssj2008 results as
// averaged by the Cloud Carbon Footprint project (ccf-coefficients, output of 2026-03-09). Its average for EPYC of the 5th generation mixes in
// desktop-class parts (8.96 W busy per thread), so these take the figures of the 4th.
// Desktops and laptops: the geometric mean of the two powers that the maker publishes for the part named (base and maximum turbo, TDP and
// socket limit, or the ends of the configurable range), divided by its threads; idle is taken as a tenth of it. One part stands
// for all of its generation: that is why the interval is a factor of three.
// SPDX-License-Identifier: Apache-2.0
#include "telemetry/cpu_watts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "telemetry/sysfs.h"

#define SPEC "SPECpower averages of Cloud Carbon Footprint, 2026-03"
#define SPEC_AS(what) "taken as " what ", SPECpower averages of Cloud Carbon Footprint, 2026-03"
#define INTEL "GenuineIntel", 6
#define AMD "AuthenticAMD"
#define MODEL(m) (m), (m), 0, 255
#define MODELS(first, last) (first), (last), 0, 255
#define CLIENT(busy) (busy) / 10, (busy)
#define ARM "0x41", -1
#define APPLE "0x61", -1
#define AMPERE "0xc0", -1

static const tel_cpu_watts table[] = {
    {INTEL, MODEL(42), "Intel Sandy Bridge", 2.21, 8.63, SPEC},
    {INTEL, MODEL(45), "Intel Sandy Bridge server", 2.21, 8.63, SPEC},
    {INTEL, MODEL(58), "Intel Ivy Bridge", 1.71, 5.56, SPEC},
    {INTEL, MODEL(62), "Intel Ivy Bridge server", 1.71, 5.56, SPEC},
    {INTEL, MODEL(60), "Intel Haswell", 1.86, 5.60, SPEC},
    {INTEL, MODEL(63), "Intel Haswell server", 1.86, 5.60, SPEC},
    {INTEL, MODEL(70), "Intel Haswell", 1.86, 5.60, SPEC},
    {INTEL, MODEL(69), "Intel Haswell mobile", CLIENT(3.75), "15 W of an i5-4200U, 4 threads"},
    {INTEL, MODEL(61), "Intel Broadwell mobile", CLIENT(3.75), "15 W of an i5-5200U, 4 threads"},
    {INTEL, MODEL(79), "Intel Broadwell server", 0.71, 3.69, SPEC},
    {INTEL, MODEL(86), "Intel Broadwell server", 0.71, 3.69, SPEC},
    {INTEL, 85, 85, 0, 4, "Intel Skylake server", 0.61, 4.10, SPEC},
    {INTEL, 85, 85, 5, 255, "Intel Cascade Lake", 0.69, 4.06, SPEC},
    {INTEL, MODEL(94), "Intel Skylake desktop", 1.14, 5.42, SPEC_AS("Coffee Lake")},
    {INTEL, MODEL(158), "Intel Kaby Lake or Coffee Lake", 1.14, 5.42, SPEC},
    {INTEL, MODEL(165), "Intel Comet Lake", 1.14, 5.42, SPEC_AS("Coffee Lake")},
    {INTEL, MODEL(78), "Intel Skylake mobile", CLIENT(3.75), "15 W of an i5-6200U, 4 threads"},
    {INTEL, MODEL(142), "Intel Kaby Lake mobile", CLIENT(2.4), "15 to 25 W of an i5-8250U, 8 threads"},
    {INTEL, MODEL(166), "Intel Comet Lake mobile", CLIENT(2.4), "15 to 25 W of an i5-10210U, 8 threads"},
    {INTEL, MODELS(125, 126), "Intel Ice Lake mobile", CLIENT(2.4), "15 to 25 W of an i7-1065G7, 8 threads"},
    {INTEL, MODEL(106), "Intel Ice Lake server", 0.77, 3.76, SPEC},
    {INTEL, MODEL(108), "Intel Ice Lake server", 0.77, 3.76, SPEC},
    {INTEL, MODELS(140, 141), "Intel Tiger Lake", CLIENT(3.5), "28 W of an i7-1165G7, 8 threads"},
    {INTEL, MODEL(167), "Intel Rocket Lake", CLIENT(7.8), "125 W of an i7-11700K, 16 threads"},
    {INTEL, MODEL(151), "Intel Alder Lake desktop", CLIENT(7.7), "125 to 190 W of an i7-12700K, 20 threads"},
    {INTEL, MODEL(154), "Intel Alder Lake mobile", CLIENT(2.65), "28 to 64 W of an i7-1260P, 16 threads"},
    {INTEL, MODEL(190), "Intel Alder Lake N", CLIENT(1.5), "6 W of an N100, 4 threads"},
    {INTEL, MODEL(183), "Intel Raptor Lake desktop", CLIENT(7.4), "125 to 253 W of an i7-13700K, 24 threads"},
    {INTEL, MODEL(191), "Intel Raptor Lake desktop", CLIENT(7.4), "125 to 253 W of an i7-13700K, 24 threads"},
    {INTEL, MODEL(186), "Intel Raptor Lake mobile", CLIENT(2.65), "28 to 64 W of an i7-1360P, 16 threads"},
    {INTEL, MODEL(170), "Intel Meteor Lake", CLIENT(2.6), "28 to 115 W of an Ultra 7 155H, 22 threads"},
    {INTEL, MODEL(172), "Intel Meteor Lake", CLIENT(2.6), "28 to 115 W of an Ultra 7 155H, 22 threads"},
    {INTEL, MODEL(189), "Intel Lunar Lake", CLIENT(3.1), "17 to 37 W of an Ultra 7 258V, 8 threads"},
    {INTEL, MODEL(197), "Intel Arrow Lake mobile", CLIENT(3.5), "28 to 115 W of an Ultra 7 255H, 16 threads"},
    {INTEL, MODEL(198), "Intel Arrow Lake desktop", CLIENT(8.8), "125 to 250 W of an Ultra 7 265K, 20 threads"},
    {INTEL, MODEL(143), "Intel Sapphire Rapids", 1.04, 4.16, SPEC},
    {INTEL, MODEL(207), "Intel Emerald Rapids", 0.81, 4.48, SPEC},
    {INTEL, MODELS(173, 174), "Intel Granite Rapids", 0.58, 2.53, SPEC},
    {INTEL, MODEL(175), "Intel Sierra Forest", 0.58, 2.53, SPEC_AS("Granite Rapids")},

    {AMD, 23, MODEL(1), "AMD Zen (EPYC 1st generation, Ryzen 1000)", 0.85, 2.60, SPEC},
    {AMD, 23, MODEL(8), "AMD Zen+ (Ryzen 2000)", CLIENT(7.6), "105 to 141 W of a Ryzen 7 2700X, 16 threads"},
    {AMD, 23, MODELS(16, 31), "AMD Zen mobile (Ryzen 2000U, 3000U)", CLIENT(2.6), "12 to 35 W of a Ryzen 5 3500U, 8 threads"},
    {AMD, 23, MODELS(48, 63), "AMD Zen 2 server (EPYC 2nd generation)", 0.47, 1.69, SPEC},
    {AMD, 23, MODELS(96, 111), "AMD Zen 2 mobile (Ryzen 4000, 5000)", CLIENT(1.6), "15 to 45 W of Ryzen 7 4800U and 4800H, 16 threads"},
    {AMD, 23, MODELS(112, 127), "AMD Zen 2 desktop (Ryzen 3000)", CLIENT(4.7), "65 to 88 W of a Ryzen 7 3700X, 16 threads"},
    {AMD, 23, MODELS(144, 159), "AMD Zen 2 handheld", CLIENT(1.0), "4 to 15 W of a Steam Deck's processor, 8 threads"},
    {AMD, 23, MODELS(160, 175), "AMD Zen 2 mobile (Ryzen 7020)", CLIENT(1.4), "8 to 15 W of a Ryzen 5 7520U, 8 threads"},
    {AMD, 25, MODELS(0, 7), "AMD Zen 3 server (EPYC 3rd generation)", 0.46, 1.96, SPEC},
    {AMD, 25, MODELS(8, 15), "AMD Zen 3 workstation (Threadripper Pro 5000)", CLIENT(2.2), "280 W of a 5995WX, 128 threads"},
    {AMD, 25, MODELS(16, 23), "AMD Zen 4 server (EPYC 4th generation)", 0.74, 2.28, SPEC},
    {AMD, 25, MODELS(24, 31), "AMD Zen 4 workstation (Threadripper 7000)", CLIENT(2.7), "350 W of a 7980X, 128 threads"},
    {AMD, 25, MODELS(32, 47), "AMD Zen 3 desktop (Ryzen 5000)", CLIENT(5.9), "65 to 76 W of a Ryzen 5 5600X, 12 threads"},
    {AMD, 25, MODELS(64, 79), "AMD Zen 3 mobile (Ryzen 6000)", CLIENT(1.6), "15 to 45 W of Ryzen 7 6800U and 6800H, 16 threads"},
    {AMD, 25, MODELS(80, 95), "AMD Zen 3 with graphics (Ryzen 5000)", CLIENT(2.0), "15 to 65 W of Ryzen 7 5800U and 5700G, 16 threads"},
    {AMD, 25, MODELS(96, 111), "AMD Zen 4 desktop (Ryzen 7000)", CLIENT(7.6), "105 to 142 W of a Ryzen 7 7700X, 16 threads"},
    {AMD, 25, MODELS(112, 127), "AMD Zen 4 mobile (Ryzen 7040, 8040)", CLIENT(1.8), "15 to 54 W of Ryzen 7 7840U and 7840HS, 16 threads"},
    {AMD, 25, MODELS(160, 175), "AMD Zen 4c server (EPYC 4th generation)", 0.74, 2.28, SPEC},
    {AMD, 26, MODELS(0, 31), "AMD Zen 5 server (EPYC 5th generation)", 0.74, 2.28, SPEC_AS("EPYC 4th generation")},
    {AMD, 26, MODELS(32, 47), "AMD Zen 5 mobile (Ryzen AI 9)", CLIENT(1.2), "15 to 54 W of a Ryzen AI 9 HX 370, 24 threads"},
    {AMD, 26, MODELS(64, 79), "AMD Zen 5 desktop (Ryzen 9000)", CLIENT(6.2), "170 to 230 W of a Ryzen 9 9950X, 32 threads"},
    {AMD, 26, MODELS(96, 111), "AMD Zen 5 mobile (Ryzen AI 7)", CLIENT(1.8), "15 to 54 W of a Ryzen AI 7 350, 16 threads"},
    {AMD, 26, MODELS(112, 127), "AMD Zen 5 large mobile (Ryzen AI Max)", CLIENT(2.3), "45 to 120 W of a Ryzen AI Max+ 395, 32 threads"},

    // Boards: watts of the whole board divided by its cores.
    {ARM, MODEL(0xd03), "Arm Cortex-A53", 0.45, 1.25, "1.8 to 5 W of a Raspberry Pi 3, 4 cores"},
    {ARM, MODEL(0xd08), "Arm Cortex-A72", 0.6, 1.6, "2.5 to 6.4 W of a Raspberry Pi 4, 4 cores"},
    {ARM, MODEL(0xd0b), "Arm Cortex-A76", 0.7, 2.0, "2.7 to 8 W of a Raspberry Pi 5, 4 cores"},
    {ARM, MODEL(0xd0c), "Arm Neoverse N1", 0.47, 1.69, SPEC_AS("EPYC 2nd generation (as that project does)")},
    {ARM, MODEL(0xd40), "Arm Neoverse V1", 0.47, 1.69, SPEC_AS("EPYC 2nd generation (as that project does)")},
    {ARM, MODEL(0xd49), "Arm Neoverse N2", 0.47, 1.69, SPEC_AS("EPYC 2nd generation (as that project does)")},
    {ARM, MODEL(0xd4f), "Arm Neoverse V2", 0.47, 1.69, SPEC_AS("EPYC 2nd generation (as that project does)")},
    {AMPERE, MODELS(0, 0xfff), "AmpereOne", 0.47, 1.69, SPEC_AS("EPYC 2nd generation")},
    {APPLE, MODELS(0, 0xfff), "Apple M series", 0.85, 4.9, "6.8 to 39 W of a Mac mini M1, published by Apple, 8 cores"},
};

// The averages that Cloud Carbon Footprint takes for processors that it cannot name.
static const tel_cpu_watts unknown_cpu = {.name = "CPU not in the table", .idle_w = 0.74, .busy_w = 3.5,
                                          .source = "average of cloud servers, Cloud Carbon Footprint"};

static bool row_fits(const tel_cpu_watts *row, const tel_cpu_id *id) {
    return strcmp(row->vendor, id->vendor) == 0 && (row->family < 0 || row->family == id->family) && id->model >= row->first_model &&
           id->model <= row->last_model && (id->stepping < 0 || (id->stepping >= row->first_stepping && id->stepping <= row->last_stepping));
}

const tel_cpu_watts *tel_cpu_watts_find(const tel_cpu_id *id) {
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (row_fits(&table[i], id)) return &table[i];
    return &unknown_cpu;
}

// Without the user's figures: comparisons of such models with counters show mean errors of 13 to 85 % and single ones up to +187 %; a
// factor of three each way contains these. With them only the shape between the two measured ends is unknown: power against utilisation
// lies up to a quarter off the straight line (turbo and shared parts come first, and vector code draws more than the load that was measured).
void tel_model_factors(const tel_env *env, double *low_factor, double *high_factor) {
    bool measured = env->cpu_busy_w > 0;
    *low_factor = measured ? 0.75 : 1.0 / 3;
    *high_factor = measured ? 4.0 / 3 : 3.0;
}

// ---- /proc/cpuinfo -------------------------------------------------------------------------------------------------

static void copy_text(char *out, size_t cap, const char *text) {
    snprintf(out, cap, "%s", text);
}

// Decimal, or hexadecimal with 0x; -1 when it is neither or larger than any such number can be.
static int small_number(const char *text) {
    char *end = NULL;
    if (*text < '0' || *text > '9') return -1;
    unsigned long value = strtoul(text, &end, text[0] == '0' && text[1] == 'x' ? 16 : 10);
    return *end || value > 0xffff ? -1 : (int)value;
}

// A machine with small and large cores is described by its largest: highest busy watts, so that the order of the lines does not matter.
static void take_part(tel_cpu_id *id, int part) {
    tel_cpu_id candidate = *id;
    candidate.model = part;
    if (id->model < 0 || tel_cpu_watts_find(&candidate)->busy_w > tel_cpu_watts_find(id)->busy_w) id->model = part;
}

// One line "key : value". x86 gives the same for every processor: the first one counts.
static void take_line(tel_cpu_id *id, const char *key, const char *value) {
    if (strcmp(key, "processor") == 0) id->n_processors++;
    if ((strcmp(key, "vendor_id") == 0 || strcmp(key, "CPU implementer") == 0) && !*id->vendor) copy_text(id->vendor, sizeof id->vendor, value);
    if (strcmp(key, "model name") == 0 && !*id->model_name) copy_text(id->model_name, sizeof id->model_name, value);
    if (strcmp(key, "cpu family") == 0 && id->family < 0) id->family = small_number(value);
    if (strcmp(key, "model") == 0 && id->model < 0) id->model = small_number(value);
    if (strcmp(key, "stepping") == 0 && id->stepping < 0) id->stepping = small_number(value);
    if (strcmp(key, "CPU part") == 0) take_part(id, small_number(value));
    if (strcmp(key, "flags") == 0 && strstr(value, " hypervisor")) id->hypervisor = true;
}

bool tel_cpu_id_read(const char *root, tel_cpu_id *id) {
    *id = (tel_cpu_id){.family = -1, .model = -1, .stepping = -1};
    char path[TEL_SYSFS_PATH];
    FILE *file = tel_sysfs_path(path, "%s/proc/cpuinfo", root) ? fopen(path, "re") : NULL;
    if (!file) return false;
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    while ((len = getline(&line, &cap, file)) > 0) {
        char *colon = strchr(line, ':');
        if (!colon) continue;
        if (line[len - 1] == '\n') line[len - 1] = '\0';
        char *end = colon, *value = colon + 1;
        while (end > line && (end[-1] == ' ' || end[-1] == '\t')) end--;
        *end = '\0';
        value += strspn(value, " \t");
        take_line(id, line, value);
    }
    free(line);
    fclose(file);
    return id->n_processors > 0;
}
