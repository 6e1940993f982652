// SPDX-License-Identifier: GPL-2.0
/*
 * Operation x state: which errno (or success) every operation on a struct_ops
 * map gives in every state, for tcp_congestion_ops and bpf_testmod's types.
 * The same table holds on every kernel under test; where a series changes an
 * answer on purpose, the test says so.
 */
#include "lab.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tcp.skel.h"
#include "testmod.skel.h"

static bool is_link_owned(void)
{
	return !strcmp(lab_series, "link-owned");
}

#define check_state(what, fd, want) do {					\
	const char *got__ = map_state(fd);					\
	check(!strcmp(got__, want), "%s: state is %s, expected %s", what, got__, want); \
} while (0)

/* a valid value of the congestion control called name */
static void cc_value(struct value *v, struct tcp *skel, const char *name)
{
	value_prog(v, "ssthresh", skel->progs.lab_ssthresh);
	value_prog(v, "undo_cwnd", skel->progs.lab_undo_cwnd);
	value_prog(v, "cong_avoid", skel->progs.lab_cong_avoid);
	value_prog(v, "init", skel->progs.lab_init);
	strcpy(value_member(v, "name"), name);
}

static struct tcp *tcp_load(void)
{
	struct tcp *skel = tcp__open();

	if (!skel)
		return NULL;
	skel->rodata->have_cookie = lab_has_cookie();
	if (tcp__load(skel)) {
		tcp__destroy(skel);
		return NULL;
	}
	return skel;
}

static void state_tcp_link(void)
{
	int map, map2, other, invalid, plain, link, link2;
	struct tcp *skel = tcp_load();
	struct pair pair;
	struct value v;

	need(skel, "load failed: %d", errno);
	need(value_new(&v, "tcp_congestion_ops", NULL), "no BTF of the value");
	cc_value(&v, skel, "lab_cc");
	map = bpf_map__fd(skel->maps.cc_link);
	map2 = bpf_map__fd(skel->maps.cc_link2);
	other = bpf_map__fd(skel->maps.cc_other);
	invalid = bpf_map__fd(skel->maps.cc_invalid);
	plain = bpf_map__fd(skel->maps.cc_plain);

	/* INIT */
	check_state("INIT", map, "INIT/0");
	check_eq("delete in INIT", map_delete(map), -EOPNOTSUPP);
	check_eq("link_create in INIT", raw_link_create(map, 0), -EINVAL);
	check_eq("update with key 1", map_update_key(map, 1, v.bytes, 0), -E2BIG);
	check_eq("update with flags", map_update_key(map, 0, v.bytes, BPF_EXIST), -EINVAL);
	((__u32 *)v.bytes)[1] = ST_READY;
	check_eq("update with a state", map_update_key(map, 0, v.bytes, 0), -EINVAL);
	((__u32 *)v.bytes)[1] = 0;
	((__u32 *)v.bytes)[0] = 1;
	check_eq("update with a refcnt", map_update_key(map, 0, v.bytes, 0), -EINVAL);
	((__u32 *)v.bytes)[0] = 0;
	value_prog(&v, "init", skel->progs.lab_ssthresh);
	check_eq("update with a program of another member",
		 map_update_key(map, 0, v.bytes, 0), -EINVAL);
	*(unsigned long *)value_member(&v, "init") = 999;
	check_eq("update with a bad fd", map_update_key(map, 0, v.bytes, 0), -EBADF);
	value_prog(&v, "init", skel->progs.lab_init);
	check_state("after refused updates", map, "INIT/0");
	check_eq("update in INIT", map_update_key(map, 0, v.bytes, 0), 0);

	/* READY */
	check_state("READY", map, "READY/0");
	check_eq("update in READY", map_update_key(map, 0, v.bytes, 0), -EBUSY);
	check_eq("delete in READY", map_delete(map), -EOPNOTSUPP);
	link = raw_link_create(map, 0);
	check(link >= 0, "link_create in READY is %s", lab_number(link));

	/* READY + link */
	check_state("attached", map, "READY/1");
	check_eq("update while attached", map_update_key(map, 0, v.bytes, 0), -EBUSY);
	check_eq("delete while attached", map_delete(map), -EOPNOTSUPP);
	if (strcmp(lab_series, "rfc"))
		/* on rfc this frees the trampolines, see failing-attach */
		check_eq("link_create while attached", raw_link_create(map, 0), -EEXIST);
	need(!pair_open(&pair), "no tcp on loopback");
	check_eq("a socket takes it", pair_cc(&pair, "lab_cc"), 0);
	check_state("with a socket", map, "READY/2");

	/* link_update */
	check_eq("link_update to INIT", raw_link_update(link, map2, -1, 0), -EINVAL);
	check_eq("link_update to a plain map", raw_link_update(link, plain, -1, 0), -EINVAL);
	check_eq("link_update with flags 1", raw_link_update(link, map, -1, 1), -EINVAL);
	check_eq("link_update to a bad fd", raw_link_update(link, 999, -1, 0), -EBADF);
	strcpy(value_member(&v, "name"), "lab_other");
	check_eq("update of the other name", map_update_key(other, 0, v.bytes, 0), 0);
	check_eq("link_update to another name", raw_link_update(link, other, -1, 0), -EINVAL);
	strcpy(value_member(&v, "name"), "lab_cc");
	check_eq("update of the second map", map_update_key(map2, 0, v.bytes, 0), 0);
	check_eq("link_update with old_fd, without F_REPLACE",
		 raw_link_update(link, map2, map, 0), -EINVAL);
	check_eq("link_update with the wrong old map",
		 raw_link_update(link, map2, other, BPF_F_REPLACE), -EPERM);

	/* after detach */
	check_eq("detach", raw_link_detach(link), 0);
	check_eq("detach again", raw_link_detach(link), 0);
	check_state("after detach, with a socket", map, "READY/1");
	check_eq("update after detach", map_update_key(map, 0, v.bytes, 0), -EBUSY);
	check_eq("link_update after detach", raw_link_update(link, map2, -1, 0), -ENOLINK);
	check_eq("link_update after detach, to INIT", raw_link_update(link, invalid, -1, 0), -EINVAL);
	link2 = raw_link_create(map, 0);
	check(link2 >= 0, "link_create after detach, with a socket, is %s", lab_number(link2));
	check_state("attached again, with the socket", map, "READY/2");
	close(link2);
	close(link);
	pair_close(&pair);
	check(wait_for(!strcmp(map_state(map), "READY/0")), "no READY/0 in the end");

	/* a struct that validate() refuses */
	value_free(&v);
	value_new(&v, "tcp_congestion_ops", NULL);
	value_prog(&v, "undo_cwnd", skel->progs.lab_undo_cwnd);
	value_prog(&v, "cong_avoid", skel->progs.lab_cong_avoid);
	strcpy(value_member(&v, "name"), "lab_invalid");
	if (!strcmp(lab_series, "rfc")) {
		/* rfc validates when a link is created */
		check_eq("update of an invalid struct", map_update_key(invalid, 0, v.bytes, 0), 0);
		check_eq("link_create of an invalid struct", raw_link_create(invalid, 0), -EINVAL);
		note("rfc refuses an invalid struct at link_create");
	} else {
		check_eq("update of an invalid struct",
			 map_update_key(invalid, 0, v.bytes, 0), -EINVAL);
		check_state("invalid", invalid, "INIT/0");
	}
	value_free(&v);
	tcp__destroy(skel);
}

