// SPDX-License-Identifier: GPL-2.0
/*
 * labrun FILE: carries out a scenario.
 *
 * The file comes from the lab, which has derived it from a scenario of the
 * simulator: types, programs, maps, a set-up, and rounds, each with a plan for
 * every CPU. A round is made of real processes and of threads pinned to CPUs;
 * its operations are raw system calls, its programs instructions written here.
 * What each operation returned, which program read which cookie meanwhile and
 * what kallsyms shows is printed; nothing is judged here. What goes wrong with
 * the runner itself is said as such, so that it is never taken for the kernel's.
 */
#include "lab.h"
#include "target.h"
#include "../module/lab_ops.h"

#include <bpf/btf.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/uhid.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST_CPUS	4
#define MOST_TYPES	4
#define MOST_MEMBERS	8
#define MOST_PROGS	16
#define MOST_MAPS	8
#define MOST_LINKS	64
#define MOST_SOCKS	8
#define MOST_OPS	128
#define MOST_TURNS	(MOST_CPUS * MOST_OPS)
#define MOST_FDS	4	/* of one declaration, or one name */

#define MOST_MOVES	128

/* How long nothing may begin or return in a round, and how long what was closed may stay. */
#define ROUND_MS	20000
#define SETTLE_MS	10000
/* How long what a failed operation has built may stay. */
#define LINGER_MS	3000
/* How long a move of a replay may take. */
#define MOVE_MS		12000

enum kind {
	MAP_CREATE, MAP_UPDATE, MAP_DELETE, MAP_LOOKUP, MAP_CLOSE,
	LINK_CREATE, LINK_UPDATE, LINK_DETACH, LINK_CLOSE, LINK_PIN, LINK_UNPIN, LINK_INFO,
	LINK_DUP, LINK_GET, LINK_GET_FD_BY_ID,
	MAP_DUP, MAP_PIN, MAP_UNPIN, MAP_GET, MAP_GET_FD_BY_ID, FORK,
	SOCK_OPEN, SOCK_CALL, SOCK_CLOSE, CALL, TEST_RUN, SYS_BPF_LINK_CREATE, SCX_ERROR,
	PROG_ASSOC, PROG_RUN, PROG_CLOSE,
	QDISC_CREATE, QDISC_DESTROY, DEV_QUEUE_XMIT, QDISC_SET_DEFAULT,
	BM_ENTRY_CREATE, BM_ENTRY_REMOVE, EXEC, HID_REPORT, EXIT, KINDS
};

static const char * const kinds[KINDS] = {
	"map_create", "map_update", "map_delete", "map_lookup", "map_close",
	"link_create", "link_update", "link_detach", "link_close", "link_pin", "link_unpin",
	"link_info", "link_dup", "link_get", "link_get_fd_by_id",
	"map_dup", "map_pin", "map_unpin", "map_get", "map_get_fd_by_id", "fork",
	"sock_open", "sock_call", "sock_close", "call", "test_run",
	"sys_bpf_link_create", "scx_error", "prog_assoc", "prog_run", "prog_close",
	"qdisc_create", "qdisc_destroy", "dev_queue_xmit", "qdisc_set_default",
	"bm_entry_create", "bm_entry_remove", "exec", "hid_input_report", "exit",
};

struct op {
	enum kind kind;
	long long arg[3];
};

struct plan {
	int proc, ops;
	struct op op[MOST_OPS];
};

struct member {
	char name[64];		/* of the kernel's struct */
	bool sleepable;
};

/* A struct_ops type of the kernel. */
struct type {
	char name[64], module[64], caller[16];
	int members;
	struct member member[MOST_MEMBERS];
};

struct prog {
	int type, member, process, fd;	/* type -1: a syscall program */
	char body[16];
};

struct map {
	int type, link, key, owner;
	int prog[MOST_MEMBERS];
};

static struct {
	bool cookie, ksyms;	/* reads cookies; looks at kallsyms */
	bool named;		/* asks whether kallsyms names the trampoline that runs */
	bool tied;		/* asks which programs are tied to a map */
	int types, progs, maps, procs;
	struct type type[MOST_TYPES];
	struct prog prog[MOST_PROGS];
	struct map map[MOST_MAPS];
	struct plan setup;
} world;

/*
 * A step of a replay: one actor goes on until it is held, or until its operation
 * has returned, while all others stay where they are.
 */
struct move {
	int cpu;			/* or WORKER */
	enum { UNTIL_RETURN, UNTIL_GATE, UNTIL_BLOCKED } until;
	struct lab_gate gate;
	int fail_nth;			/* of the allocations after the gate, when it goes on */
};

#define WORKER	MOST_CPUS

/* Gates of each actor, one after the other: one in which it is held, and the one to which it goes. */
#define ITS_GATES (LAB_GATES / (MOST_CPUS + 1))

/* One round. */
static struct {
	int number, cpus, turns;
	unsigned long long seed;
	struct plan cpu[MOST_CPUS];
	int turn[MOST_TURNS];
	int fail_cpu, fail_op, fail_nth;
	bool ksyms;
	int ksyms_before;	/* what earlier rounds have left */
	char broken[16];	/* what goes wrong on purpose in its first operation */
	int moves;		/* a replay: the operations begin when the moves say so */
	struct move move[MOST_MOVES];
} round_;

/* What all processes of a round share. */
struct result {
	bool done, printed;
	long long invoked, returned;	/* stamps */
	unsigned int log_from, log_to;
	long result, aux[2];
	int ksyms;			/* -1: not counted */
	int tied;			/* programs that are tied to a map, one bit each; -1: not asked */
};

static struct shared {
	int ready, go, setup_done, turn, stamp;
	int ksyms;			/* the last count of the round */
	int permits[MOST_CPUS];		/* operations that may begin, in a replay */
	int pid[MOST_CPUS], tid[MOST_CPUS];
	bool exiting[MOST_CPUS], gone[MOST_CPUS];
	int inside[MOST_CPUS];
	int lines;			/* of the record, printed so far */
	int sock_open_in[MOST_SOCKS];	/* one bit for each process */
	int child;			/* the pid of the process that an operation has forked */
	__u32 map_id[MOST_MAPS], link_id[MOST_LINKS];	/* of the last one so called; 0: none yet */
	int keyed_links;
	struct keyed_link {		/* each that a keyed type was given, in their order */
		__u32 id, map_id;
		bool detached;
	} keyed_link[MOST_LINKS];
	struct result setup[MOST_OPS], result[MOST_CPUS][MOST_OPS];
} *shared;

/* What programs write. */
#define LOG_ENTRIES	4096
struct entry {
	unsigned long long prog, cookie, cpu, written;
};
static struct log {
	unsigned long long next, pad[7];
	struct entry entry[LOG_ENTRIES];
} *log_;
static int log_fd = -1;

/* Descriptors of this process. */
static struct fds {
	int fd[MOST_FDS];
	int count;
} map_fds[MOST_MAPS], link_fds[MOST_LINKS];
static struct pair pairs[MOST_SOCKS];
static pthread_mutex_t files = PTHREAD_MUTEX_INITIALIZER;
/*
 * Read: a descriptor of the kernel's comes or goes, and with it its line above.
 * Written by fork(2), whose child must know what it has.
 */
static pthread_rwlock_t table = PTHREAD_RWLOCK_INITIALIZER;
static int dev = -1;
static pid_t waker;

