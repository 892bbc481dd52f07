// The source "nvml": power of NVIDIA boards through the driver's library, opened at run time.
//
// A board can be read in four ways, found as domains of one key in this order, so that the first one counts and the rest can be compared:
//   1 samples ring   every sensor reading with its time, however rarely it is fetched; unless it is thinner than the sensor (then after 2)
//   2 POWER_INSTANT  the newest reading, 0.5 us per read; readings between two polls are missed
//   3 energy counter steps of about 100 ms that arrive more than a step late (-26 % over 0.5 s, -12 % over 1 s, 0 over 5 s seen), read in 2.4 ms:
//                    windows of 50 ms read 0 or twice the truth. On part-time boards it sums the same part-time sensor and sees no more, but
//                    does not look so: there it comes last
//   4 power usage    a 1 s average since Ampere (but not on GA100): tells nothing of phases
// So powers are primary and the counter is the check: over long windows both must agree.
// A board that is lost (fell off the bus, driver reloaded) is looked for again, less and less often, and meanwhile the library is shut down
// when no board is left, so that the driver can be reloaded. Not tried on a real board yet: the tests use a look-alike library.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "telemetry/nvml_board.h"
#include "telemetry/source.h"
#include "telemetry/sysfs.h"

enum { BOARDS_MAX = TEL_DOMAINS_MAX };
// Sensors have news every 20 to 100 ms (Yang et al. 2023): a ring with larger distances leaves readings out.
static const uint64_t THIN_RING_NS = 150000000u;
static const uint64_t RETRY_MIN_NS = 1000000000u, RETRY_MAX_NS = 60000000000u;

typedef struct nvml_state {
    nvml_api api;
    nvml_reader reader;
    bool initialised;
    nvml_board *boards; // [n]
    unsigned n;
    uint64_t retry_ns, retry_wait_ns; // next look for lost boards
} nvml_state;

static const struct {
    const char *suffix, *function, *unit;
    tel_series_kind kind;
    tel_method method;
} readings[NVML_N_READINGS] = {
    [NVML_RING] = {"samples", "nvmlDeviceGetSamples", "mW", TEL_SERIES_POWER, TEL_METHOD_INTEGRATED},
    [NVML_INSTANT] = {"instant", "nvmlDeviceGetFieldValues 186", "mW", TEL_SERIES_POWER, TEL_METHOD_INTEGRATED},
    [NVML_COUNTER] = {"counter", "nvmlDeviceGetTotalEnergyConsumption", "mJ", TEL_SERIES_COUNTER, TEL_METHOD_COUNTER},
    [NVML_USAGE] = {"average", "nvmlDeviceGetPowerUsage", "mW", TEL_SERIES_POWER, TEL_METHOD_INTEGRATED},
};

// ---- What is wrong and what would mend it -------------------------------------------------------------------------
static const char *remedy(nvml_result result) {
    switch (result) {
    case NVML_VERSION_MISMATCH: // the driver was updated under the loaded module; a reboot does it too
        return "sudo modprobe -r nvidia_drm nvidia_modeset nvidia_uvm nvidia && sudo modprobe nvidia";
    case NVML_DRIVER_NOT_LOADED: return "sudo modprobe nvidia";
    case NVML_NO_PERMISSION: return "sudo usermod -aG video,render $USER";
    case NVML_OPERATING_SYSTEM: return "docker run --gpus all ...";
    case NVML_RESET_REQUIRED: return "sudo nvidia-smi --gpu-reset";
    case NVML_GPU_IS_LOST: return "sudo reboot";
    default: return "";
    }
}

static void unreadable(tel_found *found, const char *name, const char *fix, const char *reason) {
    tel_domain *domain = tel_found_add(found);
    if (!domain) return;
    snprintf(domain->name, sizeof domain->name, "%s", name);
    snprintf(domain->reason, sizeof domain->reason, "%s", reason);
    snprintf(domain->fix, sizeof domain->fix, "%s", fix);
    domain->scope = TEL_SCOPE_GPU_BOARD;
}

static bool driver_loaded(const tel_env *env) {
    char path[TEL_SYSFS_PATH];
    return tel_sysfs_path(path, "%s/proc/driver/nvidia", env->root) && tel_sysfs_exists(path);
}

