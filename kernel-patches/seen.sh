#!/bin/sh
# Takes again what the book shows of booted kernels (docs/src/booted.md includes the files in seen/). It builds what is
# missing; with everything built it takes about ten minutes on two cores, under TCG.
set -eu
cd "$(dirname "$0")"
lab() {
    cargo run --release -q -p struct-ops-lab-kernel -- "$@"
}
lab scenario two-links-tcp two-links-always --series rfc --series link-owned > seen/two-links.txt
lab scenario --brief --rounds 12 --series stock --series link-owned straight-path attach-detach-attach failing-reg \
    alloc-failure sleeping-member socket-outlives-link update-between-maps owner-member two-links-singleton \
    light-skeleton hid-failing-reg two-links-hid stale-scheduler-link two-links-keyed > seen/scenarios.txt
lab random --seeds 0..25 --series link-owned > seen/random.txt
