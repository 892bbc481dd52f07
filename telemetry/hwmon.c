// Power and energy sensors of drivers that have no interface of their own: /sys/class/hwmon/hwmonN.
//
// A chip is known by its `name` file, and only of a known one it is known which joules its channels cover; channels of other
// chips are listed and do not count. Energies are microjoules, powers microwatts; ina3221 gives millivolts and milliamperes,
// whose product is microwatts. A GPU's key is its PCI address, so that it meets the same board found by other sources. The
// chips' facts:
//   amdgpu    on a processor with graphics the sensor sees the whole chip; only there it has vddnb (in1_input)
//   xe        energy1 is the card, energy2 the package on it; energy1 stays 0 on cards that do not fill it
//   i915      followed modulo 2^32 while its value is below, which is right whether or not the driver widens the counter
//   ina3221, ina2xx, scmi  rails: only the supply of the whole board counts, rails may feed each other
// SPDX-License-Identifier: Apache-2.0
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "telemetry/source.h"
#include "telemetry/sysfs.h"

enum { CHANNELS_MAX = 32 };

typedef enum chip_role {
    ROLE_UNKNOWN,
    ROLE_GPU,
    ROLE_AMDGPU,
    ROLE_GPU_TILE,
    ROLE_NODE,
    ROLE_BOARD,
    ROLE_CPU,
    ROLE_SOCKETS
} chip_role;

// A name that ends in '*' is a prefix.
static const struct known_chip {
    const char *name;
    chip_role role;
} known_chips[] = {
    {"amdgpu", ROLE_AMDGPU},      {"xe", ROLE_GPU},         {"i915", ROLE_GPU},    {"i915_gt*", ROLE_GPU_TILE},
    {"power_meter", ROLE_NODE},   {"ina3221*", ROLE_BOARD}, {"ina2*", ROLE_BOARD}, {"scmi*", ROLE_BOARD},
    {"xgene*", ROLE_CPU},         {"apm_xgene*", ROLE_CPU}, {"altra*", ROLE_CPU},  {"smpro*", ROLE_CPU},
    {"amd_energy", ROLE_SOCKETS},
};

typedef enum reading { READ_ENERGY, READ_POWER, READ_PRODUCT } reading;

typedef struct slot {
    reading how;
    char path[TEL_SYSFS_PATH], second[TEL_SYSFS_PATH]; // second: the current of a product
} slot;

typedef struct hwmon {
    tel_env env;
    slot slots[TEL_DOMAINS_MAX];
    int n;        // slots used
    int n_cpus;   // chips of ROLE_CPU so far
} hwmon;

typedef struct chip {
    char dir[TEL_SYSFS_PATH], hwmon[TEL_SYSFS_NAME], name[TEL_SYSFS_TEXT];
    char pci[TEL_SYSFS_NAME]; // "0000:03:00.0", or the hwmon's name
    chip_role role;
} chip;

typedef struct channel {
    reading how;
    int index;
    bool average;
    char label[TEL_SYSFS_TEXT]; // "" when there is none
    tel_domain *domain;
    uint64_t raw;               // read while finding; 0 when unreadable
} channel;

// ---- Values -------------------------------------------------------------------------------------------------------

static tel_sysfs read_slot(const slot *s, uint64_t *raw) {
    if (s->how != READ_PRODUCT) return tel_sysfs_u64(s->path, raw);
    uint64_t mv, ma;
    tel_sysfs result = tel_sysfs_u64(s->path, &mv);
    if (!result) result = tel_sysfs_u64(s->second, &ma);
    if (result) return result;
    if (mv > UINT32_MAX || ma > UINT32_MAX) return TEL_SYSFS_FORMAT;
    *raw = mv * ma;
    return TEL_SYSFS_OK;
}

static void hwmon_read(void *state, const tel_domain *domain, tel_series *series) {
    const hwmon *h = state;
    if (domain->slot < 0 || domain->slot >= h->n) return;
    uint64_t raw, t0_ns = tel_env_now(&h->env);
    tel_sysfs result = read_slot(&h->slots[domain->slot], &raw);
    uint64_t t1_ns = tel_env_now(&h->env);
    if (result)
        tel_series_fault(series, t1_ns, result == TEL_SYSFS_NOT_FOUND ? TEL_FAULT_VANISHED : TEL_FAULT_READ);
    else
        tel_series_push(series, t0_ns, t1_ns, domain->range ? raw & domain->range : raw); // a range here is 2^32 - 1
}

