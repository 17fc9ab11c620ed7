#!/usr/bin/env bash
# What the tests want beside Python packages: a Chromium for the pages, a PostgreSQL for the ledger. Finds them, installs
# them where it may (root on Debian), or says what to do; all but those tests works without.
set -euo pipefail

missing=()
for name in chromium chromium-browser google-chrome google-chrome-stable none; do
    [ "$name" = none ] && missing+=(chromium)
    command -v "$name" > /dev/null && break
done
command -v initdb > /dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null || missing+=(postgresql)

if [ "${#missing[@]}" -eq 0 ]; then exit 0; fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
else
    echo "The tests want ${missing[*]}: install with 'apt-get install ${missing[*]}', or put chromium and initdb on the PATH." >&2
fi