static void broken(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* A mistake of the runner or of what it was given. */
static void broken(const char *fmt, ...)
{
	va_list args;

	fflush(stdout);
	printf("@runner ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	if (waker > 0)
		kill(waker, SIGKILL);
	_exit(3);
}

/* --- BTF ---------------------------------------------------------------- */

static struct btf *btf_of(const char *module)
{
	static struct { char name[64]; struct btf *btf; } known[4];
	static struct btf *vmlinux;
	int i;

	if (!vmlinux)
		vmlinux = btf__load_vmlinux_btf();
	if (!strcmp(module, "-"))
		return vmlinux;
	for (i = 0; i < 4 && known[i].btf; i++)
		if (!strcmp(known[i].name, module))
			return known[i].btf;
	snprintf(known[i].name, sizeof(known[i].name), "%s", module);
	known[i].btf = btf__load_module_btf(module, vmlinux);
	return known[i].btf;
}

/* The descriptor of a module's BTF object. */
static int btf_fd_of(const char *module)
{
	__u32 id = 0;

	if (!strcmp(module, "-"))
		return 0;
	while (!bpf_btf_get_next_id(id, &id)) {
		struct bpf_btf_info info = { 0 };
		__u32 len = sizeof(info);
		char name[64] = "";
		int fd = bpf_btf_get_fd_by_id(id);

		info.name = (unsigned long)name;
		info.name_len = sizeof(name);
		if (fd >= 0 && !bpf_btf_get_info_by_fd(fd, &info, &len) && !strcmp(name, module))
			return fd;
		close(fd);
	}
	return -1;
}

/* Whether this is how the members of the type are called. */
static bool is_called(int type, const char *caller)
{
	return !strcmp(world.type[type].caller, caller);
}

/* The type whose members are called so, or -1. */
static int type_called(const char *caller)
{
	int i;

	for (i = 0; i < world.types; i++)
		if (is_called(i, caller))
			return i;
	return -1;
}

static const struct btf_type *struct_of(int type, int *id)
{
	struct btf *btf = btf_of(world.type[type].module);

	*id = btf ? btf__find_by_name_kind(btf, world.type[type].name, BTF_KIND_STRUCT) : -1;
	if (*id < 0)
		broken("no BTF of struct %s", world.type[type].name);
	return btf__type_by_id(btf, *id);
}

static int member_index(int type, const char *name)
{
	struct btf *btf = btf_of(world.type[type].module);
	const struct btf_type *t;
	int id, i;

	t = struct_of(type, &id);
	for (i = 0; i < btf_vlen(t); i++)
		if (!strcmp(btf__name_by_offset(btf, btf_members(t)[i].name_off), name))
			return i;
	return -1;
}

/* --- programs ------------------------------------------------------------ */

struct code {
	struct bpf_insn insn[128];
	int count;
	int fd_array[2];
};

static void emit(struct code *c, int code, int dst, int src, int off, int imm)
{
	c->insn[c->count++] = (struct bpf_insn) {
		.code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = imm,
	};
}

#define MOV_REG(d, s)	emit(c, BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define MOV_IMM(d, i)	emit(c, BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define ALU_IMM(op, d, i) emit(c, BPF_ALU64 | (op) | BPF_K, d, 0, 0, i)
#define LOAD(d, s, off)	emit(c, BPF_LDX | BPF_MEM | BPF_DW, d, s, off, 0)
#define STORE(d, off, s) emit(c, BPF_STX | BPF_MEM | BPF_DW, d, s, off, 0)
#define STORE_IMM(d, off, i) emit(c, BPF_ST | BPF_MEM | BPF_DW, d, 0, off, i)
#define HELPER(id)	emit(c, BPF_JMP | BPF_CALL, 0, 0, 0, id)
#define EXIT_()		emit(c, BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

static void emit_kfunc(struct code *c, const char *module, const char *name)
{
	struct btf *btf = btf_of(module);
	int id = btf ? btf__find_by_name_kind(btf, name, BTF_KIND_FUNC) : -1;

	if (id < 0)
		broken("no kfunc %s", name);
	if (strcmp(module, "-"))
		c->fd_array[1] = btf_fd_of(module);
	emit(c, BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_KFUNC_CALL, strcmp(module, "-") ? 1 : 0, id);
}

/* On no CPU that is known: the program has no helper that says. */
#define NO_CPU		0xff

/* A replay may hold the program here. */
static void emit_place(struct code *c, int prog, int place)
{
	MOV_IMM(1, prog | place);
	emit_kfunc(c, "lab_ops", "lab_ops_here");
}

/* Writes down that the program runs, and which cookie it reads; ctx is in r6. */
static void emit_log(struct code *c, int prog, int phase, bool helpers)
{
	MOV_IMM(7, 0);
	if (world.cookie && helpers) {
		MOV_REG(1, 6);
		HELPER(BPF_FUNC_get_attach_cookie);
		MOV_REG(7, 0);
	}
	if (world.named) {
		emit_kfunc(c, "lab_ops", "lab_ops_named");
		ALU_IMM(BPF_AND, 0, 1);
		ALU_IMM(BPF_XOR, 0, 1);
		ALU_IMM(BPF_LSH, 0, 16);
		STORE(10, -16, 0);
	}
	MOV_IMM(8, NO_CPU);
	if (helpers) {
		HELPER(BPF_FUNC_get_smp_processor_id);
		MOV_REG(8, 0);
	}
	if (world.named) {
		LOAD(1, 10, -16);
		emit(c, BPF_ALU64 | BPF_OR | BPF_X, 8, 1, 0, 0);
	}
	emit(c, BPF_LD | BPF_IMM | BPF_DW, 9, BPF_PSEUDO_MAP_VALUE, 0, log_fd);
	emit(c, 0, 0, 0, 0, 0);
	MOV_IMM(1, 1);
	emit(c, BPF_STX | BPF_ATOMIC | BPF_DW, 9, 1, 0, BPF_ADD | BPF_FETCH);
	ALU_IMM(BPF_AND, 1, LOG_ENTRIES - 1);
	ALU_IMM(BPF_LSH, 1, 5);
	emit(c, BPF_ALU64 | BPF_ADD | BPF_X, 9, 1, 0, 0);
	STORE_IMM(9, 64, prog | phase << 8);
	STORE(9, 72, 7);
	STORE(9, 80, 8);
	STORE_IMM(9, 88, 1);
}

static bool has_kfunc(const char *name)
{
	return btf__find_by_name_kind(btf_of("-"), name, BTF_KIND_FUNC) > 0;
}

/* A scheduler's program must pass the task on: r6 is ctx. */
static void emit_dispatch(struct code *c)
{
	LOAD(1, 6, 0);
	emit(c, BPF_LD | BPF_IMM | BPF_DW, 2, 0, 0, 1);
	emit(c, 0, 0, 0, 0, (int)0x80000000);	/* SCX_DSQ_GLOBAL */
	MOV_IMM(3, 20 * 1000000);
	LOAD(4, 6, 8);
	emit_kfunc(c, "-", has_kfunc("scx_bpf_dsq_insert") ? "scx_bpf_dsq_insert" :
						     "scx_bpf_dispatch");
}

static int prog_load(int number, int type, const char *member, const char *body, bool sleepable)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts);
	static char verifier[65536];
	struct code code = { .fd_array = { 0, -1 } }, *c = &code;
	bool scx = is_called(type, "scx");
	int id, index = member_index(type, member), result = 0, fd;
	/* bpf_dummy_ops offers its programs no more than a pointer to a map's value */
	bool helpers = !is_called(type, "test_run"), places;
	char name[16];

	struct_of(type, &id);
	if (index < 0)
		broken("struct %s has no %s", world.type[type].name, member);
	MOV_REG(6, 1);
	places = world.named && strcmp(body, "fill") && !sleepable;
	if (places)
		emit_place(c, number, LAB_PROG_BEGINS);
	if (strcmp(body, "fill"))
		emit_log(c, number, 0, helpers);
	if (!strcmp(body, "sleep")) {
		emit_kfunc(c, "lab_ops", "lab_ops_wait");
		emit_log(c, number, 1, helpers);
	}
	if (!strcmp(body, "switch")) {
		/* "reno", on the stack */
		emit(c, BPF_ST | BPF_MEM | BPF_W, 10, 0, -8, 0x6f6e6572);
		emit(c, BPF_ST | BPF_MEM | BPF_W, 10, 0, -4, 0);
		LOAD(1, 6, 0);
		MOV_IMM(2, IPPROTO_TCP);
		MOV_IMM(3, TCP_CONGESTION);
		MOV_REG(4, 10);
		ALU_IMM(BPF_ADD, 4, -8);
		MOV_IMM(5, 5);
		HELPER(BPF_FUNC_setsockopt);
	}
	/* what it finds is asked from outside */
	if (!strcmp(body, "ask"))
		emit_kfunc(c, "lab_ops", "lab_ops_assoc");
	if (!strcmp(body, "fail"))
		result = -EIO;
	if (is_called(type, "tcp"))
		result = 2;		/* a congestion window */
	if (is_called(type, "binfmt"))
		result = !strcmp(member, "load") ? TARGET_LOADED : 1;
	if (is_called(type, "qdisc") && !strcmp(member, "enqueue")) {
		LOAD(1, 6, 0);
		LOAD(2, 6, 16);
		emit_kfunc(c, "-", "bpf_qdisc_skb_drop");
		result = 1;		/* NET_XMIT_DROP */
	}
	if (scx && !strcmp(member, "enqueue"))
		emit_dispatch(c);
	if (places)
		emit_place(c, number, LAB_PROG_ENDS);
	MOV_IMM(0, result);
	if (scx && !strcmp(member, "select_cpu"))
		emit(c, BPF_LDX | BPF_MEM | BPF_W, 0, 6, 8, 0);
	EXIT_();

	opts.attach_btf_id = id;
	opts.expected_attach_type = index;
	opts.attach_btf_obj_fd = btf_fd_of(world.type[type].module);
	opts.prog_flags = sleepable ? BPF_F_SLEEPABLE : 0;
	opts.fd_array = code.fd_array;
	opts.log_buf = verifier;
	opts.log_size = sizeof(verifier);
	opts.log_level = 1;
	snprintf(name, sizeof(name), "lab_p%d", number);
	fd = bpf_prog_load(BPF_PROG_TYPE_STRUCT_OPS, name, "GPL", c->insn, c->count, &opts);
	if (fd < 0)
		broken("program %d (%s, %s) does not load: %s: %s", number, member, body,
		       lab_number(-errno), verifier);
	if (opts.attach_btf_obj_fd)
		close(opts.attach_btf_obj_fd);
	if (code.fd_array[1] >= 0)
		close(code.fd_array[1]);
	return fd;
}

/*
 * Members beside those that the scenario speaks of: validate() of tcp and of
 * qdiscs wants them, reg() of HID-BPF allocates for an event, as the model has it.
 */
static const struct { const char *caller, *member; } wanted[] = {
	{ "tcp", "cong_avoid" }, { "tcp", "undo_cwnd" }, { "hid", "hid_device_event" },
	{ "qdisc", "dequeue" }, { "qdisc", "init" }, { "qdisc", "reset" }, { "qdisc", "destroy" },
};
#define WANTED	((int)(sizeof(wanted) / sizeof(*wanted)))
static int filler[WANTED] = { [0 ... WANTED - 1] = -1 };

static bool is_member(int type, const char *name)
{
	const struct type *t = &world.type[type];
	int i;

	for (i = 0; i < t->members; i++)
		if (!strcmp(t->member[i].name, name))
			return true;
	return false;
}

static bool is_wanted(int type, int i)
{
	return is_called(type, wanted[i].caller) && !is_member(type, wanted[i].member);
}

static int syscall_load(void);

/* Between what the kernel gives out and the numbers of maps and links (see fds_add): nobody gets it again. */
static int prog_number(int fd)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 256);

	if (own < 0)
		broken("no descriptor: %s", strerror(errno));
	close(fd);
	return own;
}

static void programs_load(void)
{
	int i, type;

	for (i = 0; i < world.progs; i++) {
		struct prog *p = &world.prog[i];
		struct member *m;

		if (p->type < 0) {
			p->fd = prog_number(syscall_load());
			continue;
		}
		m = &world.type[p->type].member[p->member];
		p->fd = prog_number(prog_load(i, p->type, m->name, p->body, m->sleepable));
	}
	for (i = 0; i < WANTED; i++) {
		type = type_called(wanted[i].caller);
		if (type >= 0 && is_wanted(type, i))
			filler[i] = prog_load(255, type, wanted[i].member, "fill", false);
	}
}

static void programs_close(void)
{
	int i;

	for (i = 0; i < world.progs; i++)
		close(world.prog[i].fd);
	for (i = 0; i < WANTED; i++)
		close(filler[i]);
}

/* --- operations ---------------------------------------------------------- */

static int fds_first(const struct fds *f)
{
	return f->count ? f->fd[0] : -EBADF;
}

/*
 * Under a number that nobody gets again: another thread may have read it and be
 * about to use it when it is closed, and then it must be -EBADF that it meets.
 */
static void fds_add(struct fds *f, int fd)
{
	static int next = 512;
	int own;

	pthread_mutex_lock(&files);
	if (f->count == MOST_FDS)
		broken("too many descriptors of one name");
	own = fcntl(fd, F_DUPFD_CLOEXEC, next);
	if (own < 0)
		broken("no descriptor: %s", strerror(errno));
	next = own + 1;
	close(fd);
	f->fd[f->count++] = own;
	pthread_mutex_unlock(&files);
}

static int fds_take(struct fds *f)
{
	int fd = -EBADF;

	pthread_mutex_lock(&files);
	if (f->count) {
		fd = f->fd[0];
		memmove(f->fd, f->fd + 1, --f->count * sizeof(*f->fd));
	}
	pthread_mutex_unlock(&files);
	return fd;
}

static int own_btf_fd = -1;

/* The device of hid_bpf_ops. */
static struct {
	int uhid, id;
	char name[64];		/* in /sys/bus/hid/devices */
} hid = { .uhid = -1 };

/* The path of a map ('m') or a link ('l'). */
static const char *pin_path(char what, int name)
{
	static __thread char path[64];

	snprintf(path, sizeof(path), "/sys/fs/bpf/lab_%c%d", what, name);
	return path;
}

