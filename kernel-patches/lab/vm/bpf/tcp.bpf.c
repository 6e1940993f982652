// SPDX-License-Identifier: GPL-2.0
/* Congestion controls that do next to nothing: a link map, two more maps for
 * it to be updated to, and a plain one.
 */
#include "lab.h"

__u64 init_cookie;
__u64 event_cookie;
__u64 events;

SEC("struct_ops/init")
void lab_init(void *ctx)
{
	init_cookie = lab_cookie(ctx);
}

/* called when what a socket has sent is acknowledged */
SEC("struct_ops/cong_avoid")
void lab_cong_avoid(void *ctx)
{
	event_cookie = lab_cookie(ctx);
	events++;
}

SEC("struct_ops/ssthresh")
__u32 lab_ssthresh(void *ctx)
{
	return 2;
}

SEC("struct_ops/undo_cwnd")
__u32 lab_undo_cwnd(void *ctx)
{
	return 2;
}

#define LAB_CC(cc_name)				\
{						\
	.init = (void *)lab_init,		\
	.cong_avoid = (void *)lab_cong_avoid,	\
	.ssthresh = (void *)lab_ssthresh,	\
	.undo_cwnd = (void *)lab_undo_cwnd,	\
	.name = cc_name,			\
}

SEC(".struct_ops.link")
struct tcp_congestion_ops cc_link = LAB_CC("lab_cc");

SEC(".struct_ops.link")
struct tcp_congestion_ops cc_link2 = LAB_CC("lab_cc");

SEC(".struct_ops.link")
struct tcp_congestion_ops cc_other = LAB_CC("lab_other");

SEC(".struct_ops")
struct tcp_congestion_ops cc_plain = LAB_CC("lab_plain");

SEC(".struct_ops")
struct tcp_congestion_ops cc_plain2 = LAB_CC("lab_plain");

/* not valid: no ssthresh */
SEC(".struct_ops.link")
struct tcp_congestion_ops cc_invalid = {
	.cong_avoid = (void *)lab_cong_avoid,
	.undo_cwnd = (void *)lab_undo_cwnd,
	.name = "lab_invalid",
};
