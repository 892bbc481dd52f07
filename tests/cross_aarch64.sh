#!/usr/bin/env bash
# Builds wattle for 64-bit Arm and runs it under qemu-user: the checker of the kernels, batch invariance of sessions, and a real
# model whose greedy tokens must be those of this machine's own build. Processors: one with dot products and int8 matrices
# (max), one with dot products alone (cortex-a76), one with neither (cortex-a72). Last line: "N passed, N failed, N skipped".
#
#   bash tests/cross_aarch64.sh [--all]     --all: also attention in chunks of any size and sessions with every weight type (many minutes)
#
# The cross compiler and qemu are installed as run.sh installs packages; libraries for Arm are unpacked under the build folder,
# and nothing of them is installed. BUILD_DIR: this machine's own build, as for run.sh (build by default; made where it is missing).
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=${BUILD_DIR:-build} cross=$PWD/build-aarch64 root=$PWD/build-aarch64/sysroot
jobs=$(nproc)
passed=0 failed=0 skipped=0
slow='*AttentionInAnyChunks*' sessions='Models/Invariance*llama_neon_i8mm_Q4_1:Models/Invariance*gemma3_neon_i8mm_Q8_0:Attend.Not*'
[ "${1:-}" = --all ] && slow='' sessions='Models/Invariance*:Attend*'

finish() {
    echo "all stages took $SECONDS s"
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
    exit
}

stage() { # stage NAME COMMAND...: a failure counts as one failed test
    local name=$1 start=$SECONDS
    shift
    echo "== $name"
    if "$@"; then
        echo "== $name: done in $((SECONDS - start)) s"
    else
        echo "== $name: FAILED after $((SECONDS - start)) s"
        failed=$((failed + 1))
        return 1
    fi
}

check() { stage "$@" && passed=$((passed + 1)); } # a stage that is itself a test

quietly() { # quietly LOG COMMAND...: shows the end of what it said when it fails
    local log=$1
    shift
    "$@" >"$log" 2>&1 && return
    tail -n 60 "$log"
    return 1
}