static __u32 map_id(int fd)
{
	struct bpf_map_info info = { 0 };
	__u32 len = sizeof(info);

	if (bpf_map_get_info_by_fd(fd, &info, &len))
		broken("no info of a new map: %s", strerror(errno));
	return info.id;
}

static int map_create(int number)
{
	const struct map *m = &world.map[number];
	LIBBPF_OPTS(bpf_map_create_opts, opts);
	struct btf *btf = btf_of(world.type[m->type].module);
	char name[128];
	int id, fd;

	snprintf(name, sizeof(name), "bpf_struct_ops_%s", world.type[m->type].name);
	id = btf ? btf__find_by_name_kind(btf, name, BTF_KIND_STRUCT) : -1;
	if (id < 0)
		broken("no BTF of struct %s", name);
	/* the kernel wants BTF of the program, too, whatever is in it */
	opts.btf_fd = own_btf_fd;
	opts.btf_vmlinux_value_type_id = id;
	opts.map_flags = m->link ? BPF_F_LINK : 0;
	if (strcmp(world.type[m->type].module, "-")) {
		opts.map_flags |= BPF_F_VTYPE_BTF_OBJ_FD;
		opts.value_type_btf_obj_fd = btf_fd_of(world.type[m->type].module);
	}
	snprintf(name, sizeof(name), "lab_m%d", number);
	fd = bpf_map_create(BPF_MAP_TYPE_STRUCT_OPS, name, 4, btf__type_by_id(btf, id)->size, 1,
			    &opts);
	if (opts.value_type_btf_obj_fd)
		close(opts.value_type_btf_obj_fd);
	if (fd < 0)
		return fd;
	shared->map_id[number] = map_id(fd);
	fds_add(&map_fds[number], fd);
	return 0;
}

static int obj_pin(int fd, const char *path)
{
	int err;

	if (fd < 0 || !access(path, F_OK))
		return -EBADF;
	err = bpf_obj_pin(fd, path) ? -errno : 0;
	/* the kernel tries it as a map, a program and a link: closed meanwhile, it is none of them */
	return err == -EINVAL && fcntl(fd, F_GETFD) < 0 ? -EBADF : err;
}

static int obj_unpin(const char *path)
{
	return unlink(path) ? -EBADF : 0;
}

/* One more descriptor of something, or why there is none. */
static int fds_more(struct fds *f, int fd)
{
	if (fd < 0)
		return fd;
	fds_add(f, fd);
	return 0;
}

static int dup_fd(const struct fds *f)
{
	int fd = dup(fds_first(f));

	return fd < 0 ? -errno : fd;
}

/* Where nothing is pinned there is no request, as with a descriptor that is not open. */
static int obj_get(const char *path)
{
	int fd = bpf_obj_get(path);

	return fd == -ENOENT ? -EBADF : fd;
}

/* By the id that the last one so called had. Where none has been there yet: by one that nobody has. */
static int by_id(int (*get)(__u32 id), __u32 id)
{
	return get(id ? id : INT_MAX);
}

/* The value that BPF_MAP_UPDATE_ELEM takes, with the numbers of the programs. */
static int map_update(int number)
{
	const struct map *m = &world.map[number];
	struct btf *btf = btf_of(world.type[m->type].module);
	const struct btf_type *data, *value;
	int fd = fds_first(&map_fds[number]), id, i, err, at;
	char name[128], *bytes;
	__u32 off;

	if (fd < 0)
		return fd;
	data = struct_of(m->type, &id);
	snprintf(name, sizeof(name), "bpf_struct_ops_%s", world.type[m->type].name);
	value = btf__type_by_id(btf, btf__find_by_name_kind(btf, name, BTF_KIND_STRUCT));
	off = btf_member_bit_offset(value, 1) / 8;
	bytes = calloc(1, value->size);
	for (i = 0; i < world.type[m->type].members; i++) {
		if (m->prog[i] < 0)
			continue;
		at = member_index(m->type, world.type[m->type].member[i].name);
		*(unsigned long *)(bytes + off + btf_member_bit_offset(data, at) / 8) =
			world.prog[m->prog[i]].fd;
	}
	for (i = 0; i < WANTED; i++) {
		if (!is_wanted(m->type, i))
			continue;
		at = member_index(m->type, wanted[i].member);
		*(unsigned long *)(bytes + off + btf_member_bit_offset(data, at) / 8) = filler[i];
	}
	at = member_index(m->type, "owner");
	if (m->owner && at >= 0)
		*(unsigned long *)(bytes + off + btf_member_bit_offset(data, at) / 8) = 1;
	at = member_index(m->type, "hid_id");
	if (at >= 0)
		*(int *)(bytes + off + btf_member_bit_offset(data, at) / 8) = hid.id;
	/* the id of a qdisc is its name; other types have numbers of that name */
	at = member_index(m->type, is_called(m->type, "qdisc") ? "id" : "name");
	if (at >= 0)
		sprintf(bytes + off + btf_member_bit_offset(data, at) / 8, "lab_k%d", m->key);
	err = map_update_key(fd, 0, bytes, 0);
	free(bytes);
	return err;
}

/* What the map says of itself: its state, and its count. */
static int map_lookup(int number, long *aux)
{
	int fd = fds_first(&map_fds[number]), err;
	struct { __u32 refcnt, state; char rest[16384]; } *value;
	__u32 key = 0;

	if (fd < 0)
		return fd;
	value = calloc(1, sizeof(*value));
	err = bpf_map_lookup_elem(fd, &key, value);
	aux[0] = value->state;
	aux[1] = value->refcnt;
	free(value);
	return err;
}

/*
 * A keyed type's registrations in their order: its kfunc takes the id of a map, and
 * nothing of the kernel's says which there are. They are told by the links that have
 * an id. No descriptor of one is opened for it: another thread's close(2) would not
 * be the last one then.
 */
static void keyed_add(int link)
{
	struct raw_link_info info;
	int place;

	if (raw_link_info(link, &info))
		broken("no info of a new link");
	pthread_mutex_lock(&files);
	place = shared->keyed_links;
	if (place == MOST_LINKS)
		broken("too many links");
	shared->keyed_link[place] = (struct keyed_link) { .id = info.id, .map_id = info.map_id };
	__atomic_store_n(&shared->keyed_links, place + 1, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&files);
}

static void keyed_detached(__u32 id)
{
	int i;

	for (i = 0; i < __atomic_load_n(&shared->keyed_links, __ATOMIC_SEQ_CST); i++)
		if (shared->keyed_link[i].id == id)
			__atomic_store_n(&shared->keyed_link[i].detached, true, __ATOMIC_SEQ_CST);
}

/* One bit for each of the links that is there. */
static unsigned long long keyed_there(void)
{
	unsigned long long there = 0;
	int i;

	for (i = 0; i < __atomic_load_n(&shared->keyed_links, __ATOMIC_SEQ_CST); i++) {
		const struct keyed_link *l = &shared->keyed_link[i];
		__u32 next;

		if (!__atomic_load_n(&l->detached, __ATOMIC_SEQ_CST) &&
		    !bpf_link_get_next_id(l->id - 1, &next) && next == l->id)
			there |= 1ULL << i;
	}
	return there;
}

/* The map of the entry, or 0: what two looks after each other have found was so in between. */
static __u32 keyed_map(int entry)
{
	unsigned long long there = keyed_there(), before;
	int i;

	do {
		before = there;
		there = keyed_there();
	} while (there != before);
	for (i = 0; i < MOST_LINKS; i++)
		if (there & (1ULL << i) && !entry--)
			return shared->keyed_link[i].map_id;
	return 0;
}

static void link_add(int name, int fd)
{
	struct raw_link_info info;

	if (raw_link_info(fd, &info))
		broken("no info of a new link");
	shared->link_id[name] = info.id;
	fds_add(&link_fds[name], fd);
}

static int link_create(int map, __u64 cookie, int name)
{
	int fd = fds_first(&map_fds[map]), link;

	if (fd < 0)
		return fd;
	if (!strcmp(round_.broken, "cookie"))
		cookie ^= 0x100;
	link = raw_link_create(fd, world.cookie ? cookie : 0);
	if (link < 0)
		return link;
	if (is_called(world.map[map].type, "keyed"))
		keyed_add(link);
	link_add(name, link);
	return 0;
}

static int link_detach(int name)
{
	int fd = fds_first(&link_fds[name]), err;
	bool keyed = type_called("keyed") >= 0;
	struct raw_link_info info;

	if (fd < 0)
		return fd;
	err = keyed ? raw_link_info(fd, &info) : 0;
	if (!err)
		err = raw_link_detach(fd);
	if (!err && keyed)
		keyed_detached(info.id);
	return err;
}

static int link_update(int name, int map, int old)
{
	int link = fds_first(&link_fds[name]), fd = fds_first(&map_fds[map]), old_fd = -1;

	if (old >= 0)
		old_fd = fds_first(&map_fds[old]);
	if (link < 0 || fd < 0 || (old >= 0 && old_fd < 0))
		return -EBADF;
	return raw_link_update(link, fd, old_fd, old >= 0 ? BPF_F_REPLACE : 0);
}

static int link_info(int name, long *aux)
{
	int fd = fds_first(&link_fds[name]), err;
	struct raw_link_info info;

	if (fd < 0)
		return fd;
	err = raw_link_info(fd, &info);
	aux[0] = info.map_id;
	aux[1] = info.cookie;
	return err;
}

