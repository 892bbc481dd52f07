#!/usr/bin/env bash
# Installs the named Debian packages that are missing: as root, with sudo, or by saying which line to run (exit code 1).
# Quiet and instant when everything is there, also without a network.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

missing=()
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

line="apt-get install -y --no-install-recommends ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "Packages are missing, and installing them needs root. Run this line as root, then start again:" >&2
        echo "  $line" >&2
        exit 1
    fi
    as_root=(sudo)
fi
if ! command -v apt-get >/dev/null; then
    echo "This machine has no apt-get. Install what these Debian packages hold, then start again: ${missing[*]}" >&2
    exit 1
fi
echo "Installing with apt-get: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq || echo "apt-get update failed; trying with the package lists that are there"
if ! "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; then
    echo "apt-get could not install them. Run this line yourself to see why, then start again:" >&2
    echo "  $line" >&2
    exit 1
fi
