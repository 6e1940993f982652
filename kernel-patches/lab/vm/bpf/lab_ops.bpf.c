// SPDX-License-Identifier: GPL-2.0
/* Every member returns the cookie that it reads. */
#include "lab.h"

struct lab_ops {
	__u64 (*plain)(__u64 arg);
	__u64 (*second)(__u64 arg);
	__u64 (*sleepable)(__u64 arg);
} __attribute__((preserve_access_index));

extern int lab_ops_wait(void) __ksym;

SEC("struct_ops/plain")
__u64 plain(void *ctx)
{
	return lab_cookie(ctx);
}

SEC("struct_ops/second")
__u64 second(void *ctx)
{
	return lab_cookie(ctx);
}

/* With an argument it sleeps first, until the lab wakes it. */
SEC("struct_ops.s/sleepable")
__u64 sleepable(__u64 *ctx)
{
	if (ctx[0])
		lab_ops_wait();
	return lab_cookie(ctx);
}

SEC(".struct_ops.link")
struct lab_ops lab_link = {
	.plain = (void *)plain,
	.second = (void *)second,
	.sleepable = (void *)sleepable,
};

/* a second map with the same programs */
SEC(".struct_ops.link")
struct lab_ops lab_link2 = {
	.plain = (void *)plain,
	.second = (void *)second,
	.sleepable = (void *)sleepable,
};

SEC(".struct_ops")
struct lab_ops lab_map = {
	.plain = (void *)plain,
	.second = (void *)second,
	.sleepable = (void *)sleepable,
};
