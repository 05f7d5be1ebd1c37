#!/bin/bash
# Score a collection of photos on a Ray cluster, as a job of it.
#
#   export RAY_ADDRESS=http://head:8265
#   examples/ray-detect.sh /data/photos /data/scores
#   facetools gather /data/scores > scores.jsonl        when the job has ended
#
# Both must be at the same path on every node. Ray deals out the photos of one shard at a time, and runs again what a
# node that is lost held; a job that is submitted again passes over the shards that are complete.
set -euo pipefail

photos=${1:?name the photos: ray-detect.sh PHOTOS INTO}
into=${2:?name the folder of shards: ray-detect.sh PHOTOS INTO}

ray job submit -- facetools detect --engine ray --in "$photos" --shard "next/${SHARDS:-100}" --into "$into"
