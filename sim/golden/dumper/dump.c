// SPDX-License-Identifier: GPL-2.0
/*
 * Runs in the lab's VM: makes a kernel emit trampolines and prints their bytes, read
 * from /proc/kcore, with everything that went into them. The output is TOML between
 * two marker lines; take.sh makes golden files of it.
 *
 * Built without a C library (the kernel's nolibc), so that it is small enough to
 * travel in the VM's command line. All system calls are raw: the same bytes on every
 * kernel, whatever the headers say.
 *
 * dump trampolines		 struct_ops types and traced functions
 * dump cookies			 struct_ops links with cookies (patched kernels only)
 * dump memory TYPE MAPS LINKS	 what maps and links are charged
 */
#include <linux/bpf.h>
#include <linux/btf.h>
#include <stdbool.h>

/* not in the headers of every distribution */
#define LINK_FLAG	(1U << 13)	/* BPF_F_LINK */
#define LINK_TYPE	44		/* BPF_STRUCT_OPS */

#define FENTRY	BPF_TRACE_FENTRY
#define FEXIT	BPF_TRACE_FEXIT
#define FMODRET	BPF_MODIFY_RETURN

/* Enough for any trampoline here; what follows the last instruction is cut off later. */
#define DUMP_SIZE	1024

static long sys_bpf(int cmd, void *attr, unsigned int size)
{
	return my_syscall3(__NR_bpf, cmd, attr, size);
}

static void fail(const char *what, long err)
{
	printf("@dump failed: %s: %d\n", what, (int)err);
	exit(1);
}

/* ---- files ---- */

static char *slurp(const char *path, size_t *size)
{
	size_t room = 16 << 20, len = 0;
	char *buf = malloc(room);
	int fd = open(path, O_RDONLY);
	ssize_t n;

	if (fd < 0 || !buf)
		fail(path, fd);
	while (len < room - 1 && (n = read(fd, buf + len, room - 1 - len)) > 0)
		len += n;
	close(fd);
	buf[len] = 0;
	*size = len;
	return buf;
}

/* ---- BTF ---- */

static const char *btf_strings;
static const struct btf_type **btf_types;
static unsigned int btf_nr;

static size_t btf_type_size(const struct btf_type *t)
{
	unsigned int vlen = BTF_INFO_VLEN(t->info);

	switch (BTF_INFO_KIND(t->info)) {
	case BTF_KIND_INT:
	case BTF_KIND_VAR:
	case BTF_KIND_DECL_TAG:
		return sizeof(*t) + 4;
	case BTF_KIND_ARRAY:
		return sizeof(*t) + sizeof(struct btf_array);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return sizeof(*t) + vlen * sizeof(struct btf_member);
	case BTF_KIND_ENUM:
	case BTF_KIND_FUNC_PROTO:
		return sizeof(*t) + vlen * 8;
	case BTF_KIND_DATASEC:
	case BTF_KIND_ENUM64:
		return sizeof(*t) + vlen * 12;
	default:
		return sizeof(*t);
	}
}

static void btf_load(void)
{
	size_t size;
	char *raw = slurp("/sys/kernel/btf/vmlinux", &size);
	struct btf_header *h = (void *)raw;
	char *at = raw + h->hdr_len + h->type_off, *end = at + h->type_len;

	btf_strings = raw + h->hdr_len + h->str_off;
	btf_types = malloc(sizeof(*btf_types) * (h->type_len / sizeof(struct btf_type) + 1));
	for (btf_nr = 1; at < end; btf_nr++) {
		btf_types[btf_nr] = (void *)at;
		at += btf_type_size((void *)at);
	}
}

static int btf_find(const char *name, unsigned int kind)
{
	unsigned int id;

	for (id = 1; id < btf_nr; id++)
		if (BTF_INFO_KIND(btf_types[id]->info) == kind &&
		    !strcmp(btf_strings + btf_types[id]->name_off, name))
			return id;
	return -1;
}

static const struct btf_type *btf_skip(unsigned int id)
{
	const struct btf_type *t;

	for (;; id = t->type) {
		if (!id)
			return 0;
		t = btf_types[id];
		switch (BTF_INFO_KIND(t->info)) {
		case BTF_KIND_TYPEDEF:
		case BTF_KIND_CONST:
		case BTF_KIND_VOLATILE:
		case BTF_KIND_RESTRICT:
		case BTF_KIND_TYPE_TAG:
			continue;
		}
		return t;
	}
}

