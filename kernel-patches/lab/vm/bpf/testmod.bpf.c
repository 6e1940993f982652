// SPDX-License-Identifier: GPL-2.0
/* bpf_testmod's own types: reg() calls test_1 and test_2 at once. */
#include "lab.h"

struct bpf_testmod_ops {
	int (*test_1)(void);
	void (*test_2)(int a, int b);
} __attribute__((preserve_access_index));

struct st_ops_args;

struct bpf_testmod_st_ops {
	int (*test_prologue)(struct st_ops_args *args);
} __attribute__((preserve_access_index));

__u64 test_1_cookie;
__u64 test_2_cookie;

SEC("struct_ops/test_1")
int test_1(void *ctx)
{
	test_1_cookie = lab_cookie(ctx);
	return 0;
}

SEC("struct_ops/test_2")
int test_2(void *ctx)
{
	test_2_cookie = lab_cookie(ctx);
	return 0;
}

SEC("struct_ops.s/test_prologue")
int test_prologue(void *ctx)
{
	return 0;
}

SEC(".struct_ops.link")
struct bpf_testmod_ops testmod_link = {
	.test_1 = (void *)test_1,
	.test_2 = (void *)test_2,
};

SEC(".struct_ops.link")
struct bpf_testmod_st_ops singleton_link = {
	.test_prologue = (void *)test_prologue,
};
