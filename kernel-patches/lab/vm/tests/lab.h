/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the test programs share: reporting, raw bpf(2) calls (the same bytes on
 * every kernel, whatever the headers say), struct_ops values, sockets.
 */
#ifndef LAB_H
#define LAB_H

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

/* The series under test, and the Linux version that it is for. */
extern const char *lab_series, *lab_base;
/* Only rfc and link-owned know a cookie. */
bool lab_has_cookie(void);

struct lab_test {
	const char *name;
	void (*run)(void);
};

extern const struct lab_test state_tests[];
extern const struct lab_test cookie_tests[];
extern const struct lab_test lifetime_tests[];
extern const struct lab_test scx_tests[];
extern const struct lab_test assoc_tests[];
extern const struct lab_test hid_tests[];
extern const struct lab_test tool_tests[];

/* Runs a test and says how it ended. */
void lab_run(const struct lab_test *test);

/* A check that does not hold makes the test "wrong"; all are reported. */
bool check_at(bool holds, const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
#define check(holds, ...) check_at(holds, __FILE__, __LINE__, __VA_ARGS__)
/* A check of an expected result (an errno is negative). */
#define check_eq(what, got, want) do {						\
	long long got__ = (got), want__ = (want);				\
	check(got__ == want__, "%s is %s, expected %s", what,			\
	      lab_number(got__), lab_number(want__));				\
} while (0)
/* Goes to the next test if it does not hold. */
#define need(holds, ...) do {							\
	if (!check(holds, __VA_ARGS__))						\
		return;								\
} while (0)
/* What the test saw; shown in the table also when all is well. */
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
const char *lab_number(long long n);

/* Waits up to ten seconds for an expression to become true. */
#define wait_for(holds) ({							\
	long long end__ = lab_now_ms() + 10000;					\
	bool holds__;								\
	while (!(holds__ = (holds)) && lab_now_ms() < end__)			\
		lab_sleep_ms(10);						\
	holds__;								\
})
void lab_sleep_ms(int ms);
long long lab_now_ms(void);

/* Raw calls: an fd or 0, or a negative errno. */
struct raw_link_create {
	__u32 map_fd;
	__u32 target_fd;
	__u32 attach_type;
	__u32 flags;
	__u64 cookie;
	__u64 rest[5];
};
int raw_link_create_attr(const struct raw_link_create *attr);
int raw_link_create(int map_fd, __u64 cookie);
int raw_link_update(int link_fd, int new_map_fd, int old_map_fd, __u32 flags);
int raw_link_detach(int link_fd);
int map_update_key(int map_fd, __u32 key, const void *value, __u64 flags);
int map_delete(int map_fd);

struct raw_link_info {
	__u32 type, id, prog_id, pad;
	__u32 map_id, pad2;
	__u64 cookie;
};
int raw_link_info(int link_fd, struct raw_link_info *info);
/* The number after "name:" in the fdinfo, -ENOENT if there is none. */
long long fdinfo(int fd, const char *name);

/* Value of a struct_ops map as BPF_MAP_UPDATE_ELEM takes it. */
struct value {
	const struct btf *btf;
	const struct btf_type *data;
	__u32 data_off;
	__u32 size;
	char *bytes;
};
bool value_new(struct value *v, const char *type, const char *module);
void *value_member(struct value *v, const char *member);
void value_prog(struct value *v, const char *member, const struct bpf_program *prog);
void value_free(struct value *v);

enum { ST_INIT, ST_INUSE, ST_TOBEFREE, ST_READY };
/* "STATE/refcnt" of a map */
const char *map_state(int map_fd);

/* How many symbols of /proc/kallsyms start with the prefix. */
int kallsyms(const char *prefix);

/* A connected tcp pair on loopback; the congestion control is the client's. */
struct pair {
	int client, server;
};
int pair_open(struct pair *p);
int pair_cc(struct pair *p, const char *name);
/* what is sent and acknowledged calls cong_avoid() */
int pair_send(struct pair *p);
void pair_close(struct pair *p);

/* Lets /proc/thread-self/fail-nth fail what waits for memory, without a word. */
void lab_faults_on(void);

/* lab_ops.ko */
int lab_ops_open(void);
int lab_ops_call(int dev, int slot, int member, __u64 arg, __u64 *result);

#endif