static unsigned int btf_size(unsigned int id)
{
	const struct btf_type *t = btf_skip(id);

	if (!t)
		return 0;
	return BTF_INFO_KIND(t->info) == BTF_KIND_PTR ? 8 : t->size;
}

static const struct btf_type *member_proto(const struct btf_member *m)
{
	const struct btf_type *t = btf_skip(m->type);

	if (!t || BTF_INFO_KIND(t->info) != BTF_KIND_PTR)
		return 0;
	t = btf_skip(t->type);
	return t && BTF_INFO_KIND(t->info) == BTF_KIND_FUNC_PROTO ? t : 0;
}

static void print_model(const struct btf_type *proto)
{
	const struct btf_param *p = (const void *)(proto + 1);
	unsigned int i;

	printf("args = [");
	for (i = 0; i < BTF_INFO_VLEN(proto->info); i++)
		printf("%s%u", i ? ", " : "", btf_size(p[i].type));
	printf("]\nret = %u\n", btf_size(proto->type));
}

/* ---- symbols and memory ---- */

#define MAX_SYMBOLS	8192

static struct symbol {
	unsigned long addr;
	unsigned int pass;
	char name[64];
} symbols[MAX_SYMBOLS];

static unsigned int nr_symbols, symbol_pass;

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n';
}

static bool is_wanted(const char *name, size_t len)
{
	static const char * const prefixes[] = {
		"__bpf_prog_e", "__bpf_tramp_e", "bpf_fentry_test", "bpf_modify_return_test", "bpf__",
	};
	unsigned int i;

	for (i = 0; i < sizeof(prefixes) / sizeof(*prefixes); i++)
		if (len >= strlen(prefixes[i]) && !memcmp(name, prefixes[i], strlen(prefixes[i])))
			return len < sizeof(symbols->name);
	return false;
}

/*
 * Reads the symbols that matter, once for all: it takes seconds in a VM without KVM.
 * What was there before keeps the number of the pass that saw it first: trampolines
 * of the same name may lie around until grace periods are over.
 */
static void symbols_load(void)
{
	size_t size, n;
	char *text = slurp("/proc/kallsyms", &size), *at = text, *name;
	unsigned long addr;
	unsigned int i;

	symbol_pass++;
	while (*at) {
		addr = 0;
		for (; !is_space(*at); at++)
			addr = addr * 16 + (*at <= '9' ? *at - '0' : *at - 'a' + 10);
		name = at + 3;
		for (n = 0; name[n] && !is_space(name[n]); n++)
			;
		if (is_wanted(name, n)) {
			for (i = 0; i < nr_symbols && symbols[i].addr != addr; i++)
				;
			if (i == MAX_SYMBOLS)
				fail("too many symbols", 0);
			if (i == nr_symbols) {
				nr_symbols++;
				symbols[i].addr = addr;
				symbols[i].pass = symbol_pass;
				memcpy(symbols[i].name, name, n);
				symbols[i].name[n] = 0;
			}
		}
		for (at = name + n; *at && *at != '\n'; at++)
			;
		if (*at)
			at++;
	}
	free(text);
}

/* The newest of that name. */
static unsigned long symbol(const char *name)
{
	unsigned long addr = 0;
	unsigned int i, pass = 0;

	for (i = 0; i < nr_symbols; i++) {
		if (symbols[i].pass < pass || strcmp(symbols[i].name, name))
			continue;
		addr = symbols[i].addr;
		pass = symbols[i].pass;
	}
	return addr;
}

struct elf_header {
	unsigned char ident[16];
	unsigned short type, machine;
	unsigned int version;
	unsigned long entry, phoff, shoff;
	unsigned int flags;
	unsigned short ehsize, phentsize, phnum;
};

struct program_header {
	unsigned int type, flags;
	unsigned long offset, vaddr, paddr, filesz, memsz, align;
};

