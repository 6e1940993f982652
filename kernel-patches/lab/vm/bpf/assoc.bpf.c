// SPDX-License-Identifier: GPL-2.0
/* A program of two maps says whether it is tied to one of them (Linux 7.x). */
#include "lab.h"

struct lab_ops {
	__u64 (*plain)(__u64 arg);
	__u64 (*second)(__u64 arg);
	__u64 (*sleepable)(__u64 arg);
} __attribute__((preserve_access_index));

extern int lab_ops_assoc(void) __ksym __weak;

SEC("struct_ops/plain")
__u64 shared(void *ctx)
{
	return bpf_ksym_exists(lab_ops_assoc) ? lab_ops_assoc() : 0;
}

SEC(".struct_ops.link")
struct lab_ops running = {
	.plain = (void *)shared,
};

SEC(".struct_ops.link")
struct lab_ops other = {
	.plain = (void *)shared,
};
