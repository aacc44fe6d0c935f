#!/usr/bin/env bash
# Attacks with a list of targets and leaves the results: bash loadtest/vegeta/attack.sh targets.json
#
#   RATE      requests a second (1000)          DURATION   seconds (30)
#   WORKERS   most requests at a time (2000)    OUT        folder for the results (data/vegeta)
#
# The rate is kept whatever the answers take (open model). Each line of the list is sent once, in order; a list that is too
# short starts again from its top, where every user is known already: give it RATE x DURATION users.
set -euo pipefail
targets=${1:?usage: attack.sh TARGETS.json, as sluice loadtest targets --format vegeta writes them}
rate=${RATE:-1000} duration=${DURATION:-30} workers=${WORKERS:-2000} out=${OUT:-data/vegeta}

vegeta=$(dirname "${BASH_SOURCE[0]}")/../../bin/vegeta
[ -x "$vegeta" ] || vegeta=$(command -v vegeta) || { echo "no vegeta: run make bin/vegeta" >&2; exit 1; }

users=$(wc -l <"$targets")
if [ "$users" -lt $((rate * duration)) ]; then
	echo "attack.sh: $targets has $users users for $((rate * duration)) requests: the rest would be repeats" >&2
	exit 2
fi
mkdir -p "$out"
# -lazy reads the list as it goes: a million users take no memory.
"$vegeta" attack -format=json -lazy -targets="$targets" -rate="$rate/s" -duration="${duration}s" \
	-max-workers="$workers" -timeout=10s >"$out/results.bin"
bash "$(dirname "${BASH_SOURCE[0]}")/report.sh" "$out/results.bin"