/* A socket has a number in the whole round, as the model gives it. */
static int sock_open(int proc, int key)
{
	char name[16];
	struct pair p;
	int err, i;

	err = pair_open(&p);
	if (err)
		broken("no socket: %s", lab_number(err));
	snprintf(name, sizeof(name), "lab_k%d", key);
	err = pair_cc(&p, name);
	if (err) {
		pair_close(&p);
		return err;
	}
	for (i = 0; i < MOST_SOCKS; i++) {
		int none = 0;

		if (__atomic_compare_exchange_n(&shared->sock_open_in[i], &none, 1 << proc, false,
						__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
			pairs[i] = p;
			return 0;
		}
	}
	broken("too many sockets");
}

static bool sock_is_open(int proc, int sock)
{
	return __atomic_load_n(&shared->sock_open_in[sock], __ATOMIC_SEQ_CST) & 1 << proc;
}

static void sock_forget(int proc, int sock)
{
	pair_close(&pairs[sock]);
	__atomic_fetch_and(&shared->sock_open_in[sock], ~(1 << proc), __ATOMIC_SEQ_CST);
}

static unsigned long long log_count(void)
{
	return __atomic_load_n(&log_->next, __ATOMIC_SEQ_CST);
}

/* Whether a program of this member has run since. */
static bool has_run(unsigned long long since, int type, int member)
{
	unsigned long long i, end = log_count();

	for (i = since; i < end; i++) {
		const struct entry *e = &log_->entry[i % LOG_ENTRIES];
		int prog = e->prog & 0xff;

		if (__atomic_load_n(&e->written, __ATOMIC_SEQ_CST) && prog < world.progs &&
		    world.prog[prog].type == type && world.prog[prog].member == member)
			return true;
	}
	return false;
}

static bool sock_is_ours(const struct pair *p)
{
	char name[32] = "";
	socklen_t len = sizeof(name) - 1;

	return !getsockopt(p->client, IPPROTO_TCP, TCP_CONGESTION, name, &len) &&
	       !strncmp(name, "lab_k", 5);
}

static bool has_program(int type, int member)
{
	int i;

	for (i = 0; i < world.maps; i++)
		if (world.map[i].type == type && world.map[i].prog[member] >= 0)
			return true;
	return false;
}

/* The stack calls a member: an acknowledgment calls cong_avoid(), a loss
 * calls ssthresh(). What is lost is what the receiver's filter drops; the
 * retransmission timer of the sender finds out.
 */
static int sock_call_locked(int proc, int sock, int member)
{
	static struct sock_filter drop[] = { BPF_STMT(BPF_RET | BPF_K, 0) };
	struct sock_fprog filter = { .len = 1, .filter = drop };
	unsigned long long since = log_count();
	struct pair *p = &pairs[sock];
	int one = 1, type = type_called("tcp");
	long long end;
	char byte = 'x';

	if (!sock_is_open(proc, sock) || !sock_is_ours(p))
		return -EBADF;
	if (!has_program(type, member))
		return -ENOENT;
	if (!strcmp(world.type[type].member[member].name, "ssthresh")) {
		if (setsockopt(p->server, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)))
			broken("no filter: %s", strerror(errno));
		if (send(p->client, &byte, 1, MSG_DONTWAIT) != 1)
			broken("send: %s", strerror(errno));
		/* in a replay the timer shall expire on this processor, which must not be idle */
		for (end = lab_now_ms() + 2000; !has_run(since, type, member) && lab_now_ms() < end; )
			if (!round_.moves)
				usleep(500);
		setsockopt(p->server, SOL_SOCKET, SO_DETACH_FILTER, &one, sizeof(one));
		if (recv(p->server, &byte, 1, 0) != 1)
			broken("recv: %s", strerror(errno));
	} else {
		/* several bytes: an acknowledgment in slow start may find nothing to do */
		setsockopt(p->server, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
		for (end = lab_now_ms() + 2000; !has_run(since, type, member) && lab_now_ms() < end; ) {
			if (send(p->client, &byte, 1, MSG_DONTWAIT) != 1 ||
			    recv(p->server, &byte, 1, 0) != 1)
				broken("send or recv: %s", strerror(errno));
			setsockopt(p->server, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
			if (!round_.moves)
				usleep(200);
		}
	}
	/* the program may have moved the socket to another algorithm */
	if (!has_run(since, type, member) && sock_is_ours(p))
		return -ETIMEDOUT;
	if (!sock_is_ours(p)) {
		pthread_rwlock_rdlock(&table);
		sock_forget(proc, sock);
		pthread_rwlock_unlock(&table);
	}
	return 0;
}

/* Of each socket, in each process: nobody closes it under a thread that uses it. */
static pthread_mutex_t sock_lock[MOST_SOCKS] = {
	[0 ... MOST_SOCKS - 1] = PTHREAD_MUTEX_INITIALIZER
};

static int sock_call(int proc, int sock, int member)
{
	int err;

	pthread_mutex_lock(&sock_lock[sock]);
	err = sock_call_locked(proc, sock, member);
	pthread_mutex_unlock(&sock_lock[sock]);
	return err;
}

static int sock_close_locked(int proc, int sock)
{
	if (!sock_is_open(proc, sock))
		return -EBADF;
	sock_forget(proc, sock);
	return 0;
}

static int sock_close(int proc, int sock)
{
	int err;

	pthread_mutex_lock(&sock_lock[sock]);
	err = sock_close_locked(proc, sock);
	pthread_mutex_unlock(&sock_lock[sock]);
	return err;
}

/* A program of bpf(2) or of a kfunc, as a light skeleton has it. */
static int syscall_prog(struct code *c)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts);
	static __thread char verifier[16384];
	int fd;

	opts.prog_flags = BPF_F_SLEEPABLE;
	opts.fd_array = c->fd_array;
	opts.log_buf = verifier;
	opts.log_size = sizeof(verifier);
	opts.log_level = 1;
	fd = bpf_prog_load(BPF_PROG_TYPE_SYSCALL, "lab_syscall", "GPL", c->insn, c->count, &opts);
	if (fd < 0)
		broken("a syscall program does not load: %s: %s", lab_number(-errno), verifier);
	return fd;
}

/* A program of the scenario that user space runs. What it would ask cannot be seen. */
static int syscall_load(void)
{
	struct code code = { .fd_array = { 0, -1 } }, *c = &code;

	MOV_IMM(0, 0);
	EXIT_();
	return syscall_prog(c);
}

/* What the program returned that was given this number. */
static int syscall_run(int prog, __u32 number)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &number, .ctx_size_in = sizeof(number));

	if (bpf_prog_test_run_opts(prog, &opts))
		broken("a syscall program does not run: %s", strerror(errno));
	return (int)opts.retval;
}

/* The programs that call the members of bpf_testmod's types, one a member. */
static int call_prog[MOST_MEMBERS];

static void call_progs_load(void)
{
	int i, type = type_called("st_ops"), keyed = type_called("keyed");
	char name[128];

	if (type < 0)
		type = keyed;
	for (i = 0; type >= 0 && i < world.type[type].members; i++) {
		struct code code = { .fd_array = { 0, -1 } }, *c = &code;

		/* the map's id comes from user space */
		if (type == keyed)
			emit(c, BPF_LDX | BPF_MEM | BPF_W, 2, 1, 0, 0);
		STORE_IMM(10, -8, 0);
		MOV_REG(1, 10);
		ALU_IMM(BPF_ADD, 1, -8);
		snprintf(name, sizeof(name), "bpf_kfunc_%s_%s",
			 type == keyed ? "multi_st_ops" : "st_ops",
			 world.type[type].member[i].name);
		emit_kfunc(c, world.type[type].module, name);
		EXIT_();
		call_prog[i] = syscall_prog(c);
		close(code.fd_array[1]);
	}
}

/* The program is a reader of RCU Tasks Trace when it calls bpf(2). */
static int sys_bpf_link_create(int map, __u64 cookie, int name)
{
	struct code code = { .fd_array = { 0, -1 } }, *c = &code;
	int fd = fds_first(&map_fds[map]), prog, link, i;

	if (fd < 0)
		return fd;
	for (i = 64; i > 0; i -= 8)
		STORE_IMM(10, -i, 0);
	emit(c, BPF_ST | BPF_MEM | BPF_W, 10, 0, -64, fd);
	emit(c, BPF_ST | BPF_MEM | BPF_W, 10, 0, -56, BPF_STRUCT_OPS);
	if (world.cookie) {
		emit(c, BPF_LD | BPF_IMM | BPF_DW, 1, 0, 0, (int)cookie);
		emit(c, 0, 0, 0, 0, (int)(cookie >> 32));
		STORE(10, -48, 1);
	}
	MOV_IMM(1, BPF_LINK_CREATE);
	MOV_REG(2, 10);
	ALU_IMM(BPF_ADD, 2, -64);
	MOV_IMM(3, 64);
	HELPER(BPF_FUNC_sys_bpf);
	EXIT_();
	prog = syscall_prog(c);
	link = syscall_run(prog, 0);
	close(prog);
	if (link < 0)
		return link;
	link_add(name, link);
	return 0;
}

/* BPF_PROG_ASSOC_STRUCT_OPS, which the headers of 6.12 do not know. */
static int prog_assoc(int number, int map)
{
	struct { __u32 map_fd, prog_fd, flags; } attr = { 0 };
	int fd = fds_first(&map_fds[map]), prog = world.prog[number].fd;

	if (prog < 0 || fd < 0)
		return -EBADF;
	attr.map_fd = fd;
	attr.prog_fd = prog;
	return syscall(SYS_bpf, 38, &attr, sizeof(attr)) ? -errno : 0;
}

/* BPF_PROG_TEST_RUN of a syscall program. */
static int prog_run(int number)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	int prog = world.prog[number].fd;

	if (prog < 0)
		return -EBADF;
	return bpf_prog_test_run_opts(prog, &opts) ? -errno : 0;
}

static int prog_close(int number)
{
	int prog;

	pthread_mutex_lock(&files);
	prog = world.prog[number].fd;
	world.prog[number].fd = -EBADF;
	pthread_mutex_unlock(&files);
	return prog < 0 ? -EBADF : close(prog) ? -errno : 0;
}

/* How many arguments a member takes. */
static int member_args(int type, const char *member)
{
	struct btf *btf = btf_of(world.type[type].module);
	int id, index = member_index(type, member);
	const struct btf_type *t = struct_of(type, &id);

	t = btf__type_by_id(btf, btf_members(t)[index].type);
	return btf_vlen(btf__type_by_id(btf, t->type));
}

/* BPF_PROG_TEST_RUN of a bpf_dummy_ops program: the first argument is a pointer. */
static int test_run(int number)
{
	const struct prog *p = &world.prog[number];
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	struct { int val; } state = { 0 };
	__u64 args[8] = { (unsigned long)&state };

	opts.ctx_in = args;
	opts.ctx_size_in = member_args(p->type, world.type[p->type].member[p->member].name) *
			   sizeof(*args);
	return bpf_prog_test_run_opts(p->fd, &opts) ? -errno : 0;
}

static bool file_says(const char *path, const char *word);

/* sysrq-S ends the scheduler as an error of its own does; its link stays. */
static int scx_error(void)
{
	static const char state[] = "/sys/kernel/sched_ext/state";
	long long end = lab_now_ms() + 5000;
	int fd;

	if (!file_says(state, "enabled"))
		return -ENOENT;
	fd = open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "S", 1) != 1)
		broken("sysrq: %s", strerror(errno));
	close(fd);
	while (!file_says(state, "disabled") && lab_now_ms() < end)
		usleep(500);
	return file_says(state, "disabled") ? 0 : -ETIMEDOUT;
}

static int read_number(const char *path)
{
	char text[32] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	close(fd);
	return len > 0 ? atoi(text) : -1;
}

static bool file_says(const char *path, const char *word)
{
	char text[64] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	close(fd);
	return len > 0 && !strncmp(text, word, strlen(word));
}

/* --- the HID device that hid_bpf_ops is attached to ------------------------ */

/* vendor defined: 8 bytes of input */
static const unsigned char descriptor[] = {
	0x06, 0x00, 0xff, 0x09, 0x01, 0xa1, 0x01, 0x15, 0x00, 0x26, 0xff, 0x00,
	0x75, 0x08, 0x95, 0x08, 0x09, 0x01, 0x81, 0x02, 0xc0,
};

