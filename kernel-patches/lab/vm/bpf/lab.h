/* SPDX-License-Identifier: GPL-2.0 */
/* What every BPF object of the lab starts with. */
#ifndef LAB_BPF_H
#define LAB_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char _license[] SEC("license") = "GPL";

/* Stock kernels refuse bpf_get_attach_cookie() here. The test programs say
 * before loading whether the kernel has it; if not, the verifier drops the
 * call as dead code and the cookie reads 0.
 */
const volatile bool have_cookie = false;

#define lab_cookie(ctx) (have_cookie ? bpf_get_attach_cookie(ctx) : 0)

#endif
