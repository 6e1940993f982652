// SPDX-License-Identifier: GPL-2.0
/* sched_ext: the subsystem that the cookie is for. */
#include "lab.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "scx.skel.h"

static const char *scx_state(void)
{
	static char text[32];
	FILE *f = fopen("/sys/kernel/sched_ext/state", "r");

	text[0] = 0;
	if (f && fgets(text, sizeof(text), f))
		text[strcspn(text, "\n")] = 0;
	if (f)
		fclose(f);
	return text;
}

static struct scx *scx_load(void)
{
	struct scx *skel = scx__open();

	if (!skel)
		return NULL;
	skel->rodata->have_cookie = lab_has_cookie();
	if (scx__load(skel)) {
		scx__destroy(skel);
		return NULL;
	}
	return skel;
}

static void scx_minimal(void)
{
	struct scx *skel = scx_load();
	struct bpf_link *link;
	int raw, i;

	need(skel, "load failed");
	for (i = 0; i < 3; i++) {
		link = bpf_map__attach_struct_ops(skel->maps.scx_a);
		need(link, "attach is %s", lab_number(-errno));
		check(!strcmp(scx_state(), "enabled"), "sched_ext is %s", scx_state());
		skel->bss->enqueued = 0;
		check(wait_for(skel->bss->enqueued > 10), "tasks are not enqueued");
		bpf_link__destroy(link);
		check(wait_for(!strcmp(scx_state(), "disabled")), "sched_ext is %s", scx_state());
		raw = raw_link_create(bpf_map__fd(skel->maps.scx_a), 0x5c0000001);
		need(raw >= 0, "link_create is %s", lab_number(raw));
		if (lab_has_cookie()) {
			check_eq("init's cookie", skel->bss->init_cookie, 0x5c0000001);
			check(wait_for(skel->bss->enqueue_cookie == 0x5c0000001),
			      "enqueue reads 0x%llx", skel->bss->enqueue_cookie);
		}
		close(raw);
		check(wait_for(!strcmp(scx_state(), "disabled")), "sched_ext is %s", scx_state());
	}
	scx__destroy(skel);
}

/*
 * A's link stays after A failed. B is enabled, then A's link is closed: B must
 * go on.
 */
static void scx_stale_link(void)
{
	struct scx *a = scx_load(), *b = scx_load();
	struct bpf_link *link_a, *link_b;

	need(a && b, "load failed");
	link_a = bpf_map__attach_struct_ops(a->maps.scx_a);
	need(link_a, "attach is %s", lab_number(-errno));
	a->bss->asked_to_fail = true;
	need(wait_for(!strcmp(scx_state(), "disabled")), "A does not fail");
	link_b = bpf_map__attach_struct_ops(b->maps.scx_b);
	need(link_b, "attach of B is %s", lab_number(-errno));
	check(!strcmp(scx_state(), "enabled"), "with B sched_ext is %s", scx_state());
	bpf_link__destroy(link_a);
	lab_sleep_ms(200);
	check(!strcmp(scx_state(), "enabled"), "closing A's link leaves sched_ext %s, "
	      "B's link is still attached", scx_state());
	bpf_link__destroy(link_b);
	scx__destroy(a);
	scx__destroy(b);
}

/* What a tracer that came with A finds when it asks sched_ext for a queue of B. */
static int tracer_asks(struct scx *skel)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);

	skel->bss->tracer_saw = 1;
	if (bpf_prog_test_run_opts(bpf_program__fd(skel->progs.tracer), &opts))
		return 1;
	return skel->bss->tracer_saw;
}

/* A goes, B is enabled: on whom does the tracer act that came with A and is tied to no map? */
static void scx_tracer_next_root(void)
{
	struct scx *a = scx_load(), *b = scx_load();
	struct bpf_link *tracer, *link_a, *link_b;
	int saw;

	need(a && b, "load failed");
	tracer = bpf_program__attach(a->progs.tracer);
	need(tracer, "the tracer's attach is %s", lab_number(-errno));
	link_a = bpf_map__attach_struct_ops(a->maps.scx_a);
	need(link_a, "attach is %s", lab_number(-errno));
	saw = tracer_asks(a);
	need(saw == -ENOENT, "under A, which has no such queue, the tracer gets %s", lab_number(saw));
	bpf_link__destroy(link_a);
	need(wait_for(!strcmp(scx_state(), "disabled")), "A stays");
	saw = tracer_asks(a);
	need(saw == -ENODEV, "without a scheduler the tracer gets %s", lab_number(saw));
	link_b = bpf_map__attach_struct_ops(b->maps.scx_b);
	need(link_b, "attach of B is %s", lab_number(-errno));
	saw = tracer_asks(a);
	check(saw == -ENODEV, "under B the tracer of A gets %s: it acts on B", lab_number(saw));
	bpf_link__destroy(link_b);
	bpf_link__destroy(tracer);
	scx__destroy(a);
	scx__destroy(b);
}

const struct lab_test scx_tests[] = {
	{ "scx-minimal", scx_minimal },
	{ "scx-stale-link", scx_stale_link },
	{ "scx-tracer-next-root", scx_tracer_next_root },
	{}
};
