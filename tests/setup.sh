#!/bin/bash
# Installs what building and testing need, and says what it installs. With nothing to do it is quiet, and quick.
set -euo pipefail
cd "$(dirname "$0")/.."

UV=0.13.9
PACKAGES=(
    mariadb-server mariadb-backup socat b3sum attr systemd-container dbus
    varnish tcc nginx-light php-fpm php-mysql php-apcu mediawiki memcached
    iproute2 iptables nftables rsync openssl gpg gpg-agent
    python3 python3-dev python3-venv gcc libc6-dev
)

say() { echo "==> $*"; }
die() { echo "setup: $*" >&2; exit 1; }

# -- a Rust toolchain: found, never installed ---------------------------------------------------------------------

wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
get="get it with rustup (https://rustup.rs): rustup toolchain install stable --profile default"
command -v cargo rustc >/dev/null || die "no Rust toolchain; Rust $wanted or later is needed: $get"
found=$(rustc --version | cut -d' ' -f2)
[ "$(printf '%s\n' "$wanted" "${found%%-*}" | sort -V | head -n1)" = "$wanted" ] ||
    die "Rust $found is too old; $wanted or later is needed: $get"
for part in rustfmt clippy; do
    [ "$part" = rustfmt ] && program=cargo-fmt || program=cargo-clippy
    command -v "$program" >/dev/null || die "the Rust toolchain has no $part: rustup component add $part"
done

# -- Debian packages ----------------------------------------------------------------------------------------------

here() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
missing=()
command -v dpkg-query >/dev/null || die "this is not Debian; the tests need Debian 12's ${PACKAGES[*]}"
for package in "${PACKAGES[@]}"; do here "$package" || missing+=("$package"); done
# npm of any origin will do; Debian's own brings hundreds of packages.
command -v npm >/dev/null || missing+=(npm)

install_missing() {
    [ "$(id -u)" = 0 ] || die "missing: ${missing[*]}; as root: apt-get install --no-install-recommends ${missing[*]}"
    say "installing ${missing[*]}"
    local log=target/apt.log policy=/usr/sbin/policy-rc.d before
    before=$(dpkg-query -W -f='${Package}\n' | sort)
    if [ ! -e "$policy" ]; then
        # Nothing that is installed for the tests is to start on this machine: the tests start their own.
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    local options=(-q -y -o DPkg::Lock::Timeout=300)
    if ! { apt-get "${options[@]}" update && apt-get "${options[@]}" install --no-install-recommends "${missing[@]}"; } \
        >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        die "apt-get failed; all it said is in $log"
    fi
    # Nor at the next boot.
    local new units
    new=$(comm -13 <(echo "$before") <(dpkg-query -W -f='${Package}\n' | sort) | grep -vxE 'dbus.*|systemd.*|lib.*' || true)
    if [ -n "$new" ] && command -v systemctl >/dev/null; then
        # shellcheck disable=SC2086
        units=$(dpkg -L $new 2>/dev/null | sed -nE 's,^(/usr)?/lib/systemd/system/([^/@]+\.(service|socket|timer))$,\2,p' | sort -u)
        for unit in $units; do
            # Aliases and what is only started by others say another word.
            if [ "$(systemctl is-enabled "$unit" 2>/dev/null)" = enabled ]; then
                systemctl disable "$unit" >>"$log" 2>&1 || true
                say "$unit is installed and stays off (systemctl enable $unit, if you want it)"
            fi
        done
    fi
}

mkdir -p target
[ ${#missing[@]} -eq 0 ] || install_missing

# -- the Python environment ---------------------------------------------------------------------------------------

# From Debian's own interpreter, for the hosts of the lab run it too.
lock=(tests/requirements.lock tests/overrides.txt)
if ! cat "${lock[@]}" | cmp -s - target/venv/.requirements || ! target/venv/bin/python -c '' 2>/dev/null; then
    if ! target/boot/bin/uv --version 2>/dev/null | grep -qF "uv $UV"; then
        say "fetching uv $UV into target/boot"
        /usr/bin/python3 -m venv --clear target/boot
        target/boot/bin/pip install --quiet --disable-pip-version-check "uv==$UV"
    fi
    export UV_PYTHON_DOWNLOADS=never
    target/venv/bin/python -c '' 2>/dev/null || target/boot/bin/uv venv --quiet --clear --python /usr/bin/python3 target/venv
    say "installing tests/requirements.lock into target/venv"
    # Compiled once: where the environment keeps Python from writing it, each start of Salt would compile 500 files.
    target/boot/bin/uv pip install --quiet --compile-bytecode --python target/venv/bin/python \
        --override tests/overrides.txt -r tests/requirements.lock
    cat "${lock[@]}" >target/venv/.requirements
fi
