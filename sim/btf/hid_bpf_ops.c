// SPDX-License-Identifier: GPL-2.0
/*
 * hid_bpf_ops for a kernel whose own BTF lacks it (HID-BPF not configured): its type
 * as the headers have it. Compiled as a module's object, never linked or loaded.
 */
#include <linux/bpf.h>
#include <linux/hid_bpf.h>

struct bpf_struct_ops_hid_bpf_ops {
	struct bpf_struct_ops_common_value common;
	struct hid_bpf_ops data ____cacheline_aligned_in_smp;
} hid_bpf_ops_type;
