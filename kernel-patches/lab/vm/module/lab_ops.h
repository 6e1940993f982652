/* SPDX-License-Identifier: GPL-2.0 */
/* The ioctl interface of lab_ops.ko, shared with the test programs. */
#ifndef LAB_OPS_H
#define LAB_OPS_H

#define LAB_OPS_SLOTS 8

enum lab_ops_member { LAB_PLAIN, LAB_SECOND, LAB_SLEEPABLE };

struct lab_ops_call {
	__u32 slot;		/* in: registrations are numbered, lowest free first */
	__u32 member;		/* in: enum lab_ops_member */
	__u64 arg;		/* in */
	__u64 result;		/* out */
};

#define LAB_OPS_CALL	  _IOWR('L', 1, struct lab_ops_call)
#define LAB_OPS_FAIL_NEXT _IO('L', 2)	/* the next reg() or update() fails with -EIO */
#define LAB_OPS_WAKE	  _IO('L', 3)	/* end of every lab_ops_wait() */
#define LAB_OPS_WAITERS	  _IO('L', 4)	/* how many programs are in lab_ops_wait() */

#endif