static void kcore(unsigned long addr, void *to, size_t size)
{
	struct elf_header h;
	struct program_header p;
	int fd = open("/proc/kcore", O_RDONLY), i;

	if (fd < 0 || read(fd, &h, sizeof(h)) != sizeof(h))
		fail("/proc/kcore", fd);
	for (i = 0; i < h.phnum; i++) {
		lseek(fd, h.phoff + i * h.phentsize, SEEK_SET);
		if (read(fd, &p, sizeof(p)) != sizeof(p))
			break;
		if (p.type != 1 || addr < p.vaddr || addr - p.vaddr >= p.memsz)
			continue;
		lseek(fd, p.offset + (addr - p.vaddr), SEEK_SET);
		if (read(fd, to, size) == (ssize_t)size) {
			close(fd);
			return;
		}
	}
	fail("address not in /proc/kcore", 0);
}

/* What the bytes say about the kernel's config and the processor's mitigations. */
static struct {
	bool struct_ops, endbr, int3;
	unsigned long thunk;
} jit;

/*
 * Length up to the last instruction: leave, maybe add rsp, 8, then ret (with int3
 * behind it) or a jump to the return thunk. The slack that follows is never printed:
 * it is whatever was in the buffer that the kernel built the trampoline in.
 */
static int code_length(const unsigned char *code, unsigned long addr)
{
	static const unsigned char skip_frame[] = { 0x48, 0x83, 0xc4, 0x08 };
	int i, end, distance;

	for (i = 0; i < DUMP_SIZE - 16; i++) {
		if (code[i] != 0xc9)
			continue;
		end = i + 1;
		if (!memcmp(code + end, skip_frame, sizeof(skip_frame)))
			end += sizeof(skip_frame);
		if (code[end] == 0xc3) {
			jit.int3 = code[end + 1] == 0xcc;
			return end + 1 + jit.int3;
		}
		if (code[end] == 0xe9) {
			memcpy(&distance, code + end + 1, sizeof(distance));
			jit.thunk = addr + end + 5 + distance;
			return end + 5;
		}
	}
	fail("a trampoline without end", 0);
	return 0;
}

static void print_code(unsigned long addr)
{
	static const char digits[] = "0123456789abcdef";
	static unsigned char code[DUMP_SIZE];
	int i, length;

	kcore(addr, code, sizeof(code));
	length = code_length(code, addr);
	printf("at = \"0x%lx\"\ncode = \"\"\"\n", addr);
	for (i = 0; i < length; i++)
		printf("%c%c%s", digits[code[i] >> 4], digits[code[i] & 15],
		       i % 24 == 23 || i == length - 1 ? "\n" : " ");
	printf("\"\"\"\n");
	jit.endbr = code[0] == 0xf3;
}

/* ---- programs ---- */

struct prog {
	int fd;
	unsigned long bpf_func;
	bool sleepable, recur;
};

static unsigned int next_name;

static int prog_load(struct prog *prog, int type, int attach, int btf_id, bool sleepable, bool func_ip,
		     int kfunc)
{
	struct bpf_insn ret0[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	struct bpf_insn drop[] = {	/* Qdisc_ops.enqueue must not keep the skb */
		{ .code = BPF_LDX | BPF_MEM | BPF_DW, .dst_reg = 2, .src_reg = 1, .off = 16 },
		{ .code = BPF_LDX | BPF_MEM | BPF_DW, .dst_reg = 1, .src_reg = 1 },
		{ .code = BPF_JMP | BPF_CALL, .src_reg = BPF_PSEUDO_KFUNC_CALL, .imm = kfunc },
		ret0[0], ret0[1],
	};
	struct bpf_insn ip[] = {
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_get_func_ip },
		ret0[0], ret0[1],
	};
	union bpf_attr attr;
	struct bpf_prog_info info;
	unsigned long ksym = 0;

	memset(&attr, 0, sizeof(attr));
	attr.prog_type = type;
	attr.expected_attach_type = attach;
	attr.attach_btf_id = btf_id;
	attr.insns = (unsigned long)(kfunc ? drop : func_ip ? ip : ret0);
	attr.insn_cnt = kfunc ? 5 : func_ip ? 3 : 2;
	attr.license = (unsigned long)"GPL";
	attr.prog_flags = sleepable ? BPF_F_SLEEPABLE : 0;
	/* told apart in kallsyms, if somebody looks */
	attr.prog_name[0] = 'd';
	attr.prog_name[1] = 'a' + next_name / 26 % 26;
	attr.prog_name[2] = 'a' + next_name++ % 26;
	prog->fd = sys_bpf(BPF_PROG_LOAD, &attr, sizeof(attr));
	if (prog->fd < 0)
		return prog->fd;

	memset(&attr, 0, sizeof(attr));
	memset(&info, 0, sizeof(info));
	info.nr_jited_ksyms = 1;
	info.jited_ksyms = (unsigned long)&ksym;
	attr.info.bpf_fd = prog->fd;
	attr.info.info_len = sizeof(info);
	attr.info.info = (unsigned long)&info;
	if (sys_bpf(BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr)) || !ksym)
		fail("no address of a program", 0);
	prog->bpf_func = ksym;
	prog->sleepable = sleepable;
	prog->recur = type == BPF_PROG_TYPE_TRACING;
	return 0;
}

