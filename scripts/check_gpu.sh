#!/bin/sh
# On a machine with a GPU and the CUDA toolkit: builds for that GPU, then runs the op cases, the quantizers and the shipped
# example on it, all of compute-sanitizer's tools over the op cases, and the speed comparison if a peer is given.
#   scripts/check_gpu.sh [BUILD_DIR]        PEER_PYTHON=python with torch, transformers, peft: also the benchmark
set -eu
cd "$(dirname "$0")/.."
build=${1:-build/gpu}
nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,memory.total --format=csv
export OMP_WAIT_POLICY=passive

cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DLOQUAT_WERROR=ON -DLOQUAT_CUDA=ON \
    -DLOQUAT_CUDA_ARCHITECTURES=native -DLOQUAT_BENCH=ON >/dev/null
cmake --build "$build" --target loquat check_ops check_wide_ops check_attention_cuda bench_make_model

# A test that finds no GPU passes over its cases: not here.
"$build/loquat" logits examples/pip-F16.gguf --ids "1 2 3" --output "$build/ids.npy" --device cuda
for check in ops wide_ops attention_cuda; do
    "$build/tests/check_$check"
done

for tool in memcheck racecheck initcheck synccheck; do
    echo "compute-sanitizer: $tool"
    CK_FORK=no compute-sanitizer --tool "$tool" --error-exitcode 1 "$build/tests/check_ops"
done

for config in car-plain car; do
    for device in cpu cuda; do
        "$build/loquat" train "examples/$config.yaml" --device $device --bf16 false --max-steps 40 --logging-steps 1 \
            --output-dir "$build/$config-$device" --overwrite-output-dir true --quiet
    done
    python3 scripts/compare_curves.py "$build/$config-cpu/metrics.jsonl" "$build/$config-cuda/metrics.jsonl" 1e-3
done

if [ -n "${PEER_PYTHON:-}" ]; then
    python3 bench/run.py "$build/loquat" "$build/bench/bench_make_model" --peer-python "$PEER_PYTHON" --only cuda --rounds 1
fi
echo "all checks on the GPU have passed"
