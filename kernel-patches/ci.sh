#!/bin/sh
# Builds and boots the rfc and link-owned kernels, runs the test list on them and
# then a few scenarios of the simulator, for CI. Fails if anything is not as
# predicted. Without the tools it needs, and
# without the means to install them, it says "SKIPPED" and does not fail.
# `ci.sh build` only builds: what the tests, run later, find done already.
# Arguments go to the lab before the command: `ci.sh --cache DIR`.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
unavailable=69 # the lab's status if something outside is missing
verb=test
if [ "${1:-}" = build ]; then
	verb=build
	shift
fi

# In the profile of the tests, with which CI shares most of it. Not `cargo run`,
# which waits for every other cargo.
cargo build --quiet --profile test --manifest-path "$here/lab/Cargo.toml"
lab() {
	"${CARGO_TARGET_DIR:-$here/../target}/debug/kernel-lab" "$@"
}

skip() {
	echo "kernel-patches: SKIPPED: $*"
	exit 0
}

status=0
lab "$@" tools || status=$?
if [ $status = $unavailable ]; then
	[ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null ||
		skip "tools are missing, and only root can install them"
	lab "$@" install >/dev/null || skip "the tools cannot be installed"
	lab "$@" tools || skip "tools are missing after the installation"
elif [ $status != 0 ]; then
	exit $status
fi

# Both are run, whatever the first one says.
failed=0
run() {
	status=0
	lab "$@" --series rfc --series link-owned || status=$?
	[ $status != $unavailable ] || skip "the kernel's source cannot be had"
	[ $status = 0 ] || failed=$status
}
run "$@" "$verb"
if [ "$verb" = test ]; then
	# What the model says of two links of one map, held against a booted
	# kernel: one subsystem of the kernel's own, one of the lab's module.
	run "$@" scenario --brief --stress 0 --rounds 8 two-links-tcp two-links-always
fi
exit $failed
