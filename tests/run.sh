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

fuzz_one() { # fuzz_one NAME: a short run from its corpus; says something only when it fails
    local seeds=tests/fuzz/corpus/${1#fuzz_}
    mkdir -p "build-fuzz/corpus/$1"
    [ -d "$seeds" ] || seeds=
    "build-fuzz/tests/$1" -runs=200000 -max_total_time=12 -verbosity=0 "build-fuzz/corpus/$1" ${seeds:+"$seeds"} >"build-fuzz/$1.log" 2>&1 && return
    tail -n 60 "build-fuzz/$1.log"
    return 1
}

fuzz() { # every fuzz target, as many at once as there are processors
    local source names=()
    for source in tests/fuzz/fuzz_*.c; do names+=("$(basename "$source" .c)"); done
    build_in build-fuzz "${names[*]}" -DWTL_FUZZ=ON -DWTL_SANITIZE=address,undefined -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ || return 1
    export -f fuzz_one
    printf '%s\n' "${names[@]}" | xargs -P "$jobs" -I NAME bash -c 'fuzz_one NAME'
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
# The kernels' tests run every instruction set that the machine has by themselves. Without AVX-512 heads are read whole, as these tests say
# too: what is sampled from the few logits of real models is then what is sampled from all by construction, and the bits behind guesses are
# those of any company, which the golden tests hold against each other.
if grep -qw avx512_vnni /proc/cpuinfo; then
    WTL_CPU_MASK=avx2 tests "a CPU without AVX-512" "$build" -L golden -E '(smollm2|gemma3)_ref|FewLogitsReal.(SampledTokens|.*GEMMA3)'
fi
# For its warnings, which do not depend on -O: nothing of it is run.
stage "build with clang, without BLAS" build_in build-clang wattle -DCMAKE_BUILD_TYPE=Sanitize -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DWTL_BLAS=OFF
if stage "build with ASan and UBSan" build_in build-asan "wattle test_unit test_telemetry test_schema test_tools test_serve test_kernels test_fuzz render_template" \
    -DWTL_TESTS=ON -DWTL_SANITIZE=address,undefined -DWTL_EMULATE_AVXVNNI=ON; then
    # Left out: the attention of AVX-VNNI is that of AVX2; plain C is among the kernels' tests; the reference's attention has tests of its
    # own; four of bench repeat what its others run here, each behind a measurement of the machine, to compare figures; the stream that
    # nobody reads takes half a minute here, and the other paused streams touch the same memory; draws are counted by the thousand to compare
    # frequencies; the session of all weight types repeats the kernels' tests of each; one template's calls stand for the others'; one of
    # the two that measure the machine's limits is enough for memory, as is one of the reference's attention.
    out='Attention.*avxvnni|^Scalar/|Attention.EveryCaseMatchesTheDefinition/ref|BenchProfile.(AttentionHasAShare|RealModel|OperationsExplain)'
    out+='|BenchOutput.SharesAreOfTheLimitsOfTheSameRun|AStreamThatNobodyReadsPausesForOthers'
    out+='|Sampler.EachFilterDraws|SamplerAllowed.DrawsAsIf|Session.AllWeightTypes|CallsThatAreAMust/family_(mistral|llama3|qwen)'
    out+='|(AttentionInAnyChunksAndCompany|GatedHasTheBitsOfAMatmulAndAGlu)/ref|Limits.TwiceTheRounds|AttentionRef.IsTheDefinition'
    tests "ASan and UBSan" build-asan -L 'unit|telemetry|kernels|fuzz-replay' -E "$out"
fi
# Of the tests those with threads: the pool, the batch, the meter, the ledger, the whole server.
threads='pool|session|batch_threads|energy|meter|ledger|http_.*|lanes|server'
if stage "build with TSan" build_in build-tsan "wattle test_unit test_telemetry test_tools test_serve" -DWTL_TESTS=ON -DWTL_SANITIZE=thread \
    -DWTL_TEST_FILES="$threads"; then
    # The one left out takes two minutes here and meets no thread that the other paused streams do not.
    tests "TSan" build-tsan -R '^(Pool|Threads|Meter|Energy|Ledger|Batch|(All/)?Http|Lanes|Server)' -E AStreamThatNobodyReadsPausesForOthers
fi
check "fuzzing" fuzz
finish
