# SPDX-License-Identifier: Apache-2.0
#
# OpenSSL for scripts/setup, which sources this file: Debian's own from 3.5 on, else a private static build of the
# source package of Debian 13.
#
# In:   DEPS, LOG, JOBS, OPENSSL_MIN, rebuild; say, die and the functions of packages.sh
# Out:  openssl_there, provide_openssl; $DEPS/openssl/{include,lib,lib/pkgconfig,STAMP}
# Does: fetches through a private apt configuration, so that apt checks Debian's signature and the machine's own
#       sources stay as they are. Builds beside the place and renames at the end.
# Not:  it installs no library into the system and replaces none: 3.0 and 3.5 share their SONAME, hence static.

OPENSSL_SUITE=trixie
OPENSSL_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# Left out is what the mesh never speaks and what only lengthens the build. Kept: ML-KEM, ML-DSA, SLH-DSA, EC, X25519,
# AES-GCM, SHA-3, HKDF, scrypt, X.509, TLS 1.2 and 1.3, QUIC, the assembly code.
OPENSSL_OPTIONS=(no-shared no-module no-tests no-docs no-apps no-legacy no-engine no-ssl3 no-tls1 no-tls1_1 no-dtls
    no-srp no-sctp no-comp no-zlib no-afalgeng no-gost no-ec2m no-idea no-seed no-camellia no-aria no-bf no-cast no-rc2
    no-rc4 no-md4 no-mdc2 no-whirlpool no-rmd160 no-sm2 no-sm3 no-sm4 no-ts no-cmp no-cms no-ct no-uplink
    no-weak-ssl-ciphers enable-ec_nistp_64_gcc_128 -O3 -fPIC)

# True when package libssl-dev is installed and new enough.
openssl_of_system() {
    local version
    version=$(dpkg-query -W -f='${db:Status-Abbrev} ${Version}' libssl-dev 2>/dev/null | sed -n 's/^.i. *//p')
    [ -n "$version" ] && dpkg --compare-versions "$version" ge "$OPENSSL_MIN"
}

# The stamp is the last file written into a private build: its first line names the version, the second the options.
openssl_is_private() {
    [ -f "$DEPS/openssl/lib/libcrypto.a" ] &&
        [ "$(sed -n 2p "$DEPS/openssl/STAMP" 2>/dev/null)" = "${OPENSSL_OPTIONS[*]}" ]
}

openssl_there() {
    openssl_of_system || openssl_is_private
}

provide_openssl() {
    local candidate
    openssl_of_system && return 0
    if [ "$rebuild" = 0 ] && openssl_is_private; then return 0; fi
    candidate=$(package_candidate libssl-dev)
    if [ -z "$candidate" ]; then
        require_root libssl-dev
        refresh_lists
        candidate=$(package_candidate libssl-dev)
    fi
    if [ -n "$candidate" ] && dpkg --compare-versions "$candidate" ge "$OPENSSL_MIN"; then
        install_packages libssl-dev
        return 0
    fi
    build_openssl
    rebuild=0
}

# ---- fetching ----

# Mirrors to ask, one "archive security" pair a line: $DSMIL_DEBIAN_MIRROR, then the machine's own. Whose a source is
# stands in its lists; where those were deleted its path has to tell.
debian_mirrors() {
    local targets main security
    [ -z "${DSMIL_DEBIAN_MIRROR:-}" ] || echo "${DSMIL_DEBIAN_MIRROR%/} ${DSMIL_DEBIAN_MIRROR%/}-security"
    targets=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 2>/dev/null | sed 's|/*$||' | sort -u)
    main=$(sed -n 's/^Debian|Debian|//p' <<<"$targets" | head -n 1)
    security=$(sed -n 's/^Debian|Debian-Security|//p' <<<"$targets" | head -n 1)
    main=${main:-$(sed -n 's/^||\(.*\/debian\)$/\1/p' <<<"$targets" | head -n 1)}
    [ -z "$main" ] || echo "$main ${security:-$main-security}"
}

# The private configuration: the machine's way to the network (proxies, timeouts), and nothing else of it.
write_private_apt() {
    local dir=$1 archive=$2 security=$3 arch
    arch=$(dpkg --print-architecture)
    rm -rf "$dir/state" "$dir/cache"
    mkdir -p "$dir/state/lists/partial" "$dir/cache/archives/partial"
    {
        apt-config dump |
            grep -E '^Acquire::(http|https|ftp|tor|Retries|ForceIPv[46]|Check-Valid-Until|Check-Date|Proxy)' || true
        cat <<EOF
Dir::State "$dir/state";
Dir::State::status "$dir/state/status";
Dir::Cache "$dir/cache";
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::main "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "$arch";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
EOF
    } >"$dir/apt.conf"
    : >"$dir/state/status"
    cat >"$dir/sources.list" <<EOF
deb-src [signed-by=$OPENSSL_KEYRING] $archive $OPENSSL_SUITE main
deb-src [signed-by=$OPENSSL_KEYRING] $archive $OPENSSL_SUITE-updates main
deb-src [signed-by=$OPENSSL_KEYRING] $security $OPENSSL_SUITE-security main
EOF
}

private_apt() {
    APT_CONFIG=$DEPS/apt/apt.conf LC_ALL=C "$@" </dev/null 9>&-
}