# Debian's libraries for Arm in a folder of their own: apt resolves what they need as on an empty machine of that kind.
sysroot() {
    local apt=$cross/apt list="libc6-dev libstdc++6 libpcre2-dev libutf8proc-dev libjansson-dev libsqlite3-dev libmicrohttpd-dev libedit-dev libopenblas-dev libgtest-dev"
    [ "$(cat "$root/packages" 2>/dev/null)" = "$list" ] && return
    rm -rf "$apt" "$root"
    mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$root"
    : >"$apt/status"
    local options=(-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::State=$apt" -o "Dir::State::status=$apt/status"
        -o "Dir::Cache=$apt" -o APT::Sandbox::User= -o Debug::NoLocking=1)
    # shellcheck disable=SC2086 # packages are words
    apt-get "${options[@]}" update && apt-get "${options[@]}" install -y --no-install-recommends --download-only $list || return 1
    local package
    for package in "$apt"/archives/*.deb; do dpkg-deb -x "$package" "$root" || return 1; done
    rm -rf "$apt"
    echo "$list" >"$root/packages"
}

configure() {
    cat >"$cross/toolchain.cmake" <<EOF
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_SYSROOT $root)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static;-cpu;max;-L;$root)
EOF
    PKG_CONFIG_SYSROOT_DIR=$root PKG_CONFIG_LIBDIR=$root/usr/lib/aarch64-linux-gnu/pkgconfig:$root/usr/share/pkgconfig \
        cmake -B "$cross/tree" --toolchain "$cross/toolchain.cmake" -DWTL_TESTS=ON -DWTL_WERROR=ON
}

cross_build() {
    quietly "$cross/configure.log" configure && quietly "$cross/build.log" cmake --build "$cross/tree" -j "$jobs" --target wattle test_kernels test_unit
}

arm() { # arm CPU COMMAND...
    local cpu=$1
    shift
    qemu-aarch64-static -cpu "$cpu" -L "$root" "$@"
}

attribute() { sed -n "s/.*<testsuites.*[[:space:]]$1=\"\([0-9]*\)\".*/\1/p" | head -n 1; }

suite() { # suite CPU PROGRAM FILTER: as many shards as processors; adds what they counted
    local cpu=$1 program=$2 filter=$3 start=$SECONDS i n=0 bad=0 out=0 report shards=()
    echo "== $program on $cpu, $filter"
    for ((i = 0; i < jobs; i++)); do
        GTEST_TOTAL_SHARDS=$jobs GTEST_SHARD_INDEX=$i arm "$cpu" "$cross/tree/tests/$program" --gtest_filter="$filter" \
            --gtest_output="xml:$cross/report$i.xml" >"$cross/tests$i.log" 2>&1 &
        shards+=($!)
    done
    for ((i = 0; i < jobs; i++)); do
        if ! wait "${shards[i]}"; then grep -v '\] Targets.*ms)$\|RUN' "$cross/tests$i.log" | tail -n 40; fi
        report=$(cat "$cross/report$i.xml" 2>/dev/null)
        rm -f "$cross/report$i.xml"
        if [ -z "$report" ]; then bad=$((bad + 1)) n=$((n + 1)); continue; fi # it crashed
        n=$((n + $(attribute tests <<<"$report"))) bad=$((bad + $(attribute failures <<<"$report")))
        out=$((out + $(grep -c 'result="skipped"' <<<"$report")))
    done
    [ $((n - out)) -gt 0 ] || bad=$((bad + 1)) # nothing ran
    passed=$((passed + n - bad - out)) failed=$((failed + bad)) skipped=$((skipped + out))
    echo "== $program on $cpu: $n tests, $bad failed, $out skipped, $((SECONDS - start)) s"
}

greedy() { # greedy COMMAND...: what eight greedy tokens are, and with which kernels
    "$@" run -m "$WTL_TEST_SMOLLM2" -p "The capital of France is" -n 8 --temp 0 --meter none -t 2 --json |
        python3 -c 'import json, sys; r = json.load(sys.stdin); print(r["backend"], *r["tokens"])'
}

same_tokens() { # same_tokens CPU MASK BACKEND: MASK "": what it takes by itself
    local want got
    want=$(WTL_CPU_MASK=scalar greedy "$build/wattle") || return 1
    got=$(WTL_CPU_MASK=$2 greedy arm "$1" "$cross/tree/wattle") || return 1
    echo "   $got"
    [ "$got" = "cpu $3, 2 threads${want#*threads}" ] || { echo "   here: $want"; return 1; }
}

refuses() { # refuses CPU MASK: with a sentence, and exit code
    local said
    if said=$(WTL_CPU_MASK=$2 arm "$1" "$cross/tree/wattle" run -m "$WTL_TEST_SMOLLM2" -p a -n 1 2>&1); then return 1; fi
    echo "   $said"
    [[ $said == *"instruction set $2 was asked for, but this machine does not have it"* ]]
}

real_model() {
    WTL_TEST_SMOLLM2=${WTL_TEST_SMOLLM2:-$("$build/wattle" fetch smollm2 --json 2>/dev/null | python3 -c 'import json, sys; print(json.load(sys.stdin)["path"])' 2>/dev/null)}
    if [ -z "$WTL_TEST_SMOLLM2" ]; then
        echo "SmolLM2 cannot be fetched: it does not run"
        skipped=$((skipped + 1))
        return
    fi
    check "SmolLM2 with int8 matrices" same_tokens max "" neon_i8mm
    check "SmolLM2 with dot products" same_tokens cortex-a76 "" neon_dotprod
    check "SmolLM2 with dot products, by name" same_tokens max neon_dotprod neon_dotprod
    check "SmolLM2 in plain C" same_tokens cortex-a72 "" scalar
    check "int8 matrices are refused where there are none" refuses cortex-a76 neon_i8mm
    check "dot products are refused where there are none" refuses cortex-a72 neon_dotprod
    check "instructions of other machines are refused" refuses max avx2
}

stage "packages" bash tools/install_packages.sh cmake make pkg-config dpkg python3 qemu-user-static gcc-aarch64-linux-gnu g++-aarch64-linux-gnu || finish
mkdir -p "$cross"
stage "libraries for Arm" sysroot || finish
stage "build for Arm" cross_build || finish
if [ ! -x "$build/wattle" ]; then
    stage "build for this machine" quietly "$cross/own.log" bash -c "cmake -B '$build' && cmake --build '$build' -j $jobs --target wattle" || finish
fi
suite max test_kernels "*neon_i8mm*:InvarianceOfSets.*:-$slow"
# Rows and attention are the same code for both sets.
suite cortex-a76 test_kernels '*Matmul*neon_dotprod*:Backend.*neon_dotprod*'
suite max test_unit "$sessions:Vec*:Limits.Every*:Half*:InstructionSets.*"
real_model
finish
