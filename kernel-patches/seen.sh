#!/bin/sh
# Takes again what the book shows of booted kernels (docs/src/booted.md includes the files in seen/). It builds what is
# missing; with everything built it takes about half an hour on two cores, under TCG.
set -eu
cd "$(dirname "$0")"
lab() {
    cargo run --release -q -p struct-ops-lab-kernel -- "$@"
}
lab scenario two-links-tcp two-links-always --series rfc --series link-owned > seen/two-links.txt
lab scenario --brief --series stock --series rfc --series link-owned > seen/scenarios.txt
lab random --seeds 0..50 --series stock --series rfc --series link-owned > seen/random.txt
