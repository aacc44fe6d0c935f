#!/usr/bin/env bash
# Explains the results of an attack: bash loadtest/vegeta/report.sh data/vegeta/results.bin
#
# Prints the report and a histogram by latency, and leaves beside the results: report.json, latency.hdr (percentiles, for
# hdrhistogram plotters) and plot.html (latency of each request over time, without internet).
set -euo pipefail
results=${1:?usage: report.sh RESULTS.bin}
out=$(dirname "$results")
vegeta=$(dirname "${BASH_SOURCE[0]}")/../../bin/vegeta
[ -x "$vegeta" ] || vegeta=$(command -v vegeta) || { echo "no vegeta: run make bin/vegeta" >&2; exit 1; }

"$vegeta" report "$results"
"$vegeta" report -type='hist[0,1ms,2ms,5ms,10ms,20ms,50ms,100ms,200ms,500ms,1s,5s]' "$results"
"$vegeta" report -type=json "$results" >"$out/report.json"
"$vegeta" report -type=hdrplot "$results" >"$out/latency.hdr"
"$vegeta" plot -title='Sluice' "$results" >"$out/plot.html"
echo
echo "202 is an order in line; 409, 429 and 503 are refusals in order: vegeta counts them as errors, see Status Codes."
echo "left in $out: report.json latency.hdr plot.html"
