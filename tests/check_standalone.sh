#!/usr/bin/env bash
# The telemetry library stands alone: configured, built and installed by itself, found through pkg-config, used from a strange program.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake -S telemetry -B "$work/build" -DCMAKE_INSTALL_PREFIX="$work/prefix" >/dev/null
cmake --build "$work/build" -j "$(nproc)" >/dev/null
cmake --install "$work/build" >/dev/null
cat >"$work/stranger.c" <<'C'
#include <stdio.h>
#include <telemetry/telemetry.h>
int main(void) {
    tel_meter *meter = NULL;
    tel_error err = {0};
    if (tel_meter_open(&(tel_options){.source = "simulated:40", .manual = true}, &meter, &err) != TEL_OK) return 1;
    tel_meter_poll(meter);
    uint64_t t0 = tel_meter_now(meter), t1;
    do {
        tel_meter_poll(meter);
        t1 = tel_meter_settled(meter, 0);
    } while (t1 < t0 + 100000000);
    tel_energy e = tel_meter_energy(meter, 0, t0, t0 + 100000000);
    printf("%s %.1f J\n", tel_status_name(e.status), (double)e.energy_uj / 1e6);
    tel_meter_close(&meter);
    return e.status == TEL_MEASURED && e.low_uj <= 4000000 && e.high_uj >= 4000000 ? 0 : 1;
}
C
pc=$(dirname "$(find "$work/prefix" -name tel.pc)")
# shellcheck disable=SC2046 # flags are words
cc -std=c11 "$work/stranger.c" -o "$work/stranger" $(PKG_CONFIG_PATH=$pc pkg-config --cflags --static --libs tel)
"$work/stranger"