// A display or 3D controller (class 0x03....) of vendor 0x10de on the PCI bus.
static bool has_card(const tel_env *env) {
    char path[TEL_SYSFS_PATH], vendor[TEL_SYSFS_TEXT], class[TEL_SYSFS_TEXT];
    tel_sysfs_names names;
    if (!tel_sysfs_path(path, "%s/sys/bus/pci/devices", env->root) || tel_sysfs_list(path, NULL, &names) != TEL_SYSFS_OK) return false;
    bool found = false;
    for (size_t i = 0; i < names.n && !found; i++) {
        found = tel_sysfs_path(path, "%s/sys/bus/pci/devices/%s/vendor", env->root, names.name[i]) &&
                tel_sysfs_line(path, vendor) == TEL_SYSFS_OK && strcmp(vendor, "0x10de") == 0 &&
                tel_sysfs_path(path, "%s/sys/bus/pci/devices/%s/class", env->root, names.name[i]) &&
                tel_sysfs_line(path, class) == TEL_SYSFS_OK && strncmp(class, "0x03", 4) == 0;
    }
    tel_sysfs_names_free(&names);
    return found;
}

// No library: worth a word only where there is a card, or where somebody named the library.
static void without_library(const tel_env *env, tel_found *found, const char *why) {
    char reason[192];
    const bool loaded = driver_loaded(env);
    if (strchr(env->nvml_path, '/')) {
        snprintf(reason, sizeof reason, "the library that was named cannot be used: %.140s", why);
        unreadable(found, "gpu", "unset WTL_NVML_PATH", reason);
    } else if (loaded) {
        unreadable(found, "gpu", "export WTL_NVML_PATH=/path/to/libnvidia-ml.so.1",
                   "no NVIDIA driver library (libnvidia-ml.so.1) beside the loaded driver");
    } else if (has_card(env)) {
        unreadable(found, "gpu", "sudo apt install nvidia-driver", "no NVIDIA driver library");
    }
}

static void without_driver(tel_found *found, nvml_result result) {
    char reason[192];
    if (result == NVML_VERSION_MISMATCH)
        snprintf(reason, sizeof reason, "%s: the driver was updated and not reloaded (a reboot does it too)", tel_nvml_text(result));
    else
        snprintf(reason, sizeof reason, "the NVIDIA driver does not answer: %s (NVML error %d)", tel_nvml_text(result), (int)result);
    unreadable(found, "gpu", remedy(result), reason);
}

// ---- One board ----------------------------------------------------------------------------------------------------
static bool usage_is_average(const nvml_api *api, const nvml_board *board) {
    if (tel_card_is_ga100(board->name)) return false;
    unsigned arch = 0;
    if (!api->device_arch || api->device_arch(board->device, &arch) != NVML_OK) return true; // the reading with less to promise
    return arch >= NVML_ARCH_AMPERE;
}

static void describe_board(const nvml_api *api, nvml_board *board) {
    nvml_pci_info pci = {0};
    unsigned mw = 0, pending = 0, mig = 0;
    board->found = api->device_name(board->device, board->name, sizeof board->name);
    board->name[sizeof board->name - 1] = '\0';
    if (board->found != NVML_OK) return;
    board->found = api->device_pci(board->device, &pci);
    if (board->found != NVML_OK) return;
    board->domain = pci.domain;
    board->bus = pci.bus;
    board->slot = pci.device;
    snprintf(board->bus_id, sizeof board->bus_id, "%08x:%02x:%02x.0", pci.domain, pci.bus & 0xff, pci.device & 0x1f);
    if ((api->power_limit && api->power_limit(board->device, &mw) == NVML_OK) ||
        (api->enforced_limit && api->enforced_limit(board->device, &mw) == NVML_OK))
        board->limit_uw = (uint64_t)mw * 1000;
    board->mig = api->device_mig && api->device_mig(board->device, &mig, &pending) == NVML_OK && mig == 1;
    board->usage_card = usage_is_average(api, board) ? tel_card_averaged() : tel_card_by_name(board->name);
}

static void board_name(const nvml_board *board, char out[48]) { snprintf(out, 48, "gpu-%u", board->index); }

// No way of reading works: the answer that says most stands for all.
static void add_unreadable(tel_found *found, const nvml_board *board) {
    nvml_result worst = board->found;
    for (int how = 0; how < NVML_N_READINGS && worst == NVML_OK; how++) {
        const nvml_result r = board->works[how];
        if (r != NVML_NOT_SUPPORTED && r != NVML_FUNCTION_NOT_FOUND && r != NVML_NOT_FOUND) worst = r;
    }
    char name[48], reason[192];
    board_name(board, name);
    if (worst == NVML_OK)
        snprintf(reason, sizeof reason, "%s reports neither power nor energy", board->name);
    else
        snprintf(reason, sizeof reason, "%s cannot be read: %s (NVML error %d)", board->name[0] ? board->name : "the GPU",
                 tel_nvml_text(worst), (int)worst);
    const size_t before = found->n;
    unreadable(found, name, worst == NVML_OK ? "" : remedy(worst), reason);
    if (found->n == before) return;
    tel_domain *domain = &found->items[before];
    snprintf(domain->device, sizeof domain->device, "%s", board->name);
    if (board->found == NVML_OK)
        snprintf(domain->key, sizeof domain->key, "gpu_board:%04x:%02x:%02x.0", board->domain, board->bus & 0xff, board->slot & 0x1f);
}