static void print_link(const char *kind, const struct prog *prog, unsigned long cookie)
{
	printf("[[trampoline.links]]\nkind = \"%s\"\nbpf_func = \"0x%lx\"\ncookie = \"0x%lx\"\n", kind,
	       prog->bpf_func, cookie);
	printf("sleepable = %s\nrecur = %s\n", prog->sleepable ? "true" : "false",
	       prog->recur ? "true" : "false");
}

/* ---- struct_ops ---- */

#define MAX_MEMBERS	128

struct ops {
	const char *type;
	const struct btf_type *data;
	unsigned int value_id, data_off, members;
	char *value;
	struct prog progs[MAX_MEMBERS];
};

static const struct btf_member *member(const struct ops *ops, unsigned int i)
{
	return (const struct btf_member *)(ops->data + 1) + i;
}

static unsigned int member_off(const struct ops *ops, unsigned int i)
{
	return ops->data_off + (member(ops, i)->offset & 0xffffff) / 8;
}

static const char *member_name(const struct ops *ops, unsigned int i)
{
	return btf_strings + member(ops, i)->name_off;
}

/* Programs for every member that takes one; tells why for those that do not. */
static bool ops_load(struct ops *ops, const char *type)
{
	char name[128] = "bpf_struct_ops_";
	int data_id = btf_find(type, BTF_KIND_STRUCT), value_id;
	int drop = btf_find("bpf_qdisc_skb_drop", BTF_KIND_FUNC);
	unsigned int i;
	int err;

	strlcat(name, type, sizeof(name));
	value_id = btf_find(name, BTF_KIND_STRUCT);
	if (data_id < 0 || value_id < 0) {
		printf("# %s: not a struct_ops type of this kernel\n", type);
		return false;
	}
	memset(ops, 0, sizeof(*ops));
	ops->type = type;
	ops->data = btf_types[data_id];
	ops->value_id = value_id;
	ops->data_off = (((const struct btf_member *)(btf_types[value_id] + 1))[1].offset & 0xffffff) / 8;
	ops->value = malloc(btf_types[value_id]->size);
	memset(ops->value, 0, btf_types[value_id]->size);
	for (i = 0; i < BTF_INFO_VLEN(ops->data->info) && i < MAX_MEMBERS; i++) {
		if (!member_proto(member(ops, i)))
			continue;
		err = prog_load(&ops->progs[i], BPF_PROG_TYPE_STRUCT_OPS, i, data_id, false, false, 0);
		if (err)
			err = prog_load(&ops->progs[i], BPF_PROG_TYPE_STRUCT_OPS, i, data_id, true, false, 0);
		if (err && drop > 0)
			err = prog_load(&ops->progs[i], BPF_PROG_TYPE_STRUCT_OPS, i, data_id, false, false, drop);
		if (err) {
			printf("# %s.%s: no program (%d)\n", type, member_name(ops, i), err);
			continue;
		}
		*(unsigned long *)(ops->value + member_off(ops, i)) = ops->progs[i].fd;
		ops->members++;
	}
	return true;
}

