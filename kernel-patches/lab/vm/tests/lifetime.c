// SPDX-License-Identifier: GPL-2.0
/*
 * Who may still be called when a link, a map or a second attachment goes.
 * What a kernel does wrong here may end it: each of these runs in its own VM.
 */
#include "lab.h"
#include "../module/lab_ops.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lab_ops.skel.h"
#include "scx.skel.h"
#include "tcp.skel.h"

#define LOAD(skel_, type_)							\
	struct type_ *skel_ = type_##__open();					\
	need(skel_, "open failed");						\
	skel_->rodata->have_cookie = lab_has_cookie();				\
	need(!type_##__load(skel_), "load failed")

static __u64 cookie(__u64 c)
{
	return lab_has_cookie() ? c : 0;
}

static bool make_ready(struct bpf_map *map)
{
	struct bpf_link *link = bpf_map__attach_struct_ops(map);

	if (!link)
		return false;
	bpf_link__destroy(link);
	return true;
}

/* Two links of one map, each with its cookie: whom does the first one read? */
static void two_links_cookie(void)
{
	int dev = lab_ops_open(), a, b;
	__u64 seen_a, seen_b;
	LOAD(skel, lab_ops);

	need(make_ready(skel->maps.lab_link), "attach is %s", lab_number(-errno));
	a = raw_link_create(bpf_map__fd(skel->maps.lab_link), 0xa);
	b = raw_link_create(bpf_map__fd(skel->maps.lab_link), 0xb);
	need(a >= 0 && b >= 0, "link_create is %s, %s", lab_number(a), lab_number(b));
	check_eq("call", lab_ops_call(dev, 0, LAB_PLAIN, 0, &seen_a), 0);
	check_eq("call", lab_ops_call(dev, 1, LAB_PLAIN, 0, &seen_b), 0);
	note("link A has 0xa and reads 0x%llx, link B has 0xb and reads 0x%llx", seen_a, seen_b);
	check(seen_a == cookie(0xa) && seen_b == cookie(0xb), "wrong cookie");
	close(b);
	check_eq("call", lab_ops_call(dev, 0, LAB_SLEEPABLE, 0, &seen_a), 0);
	check(seen_a == cookie(0xa), "after B is closed A reads 0x%llx", seen_a);
	close(a);
	lab_ops__destroy(skel);
	close(dev);
}

/* A is attached and has a socket; attaching the same map again fails. */
static void failing_attach(void)
{
	struct pair pair;
	int a, b, i;
	LOAD(skel, tcp);

	need(make_ready(skel->maps.cc_link), "attach is %s", lab_number(-errno));
	a = raw_link_create(bpf_map__fd(skel->maps.cc_link), 0xa);
	need(a >= 0, "link_create is %s", lab_number(a));
	need(!pair_open(&pair) && !pair_cc(&pair, "lab_cc"), "no socket");
	b = raw_link_create(bpf_map__fd(skel->maps.cc_link), 0xb);
	check_eq("second link_create", b, -EEXIST);
	puts("# the socket of link A sends");
	for (i = 0; i < 3; i++)
		check_eq("send", pair_send(&pair), 0);
	check(wait_for(skel->bss->events), "cong_avoid was not called");
	check_eq("link A's cookie", skel->bss->event_cookie, cookie(0xa));
	check_eq("kallsyms", kallsyms("bpf__tcp_congestion_ops_"), 4);
	close(a);
	pair_close(&pair);
	tcp__destroy(skel);
}

/* reg() calls in and then fails: nobody else may notice. */
static void failing_reg(void)
{
	int dev = lab_ops_open(), a, b;
	__u64 seen;
	LOAD(skel, lab_ops);

	need(make_ready(skel->maps.lab_link), "attach is %s", lab_number(-errno));
	a = raw_link_create(bpf_map__fd(skel->maps.lab_link), 0xa);
	need(a >= 0, "link_create is %s", lab_number(a));
	ioctl(dev, LAB_OPS_FAIL_NEXT);
	b = raw_link_create(bpf_map__fd(skel->maps.lab_link), 0xb);
	check_eq("second link_create", b, -EIO);
	puts("# link A's member is called");
	check_eq("call", lab_ops_call(dev, 0, LAB_PLAIN, 0, &seen), 0);
	check_eq("link A's cookie", seen, cookie(0xa));
	ioctl(dev, LAB_OPS_FAIL_NEXT);
	check_eq("failing link_update",
		 (make_ready(skel->maps.lab_link2),
		  ioctl(dev, LAB_OPS_FAIL_NEXT),
		  raw_link_update(a, bpf_map__fd(skel->maps.lab_link2), -1, 0)), -EIO);
	check_eq("call", lab_ops_call(dev, 0, LAB_PLAIN, 0, &seen), 0);
	check_eq("link A's cookie", seen, cookie(0xa));
	check(wait_for(!strcmp(map_state(bpf_map__fd(skel->maps.lab_link)), "READY/1")),
	      "not READY/1");
	close(a);
	lab_ops__destroy(skel);
	close(dev);
}

/* The link is updated to another map while a socket uses the old one. */
static void update_with_socket(void)
{
	struct pair pair;
	int link, i;
	LOAD(skel, tcp);

	need(make_ready(skel->maps.cc_link) && make_ready(skel->maps.cc_link2),
	     "attach is %s", lab_number(-errno));
	link = raw_link_create(bpf_map__fd(skel->maps.cc_link), 0xa);
	need(link >= 0, "link_create is %s", lab_number(link));
	need(!pair_open(&pair) && !pair_cc(&pair, "lab_cc"), "no socket");
	check_eq("link_update", raw_link_update(link, bpf_map__fd(skel->maps.cc_link2), -1, 0), 0);
	puts("# the socket of the old map sends");
	for (i = 0; i < 3; i++)
		check_eq("send", pair_send(&pair), 0);
	check(wait_for(skel->bss->events), "cong_avoid was not called");
	check_eq("the cookie", skel->bss->event_cookie, cookie(0xa));
	close(link);
	check_eq("send", pair_send(&pair), 0);
	pair_close(&pair);
	tcp__destroy(skel);
}

/* setsockopt() in a process that may never come back */
static bool lookup_ends(struct pair *pair, const char *name)
{
	pid_t pid = fork();
	int fd;

	if (!pid)
		_exit(-pair_cc(pair, name));
	if (wait_for(waitpid(pid, NULL, WNOHANG) == pid))
		return true;
	/* says where the CPUs are */
	fd = open("/proc/sysrq-trigger", O_WRONLY);
	check(write(fd, "l", 1) == 1, "no sysrq");
	close(fd);
	lab_sleep_ms(500);
	return false;
}

/* link_update to the map that is attached already */
static void update_to_same_map(void)
{
	struct pair pair;
	int link, err;
	LOAD(skel, tcp);

	need(make_ready(skel->maps.cc_link), "attach is %s", lab_number(-errno));
	link = raw_link_create(bpf_map__fd(skel->maps.cc_link), 0xa);
	need(link >= 0, "link_create is %s", lab_number(link));
	need(!pair_open(&pair) && !pair_cc(&pair, "lab_cc"), "no socket");
	puts("# link_update to the same map");
	err = raw_link_update(link, bpf_map__fd(skel->maps.cc_link), -1, 0);
	check_eq("link_update", err, 0);
	check_eq("send", pair_send(&pair), 0);
	puts("# lookup of a name that is not on the list");
	need(lookup_ends(&pair, "lab_none"), "the lookup of an unknown name does not end");
	check_eq("an unknown name", pair_cc(&pair, "lab_none"), -ENOENT);
	check_eq("the name", pair_cc(&pair, "lab_cc"), 0);
	check_eq("the cookie", skel->bss->init_cookie, cookie(0xa));
	close(link);
	check_eq("the name after the link is closed", pair_cc(&pair, "lab_cc"), -ENOENT);
	pair_close(&pair);
	tcp__destroy(skel);
}

/* A socket goes on with its programs when link, map and programs are closed. */
static void socket_outlives_link(void)
{
	struct pair pair;
	int link, i;
	LOAD(skel, tcp);

	need(make_ready(skel->maps.cc_link), "attach is %s", lab_number(-errno));
	link = raw_link_create(bpf_map__fd(skel->maps.cc_link), 0xa);
	need(link >= 0, "link_create is %s", lab_number(link));
	need(!pair_open(&pair) && !pair_cc(&pair, "lab_cc"), "no socket");
	close(link);
	check_eq("send", pair_send(&pair), 0);
	check(wait_for(skel->bss->events), "cong_avoid was not called");
	check_eq("the cookie", skel->bss->event_cookie, cookie(0xa));
	link = raw_link_create(bpf_map__fd(skel->maps.cc_link), 0xb);
	check(link >= 0, "attach again is %s", lab_number(link));
	skel->bss->events = 0;
	check_eq("send", pair_send(&pair), 0);
	check(wait_for(skel->bss->events), "cong_avoid was not called");
	check_eq("the old socket's cookie", skel->bss->event_cookie, cookie(0xa));
	close(link);
	tcp__destroy(skel);
	/* those of the other link go late */
	wait_for(kallsyms("bpf__tcp_congestion_ops_") <= 4);
	lab_sleep_ms(500);
	check(kallsyms("bpf__tcp_congestion_ops_") == 4, "%d ksyms while the socket lives",
	      kallsyms("bpf__tcp_congestion_ops_"));
	for (i = 0; i < 3; i++)
		check_eq("send", pair_send(&pair), 0);
	pair_close(&pair);
	check(wait_for(!kallsyms("bpf__tcp_congestion_ops_")), "ksyms stay");
}

/* A thread whose program sleeps until LAB_OPS_WAKE. */
struct sleeper {
	int dev, err;
	pid_t tid;
	pthread_t thread;
	__u64 result;
};

static void *sleeper(void *arg)
{
	struct sleeper *s = arg;

	s->tid = gettid();
	s->err = lab_ops_call(s->dev, 0, LAB_SLEEPABLE, 1, &s->result);
	return NULL;
}

static bool sleeper_start(struct sleeper *s)
{
	pthread_create(&s->thread, NULL, sleeper, s);
	return wait_for(ioctl(s->dev, LAB_OPS_WAITERS) == 1);
}

static void sleeper_wake(struct sleeper *s)
{
	puts("# the program wakes up and returns to its trampoline");
	ioctl(s->dev, LAB_OPS_WAKE);
	pthread_join(s->thread, NULL);
	check_eq("the call", s->err, 0);
	check_eq("the cookie", s->result, cookie(0xa));
}

/* Whether the kernel's stack trace of the thread has the symbol. */
static bool sleeper_is_in(const struct sleeper *s, const char *symbol)
{
	char path[64], line[256];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stack", s->tid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		printf("# %s", line);
		found |= !!strstr(line, symbol);
	}
	if (f)
		fclose(f);
	return found;
}