static void add_reading(const tel_env *env, tel_found *found, const nvml_state *state, unsigned i, nvml_reading how, bool first) {
    const nvml_board *board = &state->boards[i];
    tel_domain *domain = tel_found_add(found);
    if (!domain) return;
    char name[48];
    board_name(board, name);
    // The one that counts has the plain name: a calibration of "gpu-0" is of the sensor, which all four share.
    snprintf(domain->name, sizeof domain->name, first ? "%.16s" : "%.16s-%s", name, readings[how].suffix);
    snprintf(domain->device, sizeof domain->device, "%s", board->name);
    snprintf(domain->path, sizeof domain->path, "%.96s %s%s", env->nvml_path, readings[how].function,
             board->mig ? " (MIG is on: power of the whole board)" : "");
    snprintf(domain->key, sizeof domain->key, "gpu_board:%04x:%02x:%02x.0", board->domain, board->bus & 0xff, board->slot & 0x1f);
    domain->unit = readings[how].unit;
    domain->scope = TEL_SCOPE_GPU_BOARD;
    domain->method = readings[how].method;
    domain->kind = readings[how].kind;
    domain->uj_per_unit = 1000; // mJ to uJ, mW to uW
    domain->limit_uw = board->limit_uw;
    domain->step_ns = how == NVML_RING ? board->ring_step_ns : 0;
    // A ring keeps what was not fetched: a few samples at a time, long before it is full.
    if (how == NVML_RING) domain->poll_ns = board->ring_step_ns * (board->ring_cap < 20 ? 1 : 5);
    domain->card = how == NVML_COUNTER ? tel_card_gpu_counter() : how == NVML_USAGE ? board->usage_card : tel_card_by_name(board->name);
    domain->slot = (int)(i * NVML_N_READINGS + (unsigned)how);
}

// The ways that work, best first; returns how many.
static size_t order_readings(const nvml_board *board, nvml_reading out[NVML_N_READINGS]) {
    const bool thin = board->ring_step_ns > THIN_RING_NS;
    const bool part = tel_card_by_name(board->name)->kind == TEL_CARD_PART_TIME;
    const nvml_reading order[NVML_N_READINGS] = {thin ? NVML_INSTANT : NVML_RING, thin ? NVML_RING : NVML_INSTANT,
                                                 part ? NVML_USAGE : NVML_COUNTER, part ? NVML_COUNTER : NVML_USAGE};
    size_t n = 0;
    for (int k = 0; k < NVML_N_READINGS && board->found == NVML_OK; k++)
        if (board->works[order[k]] == NVML_OK) out[n++] = order[k];
    return n;
}

// First what counts, of every board: the list may be too short for all of the rest.
static void add_domains(const tel_env *env, tel_found *found, const nvml_state *state) {
    for (int first = 1; first >= 0; first--) {
        for (unsigned i = 0; i < state->n; i++) {
            nvml_reading order[NVML_N_READINGS];
            const size_t n = order_readings(&state->boards[i], order);
            if (first && n == 0) add_unreadable(found, &state->boards[i]);
            if (first && n > 0) add_reading(env, found, state, i, order[0], true);
            for (size_t k = 1; !first && k < n; k++) add_reading(env, found, state, i, order[k], false);
        }
    }
}

// ---- Opening and closing ------------------------------------------------------------------------------------------
static tel_result find_boards(nvml_state *state, tel_found *found) {
    unsigned n = 0;
    const nvml_result result = state->api.device_count(&n);
    if (result != NVML_OK || n == 0) {
        without_driver(found, result != NVML_OK ? result : NVML_GPU_NOT_FOUND);
        return TEL_OK;
    }
    if (n > BOARDS_MAX) n = BOARDS_MAX;
    state->boards = calloc(n, sizeof *state->boards);
    state->reader.batch = calloc(NVML_RING_MAX, sizeof *state->reader.batch);
    if (!state->boards || !state->reader.batch) return TEL_ERR_NO_MEMORY;
    state->n = n;
    for (unsigned i = 0; i < n; i++) {
        nvml_board *board = &state->boards[i];
        board->index = i;
        board->found = state->api.device_by_index(i, &board->device);
        if (board->found == NVML_OK) describe_board(&state->api, board);
        if (board->found == NVML_OK) tel_nvml_board_probe(&state->reader, board);
    }
    return TEL_OK;
}

