#!/bin/sh
# run.sh BUILD NAME SECONDS: one target of `make fuzz`; a line of what was done, and of a finding the log's end.
# The time that one input may take is by the clock: on a busy machine 5 s were passed by inputs that take 30 ms.
set -u
found=$1/found
dict=tests/fuzz/dict/$2
"$1/tests/live/fuzz_$2" $([ ! -f "$dict" ] || echo "-dict=$dict") -max_total_time="$3" -timeout=20 -rss_limit_mb=1024 -print_final_stats=1 \
	-artifact_prefix="$found/$2-" "$found/$2" "tests/fuzz/corpus/$2" > "$found/$2.log" 2>&1
status=$?
echo "fuzz $2: $(grep -a 'DONE\|BINGO' "$found/$2.log" | tail -n 1 | tr -s ' ')"
if [ $status -ne 0 ]; then
	tail -n 60 "$found/$2.log"
	echo "FAILED: fuzz $2: $found/$2.log"
	exit 1
fi
