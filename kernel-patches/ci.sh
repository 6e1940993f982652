#!/bin/sh
# Builds and boots the rfc and link-owned kernels and runs the test list, for CI.
# Fails if an outcome is not the predicted one. Without the tools it needs, and
# without the means to install them, it says "SKIPPED" and does not fail.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

lab() {
	cargo run --quiet --release --manifest-path "$here/lab/Cargo.toml" -- "$@"
}

skip() {
	echo "kernel-patches: SKIPPED: $*"
	exit 0
}

if ! lab tools; then
	if [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; then
		lab install >/dev/null || skip "the tools cannot be installed"
		lab tools || skip "tools are missing after the installation"
	else
		skip "tools are missing, and only root can install them"
	fi
fi

lab test --series rfc --series link-owned
