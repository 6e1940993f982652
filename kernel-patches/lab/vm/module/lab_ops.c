// SPDX-License-Identifier: GPL-2.0
/*
 * lab_ops: a struct_ops type that lets the lab choose what its subsystem does.
 *
 * It accepts several registrations, also of one map, calls any member on
 * demand through the pointer that it was given for a registration, can fail
 * reg() and update() after having called in, and has a kfunc in which a
 * sleepable program sleeps until the lab wakes it. The locking is what a
 * careful subsystem does: RCU around plain members, RCU Tasks Trace around
 * sleepable ones, no call starts after unreg().
 *
 * Not part of a series. The same source is built for every kernel under test.
 */
#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate_trace.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include "lab_ops.h"

struct lab_ops {
	u64 (*plain)(u64 arg);
	u64 (*second)(u64 arg);
	u64 (*sleepable)(u64 arg);
};

static struct {
	struct lab_ops *ops;
	struct bpf_link *link;
} slots[LAB_OPS_SLOTS];
static DEFINE_MUTEX(slots_mutex);
static bool fail_next;

static DECLARE_WAIT_QUEUE_HEAD(waiters);
static atomic_t waiters_cnt;
static atomic_t wakes;

__bpf_kfunc_start_defs();

__bpf_kfunc int lab_ops_wait(void)
{
	int seen = atomic_read(&wakes);

	atomic_inc(&waiters_cnt);
	wait_event_timeout(waiters, atomic_read(&wakes) != seen, 60 * HZ);
	atomic_dec(&waiters_cnt);
	return 0;
}

__bpf_kfunc_end_defs();

BTF_KFUNCS_START(lab_ops_kfunc_ids)
BTF_ID_FLAGS(func, lab_ops_wait, KF_SLEEPABLE)
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

static long lab_ops_call_member(struct lab_ops_call *call)
{
	u64 (*fn)(u64 arg) = NULL;
	bool sleepable = call->member == LAB_SLEEPABLE;
	struct lab_ops *ops;

	if (call->slot >= LAB_OPS_SLOTS)
		return -EINVAL;

	if (sleepable)
		rcu_read_lock_trace();
	else
		rcu_read_lock();

	ops = READ_ONCE(slots[call->slot].ops);
	if (ops) {
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
	if (fn)
		call->result = fn(call->arg);

	if (sleepable)
		rcu_read_unlock_trace();
	else
		rcu_read_unlock();

	return fn ? 0 : -ENOENT;
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
	misc_deregister(&lab_ops_device);
}

module_init(lab_ops_init);
module_exit(lab_ops_exit);
MODULE_DESCRIPTION("struct_ops type that the lab controls");
MODULE_LICENSE("GPL");
