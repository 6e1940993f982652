// SPDX-License-Identifier: GPL-2.0
/* Programs of a HID device. The test says of which device before it loads them. */
#include "lab.h"

#ifdef LAB_NO_HID_BPF
/* A ready-made kernel has no HID-BPF: the object builds, and the tests skip it. */
enum hid_report_type { LAB_HID_REPORT };
enum hid_class_request { LAB_HID_REQUEST };
struct hid_bpf_ctx;
struct hid_bpf_ops {
	int hid_id;
	int (*hid_rdesc_fixup)(struct hid_bpf_ctx *ctx);
	int (*hid_device_event)(struct hid_bpf_ctx *ctx, enum hid_report_type type, __u64 source);
	int (*hid_hw_request)(struct hid_bpf_ctx *ctx, unsigned char reportnum,
			      enum hid_report_type rtype, enum hid_class_request reqtype,
			      __u64 source);
};
#endif

/* not on a ready-made kernel */
extern int lab_ops_wait(void) __ksym __weak;

bool shall_sleep;
__u64 fixups;

SEC("struct_ops.s/hid_rdesc_fixup")
int BPF_PROG(fixup, struct hid_bpf_ctx *hctx)
{
	__sync_fetch_and_add(&fixups, 1);
	return 0;
}

SEC("struct_ops/hid_device_event")
int BPF_PROG(event, struct hid_bpf_ctx *hctx, enum hid_report_type type, __u64 source)
{
	return 0;
}

/* sleeps, as it may: in hid_bpf_hw_request() it would wait for the device */
SEC("struct_ops.s/hid_hw_request")
int BPF_PROG(request, struct hid_bpf_ctx *hctx, unsigned char reportnum,
	     enum hid_report_type rtype, enum hid_class_request reqtype, __u64 source)
{
	if (shall_sleep && bpf_ksym_exists(lab_ops_wait))
		lab_ops_wait();
	return 0;
}

SEC(".struct_ops.link")
struct hid_bpf_ops fixup_a = {
	.hid_rdesc_fixup = (void *)fixup,
};

SEC(".struct_ops.link")
struct hid_bpf_ops fixup_b = {
	.hid_rdesc_fixup = (void *)fixup,
};

/* reg() allocates for the event after it has the fixup */
SEC(".struct_ops.link")
struct hid_bpf_ops fixup_and_event = {
	.hid_rdesc_fixup = (void *)fixup,
	.hid_device_event = (void *)event,
};

SEC(".struct_ops.link")
struct hid_bpf_ops only_request = {
	.hid_hw_request = (void *)request,
};