# Newest source that can really be had: a mirror's index is at times ahead of its files. Sets openssl_dsc.
fetch_from() {
    local version
    write_private_apt "$DEPS/apt" "$1" "$2"
    private_apt apt-get -q update >>"$LOG" 2>&1 || true
    for version in $(private_apt apt-cache showsrc openssl 2>>"$LOG" | sed -n 's/^Version: //p' | sort -Vru); do
        dpkg --compare-versions "$version" ge "$OPENSSL_MIN" || continue
        openssl_version=${version%%-*}
        say "fetching OpenSSL $openssl_version (Debian source $version)"
        if (cd "$DEPS/source" && private_apt apt-get -q source --download-only "openssl=$version" >>"$LOG" 2>&1); then
            openssl_dsc=$DEPS/source/openssl_${version#*:}.dsc
            [ ! -f "$openssl_dsc" ] || return 0
        fi
        say "the mirror lists that version but does not have its files"
    done
    return 1
}

fetch_openssl() {
    local archive security
    [ -f /usr/share/keyrings/debian-archive-$OPENSSL_SUITE-stable.gpg ] || install_packages debian-archive-keyring
    mkdir -p "$DEPS/apt" "$DEPS/source"
    while read -r archive security; do
        say "asking $archive for the OpenSSL of Debian $OPENSSL_SUITE"
        fetch_from "$archive" "$security" && return 0
    done < <(debian_mirrors)
    die "no mirror gave OpenSSL $OPENSSL_MIN or later" \
        "does the mirror of the apt sources answer? DSMIL_DEBIAN_MIRROR=URL names another. Then run this again."
}

# ---- building ----

# Show how far make has come: one line kept up to date on a terminal, else a line now and then.
watch_build() {
    local pid=$1 dir=$2 total=$3 start=$SECONDS shown=0 part text
    while kill -0 "$pid" 2>/dev/null; do
        part=$(($(find "$dir" -name '*.o' | wc -l) * 100 / (total > 0 ? total : 1)))
        text="building OpenSSL $openssl_version: compiling $part %, $((SECONDS - start)) s"
        if [ "$quiet" = 0 ] && [ -t 1 ]; then
            printf '\rsetup: %s ' "$text"
        elif [ $((SECONDS - start)) -ge "$shown" ]; then
            say "$text"
            shown=$((SECONDS - start + 20))
        fi
        sleep 1
    done
    [ "$quiet" = 1 ] || [ ! -t 1 ] || printf '\n'
}

compile_openssl() {
    local source=$1 prefix=$2 total pid
    (cd "$source" && ./Configure --prefix="$prefix" --libdir=lib --openssldir=/usr/lib/ssl "${OPENSSL_OPTIONS[@]}") \
        >>"$LOG" 2>&1 9>&- || die "OpenSSL's Configure failed"
    total=$(make -C "$source" -n build_libs 2>/dev/null 9>&- | grep -cE '(^|/)(gcc|cc|clang)[^ ]* .*-c ' || true)
    make -C "$source" -j"$JOBS" build_libs >>"$LOG" 2>&1 9>&- &
    pid=$!
    trap 'kill "$pid" 2>/dev/null; exit 130' INT TERM
    watch_build "$pid" "$source" "$total"
    trap - INT TERM
    wait "$pid" || die "OpenSSL did not compile" \
        "a full disk or too little memory is the usual cause; DSMIL_JOBS=1 needs the least."
}

# A run that was killed may have left its folder, and compilers still at work in it.
clear_remains() {
    local process
    for process in /proc/[0-9]*; do
        case $(readlink "$process/cwd" 2>/dev/null || true) in
        "$DEPS"/work.*) kill "${process#/proc/}" 2>/dev/null || true ;;
        esac
    done
    rm -rf "$DEPS"/work.* 2>/dev/null || { sleep 1 && rm -rf "$DEPS"/work.*; }
}

# Everything happens in a folder of this run; only the last rename makes it count. The lock's descriptor (9) is closed
# for what might outlive a killed run, so that the next one need not wait for it.
build_openssl() {
    local work
    dpkg -s dpkg-dev perl >/dev/null 2>&1 || install_packages dpkg-dev perl
    clear_remains
    fetch_openssl
    work=$(mktemp -d "$DEPS/work.XXXXXX")
    # apt has checked the files against the signed index already; the maintainer's own key is in no base keyring.
    dpkg-source --no-check -x "$openssl_dsc" "$work/source" >>"$LOG" 2>&1 9>&- || die "cannot unpack $openssl_dsc"
    compile_openssl "$work/source" "$DEPS/openssl"
    say "installing OpenSSL $openssl_version into $DEPS/openssl"
    make -C "$work/source" DESTDIR="$work/tree" install_dev >>"$LOG" 2>&1 9>&- || die "OpenSSL's install step failed"
    mv "$work/tree$DEPS/openssl" "$work/openssl"
    # The folder may be moved or copied with the checkout.
    sed -i 's|^prefix=.*|prefix=${pcfiledir}/../..|' "$work/openssl/lib/pkgconfig/"*.pc
    printf '%s\n%s\n' "$openssl_version" "${OPENSSL_OPTIONS[*]}" >"$work/openssl/STAMP"
    [ ! -e "$DEPS/openssl" ] || mv "$DEPS/openssl" "$work/old"
    mv "$work/openssl" "$DEPS/openssl"
    rm -rf "$work" "$DEPS/source" "$DEPS/apt"
}