static void ops_name(struct ops *ops, const char *field, unsigned int n)
{
	unsigned int i;
	char *name, *digit;

	for (i = 0; i < BTF_INFO_VLEN(ops->data->info); i++) {
		if (strcmp(member_name(ops, i), field))
			continue;
		name = ops->value + member_off(ops, i);
		strcpy(name, "dump0000");
		for (digit = name + 7; n; n /= 10)
			*digit-- = '0' + n % 10;
	}
}

/* A map wants to have some BTF of its own, whatever is in it. */
static int any_btf(void)
{
	static struct {
		struct btf_header h;
		struct btf_type t;
		unsigned int encoding;
		char strings[5];
	} raw = {
		.h = {
			.magic = BTF_MAGIC, .version = BTF_VERSION, .hdr_len = sizeof(raw.h),
			.type_len = sizeof(raw.t) + sizeof(raw.encoding),
			.str_off = sizeof(raw.t) + sizeof(raw.encoding), .str_len = sizeof(raw.strings),
		},
		.t = { .name_off = 1, .info = BTF_KIND_INT << 24, .size = 4 },
		.encoding = BTF_INT_SIGNED << 24 | 32,
		.strings = "\0int",
	};
	static int fd = -1;
	union bpf_attr attr;

	if (fd < 0) {
		memset(&attr, 0, sizeof(attr));
		attr.btf = (unsigned long)&raw;
		attr.btf_size = offsetof(typeof(raw), strings) + sizeof(raw.strings);
		fd = sys_bpf(BPF_BTF_LOAD, &attr, sizeof(attr));
		if (fd < 0)
			fail("BPF_BTF_LOAD", fd);
	}
	return fd;
}

static int ops_map(const struct ops *ops)
{
	unsigned int size = btf_types[ops->value_id]->size, key = 0;
	union bpf_attr attr;
	char *value = malloc(size);
	int fd, err;

	memset(&attr, 0, sizeof(attr));
	attr.map_type = BPF_MAP_TYPE_STRUCT_OPS;
	attr.key_size = 4;
	attr.value_size = size;
	attr.max_entries = 1;
	attr.map_flags = LINK_FLAG;
	attr.btf_fd = any_btf();
	attr.btf_vmlinux_value_type_id = ops->value_id;
	fd = sys_bpf(BPF_MAP_CREATE, &attr, sizeof(attr));
	if (fd < 0) {
		printf("# %s: BPF_MAP_CREATE: %d\n", ops->type, fd);
		return fd;
	}
	memcpy(value, ops->value, size);
	memset(&attr, 0, sizeof(attr));
	attr.map_fd = fd;
	attr.key = (unsigned long)&key;
	attr.value = (unsigned long)value;
	err = sys_bpf(BPF_MAP_UPDATE_ELEM, &attr, sizeof(attr));
	free(value);
	if (err) {
		printf("# %s: BPF_MAP_UPDATE_ELEM: %d\n", ops->type, err);
		close(fd);
		return err;
	}
	return fd;
}

struct raw_link_create {
	__u32 fd, target_fd, attach_type, flags;
	__u64 first, second;	/* the type-specific part */
	__u64 rest[4];
};

static int link_create(const struct raw_link_create *attr)
{
	return sys_bpf(BPF_LINK_CREATE, (void *)attr, sizeof(*attr));
}

static int ops_link(int map, unsigned long cookie)
{
	struct raw_link_create attr = {
		.fd = map, .attach_type = LINK_TYPE, .first = cookie,
	};

	return link_create(&attr);
}

static void dump_ops(const struct ops *ops, unsigned long cookie)
{
	unsigned long addr;
	unsigned int i;

	symbols_load();
	for (i = 0; i < MAX_MEMBERS; i++) {
		char name[128] = "bpf__";

		if (!ops->progs[i].bpf_func)
			continue;
		strlcat(name, ops->type, sizeof(name));
		strlcat(name, "_", sizeof(name));
		strlcat(name, member_name(ops, i), sizeof(name));
		addr = symbol(name);
		if (!addr)
			fail(name, 0);
		printf("[[trampoline]]\nwhat = \"%s.%s\"\n", ops->type, member_name(ops, i));
		print_model(member_proto(member(ops, i)));
		print_code(addr);
		jit.struct_ops |= jit.endbr;
		print_link("struct_ops", &ops->progs[i], cookie);
	}
}

