#!/bin/sh
# run.sh FUZZ-SECONDS PROGRAM…: runs native test programs and fuzz targets one after the other and adds up their last lines. A program that ends
# badly without counting a failure itself is one more failure. Fuzz targets run for FUZZ-SECONDS each on test/native/corpus/NAME/.
seconds=$1
shift
passed=0 failed=0 skipped=0
output=$(mktemp)
trap 'rm -f "$output"' EXIT

for program; do
	name=${program##*/}
	case $name in
	fuzz_*) "$program" "$seconds" "test/native/corpus/${name#fuzz_}" >"$output" 2>&1 ;;
	*) "$program" >"$output" 2>&1 ;;
	esac
	status=$?
	counts=$(tail -n 1 "$output" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p')
	# shellcheck disable=SC2086
	set -- ${counts:-0 0 0}
	[ "$status" -ne 0 ] && [ "$2" -eq 0 ] && set -- "$1" 1 "$3"
	[ -z "$counts" ] && [ "$status" -eq 0 ] && set -- 0 1 0 && echo "$name: no line of counts at the end" >>"$output"
	passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
	if [ "$2" -ne 0 ] || [ "$3" -ne 0 ]; then cat "$output"; fi
	echo "$name: $1 passed, $2 failed, $3 skipped"
done

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
