// SPDX-License-Identifier: GPL-2.0
/*
 * lab_ops: a struct_ops type that lets the lab choose what its subsystem does.
 *
 * It accepts several registrations, also of one map, calls any member on
 * demand through the pointer that it was given for a registration, can fail
 * reg() and update() after having called in, and has a kfunc in which a
 * sleepable program sleeps until the lab wakes it, and gates that hold a task
 * at the entry or at the return of a kernel function. The locking is what a
 * careful subsystem does: RCU around plain members, RCU Tasks Trace around
 * sleepable ones, no call starts after unreg().
 *
 * Not part of a series. The same source is built for every kernel under test.
 */
#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/fs.h>
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/objtool.h>
#include <linux/rcupdate_trace.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <linux/wait.h>
#include <asm/desc.h>
#include "lab_ops.h"

struct lab_ops {
	u64 (*plain)(u64 arg);
	u64 (*second)(u64 arg);
	u64 (*sleepable)(u64 arg);
};

static struct {
	struct lab_ops *ops;
	struct bpf_link *link;
	unsigned long age;		/* when it was registered */
} slots[LAB_OPS_SLOTS];
static unsigned long registrations;	/* protected by slots_mutex */
static DEFINE_MUTEX(slots_mutex);
static bool fail_next;

static DECLARE_WAIT_QUEUE_HEAD(waiters);
static atomic_t waiters_cnt;
static atomic_t wakes;

static struct gate {
	struct lab_gate gate;
	struct kprobe probe;
	bool armed;			/* protected by gate_mutex */
	bool probed;			/* its probe is registered; protected by gate_mutex */
	bool leaving;			/* LAB_GATE_OPEN: whoever comes passes */
	atomic_t skip;			/* calls that pass; negative: one was taken */
	atomic_t state;
	struct task_struct *task;	/* on its way through, or asleep in it */
	unsigned long resume;		/* where it shall go on */
} gates[LAB_GATES];
static DEFINE_MUTEX(gate_mutex);
static DECLARE_WAIT_QUEUE_HEAD(gate_queue);

/* Whoever comes to a place of the lab's own, inside of a read side section. */
static void lab_gate_here(u32 place, bool sleepable)
{
	unsigned long end = jiffies + LAB_GATE_SPIN_S * HZ;
	struct gate *g;

	for (g = gates; g < gates + LAB_GATES; g++) {
		if (!READ_ONCE(g->armed) || READ_ONCE(g->leaving) ||
		    !(g->gate.flags & LAB_GATE_PLACE) || g->gate.value != place)
			continue;
		if (atomic_dec_return(&g->skip) != -1)
			continue;
		atomic_set(&g->state, LAB_GATE_HOLDS);
		if (sleepable)
			wait_event_timeout(gate_queue, READ_ONCE(g->leaving),
					   LAB_GATE_LIMIT_S * HZ);
		else
			while (!READ_ONCE(g->leaving) && time_before(jiffies, end))
				cpu_relax();
		atomic_set(&g->state, READ_ONCE(g->leaving) ? LAB_GATE_PASSED :
							      LAB_GATE_GAVE_UP);
	}
}

__bpf_kfunc_start_defs();

__bpf_kfunc int lab_ops_wait(void)
{
	int seen = atomic_read(&wakes);

	atomic_inc(&waiters_cnt);
	wait_event_timeout(waiters, atomic_read(&wakes) != seen, 60 * HZ);
	atomic_dec(&waiters_cnt);
	return 0;
}

/*
 * Whether kallsyms names the trampoline from which the program was called that
 * calls this. A program has a frame, and this function has none of its own yet:
 * rbp is the program's, the return address above it is the trampoline's.
 */
__bpf_kfunc int lab_ops_named(void)
{
	unsigned long *frame;
	char name[KSYM_SYMBOL_LEN];

	asm volatile("movq %%rbp, %0" : "=r"(frame));
	sprint_symbol(name, frame[1]);
	return strncmp(name, "0x", 2) != 0;
}

/* A program that does not sleep is at one of its places. */
__bpf_kfunc void lab_ops_here(u32 place)
{
	lab_gate_here(place, false);
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 0, 0)
#define LAB_HAS_ASSOC

