#!/bin/bash
# Score a collection of photos with GNU parallel: workers on this machine that take one shard after the other.
#
#   examples/parallel-detect.sh photos/ scores/ > scores.jsonl
#   JOBS=8 SHARDS=500 examples/parallel-detect.sh photos/ scores/ > scores.jsonl
#
# Workers that are killed are started again, up to three times; meanwhile the others make their shards. A run that was
# stopped goes on where it was.
set -euo pipefail

photos=${1:?name the photos: parallel-detect.sh PHOTOS INTO}
into=${2:?name the folder of shards: parallel-detect.sh PHOTOS INTO}
jobs=${JOBS:-$(nproc)}
shards=${SHARDS:-100}

# One thread a worker: as many workers as there are cores. Their failures are seen by what is missing then.
export OMP_NUM_THREADS=1
seq "$jobs" | parallel --quote --line-buffer --jobs "$jobs" --retries 3 -N0 \
  facetools detect --in "$photos" --shard "next/$shards" --into "$into" || true
facetools gather "$into"
