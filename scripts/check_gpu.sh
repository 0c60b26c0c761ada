#!/bin/sh
# On a machine with a GPU and the CUDA toolkit, step by step or all of them:
#   build     for that GPU
#   kernels   op cases, quantizers' bytes, rebuilt weights, attention: against the CPU's
#   runs      whole runs: every mode's curve, checkpoints that move between devices, the shipped example in F32 and BF16
#   sanitize  compute-sanitizer's four tools over the kernels' tests
#   bench     against a peer: PEER_PYTHON=python with torch, transformers, peft; without it, nothing
#   scripts/check_gpu.sh [BUILD_DIR [STEP...]]
set -eu
cd "$(dirname "$0")/.."
build=${1:-build/gpu}
[ $# -eq 0 ] || shift
export OMP_WAIT_POLICY=passive CK_DEFAULT_TIMEOUT=300
kernels="ops wide_ops attention_cuda cuda_formats_gpu merge_device_gpu adapter_device_gpu"

# A test that finds no GPU is skipped: not here. One process, since opening the device takes longer than a test.
check() {
    echo "check_$1"
    CK_FORK=no "$build/tests/check_$1"
}

step_build() {
    cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DLOQUAT_WERROR=ON -DLOQUAT_CUDA=ON \
        -DLOQUAT_CUDA_ARCHITECTURES=native -DLOQUAT_BENCH=ON >/dev/null
    # shellcheck disable=SC2046,SC2086
    cmake --build "$build" --target loquat bench_make_model check_device_runs_gpu $(printf 'check_%s ' $kernels)
}

step_kernels() {
    for name in $kernels; do check "$name"; done
}

train() {
    "$build/loquat" train "examples/$1.yaml" --device "$2" --bf16 "$3" --max-steps 40 --logging-steps 1 \
        --output-dir "$build/$1-$2-$3" --overwrite-output-dir true --quiet
}

compare() {
    python3 scripts/compare_curves.py "$build/$1/metrics.jsonl" "$build/$2/metrics.jsonl" "$3"
}

step_runs() {
    CK_DEFAULT_TIMEOUT=120 "$build/tests/check_device_runs_gpu"
    for config in car-plain car; do
        train $config cpu false
        train $config cuda false
        train $config cuda true
        compare $config-cpu-false $config-cuda-false 1e-3
        compare $config-cpu-false $config-cuda-true 5e-2
    done
}

step_sanitize() {
    for tool in memcheck racecheck initcheck synccheck; do
        for name in $kernels; do
            echo "compute-sanitizer: $tool, check_$name"
            CK_FORK=no compute-sanitizer --tool "$tool" --error-exitcode 1 "$build/tests/check_$name"
        done
    done
}

step_bench() {
    [ -n "${PEER_PYTHON:-}" ] || return 0
    python3 bench/run.py "$build/loquat" "$build/bench/bench_make_model" --peer-python "$PEER_PYTHON" --only cuda --rounds 1
}

nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,memory.total --format=csv
[ $# -gt 0 ] || set -- build kernels runs sanitize bench
for step in "$@"; do
    echo "== $step"
    "step_$step"
done
echo "passed on the GPU: $*"