/* Whether the program that calls is tied to exactly one struct_ops map. */
__bpf_kfunc int lab_ops_assoc(struct bpf_prog_aux *aux)
{
	return !!bpf_prog_get_assoc_struct_ops(aux);
}
#endif

__bpf_kfunc_end_defs();

BTF_KFUNCS_START(lab_ops_kfunc_ids)
BTF_ID_FLAGS(func, lab_ops_wait, KF_SLEEPABLE)
BTF_ID_FLAGS(func, lab_ops_named)
BTF_ID_FLAGS(func, lab_ops_here)
#ifdef LAB_HAS_ASSOC
BTF_ID_FLAGS(func, lab_ops_assoc, KF_IMPLICIT_ARGS)
#endif
BTF_KFUNCS_END(lab_ops_kfunc_ids)

static const struct btf_kfunc_id_set lab_ops_kfunc_set = {
	.owner = THIS_MODULE,
	.set = &lab_ops_kfunc_ids,
};

static int lab_ops_find(const struct lab_ops *ops, const struct bpf_link *link)
{
	int i;

	for (i = 0; i < LAB_OPS_SLOTS; i++)
		if (link ? slots[i].link == link : slots[i].ops == ops)
			return i;
	return -1;
}

/* Call in like bpf_testmod does: a failing reg() fails after that. */
static int lab_ops_try(struct lab_ops *ops)
{
	if (ops->plain)
		ops->plain(0);
	if (!fail_next)
		return 0;
	fail_next = false;
	return -EIO;
}

static int lab_ops_reg(void *kdata, struct bpf_link *link)
{
	int i, err;

	mutex_lock(&slots_mutex);
	err = lab_ops_try(kdata);
	if (err)
		goto out;
	i = lab_ops_find(NULL, NULL);
	if (i < 0) {
		err = -ENOSPC;
		goto out;
	}
	slots[i].link = link;
	slots[i].age = ++registrations;
	slots[i].ops = kdata;
out:
	mutex_unlock(&slots_mutex);
	return err;
}

static void lab_ops_unreg(void *kdata, struct bpf_link *link)
{
	int i;

	mutex_lock(&slots_mutex);
	i = lab_ops_find(kdata, link);
	if (!WARN_ON(i < 0)) {
		slots[i].ops = NULL;
		slots[i].link = NULL;
	}
	mutex_unlock(&slots_mutex);
}

static int lab_ops_update(void *kdata, void *old_kdata, struct bpf_link *link)
{
	int i, err;

	mutex_lock(&slots_mutex);
	err = lab_ops_try(kdata);
	if (!err) {
		i = lab_ops_find(old_kdata, link);
		slots[i].ops = kdata;
	}
	mutex_unlock(&slots_mutex);
	return err;
}

/* The slot of the n-th registration, or no slot. Whoever registers meanwhile comes after all others. */
static u32 lab_ops_nth(u32 n)
{
	unsigned long after = 0;
	u32 i, found;

	do {
		found = LAB_OPS_SLOTS;
		for (i = 0; i < LAB_OPS_SLOTS; i++)
			if (READ_ONCE(slots[i].ops) && slots[i].age > after &&
			    (found == LAB_OPS_SLOTS || slots[i].age < slots[found].age))
				found = i;
		if (found < LAB_OPS_SLOTS)
			after = slots[found].age;
	} while (found < LAB_OPS_SLOTS && n--);
	return found;
}

static long lab_ops_call_member(struct lab_ops_call *call)
{
	u32 slot = call->slot;
	u64 (*fn)(u64 arg) = NULL;
	bool sleepable = call->member == LAB_SLEEPABLE;
	struct lab_ops *ops;

	if ((slot & ~LAB_OPS_NTH) >= LAB_OPS_SLOTS)
		return -EINVAL;

	if (sleepable)
		rcu_read_lock_trace();
	else
		rcu_read_lock();

	if (slot & LAB_OPS_NTH)
		slot = lab_ops_nth(slot & ~LAB_OPS_NTH);
	ops = slot < LAB_OPS_SLOTS ? READ_ONCE(slots[slot].ops) : NULL;
	if (ops) {
		lab_gate_here(LAB_CALL_READS, sleepable);
		switch (call->member) {
		case LAB_PLAIN:
			fn = ops->plain;
			break;
		case LAB_SECOND:
			fn = ops->second;
			break;
		case LAB_SLEEPABLE:
			fn = ops->sleepable;
			break;
		}
	}
	if (fn) {
		lab_gate_here(LAB_CALL_ENTERS, sleepable);
		call->result = fn(call->arg);
	}

	if (sleepable)
		rcu_read_unlock_trace();
	else
		rcu_read_unlock();

	return fn ? 0 : -ENOENT;
}

