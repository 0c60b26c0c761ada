#!/bin/sh
# Installs what the tests need, builds twice (plain with warnings as errors, then with ASan and
# UBSan) and runs all tests in both.
set -eu
cd "$(dirname "$0")/.."
. scripts/packages.sh
# shellcheck disable=SC2086
install_packages $build_packages check

# Two threads whatever the machine, and no threads spinning against each other while tests run side
# by side.
export OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive

cmake -S . -B build/check -G Ninja -DLOQUAT_WERROR=ON >/dev/null
cmake --build build/check
ctest --test-dir build/check --output-on-failure -j 2

cmake -S . -B build/sanitize -G Ninja -DLOQUAT_WERROR=ON -DLOQUAT_SANITIZE=ON >/dev/null
cmake --build build/sanitize
ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1 \
    ctest --test-dir build/sanitize --output-on-failure -j 2
