#!/bin/sh
# The train-form x deploy-form matrix: what quantization costs a fine-tuned model, and what training with the quantizer
# in the forward pass wins back, on two domains, several types and seeds.
#
#   bench/quality/matrix.sh LOQUAT OUT
#
# Domains: car      the shipped base (examples/pip-F16.gguf) and its task, examples/car, tested on test.jsonl
#          stories  stories260K on lines of Shakespeare; needs LOQUAT_SHARED_DATA, else it is skipped and said so
# Rows of every type: fp LoRA; its rounding afterwards, without and with an importance matrix of the training data; QAT
# merged; QAT separate; QAT outside the rounding, then merged all the same; the recipe (LoRA, then distilled from it).
# OUT/table.md is the result, OUT/DOMAIN-TYPE.csv what it is made of. A run that is there already is not made again, so a
# stopped matrix goes on where it was.
#
# Environment: SEEDS ("1 2 3 4 5"), TYPES ("Q8_0 Q4_K_M Q4_0 Q3_K_S Q2_K"), STEPS (200), DOMAINS ("car stories"),
#              JOBS (runs at a time, each on one thread: the number of cores)
set -eu
[ $# -eq 2 ] || { sed -n '2,18s/^# \{0,1\}//p' "$0" >&2; exit 2; }
loquat=$(realpath "$1")
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
seeds=${SEEDS:-1 2 3 4 5} types=${TYPES:-Q8_0 Q4_K_M Q4_0 Q3_K_S Q2_K} steps=${STEPS:-200}
domains=${DOMAINS:-car stories} jobs=${JOBS:-$(nproc)}
began=$(date +%s)

# ---- domains: base, train and test data, a configuration -----------------------------------------------------------

# Paragraphs FIRST..LAST of a text between 80 and 600 bytes, one JSON record each.
paragraphs() {
    awk -v first="$2" -v last="$3" 'BEGIN { RS = "" }
        length($0) > 80 && length($0) < 600 && ++n >= first && n <= last {
            gsub(/\\/, "\\\\"); gsub(/"/, "\\\""); gsub(/\t/, "\\t"); gsub(/\n/, "\\n")
            printf "{\"text\": \"%s\"}\n", $0
        }' "$1"
}

set_domain() {
    dir=$out/$1
    mkdir -p "$dir"
    case $1 in
    car)
        base=$root/examples/pip-F16.gguf train=$root/examples/car/train.jsonl test=$root/examples/car/test.jsonl
        rate=4e-3 length=256
        ;;
    stories)
        base=${LOQUAT_SHARED_DATA:-}/models/stories260K/stories260K.gguf
        text=${LOQUAT_SHARED_DATA:-}/text/tinyshakespeare.txt
        [ -f "$base" ] && [ -f "$text" ] || { echo "stories: skipped, LOQUAT_SHARED_DATA has no model or text" >&2; return 1; }
        train=$dir/train.jsonl test=$dir/test.jsonl rate=3e-3 length=512
        paragraphs "$text" 1 600 >"$train"
        paragraphs "$text" 601 800 >"$test"
        ;;
    *) echo "matrix.sh: domain '$1', wanted car or stories" >&2; exit 2 ;;
    esac
    cat >"$dir/base.yaml" <<END
base_model: $base
datasets: [{path: $train}]
val_set_size: 0.15
sequence_len: $length
micro_batch_size: 8
max_steps: $steps
learning_rate: $rate
lora_r: 16
lora_alpha: 32
eval_steps: 0.2
save_steps: 1.0
save_total_limit: 1
logging_steps: 20
threads: 1
END
    # the second phase is half as long; above three bits it wants a quarter of the rate
    for bits in high low; do
        [ $bits = high ] && part=4 || part=1
        cat "$dir/base.yaml" - >"$dir/recipe-$bits.yaml" <<END
recipe: [lora, qad]
qat: {mode: merged}
kd: {alpha: 0.5}
qad: {max_steps: $((steps / 2)), learning_rate: $(awk -v r=$rate -v p=$part 'BEGIN { print r / p }')}
END
    done
}

# ---- runs ----------------------------------------------------------------------------------------------------------

# One line per run: its directory, then the settings that make it. K-quants search their scales every fourth step.
list_runs() {
    can_distil=$("$loquat" train --help | grep -c -e --recipe || true)
    [ "$can_distil" -gt 0 ] || echo "no recipe in this version: its rows are left out" >&2
    for type in $types; do
        # one step is enough: importance is measured before training
        echo "$dir/imatrix --seed 1 --max_steps 1 --qat.weight_dtype $type --qat.mode merged --qat.imatrix auto"
        break
    done
    for seed in $seeds; do
        echo "$dir/lora-$seed --seed $seed"
        for type in $types; do
            case $type in *_K*) slow='--qat.requantize_every 4' ;; *) slow= ;; esac
            echo "$dir/merged-$type-$seed --seed $seed --qat.weight_dtype $type --qat.mode merged $slow"
            echo "$dir/separate-$type-$seed --seed $seed --qat.weight_dtype $type --qat.mode separate"
            [ "$can_distil" -eq 0 ] || echo "$dir/recipe-$type-$seed --seed $seed --qat.weight_dtype $type $slow"
        done
    done
}

