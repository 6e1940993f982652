// SPDX-License-Identifier: GPL-2.0
/* The smallest scheduler: every task goes to the global queue. Two of them,
 * because one can be enabled at a time.
 */
#include "lab.h"

#define SCX_DSQ_GLOBAL ((1ULL << 63) | 1)
#define NO_DSQ 0x1ab	/* sched_ext ends a scheduler that dispatches to it */
#define SCX_SLICE_DFL (20 * 1000000ULL)

/* 6.12 has the first, 7.3 the second */
extern void scx_bpf_dispatch(struct task_struct *p, __u64 dsq_id, __u64 slice,
			     __u64 enq_flags) __ksym __weak;
extern void scx_bpf_dsq_insert___new(struct task_struct *p, __u64 dsq_id, __u64 slice,
				     __u64 enq_flags) __ksym __weak;

/* the same names may be declared with an argument that the verifier fills in */
extern int scx_bpf_create_dsq___lab(__u64 dsq_id, int node) __ksym __weak;
extern int scx_bpf_dsq_nr_queued___lab(__u64 dsq_id) __ksym __weak;

#define DSQ_OF_B 0xb

int tracer_saw;
__u64 init_cookie;
__u64 enqueue_cookie;
__u64 enqueued;
bool asked_to_fail;

SEC("struct_ops.s/init")
int lab_init(void *ctx)
{
	init_cookie = lab_cookie(ctx);
	return 0;
}

SEC("struct_ops.s/init")
int lab_init_with_dsq(void *ctx)
{
	return bpf_ksym_exists(scx_bpf_create_dsq___lab) ?
	       scx_bpf_create_dsq___lab(DSQ_OF_B, -1) : 0;
}

/* No program of a scheduler, and tied to no map: asks for a queue that only B has. */
SEC("fentry/bpf_fentry_test1")
int BPF_PROG(tracer, int a)
{
	if (bpf_ksym_exists(scx_bpf_dsq_nr_queued___lab))
		tracer_saw = scx_bpf_dsq_nr_queued___lab(DSQ_OF_B);
	return 0;
}

/* The default one may dispatch to an idle CPU without enqueue. */
SEC("struct_ops/select_cpu")
int BPF_PROG(lab_select_cpu, struct task_struct *p, int prev_cpu, __u64 wake_flags)
{
	return prev_cpu;
}

SEC("struct_ops/enqueue")
void BPF_PROG(lab_enqueue, struct task_struct *p, __u64 enq_flags)
{
	__u64 dsq;

	enqueue_cookie = lab_cookie(ctx);
	__sync_fetch_and_add(&enqueued, 1);
	dsq = asked_to_fail ? NO_DSQ : SCX_DSQ_GLOBAL;
	if (bpf_ksym_exists(scx_bpf_dsq_insert___new))
		scx_bpf_dsq_insert___new(p, dsq, SCX_SLICE_DFL, enq_flags);
	else if (bpf_ksym_exists(scx_bpf_dispatch))
		scx_bpf_dispatch(p, dsq, SCX_SLICE_DFL, enq_flags);
}

SEC(".struct_ops.link")
struct sched_ext_ops scx_a = {
	.init = (void *)lab_init,
	.select_cpu = (void *)lab_select_cpu,
	.enqueue = (void *)lab_enqueue,
	.name = "lab_a",
};

SEC(".struct_ops.link")
struct sched_ext_ops scx_b = {
	.init = (void *)lab_init_with_dsq,
	.select_cpu = (void *)lab_select_cpu,
	.enqueue = (void *)lab_enqueue,
	.name = "lab_b",
};
