#!/bin/sh
# run.sh FUZZ-SECONDS PROGRAM…: runs native test programs one after the other, and beside them fuzz targets, and adds up their last lines. A program that
# ends badly without counting a failure itself is one more failure, also when it is a process of its own that a sanitizer has something to say of. Fuzz targets run for FUZZ-SECONDS each on test/native/corpus/NAME/.
seconds=$1
shift
passed=0 failed=0 skipped=0
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

fuzz() {
	for program; do
		name=${program##*/}
		case $name in fuzz_*)
			"$program" "$seconds" "test/native/corpus/${name#fuzz_}" >"$place/$name" 2>&1
			echo $? >"$place/$name.status"
			;;
		esac
	done
}
fuzz "$@" &

for program; do
	name=${program##*/}
	case $name in
	fuzz_*) wait ;;
	*)
		"$program" >"$place/$name" 2>&1
		echo $? >"$place/$name.status"
		;;
	esac
	status=$(cat "$place/$name.status")
	grep -qE 'WARNING: ThreadSanitizer|ERROR: (Address|Leak)Sanitizer|: runtime error: ' "$place/$name" && status=1
	counts=$(tail -n 1 "$place/$name" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p')
	# shellcheck disable=SC2086
	set -- ${counts:-0 0 0}
	[ "$status" -ne 0 ] && [ "$2" -eq 0 ] && set -- "$1" 1 "$3"
	[ -z "$counts" ] && [ "$status" -eq 0 ] && set -- 0 1 0 && echo "$name: no line of counts at the end" >>"$place/$name"
	passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
	if [ "$2" -ne 0 ] || [ "$3" -ne 0 ]; then cat "$place/$name"; fi
	echo "$name: $1 passed, $2 failed, $3 skipped"
done

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