static void dump_type(const char *type)
{
	static struct ops ops;
	int map;

	if (!ops_load(&ops, type))
		return;
	ops_name(&ops, "name", 1);
	ops_name(&ops, "id", 1);
	map = ops_map(&ops);
	if (map >= 0)
		dump_ops(&ops, 0);
}

/* ---- traced functions ---- */

struct attach {
	int type;
	bool sleepable, func_ip;
	unsigned long cookie;
};

#define MAX_ATTACH	4

/* endbr64, or what the kernel puts in its place where no indirect call goes to. */
static bool is_endbr(unsigned int insn)
{
	return insn == 0xfa1e0ff3 || insn == 0x001f0f66 || insn == 0xd6401f0f;
}

static const char *kind_name(int type)
{
	return type == FENTRY ? "fentry" : type == FEXIT ? "fexit" : "fmod_ret";
}

static void dump_traced(const char *function, const struct attach *attach)
{
	static const int kinds[] = { FENTRY, FMODRET, FEXIT };
	struct prog progs[MAX_ATTACH];
	int links[MAX_ATTACH], n, i, k, id = btf_find(function, BTF_KIND_FUNC);
	unsigned long func = symbol(function), entry, addr;
	unsigned char call[5];
	bool func_ip = false;
	unsigned int endbr;
	int distance;

	if (id < 0 || !func) {
		printf("# %s: not in this kernel\n", function);
		return;
	}
	for (n = 0; n < MAX_ATTACH && attach[n].type; n++) {
		struct raw_link_create attr = { .attach_type = attach[n].type };
		int err = prog_load(&progs[n], BPF_PROG_TYPE_TRACING, attach[n].type, id,
				    attach[n].sleepable, attach[n].func_ip, 0);

		if (err) {
			printf("# %s: no %s program (%d)\n", function, kind_name(attach[n].type), err);
			goto out;
		}
		func_ip |= attach[n].func_ip;
		attr.fd = progs[n].fd;
		attr.second = attach[n].cookie;
		links[n] = link_create(&attr);
		if (links[n] < 0) {
			printf("# %s: no %s link (%d)\n", function, kind_name(attach[n].type), links[n]);
			close(progs[n].fd);
			goto out;
		}
	}
	/* the function's entry calls or jumps to its trampoline */
	kcore(func, &endbr, sizeof(endbr));
	entry = func + (is_endbr(endbr) ? 4 : 0);
	kcore(entry, call, sizeof(call));
	if (call[0] != 0xe8 && call[0] != 0xe9)
		fail(function, call[0]);
	memcpy(&distance, call + 1, sizeof(distance));
	addr = entry + sizeof(call) + distance;
	printf("[[trampoline]]\nwhat = \"%s\"\n", function);
	print_model(btf_types[btf_types[id]->type]);
	printf("func = \"0x%lx\"\nendbr = %s\nip_arg = %s\njmp = %s\n", func,
	       is_endbr(endbr) ? "true" : "false", func_ip ? "true" : "false",
	       call[0] == 0xe9 ? "true" : "false");
	print_code(addr);
	/* the kernel puts the newest first */
	for (k = 0; k < 3; k++)
		for (i = n - 1; i >= 0; i--)
			if (attach[i].type == kinds[k])
				print_link(kind_name(kinds[k]), &progs[i], attach[i].cookie);
out:
	for (i = 0; i < n; i++) {
		close(links[i]);
		close(progs[i].fd);
	}
}

#define TRACED(function, ...)						\
	dump_traced(function, (struct attach[MAX_ATTACH + 1]){ __VA_ARGS__ })

