// SPDX-License-Identifier: GPL-2.0
#include "lab.h"
#include "../module/lab_ops.h"

#include <arpa/inet.h>
#include <bpf/btf.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

const char *lab_series = "stock", *lab_base = "6.12";

bool lab_has_cookie(void)
{
	return !strcmp(lab_series, "rfc") || !strcmp(lab_series, "link-owned");
}

static enum { OK, WRONG, SKIPPED } outcome;
static char detail[2048];

static void add(const char *fmt, va_list args)
{
	size_t len = strlen(detail);

	if (len) {
		snprintf(detail + len, sizeof(detail) - len, "; ");
		len = strlen(detail);
	}
	vsnprintf(detail + len, sizeof(detail) - len, fmt, args);
}

bool check_at(bool holds, const char *file, int line, const char *fmt, ...)
{
	va_list args;

	if (holds)
		return true;
	outcome = WRONG;
	va_start(args, fmt);
	add(fmt, args);
	va_end(args);
	printf("# %s:%d does not hold\n", file, line);
	return false;
}

void note(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	add(fmt, args);
	va_end(args);
}

void skip(const char *fmt, ...)
{
	va_list args;

	outcome = SKIPPED;
	va_start(args, fmt);
	add(fmt, args);
	va_end(args);
}

const char *lab_number(long long n)
{
	static char text[4][32];
	static int next;
	char *t = text[next++ % 4];

	if (n < 0 && n > -4096 && strerrorname_np(-n))
		snprintf(t, 32, "-%s", strerrorname_np(-n));
	else if (n > 4096 || n < 0)
		snprintf(t, 32, "0x%llx", n);
	else
		snprintf(t, 32, "%lld", n);
	return t;
}

void lab_sleep_ms(int ms)
{
	usleep(ms * 1000);
}

long long lab_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

int raw_link_create_attr(const struct raw_link_create *attr)
{
	int fd = syscall(SYS_bpf, BPF_LINK_CREATE, attr, sizeof(*attr));

	return fd < 0 ? -errno : fd;
}

int raw_link_create(int map_fd, __u64 cookie)
{
	struct raw_link_create attr = {
		.map_fd = map_fd,
		.attach_type = BPF_STRUCT_OPS,
		.cookie = cookie,
	};

	return raw_link_create_attr(&attr);
}

int raw_link_update(int link_fd, int new_map_fd, int old_map_fd, __u32 flags)
{
	LIBBPF_OPTS(bpf_link_update_opts, opts,
		.flags = flags,
		.old_map_fd = old_map_fd < 0 ? 0 : old_map_fd,
	);

	return bpf_link_update(link_fd, new_map_fd, &opts);
}

int raw_link_detach(int link_fd)
{
	return bpf_link_detach(link_fd);
}

int map_update_key(int map_fd, __u32 key, const void *value, __u64 flags)
{
	union bpf_attr attr = {
		.map_fd = map_fd,
		.key = (unsigned long)&key,
		.value = (unsigned long)value,
		.flags = flags,
	};
	long ret = syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &attr, sizeof(attr));

	return ret < 0 ? -errno : ret;
}

int map_delete(int map_fd)
{
	__u32 key = 0;

	return bpf_map_delete_elem(map_fd, &key);
}

int raw_link_info(int link_fd, struct raw_link_info *info)
{
	union bpf_attr attr = {
		.info.bpf_fd = link_fd,
		.info.info_len = sizeof(*info),
		.info.info = (unsigned long)info,
	};

	memset(info, 0, sizeof(*info));
	return syscall(SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr)) ? -errno : 0;
}

long long fdinfo(int fd, const char *name)
{
	size_t len = strlen(name);
	long long found = -ENOENT;
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, name, len) && line[len] == ':')
			found = strtoull(line + len + 1, NULL, 0);
	if (f)
		fclose(f);
	return found;
}

