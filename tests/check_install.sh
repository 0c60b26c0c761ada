#!/bin/sh
# Installs the build into a temporary prefix and uses it as an outsider would: the header alone in C
# and C++, a program against each library through pkg-config, the names that the shared library
# gives away.
#   check_install.sh BUILD_DIR SOURCE_DIR MAKE_MODEL [CFLAGS]
# MAKE_MODEL OUT.gguf writes a small model. CFLAGS: what the build itself was compiled with, e.g.
# sanitizers.
set -eu
build=$1 source=$2 make_model=$3 cflags=${4:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
cc=${CC:-cc}
cxx=${CXX:-c++}
strict="-Wall -Wextra -pedantic -Werror"

fail() { echo "check_install: $*" >&2; exit 1; }

cmake --install "$build" --prefix "$prefix" >"$work/install.log" ||
    fail "$(cat "$work/install.log")"
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name loquat.pc)")
LD_LIBRARY_PATH=$(dirname "$PKG_CONFIG_PATH")
export PKG_CONFIG_PATH LD_LIBRARY_PATH
# the file names the prefix of configure time; a package manager would say the same as this option
pc() { pkg-config --define-variable=prefix="$prefix" "$@" loquat; }

echo '#include <loquat.h>' >"$work/alone.c"
cp "$work/alone.c" "$work/alone.cc"
# shellcheck disable=SC2046,SC2086  # flags are lists
$cc -std=c11 $strict $(pc --cflags) -c "$work/alone.c" -o "$work/alone.o"
# shellcheck disable=SC2046,SC2086
$cxx -std=c++17 $strict $(pc --cflags) -c "$work/alone.cc" -o "$work/alone.o"

names=$(nm -D --defined-only "$LD_LIBRARY_PATH/libloquat.so" | awk '{print $3}')
[ -n "$names" ] || fail "the shared library exports nothing"
others=$(echo "$names" | grep -v '^loquat_' || true)
[ -z "$others" ] || fail "the shared library exports more than loquat_*: $others"

"$make_model" "$work/model.gguf"
i=0
while [ $i -lt 40 ]; do
    echo "{\"prompt\": \"the $i\", \"completion\": \"and the hand $i\"}"
    i=$((i + 1))
done >"$work/data.jsonl"

client=$source/tests/install_client.c
# shellcheck disable=SC2046,SC2086
$cc -std=c11 $strict $cflags "$client" $(pc --cflags --libs) -lm -o "$work/shared"
# shellcheck disable=SC2046,SC2086
$cc -std=c11 $strict $cflags "$client" $(pc --cflags) "$LD_LIBRARY_PATH/libloquat.a" \
    $(pc --static --libs | sed 's/-lloquat//') -o "$work/static"
ldd "$work/shared" | grep -q libloquat || fail "the client was not linked with the shared library"
ldd "$work/static" | grep -q libloquat && fail "the static client needs the shared library"

for kind in shared static; do
    loss=$("$work/$kind" "$work/model.gguf" "$work/data.jsonl" "$work/run-$kind") ||
        fail "the $kind client failed ($loss)"
    echo "$kind client: evaluation loss $loss"
    echo "$loss" >"$work/$kind.loss"
done
cmp -s "$work/shared.loss" "$work/static.loss" || fail "the two libraries trained differently"
"$prefix/bin/loquat" --version | grep -q '[0-9]' || fail "the installed program has no version"
