#!/bin/bash
# step.sh THREADS LOG TEXT COMMAND...: one job of the Snakefile. Reports when it starts and ends, and how long it took the
# last time; the output of the command goes to its log, whose end is shown if it fails.
set -euo pipefail
export OMP_NUM_THREADS=$1
# glibc (Linux) keeps freed memory: without this, encoding pictures spends a quarter of its time on page faults
export MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=4294967296 MALLOC_TOP_PAD_=67108864
log=$2 text=$3
shift 3
last=$(cat "$log.seconds" 2>/dev/null || true)
echo "  $(date +%H:%M:%S)  $text${last:+ ($last s the last time)} ..." >&2
if "$@" > "$log" 2>&1; then
  echo "$SECONDS" > "$log.seconds"
  echo "  $(date +%H:%M:%S)  done in $SECONDS s: $text" >&2
else
  code=$?
  echo "FAILED: $text. The end of $log:" >&2
  tail -n 30 "$log" | sed 's/^/  | /' >&2
  exit $code
fi