// ---- Chips and channels -------------------------------------------------------------------------------------------

static bool name_matches(const char *pattern, const char *name) {
    size_t n = strlen(pattern);
    return pattern[n - 1] == '*' ? strncmp(pattern, name, n - 1) == 0 : strcmp(pattern, name) == 0;
}

static chip_role role_of(const char *name) {
    for (size_t i = 0; i < sizeof known_chips / sizeof known_chips[0]; i++)
        if (name_matches(known_chips[i].name, name)) return known_chips[i].role;
    return ROLE_UNKNOWN;
}

static bool is_pci_address(const char *s) { // dddd:bb:dd.f
    static const char form[] = "xxxx:xx:xx.x";
    for (size_t i = 0; i < sizeof form; i++)
        if (form[i] == 'x' ? !isxdigit((unsigned char)s[i]) : s[i] != form[i]) return false;
    return true;
}

static bool open_chip(const char *class_dir, const char *entry, chip *c) {
    char path[TEL_SYSFS_PATH];
    *c = (chip){0};
    if (!tel_sysfs_path(c->dir, "%s/%s", class_dir, entry) || !tel_sysfs_path(path, "%s/name", c->dir) ||
        tel_sysfs_line(path, c->name) || !*c->name)
        return false;
    tel_text(c->hwmon, sizeof c->hwmon, "%s", entry);
    c->role = role_of(c->name);
    if (!tel_sysfs_path(path, "%s/device", c->dir) || tel_sysfs_link_name(path, c->pci) || !is_pci_address(c->pci))
        tel_text(c->pci, sizeof c->pci, "%s", entry);
    return true;
}

// "power12_average" with kind "power" and ending "_average" is channel 12; 0: not such a name.
static int channel_of(const char *name, const char *kind, const char *ending) {
    size_t n = strlen(kind);
    if (strncmp(name, kind, n) != 0 || !isdigit((unsigned char)name[n])) return 0;
    char *end;
    long index = strtol(name + n, &end, 10);
    return strcmp(end, ending) == 0 && index > 0 && index < 1000 ? (int)index : 0;
}

static bool has_channel(const channel *list, size_t n, reading how, int index) {
    for (size_t i = 0; i < n; i++)
        if (list[i].how == how && list[i].index == index) return true;
    return false;
}

static bool has_file(const chip *c, const char *kind, int index, const char *ending) {
    char path[TEL_SYSFS_PATH];
    return tel_sysfs_path(path, "%s/%s%d%s", c->dir, kind, index, ending) && tel_sysfs_exists(path);
}

// Energies first, then powers (an average rather than a moment), then products where there is no power.
static size_t list_channels(const chip *c, channel list[CHANNELS_MAX]) {
    static const struct { const char *kind, *ending; reading how;
    } passes[] = {{"energy", "_input", READ_ENERGY},
                  {"power", "_average", READ_POWER},
                  {"power", "_input", READ_POWER},
                  {"curr", "_input", READ_PRODUCT}};
    size_t n = 0;
    tel_sysfs_names files;
    if (tel_sysfs_list(c->dir, NULL, &files)) return 0;
    for (size_t p = 0; p < sizeof passes / sizeof passes[0]; p++)
        for (size_t i = 0; i < files.n && n < CHANNELS_MAX; i++) {
            int index = channel_of(files.name[i], passes[p].kind, passes[p].ending);
            if (!index || has_channel(list, n, passes[p].how, index)) continue;
            if (passes[p].how == READ_PRODUCT &&
                (c->role != ROLE_BOARD || has_channel(list, n, READ_POWER, index) || !has_file(c, "in", index, "_input")))
                continue;
            list[n++] = (channel){.how = passes[p].how, .index = index, .average = p == 1};
        }
    tel_sysfs_names_free(&files);
    for (size_t i = 0; i < n; i++) {
        static const char *const kinds[] = {"energy", "power", "in"}; // by reading
        char path[TEL_SYSFS_PATH];
        if (tel_sysfs_path(path, "%s/%s%d_label", c->dir, kinds[list[i].how], list[i].index)) tel_sysfs_line(path, list[i].label);
    }
    return n;
}

// ---- Domains ------------------------------------------------------------------------------------------------------

// Names and keys take letters, digits and a few signs; the rest becomes '_'.
static void append_label(char *out, size_t cap, char separator, const char *label) {
    size_t n = strlen(out);
    if (n + 2 >= cap) return;
    out[n++] = separator;
    for (; *label && n + 1 < cap; label++) out[n++] = isalnum((unsigned char)*label) || strchr(".:-+", *label) ? *label : '_';
    out[n] = '\0';
}

