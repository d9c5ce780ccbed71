#!/usr/bin/env bash
# `gd`, `gd` at the compute of `stgu`, and `stgu`: one seed after the other until the time is up, then the report.
#   bash projects/nyuv2_small/seeds_until.sh SECONDS CONFIG [options of compare_methods.py]
# Started again, it goes on where it was: what was unfinished resumes.
set -uo pipefail
[ $# -ge 2 ] || { sed -n '2,4s/^# *//p' "$0"; exit 2; }
end=$((SECONDS + $1))
compare=(python tools/analysis/compare_methods.py "$2" --no-single-task --methods 'gd,stgu,gd-long=gd[compute=@stgu]' "${@:3}")
seeds=0
while [ "$SECONDS" -lt "$end" ]; do
  timeout --signal=TERM --kill-after=60 $((end - SECONDS)) "${compare[@]}" --seeds "$seeds"
  status=$?
  case $status in
    0) seeds+=,$((${seeds##*,} + 1)) ;;
    75 | 124) break ;;  # the time was up: everything is saved
    *) exit "$status" ;;
  esac
done
"${compare[@]}" --seeds "$seeds" --report-only