static bool hid_find(void)
{
	struct dirent *e;
	bool found = false;
	DIR *dir = opendir("/sys/bus/hid/devices");

	while (dir && (e = readdir(dir))) {
		if (strncmp(e->d_name, "0003:1AB0:0002.", 15))
			continue;
		found = true;
		snprintf(hid.name, sizeof(hid.name), "%s", e->d_name);
		hid.id = strtol(e->d_name + 15, NULL, 16);
	}
	if (dir)
		closedir(dir);
	return found;
}

static bool hid_is_bound(void)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/hid/devices/%s/driver", hid.name);
	return !access(path, F_OK);
}

static void hid_create(void)
{
	struct uhid_event e = { .type = UHID_CREATE2 };

	hid.uhid = open("/dev/uhid", O_RDWR | O_CLOEXEC);
	strcpy((char *)e.u.create2.name, "lab");
	e.u.create2.bus = BUS_USB;
	e.u.create2.vendor = 0x1ab0;
	e.u.create2.product = 0x0002;
	e.u.create2.rd_size = sizeof(descriptor);
	memcpy(e.u.create2.rd_data, descriptor, sizeof(descriptor));
	if (hid.uhid < 0 || write(hid.uhid, &e, sizeof(e)) != sizeof(e))
		broken("no HID device: %s", strerror(errno));
	if (!wait_for(hid_find()) || !wait_for(hid_is_bound()))
		broken("the HID device does not come up");
}

static void hid_driver(const char *file)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/hid/drivers/hid-generic/%s", file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	/* somebody else may be at it: reg() and unreg() reconnect the device, too */
	if (fd >= 0 && write(fd, hid.name, strlen(hid.name)) < 0 && errno != ENODEV &&
	    errno != EBUSY)
		broken("%s %s: %s", file, hid.name, strerror(errno));
	close(fd);
}

/* A report of the device, which is handed to its programs before this returns. */
static int hid_input_report(void)
{
	struct uhid_event e = { .type = UHID_INPUT2, .u.input2.size = 8 };

	if (write(hid.uhid, &e, sizeof(e)) != sizeof(e))
		broken("uhid: %s", strerror(errno));
	return 0;
}

/* A probe of the device asks for its report descriptor. */
static int hid_probe(int type)
{
	unsigned long long since = log_count();

	hid_driver("unbind");
	hid_driver("bind");
	return has_run(since, type, 0) ? 0 : -ENOENT;
}

/* The type whose subsystem calls its members: a socket and a test run have operations of their own. */
static int type_of_call(void)
{
	int i;

	for (i = 0; i < world.types; i++)
		if (!is_called(i, "tcp") && !is_called(i, "test_run"))
			return i;
	broken("no type has members that can be called");
}

/* One that goes meanwhile is looked for again: another may have its place then. */
static int keyed_call(int entry, int member)
{
	long long end = lab_now_ms() + 2000;
	__u32 map;

	while ((map = keyed_map(entry))) {
		if (syscall_run(call_prog[member], map) != -1)
			return 0;
		if (lab_now_ms() > end)
			return -ETIMEDOUT;
	}
	return -ENOENT;
}

static const char *key_name(int key)
{
	static __thread char name[16];

	snprintf(name, sizeof(name), "lab_k%d", key);
	return name;
}

static int call(int entry, int member, long *aux)
{
	unsigned long long since = log_count();
	int err, type = type_of_call();
	__u64 result;
	long long end;

	if (is_called(type, "lab_ops")) {
		static const struct { const char *name; int member; } members[] = {
			{ "plain", LAB_PLAIN }, { "second", LAB_SECOND },
			{ "sleepable", LAB_SLEEPABLE },
		};
		size_t i;

		for (i = 0; i < 3; i++)
			if (!strcmp(members[i].name, world.type[type].member[member].name))
				break;
		err = lab_ops_call(dev, entry | LAB_OPS_NTH, members[i].member, 0, &result);
		aux[0] = err ? 0 : result;
		return err;
	}
	if (is_called(type, "st_ops"))
		return entry || syscall_run(call_prog[member], 0) == -1 ? -ENOENT : 0;
	if (is_called(type, "keyed"))
		return keyed_call(entry, member);
	if (is_called(type, "hid"))
		return hid_probe(type);
	/* sched_ext calls its members by itself */
	if (!file_says("/sys/kernel/sched_ext/state", "enabled"))
		return -ENOENT;
	for (end = lab_now_ms() + 2000; !has_run(since, type, member) && lab_now_ms() < end; )
		usleep(300);
	return has_run(since, type, member) ? 0 :
	       file_says("/sys/kernel/sched_ext/state", "enabled") ? -ETIMEDOUT : -ENOENT;
}

static int fork_child(int proc);

static long carry_out_in(int proc, const struct op *op, long *aux)
{
	const long long *a = op->arg;
	int fd;

	switch (op->kind) {
	case MAP_CREATE:
		return map_create(a[0]);
	case MAP_UPDATE:
		return map_update(a[0]);
	case MAP_DELETE:
		fd = fds_first(&map_fds[a[0]]);
		return fd < 0 ? fd : map_delete(fd);
	case MAP_LOOKUP:
		return map_lookup(a[0], aux);
	case MAP_CLOSE:
		fd = fds_take(&map_fds[a[0]]);
		return fd < 0 ? fd : close(fd) ? -errno : 0;
	case LINK_CREATE:
		return link_create(a[0], a[1], a[2]);
	case LINK_UPDATE:
		return link_update(a[0], a[1], a[2]);
	case LINK_DETACH:
		return link_detach(a[0]);
	case LINK_CLOSE:
		fd = fds_take(&link_fds[a[0]]);
		return fd < 0 ? fd : close(fd) ? -errno : 0;
	case LINK_PIN:
		return obj_pin(fds_first(&link_fds[a[0]]), pin_path('l', a[0]));
	case LINK_UNPIN:
		return obj_unpin(pin_path('l', a[0]));
	case LINK_INFO:
		return link_info(a[0], aux);
	case LINK_DUP:
		return fds_more(&link_fds[a[0]], dup_fd(&link_fds[a[0]]));
	case LINK_GET:
		return fds_more(&link_fds[a[0]], obj_get(pin_path('l', a[0])));
	case LINK_GET_FD_BY_ID:
		return fds_more(&link_fds[a[0]], by_id(bpf_link_get_fd_by_id, shared->link_id[a[0]]));
	case MAP_DUP:
		return fds_more(&map_fds[a[0]], dup_fd(&map_fds[a[0]]));
	case MAP_PIN:
		return obj_pin(fds_first(&map_fds[a[0]]), pin_path('m', a[0]));
	case MAP_UNPIN:
		return obj_unpin(pin_path('m', a[0]));
	case MAP_GET:
		return fds_more(&map_fds[a[0]], obj_get(pin_path('m', a[0])));
	case MAP_GET_FD_BY_ID:
		return fds_more(&map_fds[a[0]], by_id(bpf_map_get_fd_by_id, shared->map_id[a[0]]));
	case SOCK_OPEN:
		return sock_open(proc, a[0]);
	case SOCK_CALL:
		return sock_call(proc, a[0], a[1]);
	case SOCK_CLOSE:
		return sock_close(proc, a[0]);
	case CALL:
		return call(a[0], a[1], aux);
	case TEST_RUN:
		return test_run(a[0]);
	case SYS_BPF_LINK_CREATE:
		return sys_bpf_link_create(a[0], a[1], a[2]);
	case SCX_ERROR:
		return scx_error();
	case PROG_ASSOC:
		return prog_assoc(a[0], a[1]);
	case PROG_RUN:
		return prog_run(a[0]);
	case PROG_CLOSE:
		return prog_close(a[0]);
	case QDISC_CREATE:
		return qdisc_create(key_name(0));
	case QDISC_DESTROY:
		return qdisc_destroy();
	case DEV_QUEUE_XMIT:
		return dev_queue_xmit();
	case QDISC_SET_DEFAULT:
		return qdisc_set_default(key_name(0));
	case BM_ENTRY_CREATE:
		return bm_entry_create(key_name(0));
	case BM_ENTRY_REMOVE:
		return bm_entry_remove();
	case EXEC:
		return target_exec();
	case HID_REPORT:
		return hid_input_report();
	case FORK:
		return fork_child(proc);
	case EXIT:
	case KINDS:
		break;
	}
	return 0;
}

static long carry_out(int proc, const struct op *op, long *aux)
{
	long result;

	switch (op->kind) {
	case FORK:
		pthread_rwlock_wrlock(&table);
		break;
	case MAP_CREATE: case MAP_CLOSE: case MAP_DUP: case MAP_GET: case MAP_GET_FD_BY_ID:
	case LINK_CREATE: case SYS_BPF_LINK_CREATE:
	case LINK_CLOSE: case LINK_DUP: case LINK_GET: case LINK_GET_FD_BY_ID:
	case SOCK_OPEN: case SOCK_CLOSE: case PROG_CLOSE:
		pthread_rwlock_rdlock(&table);
		break;
	default:
		return carry_out_in(proc, op, aux);
	}
	result = carry_out_in(proc, op, aux);
	pthread_rwlock_unlock(&table);
	return result;
}

/* Whether this is the name of a trampoline of one of the scenario's members. */
static bool is_ksym(const char *name)
{
	int i, k;

	for (i = 0; i < world.types; i++) {
		const struct type *t = &world.type[i];
		size_t len = strlen(t->name);

		if (strncmp(name, t->name, len) || name[len] != '_')
			continue;
		for (k = 0; k < t->members; k++)
			if (!strcmp(name + len + 1, t->member[k].name))
				return true;
	}
	return false;
}

/* Trampolines of the scenario's members that kallsyms knows. Those of BPF come
 * last, and there is no way to begin there: it takes a while.
 */
static int ksyms(void)
{
	static const char prefix[] = "bpf__";
	FILE *f = fopen("/proc/kallsyms", "r");
	char line[512], name[256];
	int count = 0;

	while (f && fgets(line, sizeof(line), f)) {
		if (!strstr(line, prefix) || sscanf(line, "%*s %*s %255s", name) != 1)
			continue;
		if (!strncmp(name, prefix, strlen(prefix)) && is_ksym(name + strlen(prefix)))
			count++;
	}
	if (f)
		fclose(f);
	return count;
}

/* What there is after an operation. What one that failed had built may go later,
 * once the grace periods of its memory are over: that is waited for.
 */
static int ksyms_after(long result)
{
	long long end = lab_now_ms() + LINGER_MS;
	int now = ksyms();

	while (result < 0 && now > shared->ksyms && lab_now_ms() < end) {
		lab_sleep_ms(100);
		now = ksyms();
	}
	shared->ksyms = now;
	return now;
}

/* In one write. A message of the kernel may still cut it in two on the console: the
 * lines are counted.
 */