static void dump_tracing(void)
{
	TRACED("bpf_fentry_test1", { FENTRY });
	TRACED("bpf_fentry_test2", { FENTRY, .cookie = 0x11 });
	TRACED("bpf_fentry_test3", { FENTRY, .cookie = 0xfffffffffffffffe });
	TRACED("bpf_fentry_test4", { FENTRY, .cookie = 0x1122334455667788 });
	TRACED("bpf_fentry_test5", { FENTRY, .func_ip = true, .cookie = 0x80000000 });
	TRACED("bpf_fentry_test6", { FENTRY, .cookie = 1 }, { FENTRY, .cookie = 2 });
	TRACED("bpf_fentry_test7", { FENTRY }, { FEXIT, .cookie = 3 });
	TRACED("bpf_fentry_test1", { FEXIT });
	TRACED("bpf_fentry_test6", { FEXIT, .func_ip = true }, { FEXIT, .cookie = 5 });
	TRACED("bpf_fentry_test1", { FENTRY, .sleepable = true, .cookie = 6 });
	TRACED("bpf_modify_return_test", { FMODRET });
	TRACED("bpf_modify_return_test", { FMODRET, .cookie = 7 }, { FMODRET });
	TRACED("bpf_modify_return_test", { FENTRY }, { FMODRET, .cookie = 8 }, { FEXIT, .cookie = 9 });
	TRACED("bpf_modify_return_test2", { FENTRY });
	TRACED("bpf_modify_return_test2", { FEXIT, .cookie = 0x123456789a });
	TRACED("bpf_modify_return_test2", { FENTRY }, { FMODRET }, { FMODRET, .cookie = 4 }, { FEXIT });
	TRACED("bpf_fentry_test_sinfo", { FENTRY }, { FEXIT });
}

static void print_targets(void)
{
	static const char * const names[] = {
		"__bpf_prog_enter", "__bpf_prog_exit",
		"__bpf_prog_enter_sleepable", "__bpf_prog_exit_sleepable",
		"__bpf_prog_enter_recur", "__bpf_prog_exit_recur",
		"__bpf_prog_enter_sleepable_recur", "__bpf_prog_exit_sleepable_recur",
		"__bpf_tramp_enter", "__bpf_tramp_exit",
	};
	unsigned int i;

	printf("[targets]\n");
	for (i = 0; i < sizeof(names) / sizeof(*names); i++)
		printf("%s = \"0x%lx\"\n", names[i], symbol(names[i]));
}

static void print_jit(void)
{
	printf("[jit]\nibt = %s\nreturn = \"%s\"\n", jit.struct_ops ? "true" : "false",
	       jit.thunk ? "jmp" : jit.int3 ? "ret; int3" : "ret");
	if (jit.thunk)
		printf("thunk = \"0x%lx\"\n", jit.thunk);
}

static void dump_trampolines(void)
{
	static const char * const types[] = {
		"tcp_congestion_ops", "sched_ext_ops", "Qdisc_ops", "hid_bpf_ops",
	};
	unsigned int i;

	for (i = 0; i < sizeof(types) / sizeof(*types); i++)
		dump_type(types[i]);
	dump_tracing();
}

/* One link for each size of immediate; on a kernel without cookies nothing changes. */
static void dump_cookies(void)
{
	static const unsigned long cookies[] = {
		0, 0x11, 0xfffffffe, 0xfffffffffffffffe, 0x1122334455667788,
	};
	static struct ops ops;
	unsigned int i;
	int map, link;

	if (!ops_load(&ops, "tcp_congestion_ops"))
		return;
	for (i = 0; i < sizeof(cookies) / sizeof(*cookies); i++) {
		ops_name(&ops, "name", i + 1);
		map = ops_map(&ops);
		if (map < 0)
			fail("map", map);
		link = ops_link(map, cookies[i]);
		if (link < 0)
			fail("link", link);
		dump_ops(&ops, cookies[i]);
	}
}

/* ---- memory ---- */

static long field(const char *path, const char *name)
{
	size_t size, len = strlen(name);
	char *text = slurp(path, &size), *at;
	long value = -1;

	for (at = text; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : 0) {
		if (memcmp(at, name, len) || (at[len] != ':' && !is_space(at[len])))
			continue;
		at += len;
		while (*at == ':' || is_space(*at))
			at++;
		value = atol(at);
		break;
	}
	free(text);
	return value;
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fail(path, fd);
	close(fd);
}

static long memlock(int fd)
{
	char path[64] = "/proc/self/fdinfo/";

	strlcat(path, itoa(fd), sizeof(path));
	return field(path, "memlock");
}

#define MAX_PAGES	8192

