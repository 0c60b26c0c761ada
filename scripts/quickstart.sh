#!/bin/sh
# Sets Loquat up on Debian 12 and runs its main job: fine-tunes the small base model that ships with
# the project on a car's voice commands, with the Q4_0 quantizer in the forward pass, and shows what
# that gained.
set -eu
cd "$(dirname "$0")/.."
. scripts/packages.sh
# shellcheck disable=SC2086
install_packages $build_packages

echo "building"
# The shipped model is small: compiling for GPUs would take longer than training it.
cmake -S . -B build/release -G Ninja -DLOQUAT_TESTS=OFF -DLOQUAT_CUDA=OFF >/dev/null
cmake --build build/release
loquat=$PWD/build/release/loquat

out=${1:-out/quickstart}
base=examples/pip-F16.gguf
test_data=examples/car/test.jsonl
train() { # train NAME CONFIG [--KEY VALUE]...
    name=$1 config=$2
    shift 2
    echo
    echo "== training: $name"
    "$loquat" train "$config" --output-dir "$out/$name" --overwrite-output-dir true "$@"
}
# row LABEL MODEL: one line of the table; MODEL as `loquat evaluate` takes it.
row() {
    label=$1 bytes=$2
    shift 2
    # shellcheck disable=SC2046
    set -- $("$loquat" evaluate "$@" --data "$test_data" --exact-match --max-new-tokens 48 --quiet |
             awk '$1 == "loss" { l = $2 } $1 == "exact_match" { e = $2 } END { print l, e }')
    printf '%-40s %8.4f %9.1f %% %9.2f MB\n' "$label" "$1" \
        "$(echo "$2" | awk '{ print 100 * $1 }')" "$(echo "$bytes" | awk '{ print $1 / 1e6 }')"
}
size() { cat "$@" | wc -c; }

train plain examples/car-plain.yaml --export.quantize '[F16, Q4_0]'
train merged examples/car.yaml
train separate examples/car-separate.yaml

echo
echo "held-out commands, none of whose wordings were trained on:"
printf '%-40s %8s %11s %12s\n' "" loss "exact match" "file size"
row "base model, F16" "$(size $base)" "$base"
row "plain LoRA, merged in F16" "$(size "$out"/plain/*-F16.gguf)" "$out"/plain/*-F16.gguf
row "the same, then quantized to Q4_0" "$(size "$out"/plain/*-Q4_0.gguf)" "$out"/plain/*-Q4_0.gguf
row "QAT Q4_0, merged" "$(size "$out"/merged/*-Q4_0.gguf)" "$out/merged"
row "QAT Q4_0, separate adapter" "$(size "$out"/separate/*.gguf)" "$out/separate"
echo
echo "talk to it:  $loquat chat $out/merged"
echo "one answer:  $loquat chat $out/merged --prompt 'make it a bit warmer in here'"
