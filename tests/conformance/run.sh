#!/bin/sh
# The whole conformance run: Loquat against live PyTorch, transformers, PEFT, gguf and llama.cpp. Opt-in and by hand; nothing
# here is needed to build, test or use Loquat. A step that fails does not stop those after it; one that misses something is
# said and skipped, and the run is then not complete. A table at the end has every step's time and result.
#
#   tests/conformance/run.sh BUILD_DIR [STEP...]      all steps, or those named
#
# Environment (all optional):
#   PYTHON              a Python with torch, transformers, peft, safetensors, gguf, xllamacpp, numpy (default: python3)
#   LLAMA_BIN           a folder with llama.cpp's programs and libllama.so
#   LLAMA_SOURCE        llama.cpp's source tree, for its converters and headers
#   LOQUAT_SHARED_DATA  the folder of real models and texts that other tests use too
# Exit status: 0 all passed, 1 something failed, 2 wrong use, 77 all that ran passed, but something was skipped.
set -u
[ $# -ge 1 ] || { sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2; }
build=$(cd "$1" && pwd) || exit 2
shift
wanted=" $* "
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
loquat=$build/loquat
make_tiny=$build/tests/make_tiny
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
worst=0

for program in "$loquat" "$make_tiny"; do
    [ -x "$program" ] || { echo "run.sh: $program is missing; build it first" >&2; exit 2; }
done

for name in $wanted; do
    grep -q "^step $name " "$0" || {
        echo "run.sh: no step is called $name; there are: $(sed -n 's/^step \([^ ]*\) .*/\1/p' "$0" | tr "\n" " ")" >&2
        exit 2
    }
done

has() { "$python" -c "import $1" 2>/dev/null; }

# note NAME SECONDS RESULT...: a line of the table.
note() {
    printf '%-18s %7s  ' "$1" "$2" >>"$work/table"
    shift 2
    echo "$*" >>"$work/table"
}

# step NAME 'CONDITION' WHAT_IS_MISSING COMMAND...
step() {
    name=$1 condition=$2 missing=$3 began=$(date +%s)
    shift 3
    [ "$wanted" = "  " ] || case $wanted in *" $name "*) ;; *) return ;; esac
    if ! eval "$condition"; then
        echo "== $name: skipped, $missing"
        note "$name" - "skipped: $missing"
        [ $worst -ne 0 ] || worst=77
    elif echo "== $name" && ("$@"); then
        note "$name" $(($(date +%s) - began)) ok
    else
        status=$?
        note "$name" $(($(date +%s) - began)) "FAILED, exit status $status"
        worst=1
    fi
}

# The committed reference values are what their scripts make today.
same_optim_reference() {
    "$python" "$here/optim_reference.py" >"$work/optim_reference.h" &&
        diff "$work/optim_reference.h" "$here/../optim_reference.h"
}

same_format_hashes() {
    "$python" "$here/format_hashes.py" "$LLAMA_BIN/libggml-base.so" >"$work/format_hashes.h" &&
        diff "$work/format_hashes.h" "$here/../format_hashes.h"
}

same_iq_grids() {
    "$python" "$here/make_iq_grids.py" >"$work/iq_grids.h" && diff "$work/iq_grids.h" "$here/../../autograd/formats/iq_grids.h"
}

runtime() {
    "$python" "$here/check_runtime.py" "$loquat" "$LLAMA_BIN" "$here/../../examples/pip-F16.gguf"
}

mixes() { "$python" "$here/check_mixes.py" "$loquat" "$LLAMA_BIN" "$here/../.."; }

formats() { "$python" "$here/check_formats.py" "$build/tests/quantize_rows" "$LLAMA_BIN/libggml-base.so"; }

# llama.cpp's side of the comparisons of tokens: a small program linked with its library.
build_llama_tokens() {
    [ -x "$work/llama_tokens" ] || ${CC:-cc} -I "$LLAMA_SOURCE/include" -I "$LLAMA_SOURCE/ggml/include" "$here/llama_tokens.c" \
        -L "$LLAMA_BIN" -lllama "-Wl,-rpath,$LLAMA_BIN" -o "$work/llama_tokens"
}