asmlinkage unsigned long lab_gate_wait(unsigned long at_return, unsigned long *result);
extern char lab_gate_stub[], lab_gate_return_stub[];

/* In the task that is held; where it shall go on. At a return, with which result. */
asmlinkage unsigned long lab_gate_wait(unsigned long at_return, unsigned long *result)
{
	unsigned long resume;
	struct gate *g;

	/* one of each kind at most: who arms two for a task waits for the first */
	for (g = gates; g < gates + LAB_GATES; g++)
		if (READ_ONCE(g->task) == current &&
		    !!(g->gate.flags & LAB_GATE_RETURN) == at_return)
			break;
	BUG_ON(g == gates + LAB_GATES);
	resume = g->resume;
	atomic_set(&g->state, LAB_GATE_HOLDS);
	if (!wait_event_timeout(gate_queue, READ_ONCE(g->leaving), LAB_GATE_LIMIT_S * HZ))
		atomic_set(&g->state, LAB_GATE_GAVE_UP);
	else
		atomic_set(&g->state, LAB_GATE_PASSED);
	if (at_return && (g->gate.flags & LAB_GATE_ZERO))
		*result = 0;
	smp_store_release(&g->task, NULL);
	wake_up_all(&gate_queue);
	return resume;
}

/* At the entry: the return address of the function is on the stack, its
 * arguments are in registers: below them a place for the address to go on at.
 * At the return: the result is in registers, the return address is off the stack.
 */
asm(
"	.pushsection .text\n"
"	.type lab_gate_stub, @function\n"
"lab_gate_stub:\n"
"	subq $8, %rsp\n"
"	pushq %rax\n"
"	pushq %rcx\n"
"	pushq %rdx\n"
"	pushq %rsi\n"
"	pushq %rdi\n"
"	pushq %r8\n"
"	pushq %r9\n"
"	pushq %r10\n"
"	pushq %r11\n"
"	xorl %edi, %edi\n"
"	xorl %esi, %esi\n"
"	call lab_gate_wait\n"
"	movq %rax, 72(%rsp)\n"
"	popq %r11\n"
"	popq %r10\n"
"	popq %r9\n"
"	popq %r8\n"
"	popq %rdi\n"
"	popq %rsi\n"
"	popq %rdx\n"
"	popq %rcx\n"
"	popq %rax\n"
"	ret\n"
"	.size lab_gate_stub, .-lab_gate_stub\n"
"	.type lab_gate_return_stub, @function\n"
"lab_gate_return_stub:\n"
"	subq $8, %rsp\n"
"	pushq %rax\n"
"	pushq %rdx\n"
"	movl $1, %edi\n"
"	leaq 8(%rsp), %rsi\n"
"	call lab_gate_wait\n"
"	movq %rax, 16(%rsp)\n"
"	popq %rdx\n"
"	popq %rax\n"
"	ret\n"
"	.size lab_gate_return_stub, .-lab_gate_return_stub\n"
"	.popsection\n");
/* they return to another place than to their caller, which a stack trace need not follow */
STACK_FRAME_NON_STANDARD(lab_gate_stub);
STACK_FRAME_NON_STANDARD(lab_gate_return_stub);

static bool lab_gate_is_for(const struct lab_gate *g)
{
	if (g->flags & LAB_GATE_WORKER)
		return current->flags & PF_WQ_WORKER;
	if (g->flags & LAB_GATE_KTHREAD)
		return current->flags & PF_KTHREAD;
	return current->pid == g->tid;
}

