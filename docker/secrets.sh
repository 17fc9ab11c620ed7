#!/usr/bin/env bash
# Makes docker/.env, which compose.yaml reads: random passwords and keys, for this user's eyes alone. What is there already
# stays as it is, as the database was made with it.
set -euo pipefail
umask 077

file="${1:-$(dirname "${BASH_SOURCE[0]}")/.env}"
if [ -e "$file" ]; then
    chmod 600 "$file"
    echo "$file is there already and stays as it is."
    exit 0
fi

random() { od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }

made="$(mktemp "$file.XXXXXX")"
trap 'rm -f "$made"' EXIT
cat > "$made" << END
POSTGRES_PASSWORD=$(random 32)
RAY_AUTH_TOKEN=$(random 32)
S3_ACCESS_KEY=$(random 10)
S3_SECRET_KEY=$(random 32)
END
ln "$made" "$file"  # fails where another was quicker
echo "$file was made, mode 0600."