/* long enough for RCU and RCU Tasks, which do not wait for a sleeper */
#define GRACE_PERIODS_MS 3000

/* kallsyms has exactly the trampolines that can run. */
static void kallsyms_live(void)
{
	struct sleeper s = { .dev = lab_ops_open() };
	int link[3], i;
	LOAD(skel, lab_ops);

	need(make_ready(skel->maps.lab_link), "attach is %s", lab_number(-errno));
	check(wait_for(!kallsyms("bpf__lab_ops_")), "%d ksyms without a link",
	      kallsyms("bpf__lab_ops_"));
	for (i = 0; i < 3; i++) {
		link[i] = raw_link_create(bpf_map__fd(skel->maps.lab_link), i);
		need(link[i] >= 0, "link_create is %s", lab_number(link[i]));
		check(kallsyms("bpf__lab_ops_") == 3 * (i + 1), "%d ksyms with %d links",
		      kallsyms("bpf__lab_ops_"), i + 1);
	}
	for (i = 0; i < 3; i++) {
		close(link[i]);
		check(wait_for(kallsyms("bpf__lab_ops_") == 3 * (2 - i)), "%d ksyms with %d links",
		      kallsyms("bpf__lab_ops_"), 2 - i);
	}

	/* the link is gone, a program of it still sleeps */
	link[0] = raw_link_create(bpf_map__fd(skel->maps.lab_link), 0xa);
	need(link[0] >= 0, "link_create is %s", lab_number(link[0]));
	need(sleeper_start(&s), "the program does not sleep");
	check(sleeper_is_in(&s, "bpf__lab_ops_sleepable"), "no trampoline in the stack trace");
	close(link[0]);
	lab_sleep_ms(GRACE_PERIODS_MS);
	check(kallsyms("bpf__lab_ops_") == 3, "%d ksyms while a program sleeps",
	      kallsyms("bpf__lab_ops_"));
	check(sleeper_is_in(&s, "bpf__lab_ops_sleepable"),
	      "the trampoline is missing in the stack trace");
	sleeper_wake(&s);
	check(wait_for(!kallsyms("bpf__lab_ops_")), "%d ksyms after it returned",
	      kallsyms("bpf__lab_ops_"));
	lab_ops__destroy(skel);
	close(s.dev);
}

