/* SPDX-License-Identifier: GPL-2.0 */
/* The ioctl interface of lab_ops.ko, shared with the test programs. */
#ifndef LAB_OPS_H
#define LAB_OPS_H

#define LAB_OPS_SLOTS 8

enum lab_ops_member { LAB_PLAIN, LAB_SECOND, LAB_SLEEPABLE };

/* or'ed to a slot: the registration of this place among those there are, the oldest first */
#define LAB_OPS_NTH 0x100

struct lab_ops_call {
	__u32 slot;		/* in: registrations are numbered, lowest free first; or LAB_OPS_NTH */
	__u32 member;		/* in: enum lab_ops_member */
	__u64 arg;		/* in */
	__u64 result;		/* out */
};

/*
 * A gate: the next task that enters a function, or returns from it, is held
 * there, asleep, until the gate is opened. It runs on its own stack and takes
 * part in no read side section that it was not in before; where it must not
 * sleep, it must not be held. One that is not released for LAB_GATE_LIMIT_S
 * goes on by itself.
 */
struct lab_gate {
	char symbol[64];
	__u32 tid;		/* only this thread, never another one */
	__u32 skip;		/* that many of its calls pass before */
	__u32 arg;		/* 1 to 6: only calls with this argument ... */
	__u32 slot;		/* which of the gates */
	__u64 value;		/* ... of this value; 0: any call */
	__u32 flags;		/* enum lab_gate_flags */
	__u32 pad;
};

#define LAB_GATES 24

enum lab_gate_flags {
	LAB_GATE_RETURN = 1,	/* where the function returns, not where it begins */
	LAB_GATE_WORKER = 2,	/* any worker of a workqueue instead of tid */
	LAB_GATE_KTHREAD = 4,	/* any kernel thread instead of tid */
	LAB_GATE_PLACE = 8,	/* at a place of the lab's own, whoever comes: value */
	LAB_GATE_ZERO = 16,	/* at a return: the result is 0 when it goes on */
};

/*
 * Places of the lab's own are inside of read side sections. Who must not sleep
 * there spins, with interrupts on and not for as long: a processor is taken.
 */
enum lab_place {
	LAB_PROG_BEGINS = 0,		/* or'ed with a program's number: it has not read its cookie */
	LAB_PROG_ENDS = 0x100,		/* or'ed with a program's number: its next instruction returns */
	LAB_CALL_READS = 0x200,		/* the caller is going to load the function pointer */
	LAB_CALL_ENTERS = 0x201,	/* the caller has loaded it */
};

#define LAB_GATE_LIMIT_S 30
#define LAB_GATE_SPIN_S 8

enum lab_gate_state {
	LAB_GATE_CLOSED,	/* nobody has come */
	LAB_GATE_HOLDS,		/* somebody sleeps in it */
	LAB_GATE_PASSED,	/* somebody was released */
	LAB_GATE_GAVE_UP,	/* somebody went on after the limit */
	LAB_GATE_ENTERED,	/* somebody is in the function, and is held when it returns */
};

/* What a kernel does that is broken: `kernel-lab prove` asks whether the lab sees it. */
enum lab_breaks {
	LAB_BREAK_WARN,		/* WARN() */
	LAB_BREAK_NULL,		/* a function pointer that is NULL is followed */
	LAB_BREAK_SLEEP,	/* the caller sleeps for ever, and cannot be woken */
	LAB_BREAK_SPIN,		/* the caller's CPU does nothing else any more */
	LAB_BREAK_RESET,	/* a triple fault */
};

#define LAB_OPS_CALL	  _IOWR('L', 1, struct lab_ops_call)
#define LAB_OPS_FAIL_NEXT _IO('L', 2)	/* the next reg() or update() fails with -EIO */
#define LAB_OPS_WAKE	  _IO('L', 3)	/* end of every lab_ops_wait() */
#define LAB_OPS_WAITERS	  _IO('L', 4)	/* how many programs are in lab_ops_wait() */
#define LAB_GATE_ARM	  _IOW('L', 5, struct lab_gate)
/* their argument is the slot */
#define LAB_GATE_STATE	  _IO('L', 6)	/* enum lab_gate_state */
#define LAB_GATE_OPEN	  _IO('L', 7)	/* release, and take the gate away; the state before */
/* its argument is one of enum lab_breaks */
#define LAB_OPS_BREAK	  _IO('L', 8)
/* whether the struct_ops program of this descriptor is tied to exactly one map (7.x) */
#define LAB_OPS_TIED	  _IO('L', 9)

#endif