static int lab_gate_pre(struct kprobe *p, struct pt_regs *regs)
{
	struct gate *g = container_of(p, struct gate, probe);

	if (!lab_gate_is_for(&g->gate) || READ_ONCE(g->leaving))
		return 0;
	if (g->gate.arg &&
	    regs_get_kernel_argument(regs, g->gate.arg - 1) != g->gate.value)
		return 0;
	if (atomic_dec_return(&g->skip) != -1)
		return 0;
	WRITE_ONCE(g->task, current);
	if (g->gate.flags & LAB_GATE_RETURN) {
		unsigned long *stack = (unsigned long *)kernel_stack_pointer(regs);

		g->resume = stack[0];
		stack[0] = (unsigned long)lab_gate_return_stub;
		atomic_set(&g->state, LAB_GATE_ENTERED);
		return 0;
	}
	g->resume = (unsigned long)p->addr + MCOUNT_INSN_SIZE;
	instruction_pointer_set(regs, (unsigned long)lab_gate_stub);
	return 1;
}

static long lab_gate_open_locked(struct gate *g)
{
	long state = atomic_read(&g->state);

	if (!g->armed)
		return LAB_GATE_CLOSED;
	WRITE_ONCE(g->leaving, true);
	wake_up_all(&gate_queue);
	WRITE_ONCE(g->armed, false);
	return state;
}

/* Not at once when it is opened: that waits for a grace period, and somebody else may spin in a read side section. */
static void lab_gate_unprobe(struct gate *g)
{
	if (g->probed)
		unregister_kprobe(&g->probe);
	g->probed = false;
}

static long lab_gate_open(unsigned long slot)
{
	long state;

	if (slot >= LAB_GATES)
		return -EINVAL;
	mutex_lock(&gate_mutex);
	state = lab_gate_open_locked(&gates[slot]);
	mutex_unlock(&gate_mutex);
	return state;
}

static long lab_gate_arm(const void __user *uarg)
{
	struct lab_gate gate;
	struct gate *g;
	long err;

	if (copy_from_user(&gate, uarg, sizeof(gate)))
		return -EFAULT;
	if (gate.slot >= LAB_GATES)
		return -EINVAL;
	gate.symbol[sizeof(gate.symbol) - 1] = 0;
	g = &gates[gate.slot];
	mutex_lock(&gate_mutex);
	lab_gate_open_locked(g);
	/* whoever is on its way through still needs what is there */
	if (!wait_event_timeout(gate_queue, !smp_load_acquire(&g->task), HZ)) {
		err = -EBUSY;
		goto out;
	}
	lab_gate_unprobe(g);
	g->gate = gate;
	g->leaving = false;
	atomic_set(&g->skip, gate.skip);
	atomic_set(&g->state, LAB_GATE_CLOSED);
	if (gate.flags & LAB_GATE_PLACE) {
		smp_store_release(&g->armed, true);
		err = 0;
		goto out;
	}
	memset(&g->probe, 0, sizeof(g->probe));
	g->probe.symbol_name = g->gate.symbol;
	g->probe.pre_handler = lab_gate_pre;
	err = register_kprobe(&g->probe);
	g->probed = !err;
	/* elsewhere than on ftrace's nop there is no address to go on at */
	if (!err && !kprobe_ftrace(&g->probe)) {
		lab_gate_unprobe(g);
		err = -EOPNOTSUPP;
	}
	g->armed = !err;
out:
	mutex_unlock(&gate_mutex);
	return err;
}

static long lab_gate_state(unsigned long slot)
{
	return slot < LAB_GATES ? atomic_read(&gates[slot].state) : -EINVAL;
}

static long lab_break(unsigned long what)
{
	static const struct desc_ptr no_handlers;
	static void (*volatile nobody)(void);

	switch (what) {
	case LAB_BREAK_WARN:
		WARN(1, "lab_ops: broken on purpose\n");
		return 0;
	case LAB_BREAK_NULL:
		nobody();
		return 0;
	case LAB_BREAK_SLEEP:
		for (;;) {
			set_current_state(TASK_UNINTERRUPTIBLE);
			schedule();
		}
	case LAB_BREAK_SPIN:
		preempt_disable();
		for (;;)
			cpu_relax();
	case LAB_BREAK_RESET:
		load_idt(&no_handlers);
		asm volatile("int3");
		return 0;
	default:
		return -EINVAL;
	}
}

