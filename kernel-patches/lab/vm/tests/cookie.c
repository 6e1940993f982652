// SPDX-License-Identifier: GPL-2.0
/*
 * What a program reads with bpf_get_attach_cookie(), whichever way the cookie
 * was given, and where else the cookie is seen.
 */
#include "lab.h"
#include "../module/lab_ops.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lab_ops.skel.h"
#include "tcp.skel.h"
#include "testmod.skel.h"

static const __u64 cookies[] = {
	0, 1, 0x7fffffff, 0x80000000, 0x12345678, 0xffffffff,
	0x100000000, 0xdeadbeefcafef00d, ~0ULL,
};
#define COOKIES (sizeof(cookies) / sizeof(*cookies))

#define LOAD(skel_, type_)							\
	struct type_ *skel_ = type_##__open();					\
	need(skel_, "open failed");						\
	skel_->rodata->have_cookie = lab_has_cookie();				\
	need(!type_##__load(skel_), "load failed")

/* To READY, without a link. */
static bool make_ready(struct bpf_map *map)
{
	struct bpf_link *link = bpf_map__attach_struct_ops(map);

	if (!link)
		return false;
	bpf_link__destroy(link);
	return true;
}

static void check_members(int dev, int slot, __u64 cookie)
{
	static const char * const names[] = { "plain", "second", "sleepable" };
	__u64 seen;
	int m;

	for (m = LAB_PLAIN; m <= LAB_SLEEPABLE; m++) {
		check_eq("call", lab_ops_call(dev, slot, m, 0, &seen), 0);
		check(seen == cookie, "%s reads 0x%llx, expected 0x%llx", names[m], seen, cookie);
	}
}

static void cookie_values(void)
{
	int dev = lab_ops_open(), link;
	struct raw_link_info info;
	size_t i;

	for (i = 0; i < COOKIES; i++) {
		LOAD(skel, lab_ops);

		/* a fresh map for every cookie: nothing is left from the last */
		need(make_ready(skel->maps.lab_link), "attach is %s", lab_number(-errno));
		link = raw_link_create(bpf_map__fd(skel->maps.lab_link), cookies[i]);
		need(link >= 0, "link_create is %s", lab_number(link));
		check_members(dev, 0, cookies[i]);
		check_eq("fdinfo", fdinfo(link, "cookie"), cookies[i]);
		check_eq("bpf_link_info", raw_link_info(link, &info), 0);
		if (!strcmp(lab_series, "link-owned"))
			check_eq("the info's cookie", info.cookie, cookies[i]);
		close(link);
		lab_ops__destroy(skel);
	}
	close(dev);
}

static void cookie_libbpf(void)
{
#ifdef LAB_HAS_COOKIE
	int dev = lab_ops_open();
	struct bpf_link *link;
	size_t i;

	for (i = 0; i < COOKIES; i++) {
		LIBBPF_OPTS(bpf_struct_ops_opts, opts, .cookie = cookies[i]);
		LOAD(skel, lab_ops);

		link = bpf_map__attach_struct_ops_opts(skel->maps.lab_link, &opts);
		need(link, "attach is %s", lab_number(-errno));
		check_members(dev, 0, cookies[i]);
		bpf_link__destroy(link);
		if (cookies[i]) {
			link = bpf_map__attach_struct_ops_opts(skel->maps.lab_map, &opts);
			check(!link && errno == EINVAL, "a cookie for a plain map is %s",
			      lab_number(-errno));
		}
		lab_ops__destroy(skel);
	}
	close(dev);
#else
	skip("the tree's libbpf has no bpf_map__attach_struct_ops_opts()");
#endif
}

static void old_libbpf_call(void)
{
	int dev = lab_ops_open();
	struct bpf_link *link;
	LOAD(skel, lab_ops);

	link = bpf_map__attach_struct_ops(skel->maps.lab_link);
	need(link, "attach is %s", lab_number(-errno));
	check_members(dev, 0, 0);
	bpf_link__destroy(link);
	lab_ops__destroy(skel);
	close(dev);
}

static void plain_map(void)
{
	int dev = lab_ops_open(), lost;
	struct bpf_link *link;
	LOAD(skel, lab_ops);

	/* the ksyms of earlier tests go late; rfc loses some, they never go */
	wait_for(!kallsyms("bpf__lab_ops_"));
	lost = kallsyms("bpf__lab_ops_");
	link = bpf_map__attach_struct_ops(skel->maps.lab_map);
	need(link, "attach is %s", lab_number(-errno));
	check_members(dev, 0, 0);
	check(!strcmp(map_state(bpf_map__fd(skel->maps.lab_map)), "INUSE/1"), "not INUSE/1");
	check_eq("kallsyms", kallsyms("bpf__lab_ops_") - lost, 3);
	bpf_link__destroy(link);
	lab_ops__destroy(skel);
	check(wait_for(kallsyms("bpf__lab_ops_") == lost), "ksyms stay");
	close(dev);
}

static void cookie_testmod(void)
{
	int link;
	LOAD(skel, testmod);

	need(make_ready(skel->maps.testmod_link), "attach is %s", lab_number(-errno));
	link = raw_link_create(bpf_map__fd(skel->maps.testmod_link), 0x12345678);
	need(link >= 0, "link_create is %s", lab_number(link));
	check_eq("test_1", skel->bss->test_1_cookie, 0x12345678);
	check_eq("test_2", skel->bss->test_2_cookie, 0x12345678);
	close(link);
	testmod__destroy(skel);
}

static void cookie_tcp(void)
{
	struct pair pair;
	int link;
	LOAD(skel, tcp);

	need(make_ready(skel->maps.cc_link), "attach is %s", lab_number(-errno));
	link = raw_link_create(bpf_map__fd(skel->maps.cc_link), 0x12345678);
	need(link >= 0, "link_create is %s", lab_number(link));
	need(!pair_open(&pair), "no tcp on loopback");
	check_eq("TCP_CONGESTION", pair_cc(&pair, "lab_cc"), 0);
	check_eq("init", skel->bss->init_cookie, 0x12345678);
	check_eq("send", pair_send(&pair), 0);
	check(wait_for(skel->bss->events), "cong_avoid was not called");
	check_eq("cong_avoid", skel->bss->event_cookie, 0x12345678);
	pair_close(&pair);
	close(link);
	tcp__destroy(skel);
}

static void cookie_update(void)
{
	int dev = lab_ops_open(), link;
	LOAD(skel, lab_ops);

	need(make_ready(skel->maps.lab_link) && make_ready(skel->maps.lab_link2),
	     "attach is %s", lab_number(-errno));
	link = raw_link_create(bpf_map__fd(skel->maps.lab_link), 0xa);
	need(link >= 0, "link_create is %s", lab_number(link));
	check_members(dev, 0, 0xa);
	check_eq("link_update", raw_link_update(link, bpf_map__fd(skel->maps.lab_link2), -1, 0), 0);
	check_members(dev, 0, 0xa);
	check_eq("fdinfo", fdinfo(link, "cookie"), 0xa);
	check(!strcmp(map_state(bpf_map__fd(skel->maps.lab_link2)), "READY/1"), "not READY/1");
	check(!strcmp(map_state(bpf_map__fd(skel->maps.lab_link)), "READY/0"), "not READY/0");
	close(link);
	lab_ops__destroy(skel);
	close(dev);
}

static void reattach_20(void)
{
	int dev = lab_ops_open(), link, i;
	LOAD(skel, lab_ops);

	need(make_ready(skel->maps.lab_link), "attach is %s", lab_number(-errno));
	for (i = 2; i <= 20; i++) {
		link = raw_link_create(bpf_map__fd(skel->maps.lab_link), i);
		need(link >= 0, "attach number %d is %s", i, lab_number(link));
		check_members(dev, 0, i);
		close(link);
	}
	check(wait_for(!kallsyms("bpf__lab_ops_")), "%d ksyms stay", kallsyms("bpf__lab_ops_"));
	lab_ops__destroy(skel);
	close(dev);
}

/* Makes the nth allocation of link_create fail, until none is left to fail. */
static void allocation_failures(void)
{
	int dev = lab_ops_open(), link, n, fail_nth, failed = 0, other = 0;
	char text[16] = "";
	LOAD(skel, lab_ops);

	need(make_ready(skel->maps.lab_link), "attach is %s", lab_number(-errno));
	fail_nth = open("/proc/thread-self/fail-nth", O_RDWR);
	if (fail_nth < 0) {
		skip("the kernel injects no faults");
		goto out;
	}
	lab_faults_on();

	for (n = 1; n < 1000; n++) {
		dprintf(fail_nth, "%d", n);
		link = raw_link_create(bpf_map__fd(skel->maps.lab_link), n);
		memset(text, 0, sizeof(text));
		pread(fail_nth, text, sizeof(text) - 1, 0);
		dprintf(fail_nth, "0");
		if (link >= 0) {
			check_members(dev, 0, n);
			close(link);
			if (atoi(text))
				break;
			/* the kernel did without that one */
			continue;
		}
		failed++;
		if (link != -ENOMEM)
			other = link;
		check(!strcmp(map_state(bpf_map__fd(skel->maps.lab_link)), "READY/0") ||
		      wait_for(!strcmp(map_state(bpf_map__fd(skel->maps.lab_link)), "READY/0")),
		      "the map is left %s", map_state(bpf_map__fd(skel->maps.lab_link)));
	}
	check(failed, "no allocation of link_create failed");
	check(!other || other == -EFAULT, "a failing allocation gives %s", lab_number(other));
	note("%d of %d allocations fail the call", failed, n - 1);
	check(wait_for(!kallsyms("bpf__lab_ops_")), "%d ksyms stay", kallsyms("bpf__lab_ops_"));
	close(fail_nth);
out:
	lab_ops__destroy(skel);
	close(dev);
}

const struct lab_test cookie_tests[] = {
	{ "cookie-values", cookie_values },
	{ "cookie-libbpf", cookie_libbpf },
	{ "old-libbpf-call", old_libbpf_call },
	{ "plain-map", plain_map },
	{ "cookie-testmod", cookie_testmod },
	{ "cookie-tcp", cookie_tcp },
	{ "cookie-update", cookie_update },
	{ "reattach-20", reattach_20 },
	{ "allocation-failures", allocation_failures },
	{}
};