static void print_op(const char *what, int cpu, int number, struct result *r)
{
	unsigned int i;
	char text[8192];
	int len, lines = 1;

	len = sprintf(text, "%s %d %d %lld %lld %ld %ld %ld %d %d\n", what, cpu, number,
		      r->invoked, r->returned, r->result, r->aux[0], r->aux[1], r->ksyms, r->tied);
	for (i = r->log_from; i < r->log_to && i < r->log_from + 64; i++) {
		const struct entry *e = &log_->entry[i % LOG_ENTRIES];

		if (!e->written)
			continue;
		len += sprintf(text + len, "@c %d %d %llu %llu %llx %llu %llu\n", cpu, number,
			       e->prog & 0xff, e->prog >> 8, e->cookie, e->cpu & 0xffff,
			       e->cpu >> 16);
		lines++;
	}
	__atomic_fetch_add(&shared->lines, lines, __ATOMIC_SEQ_CST);
	fflush(stdout);
	if (write(1, text, len) != len)
		broken("console: %s", strerror(errno));
	r->printed = true;
}

/*
 * What the lab must see, on purpose: an operation that ends as this says.
 * See src/scenario/prove.rs.
 */
static void go_wrong(void)
{
	static const struct { const char *word; int what; } kernel[] = {
		{ "warn", LAB_BREAK_WARN }, { "null", LAB_BREAK_NULL },
		{ "sleep", LAB_BREAK_SLEEP }, { "spin", LAB_BREAK_SPIN },
		{ "reset", LAB_BREAK_RESET },
	};
	const char *word = round_.broken;
	size_t i;
	int fd;

	for (i = 0; i < sizeof(kernel) / sizeof(*kernel); i++)
		if (!strcmp(word, kernel[i].word) && ioctl(dev, LAB_OPS_BREAK, kernel[i].what))
			broken("%s: %s", word, strerror(errno));
	if (!strcmp(word, "panic")) {
		fd = open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC);
		if (write(fd, "c", 1) != 1)
			broken("sysrq: %s", strerror(errno));
	} else if (!strcmp(word, "power-off")) {
		reboot(RB_POWER_OFF);
	} else if (!strcmp(word, "silence")) {
		kill(getppid(), SIGSTOP);
		for (;;)
			pause();
	} else if (!strcmp(word, "leak") && !fork()) {
		/* all that is open now stays open */
		prctl(PR_SET_PDEATHSIG, 0);
		for (;;)
			pause();
	} else if (!strcmp(word, "die")) {
		kill(getppid(), SIGSEGV);
		pause();
	} else if (!strcmp(word, "exit")) {
		kill(getppid(), SIGUSR1);
		pause();
	}
}

/* Struct_ops programs that are tied to a map, one bit each. */
static int tied(void)
{
	int i, all = 0;

	for (i = 0; i < world.progs; i++) {
		int one;

		if (world.prog[i].type < 0 || world.prog[i].fd < 0)
			continue;
		one = ioctl(dev, LAB_OPS_TIED, world.prog[i].fd);
		/* closed meanwhile */
		if (one < 0 && errno != EBADF)
			broken("tied: %s", strerror(errno));
		all |= (one == 1) << i;
	}
	return all;
}

static void carry_out_recorded(int proc, const struct op *op, struct result *r)
{
	r->log_from = log_count();
	r->ksyms = r->tied = -1;
	r->invoked = __atomic_fetch_add(&shared->stamp, 1, __ATOMIC_SEQ_CST);
	r->result = carry_out(proc, op, r->aux);
	r->returned = __atomic_fetch_add(&shared->stamp, 1, __ATOMIC_SEQ_CST);
	r->log_to = log_count();
	if (round_.ksyms)
		r->ksyms = ksyms_after(r->result) - round_.ksyms_before;
	if (world.tied)
		r->tied = tied();
	r->done = true;
}

/* --- threads and processes ------------------------------------------------ */

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu % sysconf(_SC_NPROCESSORS_ONLN), &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		broken("cpu %d: %s", cpu, strerror(errno));
}

static void set_fail_nth(int nth)
{
	char text[16];
	int fd = open("/proc/thread-self/fail-nth", O_WRONLY | O_CLOEXEC);

	snprintf(text, sizeof(text), "%d", nth);
	if (fd >= 0 && write(fd, text, strlen(text)) < 0)
		broken("fail-nth: %s", strerror(errno));
	close(fd);
}

static unsigned long long next_random(unsigned long long *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* Nothing for up to 256 microseconds. */
static void dawdle(unsigned long long *random)
{
	unsigned long long r = next_random(random);
	struct timespec ts;
	long long end;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	end = ts.tv_sec * 1000000000LL + ts.tv_nsec + ((r >> 8) & ((1000LL << (r & 7)) - 1)) * 2;
	do
		clock_gettime(CLOCK_MONOTONIC, &ts);
	while (ts.tv_sec * 1000000000LL + ts.tv_nsec < end);
}

/* Whether it is this CPU's turn now, passing those that have gone. */
static bool my_turn(int cpu)
{
	int at = __atomic_load_n(&shared->turn, __ATOMIC_SEQ_CST);

	if (at >= round_.turns || round_.turn[at] == cpu)
		return true;
	if (shared->gone[round_.turn[at]])
		__atomic_compare_exchange_n(&shared->turn, &at, at + 1, false,
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	return false;
}

/* The process that an operation of the plan forks. */
static int forked(void)
{
	int i, j;

	for (i = 0; i < world.setup.ops; i++)
		if (world.setup.op[i].kind == FORK)
			return 1;
	for (i = 0; i < round_.cpus; i++)
		for (j = 0; j < round_.cpu[i].ops; j++)
			if (round_.cpu[i].op[j].kind == FORK)
				return 1;
	return -1;
}

static void leave_process(int proc)
{
	int c;

	/* exit_group(2) once nobody is in the kernel, as the model has it */
	__atomic_store_n(&shared->exiting[proc], true, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&shared->inside[proc], __ATOMIC_SEQ_CST))
		usleep(50);
	for (c = 0; c < round_.cpus; c++)
		if (round_.cpu[c].proc == proc ||
		    (round_.cpu[c].proc == forked() && !shared->child))
			__atomic_store_n(&shared->gone[c], true, __ATOMIC_SEQ_CST);
}

static void *cpu_main(void *arg)
{
	int cpu = (long)arg, i;
	const struct plan *plan = &round_.cpu[cpu];
	unsigned long long random = round_.seed * 0x9e3779b97f4a7c15ULL + cpu + 1;

	pin(cpu);
	shared->pid[cpu] = getpid();
	shared->tid[cpu] = gettid();
	__atomic_fetch_add(&shared->ready, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&shared->go, __ATOMIC_SEQ_CST))
		sched_yield();
	for (i = 0; i < plan->ops; i++) {
		struct result *r = &shared->result[cpu][i];
		const struct op *op = &plan->op[i];

		if (round_.moves)
			while (__atomic_load_n(&shared->permits[cpu], __ATOMIC_SEQ_CST) <= i)
				usleep(100);
		else if (round_.turns)
			while (!my_turn(cpu))
				usleep(30);
		else
			dawdle(&random);
		__atomic_fetch_add(&shared->inside[plan->proc], 1, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&shared->exiting[plan->proc], __ATOMIC_SEQ_CST)) {
			__atomic_fetch_sub(&shared->inside[plan->proc], 1, __ATOMIC_SEQ_CST);
			break;
		}
		if (op->kind == EXIT) {
			__atomic_fetch_sub(&shared->inside[plan->proc], 1, __ATOMIC_SEQ_CST);
			r->invoked = __atomic_fetch_add(&shared->stamp, 1, __ATOMIC_SEQ_CST);
			r->ksyms = r->tied = -1;
			r->returned = -1;
			r->log_from = r->log_to = log_count();
			r->done = true;
			leave_process(plan->proc);
			/* who waits for its turn sees an exit that is over */
			_exit(0);
		}
		if (round_.fail_nth && round_.fail_cpu == cpu && round_.fail_op == i)
			set_fail_nth(round_.fail_nth);
		if (round_.broken[0] && !cpu && !i)
			go_wrong();
		carry_out_recorded(plan->proc, op, r);
		if (!strcmp(round_.broken, "result") && !cpu && !i)
			r->result = 1;
		if (round_.fail_nth && round_.fail_cpu == cpu && round_.fail_op == i)
			set_fail_nth(0);
		/* nobody else moves, and the next operation may be the last */
		if (round_.turns || round_.moves)
			print_op("@o", cpu, i, r);
		__atomic_fetch_sub(&shared->inside[plan->proc], 1, __ATOMIC_SEQ_CST);
		if (round_.turns)
			__atomic_fetch_add(&shared->turn, 1, __ATOMIC_SEQ_CST);
	}
	__atomic_store_n(&shared->gone[cpu], true, __ATOMIC_SEQ_CST);
	return NULL;
}

/* --- a replay ---------------------------------------------------------------- */

static struct {
	int slot;		/* the gate in which it is held, or is going to be */
	bool held;		/* in it, as far as is known */
	int fail_nth;		/* when it goes on */
	int ops;		/* operations that have begun */
} actors[MOST_CPUS + 1];

static bool has_returned(int cpu)
{
	return __atomic_load_n(&shared->gone[cpu], __ATOMIC_SEQ_CST) ||
	       (actors[cpu].ops && shared->result[cpu][actors[cpu].ops - 1].printed);
}

/* In the kernel and waiting for others, for a while; not asleep as the runner itself may be. */
static bool is_blocked(int cpu)
{
	char path[64], text[256] = "";
	int fd, len, i;
	char *state;

	for (i = 0; i < 5; i++) {
		snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", shared->pid[cpu],
			 shared->tid[cpu]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		close(fd);
		state = len > 0 ? strrchr(text, ')') : NULL;
		if (!state || state[2] != 'D')
			return false;
		lab_sleep_ms(40);
	}
	return true;
}

static void set_fail_nth_of(int cpu, int nth)
{
	char path[64], text[16];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/fail-nth", shared->pid[cpu],
		 shared->tid[cpu]);
	snprintf(text, sizeof(text), "%d", nth);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if ((fd < 0 || write(fd, text, strlen(text)) < 0) && nth)
		broken("%s: %s", path, strerror(errno));
	close(fd);
}

/* Whether an actor is in its gate, waiting for it. */
static bool comes_to_gate(int actor, int slot, const char **why)
{
	long long end = lab_now_ms() + MOVE_MS;

	for (;;) {
		long state = ioctl(dev, LAB_GATE_STATE, slot);

		if (state == LAB_GATE_HOLDS)
			return true;
		*why = "did not come";
		if (state == LAB_GATE_GAVE_UP)
			*why = "was held for too long";
		else if (actor != WORKER && state == LAB_GATE_CLOSED && has_returned(actor))
			*why = "returned before";
		else if (lab_now_ms() < end) {
			usleep(300);
			continue;
		}
		return false;
	}
}