static long lab_ops_tied(u32 fd)
{
#ifdef LAB_HAS_ASSOC
	struct bpf_prog *prog = bpf_prog_get_type_dev(fd, BPF_PROG_TYPE_STRUCT_OPS, false);
	bool tied;

	if (IS_ERR(prog))
		return PTR_ERR(prog);
	rcu_read_lock();
	tied = bpf_prog_get_assoc_struct_ops(prog->aux);
	rcu_read_unlock();
	bpf_prog_put(prog);
	return tied;
#else
	return -EOPNOTSUPP;
#endif
}

static long lab_ops_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *uarg = (void __user *)arg;
	struct lab_ops_call call;
	long err;

	switch (cmd) {
	case LAB_OPS_CALL:
		if (copy_from_user(&call, uarg, sizeof(call)))
			return -EFAULT;
		err = lab_ops_call_member(&call);
		if (!err && copy_to_user(uarg, &call, sizeof(call)))
			err = -EFAULT;
		return err;
	case LAB_OPS_FAIL_NEXT:
		mutex_lock(&slots_mutex);
		fail_next = true;
		mutex_unlock(&slots_mutex);
		return 0;
	case LAB_OPS_WAKE:
		atomic_inc(&wakes);
		wake_up_all(&waiters);
		return 0;
	case LAB_OPS_WAITERS:
		return atomic_read(&waiters_cnt);
	case LAB_GATE_ARM:
		return lab_gate_arm(uarg);
	case LAB_GATE_STATE:
		return lab_gate_state(arg);
	case LAB_GATE_OPEN:
		return lab_gate_open(arg);
	case LAB_OPS_BREAK:
		return lab_break(arg);
	case LAB_OPS_TIED:
		return lab_ops_tied(arg);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations lab_ops_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = lab_ops_ioctl,
};

static struct miscdevice lab_ops_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "lab_ops",
	.fops = &lab_ops_fops,
};

static int lab_ops_init_btf(struct btf *btf)
{
	return 0;
}

static int lab_ops_init_member(const struct btf_type *t,
			       const struct btf_member *member,
			       void *kdata, const void *udata)
{
	return 0;
}

static bool lab_ops_is_valid_access(int off, int size, enum bpf_access_type type,
				    const struct bpf_prog *prog,
				    struct bpf_insn_access_aux *info)
{
	return bpf_tracing_btf_ctx_access(off, size, type, prog, info);
}

static const struct bpf_verifier_ops lab_ops_verifier_ops = {
	.is_valid_access = lab_ops_is_valid_access,
	.get_func_proto = bpf_base_func_proto,
};

static u64 lab_ops_plain_stub(u64 arg)
{
	return 0;
}

static u64 lab_ops_second_stub(u64 arg)
{
	return 0;
}

static u64 lab_ops_sleepable_stub(u64 arg)
{
	return 0;
}

static struct lab_ops lab_ops_stubs = {
	.plain = lab_ops_plain_stub,
	.second = lab_ops_second_stub,
	.sleepable = lab_ops_sleepable_stub,
};

static struct bpf_struct_ops bpf_lab_ops = {
	.verifier_ops = &lab_ops_verifier_ops,
	.init = lab_ops_init_btf,
	.init_member = lab_ops_init_member,
	.reg = lab_ops_reg,
	.unreg = lab_ops_unreg,
	.update = lab_ops_update,
	.cfi_stubs = &lab_ops_stubs,
	.name = "lab_ops",
	.owner = THIS_MODULE,
};

static int __init lab_ops_init(void)
{
	int err;

	err = register_btf_kfunc_id_set(BPF_PROG_TYPE_STRUCT_OPS, &lab_ops_kfunc_set);
	if (!err)
		err = register_bpf_struct_ops(&bpf_lab_ops, lab_ops);
	if (!err)
		err = misc_register(&lab_ops_device);
	return err;
}

static void __exit lab_ops_exit(void)
{
	int i;

	misc_deregister(&lab_ops_device);
	for (i = 0; i < LAB_GATES; i++) {
		lab_gate_open(i);
		lab_gate_unprobe(&gates[i]);
	}
}

module_init(lab_ops_init);
module_exit(lab_ops_exit);
MODULE_DESCRIPTION("struct_ops type that the lab controls");
MODULE_LICENSE("GPL");
