#!/usr/bin/env bash
# Installs what is missing, builds and runs every test that needs no GPU. Last line: "N passed, N failed, N skipped".
# The models for the golden and end-to-end tests are fetched once into the model folder; without a network those tests skip.
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=${BUILD_DIR:-build}
jobs=$(nproc)
passed=0 failed=0 skipped=0

stage() { # stage NAME COMMAND...: runs it and says how long it took; a failure counts as one failed test
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

build_in() { # build_in DIR "TARGETS" CMAKE_OPTION...
    local dir=$1 targets=$2
    shift 2
    # shellcheck disable=SC2086 # targets are words
    if cmake -B "$dir" -DWTL_WERROR=ON "$@" >"$dir.log" 2>&1 && cmake --build "$dir" -j "$jobs" --target $targets >>"$dir.log" 2>&1; then
        rm -f "$dir.log"
        return
    fi
    tail -n 60 "$dir.log"
    return 1
}

attribute() { sed -n "s/.*<testsuite.*[[:space:]]$1=\"\([0-9]*\)\".*/\1/p" | head -n 1; }

tests() { # tests NAME DIR CTEST_OPTION...: adds what ctest counted
    local name=$1 dir=$2 start=$SECONDS report suite n bad out
    shift 2
    report=$(mktemp)
    echo "== $name"
    ctest --test-dir "$dir" -j "$jobs" --output-on-failure --output-junit "$report" "$@" | grep -vE '^ *(Start|[0-9]+/[0-9]+ .*(Passed |[*]Skipped ))'
    suite=$(tr '\n' ' ' <"$report")
    rm -f "$report"
    n=$(attribute tests <<<"$suite") bad=$(attribute failures <<<"$suite") out=$(attribute skipped <<<"$suite")
    if [ "${n:-0}" -eq 0 ]; then
        echo "== $name: FAILED, no test ran"
        failed=$((failed + 1))
        return
    fi
    passed=$((passed + n - bad - out)) failed=$((failed + bad)) skipped=$((skipped + out))
    echo "== $name: $n tests in $((SECONDS - start)) s"
}

fetch_model() { # fetch_model NAME: prints the path
    "$build/wattle" fetch "$1" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["path"])'
}

fetch_models() {
    export WTL_TEST_SMOLLM2 WTL_TEST_GEMMA3
    WTL_TEST_SMOLLM2=$(fetch_model smollm2 2>/dev/null) || { unset WTL_TEST_SMOLLM2; echo "SmolLM2 cannot be fetched: its tests will be skipped"; }
    WTL_TEST_GEMMA3=$(fetch_model gemma3-270m 2>/dev/null) || { unset WTL_TEST_GEMMA3; echo "Gemma 3 cannot be fetched: its tests will be skipped"; }
}

fuzz() { # a short run of every fuzz target from its corpus
    local source name seeds
    for source in tests/fuzz/fuzz_*.c; do
        name=$(basename "$source" .c)
        build_in build-fuzz "$name" -DWTL_FUZZ=ON -DWTL_SANITIZE=address,undefined -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ || return 1
        seeds=tests/fuzz/corpus/${name#fuzz_}
        mkdir -p "build-fuzz/corpus/$name"
        [ -d "$seeds" ] || seeds=
        "build-fuzz/tests/$name" -runs=200000 -max_total_time=30 -verbosity=0 "build-fuzz/corpus/$name" ${seeds:+"$seeds"} || return 1
    done
}

finish() {
    echo "all stages took $SECONDS s"
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
    exit
}

stage "packages" bash tools/install_packages.sh cmake gcc g++ clang libclang-rt-14-dev libc6-dev make pkg-config libpcre2-dev libutf8proc-dev \
    libjansson-dev libsqlite3-dev libmicrohttpd-dev libedit-dev libopenblas-dev libgtest-dev curl python3 python3-jinja2 python3-pip ca-certificates gzip || finish
check "public headers compile alone" bash tests/check_headers.sh
check "includes point one way" bash tests/check_includes.sh
check "the telemetry library stands alone" bash tests/check_standalone.sh
stage "build with gcc" build_in "$build" all -DWTL_TESTS=ON || finish
stage "models" fetch_models
tests "all tests" "$build"
WTL_CPU_MASK=avx2 tests "a CPU without AVX-512" "$build" -L 'kernels|golden' -E '(smollm2|gemma3)_ref'
WTL_CPU_MASK=scalar tests "a CPU without AVX2" "$build" -L kernels
stage "build with clang, without BLAS" build_in build-clang wattle -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DWTL_BLAS=OFF
if stage "build with ASan and UBSan" build_in build-asan "test_unit test_telemetry test_tools test_kernels test_fuzz" -DWTL_TESTS=ON -DWTL_SANITIZE=address,undefined \
    -DCMAKE_BUILD_TYPE=RelWithDebInfo; then
    tests "ASan and UBSan" build-asan -L 'unit|telemetry|kernels|fuzz-replay'
fi
if stage "build with TSan" build_in build-tsan "test_unit test_telemetry test_tools" -DWTL_TESTS=ON -DWTL_SANITIZE=thread -DCMAKE_BUILD_TYPE=RelWithDebInfo; then
    tests "TSan" build-tsan -R '^(Pool|Threads|Meter|Energy|Ledger|Batch)\.'
fi
check "fuzzing" fuzz
finish