/* Lets the actor go on from where it is. */
static void let_go(int actor)
{
	long state;

	if (!actors[actor].held) {
		/* it may be under way already: what it waited for has come */
		if (actor != WORKER && (!actors[actor].ops || has_returned(actor))) {
			actors[actor].ops++;
			__atomic_fetch_add(&shared->permits[actor], 1, __ATOMIC_SEQ_CST);
		}
		return;
	}
	if (actors[actor].fail_nth)
		set_fail_nth_of(actor, actors[actor].fail_nth);
	actors[actor].fail_nth = 0;
	actors[actor].held = false;
	state = ioctl(dev, LAB_GATE_OPEN, actors[actor].slot);
	if (state != LAB_GATE_HOLDS)
		printf("@mno -1 somebody was held for too long\n");
}

/* Whether an operation has begun or returned since. */
static bool somebody_moved(int *stamp)
{
	int now = __atomic_load_n(&shared->stamp, __ATOMIC_SEQ_CST), before = *stamp;

	*stamp = now;
	return now != before;
}

/* Whether the move was made; why not, else. */
static bool make_move(const struct move *m, const char **why)
{
	int actor = m->cpu, first = ITS_GATES * actor;
	int next = first + (actors[actor].slot - first + 1) % ITS_GATES;
	struct lab_gate gate = m->gate;
	int stamp = 0;
	long long start = lab_now_ms(), end;

	/* a process that has just been forked */
	while (actor != WORKER && !__atomic_load_n(&shared->tid[actor], __ATOMIC_SEQ_CST)) {
		*why = "is not there";
		if (lab_now_ms() > start + MOVE_MS)
			return false;
		usleep(100);
	}
	/* deferred work comes by itself to where it is held first */
	if (actor == WORKER && actors[actor].held &&
	    !comes_to_gate(actor, actors[actor].slot, why))
		return false;
	if (m->until == UNTIL_GATE) {
		gate.slot = next;
		gate.tid = actor == WORKER ? 0 : shared->tid[actor];
		if (ioctl(dev, LAB_GATE_ARM, &gate)) {
			*why = strerror(errno);
			return false;
		}
		let_go(actor);
		actors[actor].slot = next;
		actors[actor].fail_nth = m->fail_nth;
		actors[actor].held = true;
		return actor == WORKER || comes_to_gate(actor, next, why);
	}
	let_go(actor);
	for (end = lab_now_ms() + MOVE_MS; lab_now_ms() < end; usleep(300)) {
		if (actor == WORKER || has_returned(actor))
			return true;
		if (m->until == UNTIL_BLOCKED && is_blocked(actor))
			return true;
		/* it has returned, and looks through kallsyms */
		if (somebody_moved(&stamp))
			end = lab_now_ms() + MOVE_MS;
	}
	*why = "does not return";
	/* neither done nor asleep: whatever it does, that is how far it goes */
	return m->until == UNTIL_BLOCKED;
}

/* The moves one after the other; then nobody is held any more. */
static void replay(void)
{
	long long end = lab_now_ms() + ROUND_MS;
	const char *why = "";
	int i, stamp = 0;

	/* who spins takes its processor */
	for (i = 0; i < round_.moves; i++)
		if (round_.move[i].gate.flags & LAB_GATE_PLACE)
			pin(sysconf(_SC_NPROCESSORS_ONLN) - 1);
	memset(actors, 0, sizeof(actors));
	for (i = 0; i <= WORKER; i++)
		actors[i].slot = ITS_GATES * i;
	while (__atomic_load_n(&shared->ready, __ATOMIC_SEQ_CST) < round_.cpus) {
		/* a set-up that looks through kallsyms takes a while */
		if (somebody_moved(&stamp))
			end = lab_now_ms() + ROUND_MS;
		if (lab_now_ms() > end || shared->setup_done == 2)
			return;
		usleep(100);
	}
	__atomic_store_n(&shared->go, 1, __ATOMIC_SEQ_CST);
	for (i = 0; i < round_.moves; i++) {
		if (dev < 0 && round_.move[i].until == UNTIL_GATE)
			broken("no gates: the module is not there");
		printf("@m %d\n", i);
		if (!make_move(&round_.move[i], &why)) {
			printf("@mno %d %s\n", i, why);
			break;
		}
		printf("@mok %d\n", i);
	}
	for (i = 0; i < round_.cpus; i++)
		__atomic_store_n(&shared->permits[i], MOST_OPS, __ATOMIC_SEQ_CST);
	for (i = 0; i < LAB_GATES; i++)
		ioctl(dev, LAB_GATE_OPEN, i);
}

/* The process whose threads run until all are through. */
static void run_threads(int proc)
{
	pthread_t thread[MOST_CPUS];
	bool mine[MOST_CPUS] = { 0 };
	int i;

	for (i = 0; i < round_.cpus; i++) {
		mine[i] = round_.cpu[i].proc == proc;
		if (mine[i] && pthread_create(&thread[i], NULL, cpu_main, (void *)(long)i))
			broken("no thread");
	}
	for (i = 0; i < round_.cpus; i++)
		if (mine[i])
			pthread_join(thread[i], NULL);
	if (!strcmp(round_.broken, "stay"))
		pause();
	_exit(0);
}

static void process_main(int proc)
{
	int i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (i = 0; i < world.progs; i++)
		if (world.prog[i].process >= 0 && world.prog[i].process != proc)
			close(world.prog[i].fd);
	if (proc == round_.cpu[0].proc) {
		pin(0);
		for (i = 0; i < world.setup.ops; i++) {
			carry_out_recorded(proc, &world.setup.op[i], &shared->setup[i]);
			print_op("@s", 0, i, &shared->setup[i]);
			if (shared->setup[i].result)
				break;
		}
		__atomic_store_n(&shared->setup_done, 1 + (i < world.setup.ops), __ATOMIC_SEQ_CST);
	}
	while (!__atomic_load_n(&shared->setup_done, __ATOMIC_SEQ_CST))
		usleep(50);
	if (shared->setup_done == 2)
		_exit(0);
	run_threads(proc);
}

/* The second process, which has every descriptor of its parent: nobody opens or closes one meanwhile (see table). */
static int fork_child(int proc)
{
	int child = 1, i;
	pid_t pid;

	if (shared->child)
		return -EAGAIN;
	pthread_mutex_lock(&files);
	pid = fork();
	if (pid < 0)
		broken("fork: %s", strerror(errno));
	if (!pid) {
		/* the threads that might hold one of these are not there */
		pthread_rwlock_init(&table, NULL);
		pthread_mutex_init(&files, NULL);
		for (i = 0; i < MOST_SOCKS; i++)
			pthread_mutex_init(&sock_lock[i], NULL);
		for (i = 0; i < MOST_SOCKS; i++)
			if (sock_is_open(proc, i))
				__atomic_fetch_or(&shared->sock_open_in[i], 1 << child,
						  __ATOMIC_SEQ_CST);
		__atomic_store_n(&shared->child, getpid(), __ATOMIC_SEQ_CST);
		run_threads(child);
	}
	/* its sockets are known to be its own before anything else happens to them */
	while (!__atomic_load_n(&shared->child, __ATOMIC_SEQ_CST))
		usleep(20);
	pthread_mutex_unlock(&files);
	return 0;
}

static void waker_main(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		usleep(3000);
		ioctl(dev, LAB_OPS_WAKE);
	}
}

/* --- what is left --------------------------------------------------------- */

struct left {
	int maps, progs, links, ksyms, module;
};

static int count_ids(int (*next)(__u32 id, __u32 *next_id))
{
	__u32 id = 0;
	int count = 0;

	while (!next(id, &id))
		count++;
	return count;
}

static struct left look_round(bool with_ksyms)
{
	char path[128];
	int i;
	struct left l = {
		.maps = count_ids(bpf_map_get_next_id),
		.progs = count_ids(bpf_prog_get_next_id),
		.links = count_ids(bpf_link_get_next_id),
		.ksyms = with_ksyms ? ksyms() : 0,
	};

	for (i = 0; i < world.types; i++) {
		if (!strcmp(world.type[i].module, "-"))
			continue;
		snprintf(path, sizeof(path), "/sys/module/%s/refcnt", world.type[i].module);
		l.module += read_number(path);
	}
	return l;
}

static bool nothing_left(const struct left *l, const struct left *before)
{
	return l->maps <= before->maps && l->progs <= before->progs &&
	       l->links <= before->links && l->module <= before->module;
}

/* --- a round --------------------------------------------------------------- */

/* A registered plain map outlives its descriptors: bpftool finds it by its id. */
static void unregister_maps(void)
{
	__u32 id = 0;

	while (!bpf_map_get_next_id(id, &id)) {
		struct bpf_map_info info = { 0 };
		__u32 len = sizeof(info);
		int fd = bpf_map_get_fd_by_id(id);

		if (fd >= 0 && !bpf_map_get_info_by_fd(fd, &info, &len) &&
		    info.type == BPF_MAP_TYPE_STRUCT_OPS)
			map_delete(fd);
		close(fd);
	}
}

/* What earlier rounds have left in kallsyms, once what goes has gone: it would go in the middle of this one, else. */
static int settled_ksyms(void)
{
	long long end = lab_now_ms() + SETTLE_MS;
	int before, now = ksyms();

	do {
		before = now;
		if (!now)
			break;
		lab_sleep_ms(500);
		now = ksyms();
	} while (now != before && lab_now_ms() < end);
	return now;
}

static bool pins_links(void)
{
	int i, j;

	for (i = 0; i < world.setup.ops; i++)
		if (world.setup.op[i].kind == LINK_PIN)
			return true;
	for (i = 0; i < round_.cpus; i++)
		for (j = 0; j < round_.cpu[i].ops; j++)
			if (round_.cpu[i].op[j].kind == LINK_PIN)
				return true;
	return false;
}

/* Whether something of a round is still registered where that can be seen. */
static bool is_registered(void)
{
	char text[4096] = "";
	int fd, len;

	if (type_called("scx") >= 0 && !file_says("/sys/kernel/sched_ext/state", "disabled"))
		return true;
	if (type_called("tcp") < 0)
		return false;
	fd = open("/proc/sys/net/ipv4/tcp_available_congestion_control", O_RDONLY | O_CLOEXEC);
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	return len > 0 && strstr(text, "lab_k");
}

/* A link whose pin was its last reference goes later, in a work item: not in the next round. */
static void settle_links(int before)
{
	long long end = lab_now_ms() + SETTLE_MS;

	do
		usleep(2000);
	while ((count_ids(bpf_link_get_next_id) > before || is_registered()) && lab_now_ms() < end);
}