/* A program sleeps while the last reference to everything goes. */
static void sleeping_program(void)
{
	struct sleeper s = { .dev = lab_ops_open() };
	int link;
	LOAD(skel, lab_ops);

	need(make_ready(skel->maps.lab_link), "attach is %s", lab_number(-errno));
	link = raw_link_create(bpf_map__fd(skel->maps.lab_link), 0xa);
	need(link >= 0, "link_create is %s", lab_number(link));
	need(sleeper_start(&s), "the program does not sleep");
	close(link);
	lab_ops__destroy(skel);
	lab_sleep_ms(GRACE_PERIODS_MS);
	/* Whether kallsyms still names the trampoline is what kallsyms-live asks. */
	sleeper_wake(&s);
	check(wait_for(!kallsyms("bpf__lab_ops_")), "ksyms stay");
	close(s.dev);
}

#define RACES 200

struct racer {
	int map, link_errors, unexpected;
};

static void *racer(void *arg)
{
	struct racer *r = arg;
	int i, link;

	for (i = 0; i < RACES; i++) {
		link = raw_link_create(r->map, i + 1);
		if (link >= 0)
			close(link);
		else if (link == -EEXIST || link == -EBUSY || link == -ENOSPC)
			r->link_errors++;
		else
			r->unexpected = link;
		if (i % 50 == 49)
			printf("# %d of %d\n", i + 1, RACES);
	}
	return NULL;
}