bool value_new(struct value *v, const char *type, const char *module)
{
	static struct btf *vmlinux, *of_module;
	char name[128];
	int id, i;

	if (!vmlinux)
		vmlinux = btf__load_vmlinux_btf();
	if (module && !of_module)
		of_module = btf__load_module_btf(module, vmlinux);
	v->btf = module ? of_module : vmlinux;

	snprintf(name, sizeof(name), "bpf_struct_ops_%s", type);
	id = v->btf ? btf__find_by_name_kind(v->btf, name, BTF_KIND_STRUCT) : -ENOENT;
	if (id < 0)
		return false;
	v->size = btf__type_by_id(v->btf, id)->size;
	v->data_off = btf_member_bit_offset(btf__type_by_id(v->btf, id), 1) / 8;
	i = btf__find_by_name_kind(v->btf, type, BTF_KIND_STRUCT);
	v->data = btf__type_by_id(v->btf, i);
	v->bytes = calloc(1, v->size);
	return v->bytes;
}

void *value_member(struct value *v, const char *member)
{
	const struct btf_member *m = btf_members(v->data);
	int i;

	for (i = 0; i < btf_vlen(v->data); i++)
		if (!strcmp(btf__name_by_offset(v->btf, m[i].name_off), member))
			return v->bytes + v->data_off + btf_member_bit_offset(v->data, i) / 8;
	fprintf(stderr, "no member %s\n", member);
	exit(1);
}

void value_prog(struct value *v, const char *member, const struct bpf_program *prog)
{
	*(unsigned long *)value_member(v, member) = bpf_program__fd(prog);
}

void value_free(struct value *v)
{
	free(v->bytes);
	v->bytes = NULL;
}

const char *map_state(int map_fd)
{
	static const char * const names[] = { "INIT", "INUSE", "TOBEFREE", "READY" };
	static char text[32];
	static struct { __u32 refcnt, state; char rest[16384]; } value;
	__u32 key = 0;
	int err;

	err = bpf_map_lookup_elem(map_fd, &key, &value);
	if (err)
		return lab_number(err);
	snprintf(text, sizeof(text), "%s/%u", names[value.state & 3], value.refcnt);
	return text;
}

int kallsyms(const char *prefix)
{
	size_t len = strlen(prefix);
	char line[512], name[256];
	int found = 0;
	FILE *f = fopen("/proc/kallsyms", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %*s %255s", name) == 1 && !strncmp(name, prefix, len))
			found++;
	if (f)
		fclose(f);
	return found;
}

int pair_open(struct pair *p)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	p->client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	p->server = -1;
	if (!bind(listener, (void *)&addr, sizeof(addr)) && !listen(listener, 1) &&
	    !getsockname(listener, (void *)&addr, &len) &&
	    !connect(p->client, (void *)&addr, sizeof(addr)))
		p->server = accept(listener, NULL, NULL);
	close(listener);
	return p->server < 0 ? -errno : 0;
}

int pair_cc(struct pair *p, const char *name)
{
	return setsockopt(p->client, IPPROTO_TCP, TCP_CONGESTION, name, strlen(name)) ? -errno : 0;
}

int pair_send(struct pair *p)
{
	char byte = 'x';

	if (send(p->client, &byte, 1, 0) != 1 || recv(p->server, &byte, 1, 0) != 1)
		return -errno;
	/* the acknowledgment is delayed */
	lab_sleep_ms(60);
	return 0;
}

void pair_close(struct pair *p)
{
	close(p->client);
	close(p->server);
}

static void set_fault(const char *knob, const char *value)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/debug/%s", knob);
	fd = open(path, O_WRONLY);
	if (fd >= 0 && write(fd, value, strlen(value)) < 0)
		note("%s: %s", path, strerror(errno));
	close(fd);
}

void lab_faults_on(void)
{
	set_fault("failslab/ignore-gfp-wait", "N");
	set_fault("failslab/verbose", "0");
	set_fault("fail_page_alloc/ignore-gfp-wait", "N");
	set_fault("fail_page_alloc/min-order", "0");
	set_fault("fail_page_alloc/verbose", "0");
}

int lab_ops_open(void)
{
	int fd = open("/dev/lab_ops", O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int lab_ops_call(int dev, int slot, int member, __u64 arg, __u64 *result)
{
	struct lab_ops_call call = { .slot = slot, .member = member, .arg = arg };
	int err = ioctl(dev, LAB_OPS_CALL, &call) ? -errno : 0;

	*result = call.result;
	return err;
}

void lab_run(const struct lab_test *test)
{
	static const char * const names[] = { "ok", "wrong", "skipped" };

	outcome = OK;
	detail[0] = 0;
	printf("@lab-run %s\n", test->name);
	test->run();
	printf("@lab-test %s %s %s\n", test->name, names[outcome], detail);
}
