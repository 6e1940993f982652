#!/bin/sh
# Takes a golden file: builds the dumper, boots a kernel in the lab and keeps what it prints.
#
#   sim/golden/take.sh WHAT SERIES [IMAGE] > FILE
#
# WHAT are the dumper's arguments ("trampolines", "cookies", "memory TYPE MAPS LINKS"), SERIES and IMAGE those of
# `kernel-lab boot`. The lab's folder must hold an unpacked kernel tree, for its nolibc.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
what=$1 series=$2 image=${3-}
cache=${LAB_CACHE:-$HOME/.cache/struct-ops-lab}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

nolibc=$cache/trees/stock/tools/include/nolibc
${CC:-gcc} -Os -Wall -static -nostdlib -fno-asynchronous-unwind-tables -fno-ident -fno-stack-protector \
	-I "$nolibc" -include "$nolibc/nolibc.h" -s -o "$work/dump" "$here/dumper/dump.c" -lgcc

lab=${KERNEL_LAB:-"cargo run --quiet --release -p struct-ops-lab-kernel --"}
$lab boot --series "$series" ${image:+--image "$image"} -- \
	"echo $(base64 -w0 "$work/dump") | base64 -d > /tmp/dump; chmod +x /tmp/dump; /tmp/dump $what" > "$work/console"

echo "# Taken by sim/golden/take.sh \"$what\" $series${image:+ $image}"
echo "# QEMU with emulation (tcg, -cpu max) unless the machine has a KVM that boots stock kernels: the processor decides"
echo "# about the mitigations, see [jit] at the end."
tr -d '\r' < "$work/console" | sed -n '/^@dump begin/,/^@dump end/{/^@dump/d;p}'
