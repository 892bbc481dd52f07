// Inside telemetry: the part of the NVIDIA Management Library that is used, and how it is loaded.
//
// NVML comes with the driver and is never linked: tel_nvml_load() opens it at run time and looks every function up by name. Functions that older
// drivers lack are NULL, so callers test before use. Types, values and layouts are those of the NVML API reference guide (docs.nvidia.com/deploy/nvml-api:
// nvmlReturn_t, nvmlPciInfo_t, nvmlValue_t, nvmlFieldValue_t, nvmlSample_t); the asserts below fix the layouts for LP64.
// Also included by the look-alike library of the tests, so that both sides agree.
// SPDX-License-Identifier: Apache-2.0
#ifndef TEL_NVML_API_H
#define TEL_NVML_API_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

typedef enum nvml_result {
    NVML_OK = 0,
    NVML_UNINITIALIZED = 1,
    NVML_INVALID_ARGUMENT = 2,
    NVML_NOT_SUPPORTED = 3,
    NVML_NO_PERMISSION = 4,
    NVML_NOT_FOUND = 6,
    NVML_INSUFFICIENT_SIZE = 7,
    NVML_INSUFFICIENT_POWER = 8,
    NVML_DRIVER_NOT_LOADED = 9,
    NVML_TIMEOUT = 10,
    NVML_IRQ_ISSUE = 11,
    NVML_LIBRARY_NOT_FOUND = 12,
    NVML_FUNCTION_NOT_FOUND = 13,
    NVML_GPU_IS_LOST = 15,
    NVML_RESET_REQUIRED = 16,
    NVML_OPERATING_SYSTEM = 17,
    NVML_VERSION_MISMATCH = 18, // NVML_ERROR_LIB_RM_VERSION_MISMATCH
    NVML_IN_USE = 19,
    NVML_MEMORY = 20,
    NVML_NO_DATA = 21,
    NVML_NOT_READY = 27,
    NVML_GPU_NOT_FOUND = 28,
    NVML_UNKNOWN = 999,
} nvml_result;

typedef struct nvml_device_handle *nvml_device;

typedef struct nvml_pci_info { // of nvmlDeviceGetPciInfo_v3; the older forms fill the same first four members
    char bus_id_legacy[16];
    unsigned domain, bus, device;
    unsigned pci_device_id;    // device id << 16 | vendor id
    unsigned pci_subsystem_id;
    char bus_id[32];           // "00000000:01:00.0"
} nvml_pci_info;

typedef union nvml_value {
    double d;
    int i;
    unsigned u;
    unsigned long ul;
    unsigned long long ull;
    long long ll;
    unsigned short us;
} nvml_value;

typedef enum nvml_value_type { // nvmlValueType_t
    NVML_TYPE_DOUBLE = 0,
    NVML_TYPE_UINT = 1,
    NVML_TYPE_ULONG = 2,
    NVML_TYPE_ULONG_LONG = 3,
    NVML_TYPE_LONG_LONG = 4,
    NVML_TYPE_INT = 5,
    NVML_TYPE_USHORT = 6,
} nvml_value_type;

typedef struct nvml_field_value {
    unsigned field;
    unsigned scope;           // 0: the GPU
    long long timestamp_us;
    long long latency_us;
    unsigned type;            // nvml_value_type
    unsigned result;          // nvml_result of this field alone
    nvml_value value;
} nvml_field_value;

typedef struct nvml_sample {
    unsigned long long timestamp_us; // "CPU timestamp": see nvml_stamps.h
    nvml_value value;
} nvml_sample;

static_assert(sizeof(nvml_pci_info) == 68 && offsetof(nvml_pci_info, bus_id) == 36, "nvmlPciInfo_t");
static_assert(sizeof(nvml_field_value) == 40 && offsetof(nvml_field_value, value) == 32, "nvmlFieldValue_t");
static_assert(sizeof(nvml_sample) == 16, "nvmlSample_t");

enum {
    NVML_SAMPLES_TOTAL_POWER = 0, // NVML_TOTAL_POWER_SAMPLES
    NVML_FIELD_POWER_INSTANT = 186, // NVML_FI_DEV_POWER_INSTANT, milliwatts
    NVML_NAME_BYTES = 96,         // NVML_DEVICE_NAME_V2_BUFFER_SIZE
    NVML_ARCH_AMPERE = 7,         // NVML_DEVICE_ARCH_AMPERE; Turing 6, Ada 8, Hopper 9, Blackwell 10
    NVML_ARCH_UNKNOWN = -1,
};

typedef struct nvml_api {
    void *library;
    // Every driver has these.
    nvml_result (*init)(void);
    nvml_result (*shutdown)(void);
    nvml_result (*device_count)(unsigned *n);
    nvml_result (*device_by_index)(unsigned i, nvml_device *out);
    nvml_result (*device_name)(nvml_device device, char *name, unsigned cap);
    nvml_result (*device_pci)(nvml_device device, nvml_pci_info *out);
    // NULL where the driver is too old.
    const char *(*error_text)(nvml_result result);
    nvml_result (*device_by_pci)(const char *bus_id, nvml_device *out);
    nvml_result (*device_arch)(nvml_device device, unsigned *arch);
    nvml_result (*device_mig)(nvml_device device, unsigned *current, unsigned *pending);
    nvml_result (*power_limit)(nvml_device device, unsigned *mw);
    nvml_result (*enforced_limit)(nvml_device device, unsigned *mw);
    nvml_result (*samples)(nvml_device device, unsigned type, unsigned long long last_seen_us, unsigned *value_type, unsigned *n,
                           nvml_sample *out);
    nvml_result (*field_values)(nvml_device device, int n, nvml_field_value *values);
    nvml_result (*total_energy)(nvml_device device, unsigned long long *mj);
    nvml_result (*power_usage)(nvml_device device, unsigned *mw);
} nvml_api;

// Opens the library and finds its functions; it is not initialised. False: *why says what is missing, nothing is held.
bool tel_nvml_load(const char *path, nvml_api *api, char *why, size_t cap);
void tel_nvml_unload(nvml_api *api); // accepts one that is not loaded
// The meaning of a result in a few words, without the library's help.
const char *tel_nvml_text(nvml_result result);

#endif