static void race(int map, const char *ksyms)
{
	struct racer r[2] = { { .map = map }, { .map = map } };
	pthread_t thread[2];
	int i, link;

	for (i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, racer, &r[i]);
	for (i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	for (i = 0; i < 2; i++)
		check(!r[i].unexpected, "link_create is %s", lab_number(r[i].unexpected));
	link = raw_link_create(map, 1);
	check(link >= 0, "link_create after the race is %s", lab_number(link));
	close(link);
	check(wait_for(!strcmp(map_state(map), "READY/0")), "the map is left %s", map_state(map));
	if (lab_has_cookie())
		check(wait_for(!kallsyms(ksyms)), "%d ksyms stay", kallsyms(ksyms));
	note("%d of %d were refused", r[0].link_errors + r[1].link_errors, 2 * RACES);
}

static void race_lab_ops(void)
{
	LOAD(skel, lab_ops);

	need(make_ready(skel->maps.lab_link), "attach is %s", lab_number(-errno));
	race(bpf_map__fd(skel->maps.lab_link), "bpf__lab_ops_");
	lab_ops__destroy(skel);
}

static void race_tcp(void)
{
	LOAD(skel, tcp);

	need(make_ready(skel->maps.cc_link), "attach is %s", lab_number(-errno));
	race(bpf_map__fd(skel->maps.cc_link), "bpf__tcp_congestion_ops_");
	tcp__destroy(skel);
}

static void race_scx(void)
{
	LOAD(skel, scx);

	need(make_ready(skel->maps.scx_a), "attach is %s", lab_number(-errno));
	race(bpf_map__fd(skel->maps.scx_a), "bpf__sched_ext_ops_");
	scx__destroy(skel);
}

/*
 * unlink(2) of a pin that has the last reference leaves the link to a work item:
 * it has returned, and the link is still attached.
 */
static void unpin_returns_first(void)
{
	struct lab_gate gate = {
		.symbol = "bpf_struct_ops_map_link_dealloc",
		.flags = LAB_GATE_WORKER,
	};
	static const char pin[] = "/sys/fs/bpf/lab_unpin";
	int dev = lab_ops_open(), link;
	LOAD(skel, tcp);

	need(dev >= 0, "no lab_ops");
	need(make_ready(skel->maps.cc_link), "attach is %s", lab_number(-errno));
	link = raw_link_create(bpf_map__fd(skel->maps.cc_link), 0xa);
	need(link >= 0, "link_create is %s", lab_number(link));
	need(!bpf_obj_pin(link, pin), "pin is %s", lab_number(-errno));
	close(link);
	need(!ioctl(dev, LAB_GATE_ARM, &gate), "gate: %s", strerror(errno));
	check_eq("unlink", unlink(pin), 0);
	need(wait_for(ioctl(dev, LAB_GATE_STATE, 0) == LAB_GATE_HOLDS), "no work item");
	check_eq("link_create of the same name", raw_link_create(bpf_map__fd(skel->maps.cc_link), 0xb),
		 -EEXIST);
	check_eq("the gate", ioctl(dev, LAB_GATE_OPEN, 0), LAB_GATE_HOLDS);
	check(wait_for((link = raw_link_create(bpf_map__fd(skel->maps.cc_link), 0xc)) >= 0),
	      "link_create is %s", lab_number(link));
	close(link);
	tcp__destroy(skel);
	close(dev);
}

/*
 * A link_update builds its attachment, and shows it to kallsyms, before it looks at
 * the link. One that is refused leaves it to a work item.
 */
static void refused_update(void)
{
	struct lab_gate gate = {
		.symbol = "bpf_struct_ops_attachment_free_deferred",
		.flags = LAB_GATE_WORKER,
	};
	static const char prefix[] = "bpf__tcp_congestion_ops_";
	int dev = lab_ops_open(), link, other;
	LOAD(skel, tcp);

	need(dev >= 0, "no lab_ops");
	need(make_ready(skel->maps.cc_link) && make_ready(skel->maps.cc_link2),
	     "attach is %s", lab_number(-errno));
	link = raw_link_create(bpf_map__fd(skel->maps.cc_link), 0xa);
	need(link >= 0, "link_create is %s", lab_number(link));
	need(wait_for(kallsyms(prefix) == 4), "kallsyms has %d", kallsyms(prefix));
	other = bpf_map__fd(skel->maps.cc_link2);
	need(!ioctl(dev, LAB_GATE_ARM, &gate), "gate: %s", strerror(errno));
	check_eq("link_update of another map's link", raw_link_update(link, other, other, BPF_F_REPLACE),
		 -EPERM);
	need(wait_for(ioctl(dev, LAB_GATE_STATE, 0) == LAB_GATE_HOLDS), "no work item");
	check_eq("kallsyms", kallsyms(prefix), 8);
	check_eq("the gate", ioctl(dev, LAB_GATE_OPEN, 0), LAB_GATE_HOLDS);
	check(wait_for(kallsyms(prefix) == 4), "kallsyms has %d", kallsyms(prefix));
	close(link);
	tcp__destroy(skel);
	close(dev);
}

const struct lab_test lifetime_tests[] = {
	{ "kallsyms-live", kallsyms_live },
	{ "unpin-returns-first", unpin_returns_first },
	{ "refused-update", refused_update },
	{ "two-links-cookie", two_links_cookie },
	{ "failing-attach", failing_attach },
	{ "failing-reg", failing_reg },
	{ "update-with-socket", update_with_socket },
	{ "update-to-same-map", update_to_same_map },
	{ "socket-outlives-link", socket_outlives_link },
	{ "sleeping-program", sleeping_program },
	{ "race-lab-ops", race_lab_ops },
	{ "race-tcp", race_tcp },
	{ "race-scx", race_scx },
	{}
};