/*
 * Images are as large as a page but begin anywhere in a pack, mostly one after the
 * other: the smallest number of page-sized windows that hold all trampolines, over
 * all distances from a page boundary, is the number of images.
 */
static unsigned int count_pages(void)
{
	static unsigned long pages[MAX_PAGES];
	unsigned int best = ~0U, off, i, j, nr;

	symbols_load();
	for (off = 0; off < 4096; off += 64) {
		for (i = nr = 0; i < nr_symbols; i++) {
			unsigned long page = (symbols[i].addr - off) >> 12;

			if (memcmp(symbols[i].name, "bpf__", 5))
				continue;
			for (j = nr; j && pages[j - 1] != page; j--)
				;
			if (!j && nr < MAX_PAGES)
				pages[nr++] = page;
		}
		if (nr < best)
			best = nr;
	}
	return best;
}

static unsigned int count_trampolines(void)
{
	unsigned int i, nr = 0;

	for (i = 0; i < nr_symbols; i++)
		nr += !memcmp(symbols[i].name, "bpf__", 5);
	return nr;
}

struct sample {
	long memcg, slab, vmalloc, percpu;
	unsigned int pages, trampolines;
};

static struct sample sample(void)
{
	struct sample s;

	sleep(1);
	s.memcg = field("/cg/dump/memory.stat", "kernel");
	s.slab = field("/proc/meminfo", "Slab");
	s.vmalloc = field("/proc/meminfo", "VmallocUsed");
	s.percpu = field("/proc/meminfo", "Percpu");
	s.pages = count_pages();
	s.trampolines = count_trampolines();
	return s;
}

static void print_sample(const char *what, struct sample before, struct sample after)
{
	printf("[%s]\ncharged = %ld\nslab_kib = %ld\nvmalloc_kib = %ld\n", what,
	       after.memcg - before.memcg, after.slab - before.slab, after.vmalloc - before.vmalloc);
	printf("percpu_kib = %ld\npages = %u\ntrampolines = %u\n", after.percpu - before.percpu,
	       after.pages - before.pages, after.trampolines - before.trampolines);
}

static void measure(const char *type, unsigned int maps, unsigned int links)
{
	static struct ops ops;
	struct sample start, mapped, linked;
	unsigned int i;
	int map = -1, *fds = malloc(maps * sizeof(int));

	mkdir("/cg", 0755);
	if (mount("cgroup2", "/cg", "cgroup2", 0, 0))
		fail("cgroup2", 0);
	put("/cg/cgroup.subtree_control", "+memory");
	mkdir("/cg/dump", 0755);
	put("/cg/dump/cgroup.procs", "0");
	if (!ops_load(&ops, type))
		exit(1);

	start = sample();
	for (i = 0; i < maps; i++) {
		ops_name(&ops, "name", i + 1);
		fds[i] = map = ops_map(&ops);
		if (map < 0)
			fail("map", map);
	}
	mapped = sample();
	for (i = 0; i < links; i++) {
		int link = ops_link(fds[i], 0x1122334455667788);

		if (link < 0)
			fail("link", link);
	}
	linked = sample();
	printf("type = \"%s\"\nmembers = %u\nmaps = %u\nlinks = %u\nmemlock = %ld\n", type,
	       ops.members, maps, links, memlock(map));
	print_sample("with_maps", start, mapped);
	print_sample("with_links", mapped, linked);
}

int main(int argc, char **argv)
{
	struct {
		char sysname[65], nodename[65], release[65], version[65], machine[65], domain[65];
	} uts;

	my_syscall1(__NR_uname, &uts);
	btf_load();
	symbols_load();
	printf("@dump begin\nkernel = \"%s\"\n", uts.release);
	if (argc == 2 && !strcmp(argv[1], "trampolines")) {
		print_targets();
		dump_trampolines();
		print_jit();
	} else if (argc == 2 && !strcmp(argv[1], "cookies")) {
		print_targets();
		dump_cookies();
		print_jit();
	} else if (argc == 5 && !strcmp(argv[1], "memory")) {
		measure(argv[2], atoi(argv[3]), atoi(argv[4]));
	} else {
		fail("usage: dump trampolines | cookies | memory TYPE MAPS LINKS", 0);
	}
	printf("@dump end\n");
	return 0;
}
