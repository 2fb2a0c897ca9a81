#!/bin/sh
# unpack.sh DIRECTORY FILE...: the Debian packages named in the files (one a line, # comments) as DIRECTORY/PACKAGE/usr/...
# For programs that the tests run but that must not be installed, since they are services or exclude each other. Needs no root
# unless apt has no lists yet. What is there already is not fetched again.
set -eu
to=$1
shift
for p in $(sed 's/#.*//' "$@"); do
	[ -d "$to/$p" ] && continue
	rm -rf "$to/$p.part"
	mkdir -p "$to/$p.part"
	fetch() { (cd "$to/$p.part" && apt-get download -q "$p" >/dev/null 2>/dev/null); }
	if ! fetch; then
		[ "$(id -u)" = 0 ] && apt-get update -q
		fetch || { echo "apt-get cannot download $p" >&2; exit 1; }
	fi
	echo "unpacking $p into $to/"
	dpkg -x "$to/$p.part"/*.deb "$to/$p.part"
	rm -f "$to/$p.part"/*.deb
	mv "$to/$p.part" "$to/$p"
done