static void state_tcp_plain(void)
{
	struct tcp *skel = tcp_load();
	struct pair pair;
	struct value v;
	int map, map2;

	need(skel, "load failed: %d", errno);
	need(value_new(&v, "tcp_congestion_ops", NULL), "no BTF of the value");
	cc_value(&v, skel, "lab_plain");
	map = bpf_map__fd(skel->maps.cc_plain);
	map2 = bpf_map__fd(skel->maps.cc_plain2);

	check_state("INIT", map, "INIT/0");
	check_eq("delete in INIT", map_delete(map), -ENOENT);
	check_eq("link_create in INIT", raw_link_create(map, 0), -EINVAL);
	check_eq("update in INIT", map_update_key(map, 0, v.bytes, 0), 0);

	check_state("INUSE", map, "INUSE/1");
	check_eq("update in INUSE", map_update_key(map, 0, v.bytes, 0), -EBUSY);
	check_eq("link_create in INUSE", raw_link_create(map, 0), -EINVAL);
	check_eq("update of another map, same name", map_update_key(map2, 0, v.bytes, 0), -EEXIST);
	check_state("after -EEXIST", map2, "INIT/0");
	need(!pair_open(&pair), "no tcp on loopback");
	check_eq("a socket takes it", pair_cc(&pair, "lab_plain"), 0);
	check_state("with a socket", map, "INUSE/2");
	check_eq("the cookie", skel->bss->init_cookie, 0);
	check_eq("delete in INUSE", map_delete(map), 0);

	check_state("TOBEFREE, with a socket", map, "TOBEFREE/1");
	check_eq("update in TOBEFREE", map_update_key(map, 0, v.bytes, 0), -EBUSY);
	check_eq("delete in TOBEFREE", map_delete(map), -EINPROGRESS);
	check_eq("link_create in TOBEFREE", raw_link_create(map, 0), -EINVAL);
	skel->bss->events = 0;
	check_eq("the socket sends", pair_send(&pair), 0);
	check(wait_for(skel->bss->events), "the socket's program is not called after the delete");
	pair_close(&pair);
	check(wait_for(!strcmp(map_state(map), "TOBEFREE/0")), "no TOBEFREE/0 in the end");
	value_free(&v);
	tcp__destroy(skel);
}

