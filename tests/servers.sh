#!/usr/bin/env bash
# What the tests want beside Python packages: a Chromium for the pages, a PostgreSQL for the ledger. Finds them, installs
# them where it may (root on Debian), or says what to do; all but those tests works without. Of the Chromiums the one
# without windows is preferred: it takes half as much of the processor.
set -euo pipefail

present() { command -v "$1" > /dev/null; }
may_install() { [ "$(id -u)" -eq 0 ] && present apt-get; }
install() { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" > /dev/null; }

missing=()
if ! present chromium-headless-shell; then
    if may_install && install chromium-headless-shell; then :
    elif ! present chromium && ! present chromium-browser && ! present google-chrome && ! present google-chrome-stable; then
        missing+=(chromium)
    fi
fi
present initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null || missing+=(postgresql)

if [ "${#missing[@]}" -eq 0 ]; then exit 0; fi
if may_install; then
    install "${missing[@]}"
else
    echo "The tests want ${missing[*]}: install with 'apt-get install ${missing[*]}', or put chromium and initdb on the PATH." >&2
fi
