// Loading NVML: one table of names, newest form first; what is required and what may be missing.
// SPDX-License-Identifier: Apache-2.0
#include "telemetry/nvml_api.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

typedef struct symbol {
    size_t offset;        // of the function pointer in nvml_api
    bool required;
    const char *names[3]; // newest first
} symbol;

#define AT(member) offsetof(nvml_api, member)
static const symbol symbols[] = {
    {AT(init), true, {"nvmlInit_v2", "nvmlInit"}},
    {AT(shutdown), true, {"nvmlShutdown"}},
    {AT(device_count), true, {"nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"}},
    {AT(device_by_index), true, {"nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex"}},
    {AT(device_name), true, {"nvmlDeviceGetName"}},
    {AT(device_pci), true, {"nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo"}},
    {AT(error_text), false, {"nvmlErrorString"}},
    {AT(device_by_pci), false, {"nvmlDeviceGetHandleByPciBusId_v2", "nvmlDeviceGetHandleByPciBusId"}},
    {AT(device_arch), false, {"nvmlDeviceGetArchitecture"}},
    {AT(device_mig), false, {"nvmlDeviceGetMigMode"}},
    {AT(power_limit), false, {"nvmlDeviceGetPowerManagementLimit"}},
    {AT(enforced_limit), false, {"nvmlDeviceGetEnforcedPowerLimit"}},
    {AT(samples), false, {"nvmlDeviceGetSamples"}},
    {AT(field_values), false, {"nvmlDeviceGetFieldValues"}},
    {AT(total_energy), false, {"nvmlDeviceGetTotalEnergyConsumption"}},
    {AT(power_usage), false, {"nvmlDeviceGetPowerUsage"}},
};
#undef AT

bool tel_nvml_load(const char *path, nvml_api *api, char *why, size_t cap) {
    memset(api, 0, sizeof *api);
    api->library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (!api->library) {
        const char *detail = dlerror();
        snprintf(why, cap, "%s", detail ? detail : path);
        return false;
    }
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        void *found = NULL;
        for (size_t k = 0; k < 3 && symbols[i].names[k] && !found; k++) found = dlsym(api->library, symbols[i].names[k]);
        if (!found && symbols[i].required) {
            snprintf(why, cap, "%s has no %s: not NVML, or too old", path, symbols[i].names[0]);
            tel_nvml_unload(api);
            return false;
        }
        // POSIX: an object pointer from dlsym holds a function pointer.
        memcpy((char *)api + symbols[i].offset, &found, sizeof found);
    }
    return true;
}

void tel_nvml_unload(nvml_api *api) {
    if (api->library) dlclose(api->library);
    memset(api, 0, sizeof *api);
}

const char *tel_nvml_text(nvml_result result) {
    switch (result) {
    case NVML_OK: return "no error";
    case NVML_UNINITIALIZED: return "not initialised";
    case NVML_INVALID_ARGUMENT: return "invalid argument";
    case NVML_NOT_SUPPORTED: return "not supported by this GPU";
    case NVML_NO_PERMISSION: return "no permission";
    case NVML_NOT_FOUND: return "nothing found";
    case NVML_INSUFFICIENT_SIZE: return "buffer too small";
    case NVML_INSUFFICIENT_POWER: return "a power cable is not connected";
    case NVML_DRIVER_NOT_LOADED: return "the driver is not loaded";
    case NVML_TIMEOUT: return "timeout";
    case NVML_IRQ_ISSUE: return "an interrupt problem";
    case NVML_LIBRARY_NOT_FOUND: return "a part of the library is missing";
    case NVML_FUNCTION_NOT_FOUND: return "the driver is too old for it";
    case NVML_GPU_IS_LOST: return "the GPU has fallen off the bus";
    case NVML_RESET_REQUIRED: return "the GPU needs a reset";
    case NVML_OPERATING_SYSTEM: return "blocked by the operating system or a cgroup";
    case NVML_VERSION_MISMATCH: return "the library and the loaded driver are of different versions";
    case NVML_IN_USE: return "in use";
    case NVML_MEMORY: return "out of memory";
    case NVML_NO_DATA: return "no data";
    case NVML_NOT_READY: return "not ready";
    case NVML_GPU_NOT_FOUND: return "no GPU found";
    case NVML_UNKNOWN: break;
    }
    return "an internal driver error";
}