static tel_result nvml_open(const tel_env *env, void **out, tel_found *found, tel_error *err) {
    nvml_state *state = calloc(1, sizeof *state);
    *out = state;
    if (!state) goto no_memory;
    char why[192];
    if (!tel_nvml_load(env->nvml_path, &state->api, why, sizeof why)) {
        without_library(env, found, why);
        return TEL_OK;
    }
    state->reader.api = &state->api;
    state->reader.clock = env->clock;
    state->retry_wait_ns = RETRY_MIN_NS;
    const nvml_result result = state->api.init();
    if (result != NVML_OK) {
        without_driver(found, result);
        return TEL_OK;
    }
    state->initialised = true;
    if (find_boards(state, found) != TEL_OK) goto no_memory;
    add_domains(env, found, state);
    return TEL_OK;
no_memory:
    if (err) {
        err->code = TEL_ERR_NO_MEMORY;
        snprintf(err->message, sizeof err->message, "no memory for the NVIDIA boards");
    }
    return TEL_ERR_NO_MEMORY;
}

static void nvml_close(void *opaque) {
    nvml_state *state = opaque;
    if (!state) return;
    if (state->initialised) state->api.shutdown();
    tel_nvml_unload(&state->api);
    free(state->reader.batch);
    free(state->boards);
    free(state);
}

// ---- Reading ------------------------------------------------------------------------------------------------------
static uint64_t now_ns(const nvml_state *state) { return state->reader.clock.now_ns(state->reader.clock.user); }

static void lose(nvml_state *state, nvml_board *board) {
    const uint64_t now = now_ns(state);
    board->lost = true;
    if (now >= state->retry_ns + RETRY_MAX_NS) state->retry_wait_ns = RETRY_MIN_NS; // not the board that comes back and goes again
    state->retry_ns = now + state->retry_wait_ns;
    for (unsigned i = 0; i < state->n; i++)
        if (state->boards[i].found == NVML_OK && !state->boards[i].lost) return;
    if (state->initialised) state->api.shutdown();
    state->initialised = false;
}

// By its place on the bus: after a reload the numbers may be others.
static bool find_again(const nvml_state *state, nvml_board *board) {
    nvml_device device = NULL;
    nvml_pci_info pci = {0};
    const nvml_result result = state->api.device_by_pci ? state->api.device_by_pci(board->bus_id, &device)
                                                        : state->api.device_by_index(board->index, &device);
    if (result != NVML_OK || state->api.device_pci(device, &pci) != NVML_OK) return false;
    if (pci.domain != board->domain || pci.bus != board->bus || pci.device != board->slot) return false;
    board->device = device;
    return true;
}

static void look_for_lost(nvml_state *state) {
    const uint64_t now = now_ns(state);
    if (now < state->retry_ns) return;
    state->retry_wait_ns = state->retry_wait_ns < RETRY_MAX_NS / 2 ? state->retry_wait_ns * 2 : RETRY_MAX_NS;
    state->retry_ns = now + state->retry_wait_ns;
    if (!state->initialised) state->initialised = state->api.init() == NVML_OK;
    if (!state->initialised) return;
    for (unsigned i = 0; i < state->n; i++) {
        nvml_board *board = &state->boards[i];
        if (!board->lost || !find_again(state, board)) continue;
        board->lost = false;
        tel_nvml_board_renew(&state->reader, board);
    }
}

static void nvml_read(void *opaque, const tel_domain *domain, tel_series *series) {
    nvml_state *state = opaque;
    nvml_board *board = &state->boards[(unsigned)domain->slot / NVML_N_READINGS];
    if (board->lost) look_for_lost(state);
    if (board->lost) {
        tel_series_fault(series, now_ns(state), TEL_FAULT_VANISHED);
        return;
    }
    const nvml_reading how = (nvml_reading)((unsigned)domain->slot % NVML_N_READINGS);
    if (tel_nvml_is_loss(tel_nvml_board_read(&state->reader, board, how, series))) lose(state, board);
}

const tel_source tel_source_nvml = {.name = "nvml", .rank = 0, .open = nvml_open, .read = nvml_read, .close = nvml_close};
