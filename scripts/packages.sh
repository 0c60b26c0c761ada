# Debian packages, installed when missing. Sourced by quickstart.sh and check.sh:
# install_packages NAME...
install_packages() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    echo "installing Debian packages:$missing"
    sudo=
    if [ "$(id -u)" -ne 0 ]; then sudo=sudo; fi
    $sudo apt-get update -qq
    # shellcheck disable=SC2086 # one word per package is meant
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing \
        >/dev/null
}

build_packages="gcc g++ libc6-dev cmake ninja-build pkg-config libopenblas-openmp-dev
liblapacke-dev libhdf5-dev libjansson-dev libpcre2-dev libyaml-dev nettle-dev"