static void run_round(void)
{
	pid_t child[MOST_CPUS];
	int i, j, left, status, stamp = 0, later = forked();
	int links_before = count_ids(bpf_link_get_next_id);
	bool adopted = false;
	long long end;

	printf("@r %d\n", round_.number);
	memset(shared, 0, sizeof(*shared));
	memset(log_, 0, sizeof(*log_));
	memset(map_fds, 0, sizeof(map_fds));
	memset(link_fds, 0, sizeof(link_fds));
	programs_load();
	if (round_.ksyms)
		shared->ksyms = round_.ksyms_before = settled_ksyms();
	for (i = left = 0; i < world.procs; i++) {
		child[i] = 0;
		if (i == later)
			continue;
		child[i] = fork();
		if (!child[i])
			process_main(i);
		if (child[i] < 0)
			broken("fork: %s", strerror(errno));
		left++;
	}
	/* its threads come when they are there */
	for (i = 0; i < round_.cpus; i++)
		shared->ready += round_.cpu[i].proc == later;
	programs_close();
	if (round_.moves)
		replay();
	end = lab_now_ms() + ROUND_MS;
	while (left) {
		if (shared->ready >= round_.cpus)
			__atomic_store_n(&shared->go, 1, __ATOMIC_SEQ_CST);
		for (i = 0; i < world.procs; i++) {
			if (child[i] && waitpid(child[i], &status, WNOHANG) == child[i]) {
				child[i] = 0;
				left--;
				if (!WIFEXITED(status) || WEXITSTATUS(status))
					broken("process %d ended with status %#x", i, status);
			}
		}
		/* after its parent has been seen to end: it was there before */
		if (!adopted && __atomic_load_n(&shared->child, __ATOMIC_SEQ_CST)) {
			child[later] = shared->child;
			adopted = true;
			left++;
		}
		/* to look through the kallsyms of a large kernel takes seconds, too */
		if (somebody_moved(&stamp))
			end = lab_now_ms() + ROUND_MS;
		if (lab_now_ms() > end)
			break;
		usleep(100);
	}
	for (i = 0; i < round_.cpus; i++) {
		for (j = 0; j < round_.cpu[i].ops; j++) {
			if (shared->result[i][j].printed)
				continue;
			if (shared->result[i][j].done)
				print_op("@o", i, j, &shared->result[i][j]);
			else if (left && !shared->gone[i]) {
				/* not done, and its thread has not gone either */
				printf("@hang %d %d\n", i, j);
				break;
			}
		}
	}
	for (i = 0; i < MOST_LINKS; i++)
		unlink(pin_path('l', i));
	for (i = 0; i < MOST_MAPS; i++)
		unlink(pin_path('m', i));
	if (pins_links())
		settle_links(links_before);
	if (type_called("qdisc") >= 0)
		qdisc_clear();
	if (type_called("binfmt") >= 0)
		bm_clear();
	unregister_maps();
	printf("@d %d %d\n", left, shared->lines);
	if (left)
		_exit(4);
}

/* --- the file --------------------------------------------------------------- */

static int read_op(char *text, struct op *op)
{
	char word[32];
	int n, k;

	n = sscanf(text, "%31s %lli %lli %lli", word, &op->arg[0], &op->arg[1], &op->arg[2]);
	for (k = 0; n >= 1 && k < KINDS; k++)
		if (!strcmp(kinds[k], word)) {
			op->kind = k;
			return 0;
		}
	return -1;
}

/* CPU|work return|blocked, or CPU|work gate SYMBOL FLAGS SKIP ARG VALUE FAIL-NTH */
static void read_move(const char *text)
{
	struct move *m = &round_.move[round_.moves++];
	char actor[16] = "", until[16] = "";
	int n;

	if (round_.moves > MOST_MOVES)
		broken("too many moves");
	n = sscanf(text, "%15s %15s %63s %u %u %u %llu %d", actor, until, m->gate.symbol,
		   &m->gate.flags, &m->gate.skip, &m->gate.arg,
		   (unsigned long long *)&m->gate.value, &m->fail_nth);
	m->cpu = strcmp(actor, "work") ? atoi(actor) : WORKER;
	if (n == 8 && !strcmp(until, "gate"))
		m->until = UNTIL_GATE;
	else if (n == 2 && !strcmp(until, "blocked"))
		m->until = UNTIL_BLOCKED;
	else if (n == 2 && !strcmp(until, "return"))
		m->until = UNTIL_RETURN;
	else
		broken("move: %s", text);
}

static void read_line(char *line)
{
	struct plan *plan = round_.cpus ? &round_.cpu[round_.cpus - 1] : NULL;
	char *rest = strchr(line, ' '), *word;
	int i;

	rest = rest ? rest + 1 : line + strlen(line);
	if (!strncmp(line, "cookie ", 7)) {
		world.cookie = atoi(rest);
	} else if (!strncmp(line, "named ", 6)) {
		world.named = atoi(rest);
	} else if (!strncmp(line, "tied ", 5)) {
		world.tied = atoi(rest);
	} else if (!strncmp(line, "ksyms ", 6)) {
		world.ksyms = atoi(rest);
	} else if (!strncmp(line, "type ", 5)) {
		struct type *t = &world.type[world.types++];

		sscanf(rest, "%63s %63s %15s", t->name, t->module, t->caller);
	} else if (!strncmp(line, "member ", 7) && world.types) {
		struct type *t = &world.type[world.types - 1];
		struct member *m = &t->member[t->members++];

		sscanf(rest, "%63s %d", m->name, &i);
		m->sleepable = i;
	} else if (!strncmp(line, "prog ", 5)) {
		struct prog *p = &world.prog[world.progs++];

		sscanf(rest, "%d %d %15s %d", &p->type, &p->member, p->body, &p->process);
	} else if (!strncmp(line, "map ", 4)) {
		struct map *m = &world.map[world.maps++];

		m->type = strtol(rest, &rest, 10);
		m->link = strtol(rest, &rest, 10);
		m->key = strtol(rest, &rest, 10);
		m->owner = strtol(rest, &rest, 10);
		for (i = 0; i < world.type[m->type].members; i++)
			m->prog[i] = strtol(rest, &rest, 10);
	} else if (!strncmp(line, "procs ", 6)) {
		world.procs = atoi(rest);
	} else if (!strncmp(line, "setup ", 6)) {
		if (read_op(rest, &world.setup.op[world.setup.ops++]))
			broken("operation: %s", rest);
	} else if (!strncmp(line, "round ", 6)) {
		memset(&round_, 0, sizeof(round_));
		sscanf(rest, "%d %llu %d", &round_.number, &round_.seed, &i);
		round_.ksyms = i;
	} else if (!strncmp(line, "turns ", 6)) {
		for (word = strtok(rest, " "); word; word = strtok(NULL, " "))
			round_.turn[round_.turns++] = atoi(word);
	} else if (!strncmp(line, "move ", 5)) {
		read_move(rest);
	} else if (!strncmp(line, "broken ", 7)) {
		snprintf(round_.broken, sizeof(round_.broken), "%s", rest);
	} else if (!strncmp(line, "fail ", 5)) {
		sscanf(rest, "%d %d %d", &round_.fail_cpu, &round_.fail_op, &round_.fail_nth);
	} else if (!strncmp(line, "cpu ", 4)) {
		round_.cpu[round_.cpus++].proc = atoi(rest);
	} else if (!strncmp(line, "do ", 3) && plan) {
		if (read_op(rest, &plan->op[plan->ops++]))
			broken("operation: %s", rest);
	} else if (!strcmp(line, "run")) {
		run_round();
	} else {
		broken("line: %s", line);
	}
}

static void set_up_machine(void)
{
	static const struct { const char *path, *text; } settings[] = {
		{ "/proc/sys/net/ipv4/tcp_rto_min_us", "2000" },
		{ "/proc/sys/net/ipv4/tcp_early_retrans", "0" },
		/* warnings and worse: a notice would come between two halves of a line */
		{ "/proc/sys/kernel/printk", "5" },
	};
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
	struct rlimit most = { 4096, 4096 };
	struct btf *own_btf;
	size_t i;

	if (setrlimit(RLIMIT_NOFILE, &most))
		broken("descriptors: %s", strerror(errno));

	for (i = 0; i < sizeof(settings) / sizeof(*settings); i++) {
		int fd = open(settings[i].path, O_WRONLY | O_CLOEXEC);

		if (fd >= 0 && write(fd, settings[i].text, strlen(settings[i].text)) < 0)
			broken("%s: %s", settings[i].path, strerror(errno));
		close(fd);
	}
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	log_fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "lab_log", 4, sizeof(struct log), 1, &opts);
	if (log_fd < 0)
		broken("no log: %s", lab_number(log_fd));
	log_ = mmap(NULL, sizeof(struct log), PROT_READ | PROT_WRITE, MAP_SHARED, log_fd, 0);
	if (log_ == MAP_FAILED || shared == MAP_FAILED)
		broken("mmap: %s", strerror(errno));
	own_btf = btf__new_empty();
	if (!own_btf || btf__add_int(own_btf, "int", 4, BTF_INT_SIGNED) < 0 ||
	    btf__load_into_kernel(own_btf))
		broken("no BTF");
	own_btf_fd = btf__fd(own_btf);
	lab_faults_on();
	dev = open("/dev/lab_ops", O_RDWR | O_CLOEXEC);
}

/* As if all were done. */
static void leave_early(int signal)
{
	(void)signal;
	_exit(0);
}

int main(int argc, char **argv)
{
	const char *path = argc == 2 ? argv[1] : "-", *why;
	struct left before, after;
	static char line[65536];
	FILE *f = fopen(path, "r");
	bool looked = false;
	long long end;

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGUSR1, leave_early);
	if (!f)
		broken("%s: %s", path, strerror(errno));
	set_up_machine();
	/* a process that a process of a round has forked comes to it when its parent has gone */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (dev >= 0) {
		waker = fork();
		if (!waker)
			waker_main();
	}
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		if (!strcmp(line, "run") && !looked) {
			looked = true;
			call_progs_load();
			if (type_called("hid") >= 0 || type_called("hid_event") >= 0)
				hid_create();
			why = type_called("qdisc") >= 0 ? qdisc_set_up() :
			      type_called("binfmt") >= 0 ? bm_set_up() : NULL;
			if (why)
				broken("%s: %s", why, strerror(errno));
			before = look_round(world.ksyms);
		}
		read_line(line);
	}
	fclose(f);
	if (looked) {
		end = lab_now_ms() + SETTLE_MS;
		do {
			lab_sleep_ms(50);
			after = look_round(false);
		} while (!nothing_left(&after, &before) && lab_now_ms() < end);
		/* those of the last programs go a grace period after their numbers */
		do {
			after = look_round(world.ksyms);
		} while (after.ksyms > before.ksyms && lab_now_ms() < end);
		printf("@left %d %d %d %d %d\n", after.maps - before.maps,
		       after.progs - before.progs, after.links - before.links,
		       after.ksyms - before.ksyms, after.module - before.module);
	}
	if (waker > 0)
		kill(waker, SIGKILL);
	return 0;
}