static void state_testmod(void)
{
	struct testmod *skel = testmod__open();
	int ops, singleton, link, link2;
	struct bpf_link *l;

	need(skel, "open failed");
	/* bpf_testmod_ops has helper functions in the patched trees only */
	skel->rodata->have_cookie = lab_has_cookie();
	need(!testmod__load(skel), "load failed");
	ops = bpf_map__fd(skel->maps.testmod_link);
	singleton = bpf_map__fd(skel->maps.singleton_link);

	check_eq("link_create in INIT", raw_link_create(ops, 0), -EINVAL);
	l = bpf_map__attach_struct_ops(skel->maps.testmod_link);
	need(l, "attach of bpf_testmod_ops is %s", lab_number(-errno));
	check_state("attached", ops, "READY/1");
	if (strcmp(lab_series, "rfc")) {
		link2 = raw_link_create(ops, 0);
		check(link2 >= 0, "a second link of one map is %s", lab_number(link2));
		check_state("attached twice", ops, "READY/2");
		close(link2);
	}
	check_eq("link_update without update()", raw_link_update(bpf_link__fd(l), ops, -1, 0),
		 -EOPNOTSUPP);
	bpf_link__destroy(l);

	l = bpf_map__attach_struct_ops(skel->maps.singleton_link);
	need(l, "attach of bpf_testmod_st_ops is %s", lab_number(-errno));
	if (strcmp(lab_series, "rfc"))
		check_eq("a second link of a singleton", raw_link_create(singleton, 0), -EEXIST);
	bpf_link__destroy(l);
	link = raw_link_create(singleton, 0);
	check(link >= 0, "link_create after detach is %s", lab_number(link));
	close(link);
	testmod__destroy(skel);
}

/* A cookie is dropped with success by a kernel that does not know it. */
static void unknown_attributes(void)
{
	struct raw_link_create attr = { .attach_type = BPF_STRUCT_OPS };
	struct testmod *skel = testmod__open();
	struct bpf_link *l;
	bool strict = is_link_owned();
	int link;

#define try_attr(what) do {							\
	link = raw_link_create_attr(&attr);					\
	if (strict)								\
		check_eq(what, link, -EINVAL);					\
	else									\
		check(link >= 0, "%s is %s, expected success", what, lab_number(link)); \
	if (link >= 0)								\
		close(link);							\
} while (0)

	need(skel, "open failed");
	skel->rodata->have_cookie = lab_has_cookie();
	need(!testmod__load(skel), "load failed");
	l = bpf_map__attach_struct_ops(skel->maps.testmod_link);
	need(l, "attach is %s", lab_number(-errno));
	bpf_link__destroy(l);

	attr.map_fd = bpf_map__fd(skel->maps.testmod_link);
	attr.cookie = 0x1122334455667788;
	link = raw_link_create_attr(&attr);
	check(link >= 0, "link_create with a cookie is %s", lab_number(link));
	close(link);
	check_eq("the cookie", skel->bss->test_1_cookie, lab_has_cookie() ? attr.cookie : 0);
	if (!lab_has_cookie())
		note("the cookie is dropped with success");

	/* rfc can attach a map eight times, see reattach-20 */
	attr.flags = 1;
	try_attr("link_create with flags");
	attr.flags = 0;
	attr.target_fd = 1;
	try_attr("link_create with a target_fd");
	attr.target_fd = 0;
	attr.rest[0] = 1;
	try_attr("link_create with a byte after the cookie");
	attr.rest[0] = 0;
	attr.rest[3] = 1;
	try_attr("link_create with a byte that only other links use");
	attr.rest[3] = 0;

	/* how user space finds out, without a map */
	attr.map_fd = -1;
	attr.target_fd = -1;
	check_eq("the probe", raw_link_create_attr(&attr), strict ? -EINVAL : -EBADF);
	testmod__destroy(skel);
}

/* The value must leave "struct module *owner" alone. */
static void owner_set(void)
{
	struct tcp *skel = tcp_load();
	struct value v;
	int map, err;

	need(skel, "load failed: %d", errno);
	need(value_new(&v, "tcp_congestion_ops", NULL), "no BTF of the value");
	cc_value(&v, skel, "lab_cc");
	*(unsigned long *)value_member(&v, "owner") = 1;
	map = bpf_map__fd(skel->maps.cc_link);
	err = map_update_key(map, 0, v.bytes, 0);
	note("map_update is %s", lab_number(err));
	check_eq("map_update with an owner", err, -EINVAL);
	check_state("after it", map, "INIT/0");
	value_free(&v);
	tcp__destroy(skel);
}

const struct lab_test state_tests[] = {
	{ "state-tcp-link", state_tcp_link },
	{ "state-tcp-plain", state_tcp_plain },
	{ "state-testmod", state_testmod },
	{ "unknown-attributes", unknown_attributes },
	{ "owner-set", owner_set },
	{}
};