static void describe_step(const chip *c, const channel *ch) {
    char path[TEL_SYSFS_PATH];
    uint64_t ms;
    if (ch->average && tel_sysfs_path(path, "%s/power%d_average_interval", c->dir, ch->index) && !tel_sysfs_u64(path, &ms) &&
        ms <= 3600000)
        ch->domain->step_ns = ms * 1000000;
}

static bool name_files(const chip *c, const channel *ch, slot *s) {
    switch (ch->how) {
    case READ_ENERGY: return tel_sysfs_path(s->path, "%s/energy%d_input", c->dir, ch->index);
    case READ_POWER: return tel_sysfs_path(s->path, "%s/power%d_%s", c->dir, ch->index, ch->average ? "average" : "input");
    case READ_PRODUCT: break;
    }
    return tel_sysfs_path(s->path, "%s/in%d_input", c->dir, ch->index) &&
           tel_sysfs_path(s->second, "%s/curr%d_input", c->dir, ch->index);
}

// The channel as a domain without a key. False: no room.
static bool add_channel(hwmon *h, tel_found *found, const chip *c, channel *ch) {
    static const char *const units[] = {"uJ", "uW", "mV x mA"};
    tel_domain *d = h->n < TEL_DOMAINS_MAX ? tel_found_add(found) : NULL;
    if (!d) return false;
    ch->domain = d;
    d->slot = h->n++;
    slot *s = &h->slots[d->slot];
    s->how = ch->how;
    bool fits = name_files(c, ch, s);
    tel_text(d->path, sizeof d->path, "%s", s->path);
    tel_text(d->name, sizeof d->name, "%.24s", c->name);
    if (is_pci_address(c->pci)) append_label(d->name, sizeof d->name, '-', c->pci);
    if (*ch->label) append_label(d->name, sizeof d->name, '-', ch->label);
    tel_text(d->device, sizeof d->device, "%.40s", c->name);
    d->unit = units[ch->how];
    d->kind = ch->how == READ_ENERGY ? TEL_SERIES_COUNTER : TEL_SERIES_POWER;
    d->method = ch->how == READ_ENERGY ? TEL_METHOD_COUNTER : TEL_METHOD_INTEGRATED;
    d->uj_per_unit = 1;
    describe_step(c, ch);
    tel_sysfs result = fits ? read_slot(s, &ch->raw) : TEL_SYSFS_IO;
    if (!result) return true;
    const char *file = strrchr(s->path, '/');
    tel_text(d->reason, sizeof d->reason, "%.40s: %.40s %s", c->name, file ? file + 1 : c->hwmon, tel_sysfs_phrase(result));
    if (result == TEL_SYSFS_PERMISSION && strlen(s->path) + 16 < sizeof d->fix)
        tel_text(d->fix, sizeof d->fix, "sudo chmod a+r %.170s", s->path);
    return true;
}

static void cover(tel_domain *d, tel_scope scope, const char *contains, const char *key, const char *which) {
    d->scope = scope;
    tel_text(d->contains, sizeof d->contains, "%s", contains);
    tel_text(d->key, sizeof d->key, *which ? "%s:%s" : "%s", key, which);
}

// ---- What the channels of a chip cover ----------------------------------------------------------------------------

// Graphics inside a processor: vddnb exists only there; Van Gogh names its limits slowPPT and fastPPT; a board has memory of
// its own.
static bool is_apu(const chip *c, const channel *list, size_t n) {
    char path[TEL_SYSFS_PATH];
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].label, "slowPPT") == 0 || strcmp(list[i].label, "fastPPT") == 0) return true;
    return has_file(c, "in", 1, "_input") || !tel_sysfs_path(path, "%s/device/mem_info_vram_total", c->dir) ||
           !tel_sysfs_exists(path);
}

