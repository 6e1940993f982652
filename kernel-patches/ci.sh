#!/bin/sh
# Builds and boots the rfc and link-owned kernels and runs the test list, for CI.
# Fails if an outcome is not the predicted one. Without the tools it needs, and
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

status=0
lab "$@" "$verb" --series rfc --series link-owned || status=$?
[ $status != $unavailable ] || skip "the kernel's source cannot be had"
exit $status
