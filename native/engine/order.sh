#!/bin/sh
# order.sh FUNCTIONS PROGRAM: from the addresses that mksnapshot wrote (of itself, PROGRAM), a linker script that puts the engine's functions a call
# runs through side by side, and beside them all else of the half that starts runs: 300 KB of 2.2 MB, so that a start reads few pages of the program.
# The engine's image and its memory are put aside from small data, which then lies in few pages.
nm "$2" | awk '
	NR == FNR { wanted[$1] = 1; next }
	($1 in wanted) && $3 ~ /^(w2c_|Z_qjsZ_)/ { names[$3] = 1 }
	END { for (name in names) print name }
' "$1" - | LC_ALL=C sort | awk '
	BEGIN { print "SECTIONS { .text.planner : {" }
	{ printf "*(.text.%s .text.%s.*)\n", $1, $1 }
	END {
		print "*start.o(.text .text.[!w]* .text.w[!2]*)\n} } INSERT BEFORE .text;"
		print "SECTIONS { .engine_image : { *(.data.engine_image) } } INSERT BEFORE .data;"
		print "SECTIONS { .engine_space (NOLOAD) : { *(.bss.engine_space) } } INSERT AFTER .bss;"
	}
'