static void cover_gpu(const chip *c, channel *list, size_t n) {
    const bool apu = c->role == ROLE_AMDGPU && is_apu(c, list, n);
    bool has_main = false;
    for (size_t i = 0; i < n; i++) {
        tel_domain *d = list[i].domain;
        if (list[i].how == READ_ENERGY && !list[i].raw && !d->reason[0])
            tel_text(d->reason, sizeof d->reason, "%.20s: energy%d_input stands at 0: the board does not fill it", c->name,
                     list[i].index);
        if (strcmp(c->name, "i915") == 0 && list[i].how == READ_ENERGY && list[i].raw <= UINT32_MAX) d->range = UINT32_MAX;
        cover(d, apu ? TEL_SCOPE_MODULE : TEL_SCOPE_GPU_BOARD, apu ? "cpu_package:*" : "", apu ? "module" : "gpu_board", c->pci);
        if (has_main || c->role == ROLE_GPU_TILE)
            append_label(d->key, sizeof d->key, '/', *list[i].label ? list[i].label : c->name);
        if (!d->reason[0]) has_main = true;
    }
}

static bool is_supply(const char *label) {
    return strcmp(label, "VDD_IN") == 0 || strcmp(label, "POM_5V_IN") == 0; // Jetson modules
}

static void cover_board(const chip *c, channel *list, size_t n) {
    const channel *supply = NULL;
    for (size_t i = 0; i < n && !supply; i++)
        if (is_supply(list[i].label) || (n == 1 && !*list[i].label && strncmp(c->name, "ina", 3) == 0)) supply = &list[i];
    for (size_t i = 0; i < n; i++) {
        list[i].domain->scope = TEL_SCOPE_MODULE;
        if (!supply) continue; // no key: nobody knows which rails feed which
        cover(list[i].domain, TEL_SCOPE_MODULE, "*", "board", "");
        if (&list[i] != supply)
            append_label(list[i].domain->key, sizeof list[i].domain->key, '/', *list[i].label ? list[i].label : "rail");
    }
}

static void cover_cpu(hwmon *h, channel *list, size_t n) {
    char package[16];
    tel_text(package, sizeof package, "%d", h->n_cpus++);
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].label, "CPU power") == 0) cover(list[i].domain, TEL_SCOPE_CPU_PACKAGE, "", "cpu_package", package);
}

// amd_energy: labels Esocket0, Ecore000.
static void cover_socket(channel *ch) {
    uint64_t socket;
    if (strncmp(ch->label, "Esocket", 7) == 0 && tel_parse_u64(ch->label + 7, &socket) && socket < 10000)
        cover(ch->domain, TEL_SCOPE_CPU_PACKAGE, "", "cpu_package", ch->label + 7);
}

static void add_chip(hwmon *h, tel_found *found, const chip *c) {
    channel list[CHANNELS_MAX] = {0};
    size_t n = list_channels(c, list), n_added = 0;
    for (size_t i = 0; i < n; i++) {
        if (c->role == ROLE_SOCKETS && strncmp(list[i].label, "Ecore", 5) == 0) continue; // one per core, all inside the sockets
        channel ch = list[i];
        if (!add_channel(h, found, c, &ch)) break;
        list[n_added++] = ch;
    }
    switch (c->role) {
    case ROLE_GPU: case ROLE_AMDGPU: case ROLE_GPU_TILE: cover_gpu(c, list, n_added); break;
    case ROLE_NODE: if (n_added) cover(list[0].domain, TEL_SCOPE_NODE, "*", "node", ""); break;
    case ROLE_BOARD: cover_board(c, list, n_added); break;
    case ROLE_CPU: cover_cpu(h, list, n_added); break;
    case ROLE_SOCKETS:
        for (size_t i = 0; i < n_added; i++) cover_socket(&list[i]);
        break;
    case ROLE_UNKNOWN: break;
    }
}

// ---- Opening ------------------------------------------------------------------------------------------------------

static tel_result hwmon_open(const tel_env *env, void **state, tel_found *found, tel_error *err) {
    hwmon *h = calloc(1, sizeof *h);
    *state = h;
    if (!h) return tel_fail(err, TEL_ERR_NO_MEMORY, "out of memory for the hwmon sensors");
    h->env = *env;
    char dir[TEL_SYSFS_PATH];
    tel_sysfs_names chips = {0};
    if (tel_sysfs_path(dir, "%s/sys/class/hwmon", env->root)) tel_sysfs_list(dir, "hwmon", &chips);
    for (size_t i = 0; i < chips.n; i++) {
        chip c;
        if (open_chip(dir, chips.name[i], &c)) add_chip(h, found, &c);
    }
    tel_sysfs_names_free(&chips);
    return TEL_OK;
}

static void hwmon_close(void *state) { free(state); }

const tel_source tel_source_hwmon = {.name = "hwmon", .rank = 2, .open = hwmon_open, .read = hwmon_read, .close = hwmon_close};