tokens() {
    build_llama_tokens && "$python" "$here/check_tokenizer.py" "$work/llama_tokens" "$build/tests/loquat_tokens" \
        "$LOQUAT_SHARED_DATA"/vocabs/llama.cpp/*.gguf --pre
}

hf_tokens() {
    build_llama_tokens && "$python" "$here/check_hf_tokenizer.py" "$build" "$LOQUAT_SHARED_DATA" \
        --llama-tokens "$work/llama_tokens" --llama-source "$LLAMA_SOURCE"
}

hf_write() { "$python" "$here/check_hf_write.py" "$build" "$LOQUAT_SHARED_DATA"; }

templates() { "$python" "$here/check_templates.py" "$build/tests/render_templates" "$LOQUAT_SHARED_DATA/templates"; }

export_judged() {
    "$make_tiny" "$work/tiny.gguf" && "$python" "$here/check_export.py" "$loquat" "$work/tiny.gguf" "$LLAMA_BIN" "$here/../../docs/guide.md"
}

quantized() {
    "$python" "$here/check_quantize.py" "$loquat" "$LLAMA_BIN" --models "$here/../../examples/pip-F16.gguf" \
        ${LOQUAT_SHARED_DATA:+"$LOQUAT_SHARED_DATA/models/stories260K/stories260K.gguf" --text "$LOQUAT_SHARED_DATA/text/tinyshakespeare.txt"}
}

same_mix_reference() {
    "$python" "$here/make_mix_reference.py" "$LLAMA_BIN" >"$work/mix_reference.h" &&
        diff "$work/mix_reference.h" "$here/../mix_reference.h"
}

end_to_end() {
    "$python" "$here/end_to_end.py" "$loquat" "$make_tiny" ${LLAMA_BIN:+--llama-bin "$LLAMA_BIN"} \
        ${LLAMA_SOURCE:+--llama-source "$LLAMA_SOURCE"}
}

same_dora_values() {
    "$python" "$here/dora_values.py" >"$work/dora_values.h" && diff "$work/dora_values.h" "$here/../reference/dora_values.h"
}

same_pissa_values() {
    "$python" "$here/pissa_values.py" >"$work/pissa_values.h" && diff "$work/pissa_values.h" "$here/../reference/pissa_values.h"
}

# The committed models are what the script makes today.
same_families() {
    "$python" "$here/make_tiny_families.py" --out "$work/families" >/dev/null || return 1
    for file in "$work"/families/*.gguf; do
        case $file in *.ref.gguf) continue ;; esac # sums, which depend on the machine's arithmetic
        cmp "$file" "$here/../reference/${file##*/}" || return 1
    done
    for dir in "$work"/families/hf/*; do
        diff -r -I transformers_version "$dir" "$here/../reference/hf/${dir##*/}" || return 1
    done
}

hf_models() { "$python" "$here/hf_models.py" "$loquat" ${LLAMA_SOURCE:+"$LLAMA_SOURCE"}; }
hf_peft() { "$python" "$here/hf_peft.py" "$loquat"; }
hf_experts() { "$python" "$here/hf_experts.py" "$loquat"; }

step hf_models 'has torch && has transformers && has sentencepiece && has tokenizers' 'transformers or tokenizers is missing' \
    hf_models