run_all() {
    list_runs | sed 's, *$,,' | LOQUAT=$loquat DIR=$dir xargs -P "$jobs" -L 1 sh -c '
        run=$1
        shift
        [ ! -f "$run/run.json" ] || exit 0
        config=$DIR/base.yaml
        case $run in
        */recipe-Q[23]*) config=$DIR/recipe-low.yaml ;;
        */recipe-*) config=$DIR/recipe-high.yaml ;;
        esac
        "$LOQUAT" train "$config" --output_dir "$run" --overwrite_output_dir true "$@" >"$run.log" 2>&1 ||
            { echo "FAILED: $run"; tail -3 "$run.log"; exit 255; } >&2' sh
}

# QAT outside the rounding, then merged: W + sBA of the separate run into one file, rounded once more.
merge_outside() {
    for seed in $seeds; do
        file=$dir/outside-$1-$seed.gguf
        [ -f "$file" ] || "$loquat" merge "$base" --lora "$(ls "$dir/separate-$1-$seed"/*-LoRA.gguf)" --output "$file" \
            --type "$1" 2>/dev/null
    done
}

# ---- the table -----------------------------------------------------------------------------------------------------

compare() {
    type=$1
    set --
    for seed in $seeds; do
        set -- "$@" "LoRA=$dir/lora-$seed" "QAT merged=$dir/merged-$type-$seed" "QAT separate=$dir/separate-$type-$seed" \
            "QAT outside then merged=$dir/outside-$type-$seed.gguf"
        for recipe in "$dir/recipe-$type-$seed/qad"; do
            [ ! -d "$recipe" ] || set -- "$@" "recipe=$recipe"
        done
    done
    "$loquat" compare "$@" --data "$test" --quantize "$type" --imatrix "$dir/imatrix/imatrix.gguf" \
        --baseline "LoRA $type" --csv >"$out/$domain-$type.csv" 2>"$out/$domain-$type.log" ||
        { tail -3 "$out/$domain-$type.log" >&2; exit 1; }
}

# Recovered: the share of the loss that rounding afterwards adds to LoRA, which a row does not have.
table() {
    echo
    echo "### $1, $2"
    echo
    echo "| run | seeds | loss | difference from LoRA $2, 95 % | recovered | KL | same top | bytes |"
    echo "|-|-|-|-|-|-|-|-|"
    awk -F, -v type="$2" '
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
        { n++; for (i = 1; i <= NF; i++) v[n, i] = $i; gsub(/"/, "", v[n, 1]) }
        function get(row, name) { return v[row, at[name]] }
        END {
            for (r = 1; r <= n; r++) {
                if (get(r, "run") == "LoRA") fp = get(r, "loss")
                if (get(r, "run") == "LoRA " type) ptq = get(r, "loss")
            }
            for (r = 1; r <= n; r++)
                printf "| %s | %d | %.4f ± %.4f | %+.4f [%+.4f, %+.4f] | %s | %s | %s | %d |\n", get(r, "run"),
                    get(r, "seeds"), get(r, "loss"), get(r, "loss_sd"), get(r, "difference"), get(r, "difference_low"),
                    get(r, "difference_high"),
                    (ptq > fp ? sprintf("%.0f %%", 100 * (ptq - get(r, "loss")) / (ptq - fp)) : "-"),
                    (get(r, "kl_divergence") == "" ? "-" : sprintf("%.5f", get(r, "kl_divergence"))),
                    (get(r, "same_top") == "" ? "-" : sprintf("%.4f", get(r, "same_top"))), get(r, "bytes")
        }' "$out/$1-$2.csv"
}

{
    echo "# What quantization costs and what training wins back"
    echo
    echo "Made by \`bench/quality/matrix.sh\` with Loquat $("$loquat" --version | cut -d' ' -f2): $steps steps a run, seeds" \
        "$seeds. Loss in nats per trained token on held-out examples, mean ± sd over seeds; the interval is a paired bootstrap" \
        "over examples and seeds. KL divergence and same top token: against the LoRA of the same seed, not rounded."
} >"$out/table.tmp"
for domain in $domains; do
    set_domain "$domain" || continue
    run_all
    for type in $types; do
        merge_outside "$type"
        compare "$type"
        table "$domain" "$type" >>"$out/table.tmp"
    done
done
mv "$out/table.tmp" "$out/table.md"
echo "$out/table.md, after $(($(date +%s) - began)) s" >&2
