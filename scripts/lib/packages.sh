# SPDX-License-Identifier: Apache-2.0
#
# Debian packages for scripts/setup, which sources this file: what is missing, and how it is installed.
#
# In:   wanted_packages (the caller's list), LOG, say, die
# Out:  missing_packages, install_missing, as_root, package_candidate, clang_runtime_package
# Not:  it upgrades nothing that stands and never touches the machine's package sources.

# Names of the wanted packages that are not installed, one a line.
missing_packages() {
    awk 'NR == FNR { if ($2 ~ /^.i/) have[$1] = 1; next } !($1 in have)' \
        <(dpkg-query -W -f='${Package} ${db:Status-Abbrev}\n' 2>/dev/null) <(wanted_packages)
}

# The sanitizer runtime of the clang that is installed or would be. Debian only recommends it.
clang_runtime_package() {
    local number
    number=$(dpkg-query -W -f='${Depends}' clang 2>/dev/null | sed -n 's/.*clang-\([0-9]\{1,\}\).*/\1/p')
    [ -n "$number" ] || number=$(apt-cache depends clang 2>/dev/null |
        sed -n 's/.*Depends: clang-\([0-9]\{1,\}\)$/\1/p' | head -n 1)
    [ -z "$number" ] || echo "libclang-rt-$number-dev"
}

# Version that apt would install of package $1; nothing if apt does not know it.
package_candidate() {
    apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)" { print $2 }'
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo -- "$@"
    else
        sudo -n -- "$@"
    fi
}

require_root() {
    local hint="As root: apt-get install --no-install-recommends $*"
    [ "${DSMIL_NO_INSTALL:-0}" != 1 ] || die "missing packages: $*" "DSMIL_NO_INSTALL is set. $hint"
    [ "$(id -u)" = 0 ] && return 0
    command -v sudo >/dev/null || die "missing packages: $*" "this needs root and there is no sudo. $hint"
    if [ ! -t 0 ] && ! sudo -n true 2>/dev/null; then
        die "missing packages: $*" "sudo wants a password and there is no terminal. $hint"
    fi
}

# apt-get with its noise in the log; waits for another package manager rather than failing.
apt_quiet() {
    as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -q -o DPkg::Lock::Timeout=600 -o APT::Color=0 "$@" \
        >>"$LOG" 2>&1 </dev/null 9>&-
}

# Refresh apt's lists once a run. A broken third-party source makes apt-get return an error though Debian's own
# lists came in, so that error ends nothing: what counts is whether the packages can then be had.
updated=0
refresh_lists() {
    local try
    [ "$updated" = 0 ] || return 0
    say "reading the package lists"
    for try in 1 2 3 4 5 6; do
        if apt_quiet update; then break; fi
        # Only another apt at work is worth waiting for.
        tail -n 5 "$LOG" | grep -q 'Could not get lock' || break
        say "another package manager holds the lists; trying again (${try} of 6)"
        sleep 10
    done
    updated=1
}

install_packages() {
    require_root "$@"
    refresh_lists
    say "installing $# package$([ $# = 1 ] || echo s): $*"
    apt_quiet install -y --no-install-recommends "$@" ||
        die "apt-get could not install: $*" \
            "often the mirror is out of reach: see $LOG, try 'apt-get update', then this again."
}

install_missing() {
    local missing
    mapfile -t missing < <(missing_packages)
    [ "${#missing[@]}" = 0 ] || install_packages "${missing[@]}"
}