step hf_peft 'has torch && has transformers && has peft' 'transformers or peft is missing' hf_peft
step hf_experts 'has torch && has transformers && has peft && has xllamacpp' 'transformers, peft or xllamacpp is missing' hf_experts
step optimizers 'has torch && has transformers' 'torch or transformers is missing' same_optim_reference
step format_hashes 'has numpy && [ -e "${LLAMA_BIN:-}/libggml-base.so" ]' 'numpy or LLAMA_BIN is missing' same_format_hashes
step iq_grids 'has gguf' 'gguf is missing' same_iq_grids
step formats 'has numpy && [ -e "${LLAMA_BIN:-}/libggml-base.so" ]' 'numpy or LLAMA_BIN is missing' formats
step runtime '[ -x "${LLAMA_BIN:-}/llama-perplexity" ]' 'LLAMA_BIN is missing' runtime
step tokens '[ -d "${LOQUAT_SHARED_DATA:-}/vocabs" ] && [ -d "${LLAMA_SOURCE:-}" ] && [ -e "${LLAMA_BIN:-}/libllama.so" ]' \
    'LOQUAT_SHARED_DATA, LLAMA_SOURCE or LLAMA_BIN is missing' tokens
step hf_tokens 'has tokenizers && has transformers && has gguf && has sentencepiece && [ -d "${LOQUAT_SHARED_DATA:-}/vocabs" ] &&
    [ -d "${LLAMA_SOURCE:-}" ] && [ -e "${LLAMA_BIN:-}/libllama.so" ]' \
    'tokenizers, transformers, gguf, sentencepiece, LOQUAT_SHARED_DATA, LLAMA_SOURCE or LLAMA_BIN is missing' hf_tokens
step hf_write 'has transformers && has gguf && [ -d "${LOQUAT_SHARED_DATA:-}/vocabs" ]' \
    'transformers, gguf or LOQUAT_SHARED_DATA is missing' hf_write
step templates 'has transformers && has jinja2 && [ -d "${LOQUAT_SHARED_DATA:-}/templates" ]' \
    'transformers, jinja2 or LOQUAT_SHARED_DATA is missing' templates
step export 'has gguf && [ -x "${LLAMA_BIN:-}/llama-export-lora" ]' 'gguf or LLAMA_BIN is missing' export_judged
step mix_reference '[ -x "${LLAMA_BIN:-}/llama-quantize" ]' 'LLAMA_BIN is missing' same_mix_reference
step mixes '[ -x "${LLAMA_BIN:-}/llama-perplexity" ]' 'LLAMA_BIN is missing' mixes
step quantize 'has gguf && [ -x "${LLAMA_BIN:-}/llama-quantize" ]' 'gguf or LLAMA_BIN is missing' quantized
step end_to_end 'has gguf && has xllamacpp' 'gguf or xllamacpp is missing' end_to_end
step dora 'has torch && has peft' 'torch or peft is missing' same_dora_values
step pissa 'has torch && has peft' 'torch or peft is missing' same_pissa_values
step pissa_svd 'has numpy && has gguf' 'numpy or gguf is missing' \
    "$python" "$here/check_pissa.py" "$loquat" "$here/../../examples/pip-F16.gguf" "$here/../../examples/car/train.jsonl"
step families 'has torch && has transformers && has gguf' 'torch, transformers or gguf is missing' same_families
step families_run 'has torch && has transformers && has xllamacpp && [ -x "${LLAMA_BIN:-}/llama-perplexity" ]' \
    'torch, transformers, xllamacpp or LLAMA_BIN is missing' \
    "$python" "$here/check_families.py" "$loquat" "$make_tiny" "${LLAMA_BIN:-}"
step stories 'has numpy && [ -d "${LOQUAT_SHARED_DATA:-}/models" ]' 'numpy or LOQUAT_SHARED_DATA is missing' \
    "$python" "$here/stories.py" "$loquat" "${LOQUAT_SHARED_DATA:-}"
step divergence '[ -x "${LLAMA_BIN:-}/llama-perplexity" ] && [ -d "${LOQUAT_SHARED_DATA:-}/models" ]' \
    'LLAMA_BIN or LOQUAT_SHARED_DATA is missing' \
    "$python" "$here/check_divergence.py" "$loquat" "${LLAMA_BIN:-}" "${LOQUAT_SHARED_DATA:-}"

echo
printf '%-18s %7s  %s\n' step seconds result
cat "$work/table"
exit $worst
