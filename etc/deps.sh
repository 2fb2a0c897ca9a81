#!/bin/sh
# Installs the Debian packages named in the files given (one a line, # comments) that are missing.
# As root, or through sudo; otherwise says exactly what to type.
set -eu
missing=$(for p in $(sed 's/#.*//' "$@"); do
	dpkg-query -W -f '${Status}\n' "$p" 2>/dev/null | grep -q 'ok installed' || echo "$p"
done | sort -u | tr '\n' ' ')
[ -n "${missing# }" ] || exit 0
echo "Missing packages: $missing"
install="env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -q --no-install-recommends $missing"
if [ "$(id -u)" = 0 ]; then
	apt-get update -q
	$install
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null || { [ -t 0 ] && command -v sudo >/dev/null 2>&1; }; then
	sudo apt-get update -q
	sudo $install
else
	echo "Not root, and no sudo that can be used. As root, type:" >&2
	echo "    apt-get update && apt-get install --no-install-recommends $missing" >&2
	exit 1
fi
