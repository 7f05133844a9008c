#!/bin/sh
# start-order.sh IMAGE: what a warm start of that image, by an ordinary user, enters of the half that starts runs, but for the engine, as lines for
# native/start/order.ld. After make.
# start-order.sh --check BUILD: names in that file which are none, or no longer; make asks.
set -eu
if [ "$1" = --check ]; then
	objdump -h "$2/start.o" | awk '
		NR == FNR { for (name = $2; name ~ /^\.text\./; sub(/\.[^.]*$/, "", name)) there[name] = 1; next }
		match($0, /start\.o\(\.text\.[^ ]+ /) && !(substr($0, RSTART + 8, RLENGTH - 9) in there) { print "native/start/order.ld: there is no " substr($0, RSTART + 8, RLENGTH - 9) }
	' - native/start/order.ld
	exit
fi
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cc -O2 -o "$place/entered" "$(dirname "$0")/entered.c"
# The functions of that half, and the sections of its object that they are in.
objdump -t build/start.o | awk '$4 ~ /^\.text/ { print $NF, $4 } $3 ~ /^\.text/ { print $NF, $3 }' | sort -u > "$place/sections"
nm build/tsrun.full | awk 'NR == FNR { ours[$1] = 1; next } $3 in ours' "$place/sections" - > "$place/names"
export TSRUN_LINGER=10 XDG_RUNTIME_DIR
for XDG_RUNTIME_DIR in '' "$place"; do
	for time in 1 2; do bin/tsrun exec "$1" /bin/true; done
	"$place/entered" bin/tsrun exec "$1" /bin/true < "$place/names"
done |
	awk 'NR == FNR { section[$1] = $2; next } section[$1] ~ /^\.text\./ && section[$1] !~ /\.(w2c_|Z_qjsZ_|generated_)/ { sub(/\.(part|isra|constprop)\..*/, "", section[$1]); print section[$1] }' "$place/sections" - |
	LC_ALL=C sort -u | sed 's/.*/*start.o(& &.*)/'
