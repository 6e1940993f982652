// SPDX-License-Identifier: GPL-2.0
/*
 * HID devices, which uhid lets user space play: what an attach that fails
 * leaves behind, and who may still be in a program when its device goes.
 */
#include "lab.h"
#include "../module/lab_ops.h"

#include <bpf/btf.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/hidraw.h>
#include <linux/uhid.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "hid.skel.h"

/* vendor defined: 8 bytes of input, 8 bytes of feature */
static const unsigned char descriptor[] = {
	0x06, 0x00, 0xff, 0x09, 0x01, 0xa1, 0x01,
	0x15, 0x00, 0x26, 0xff, 0x00, 0x75, 0x08, 0x95, 0x08,
	0x09, 0x01, 0x81, 0x02,
	0x09, 0x02, 0xb1, 0x02,
	0xc0,
};

struct device {
	int uhid;		/* closing it takes the device away, too */
	int id;			/* what programs are attached to */
	char name[64];		/* in /sys/bus/hid/devices */
};

#define VENDOR	0x1ab0
#define PRODUCT	0x0001

static bool device_find(struct device *d)
{
	char prefix[32];
	struct dirent *e;
	bool found = false;
	DIR *dir = opendir("/sys/bus/hid/devices");

	snprintf(prefix, sizeof(prefix), "%04X:%04X:%04X.", BUS_USB, VENDOR, PRODUCT);
	while (dir && (e = readdir(dir))) {
		if (strncmp(e->d_name, prefix, strlen(prefix)))
			continue;
		found = true;
		snprintf(d->name, sizeof(d->name), "%s", e->d_name);
		d->id = strtol(e->d_name + strlen(prefix), NULL, 16);
	}
	if (dir)
		closedir(dir);
	return found;
}

/* Whether a driver has taken the device and is done with its probe. */
static bool device_is_bound(const struct device *d)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/hid/devices/%s/hidraw", d->name);
	return !access(path, F_OK);
}

static bool device_new(struct device *d)
{
	struct uhid_event e = { .type = UHID_CREATE2 };

	d->uhid = open("/dev/uhid", O_RDWR | O_CLOEXEC);
	if (d->uhid < 0)
		return false;
	strcpy((char *)e.u.create2.name, "lab");
	e.u.create2.bus = BUS_USB;
	e.u.create2.vendor = VENDOR;
	e.u.create2.product = PRODUCT;
	e.u.create2.rd_size = sizeof(descriptor);
	memcpy(e.u.create2.rd_data, descriptor, sizeof(descriptor));
	if (write(d->uhid, &e, sizeof(e)) != sizeof(e))
		return false;
	return wait_for(device_find(d)) && wait_for(device_is_bound(d));
}

static int device_hidraw(const struct device *d)
{
	char path[300];
	struct dirent *e;
	int fd = -ENOENT;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/bus/hid/devices/%s/hidraw", d->name);
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/dev/%s", e->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	if (dir)
		closedir(dir);
	return fd;
}

/* A ready-made kernel may be without it. */
static bool no_hid_bpf(void)
{
	struct btf *btf = btf__load_vmlinux_btf();
	bool has = btf && btf__find_by_name_kind(btf, "hid_bpf_ops", BTF_KIND_STRUCT) > 0;

	btf__free(btf);
	if (!has)
		skip("the kernel has no HID-BPF");
	return !has;
}

/* One of the things that a test does at the same time as others. */
struct job {
	pthread_t thread;
	void (*run)(struct job *job);
	int fd;
	const char *text;
	volatile int tid;
	volatile bool go, done;
};

static void *job_main(void *arg)
{
	struct job *job = arg;

	job->tid = gettid();
	while (!job->go)
		lab_sleep_ms(1);
	job->run(job);
	job->done = true;
	return NULL;
}

/* The thread is there, so that a gate can be armed for it, and waits for `go`. */
static bool job_new(struct job *job)
{
	job->tid = 0;
	job->go = false;
	job->done = false;
	return !pthread_create(&job->thread, NULL, job_main, job) && wait_for(job->tid);
}

static void run_destroy(struct job *job)
{
	struct uhid_event e = { .type = UHID_DESTROY };

	if (write(job->fd, &e, sizeof(e)) != sizeof(e))
		printf("# UHID_DESTROY: %s\n", strerror(errno));
}

static void run_feature(struct job *job)
{
	unsigned char report[9] = { 0 };

	ioctl(job->fd, HIDIOCGFEATURE(sizeof(report)), report);
}

static void run_close(struct job *job)
{
	close(job->fd);
}

static void run_bind(struct job *job)
{
	if (write(job->fd, job->text, strlen(job->text)) < 0)
		printf("# bind %s: %s\n", job->text, strerror(errno));
}

static bool hid_load(struct hid **skel, const struct device *d)
{
	struct bpf_map *map;

	*skel = hid__open();
	if (!*skel)
		return false;
	bpf_object__for_each_map(map, (*skel)->obj)
		if (bpf_map__type(map) == BPF_MAP_TYPE_STRUCT_OPS)
			/* hid_id is the first member */
			*(int *)bpf_map__initial_value(map, NULL) = d->id;
	if (hid__load(*skel)) {
		hid__destroy(*skel);
		return false;
	}
	return true;
}

/* The link, or an errno. */
static int attach(struct bpf_map *map)
{
	struct bpf_link *link = bpf_map__attach_struct_ops(map);
	int fd;

	if (!link)
		return -errno;
	fd = dup(bpf_link__fd(link));
	bpf_link__destroy(link);
	return fd;
}

/* The second fixup is refused; when the first is gone, it can be attached. */
static void hid_refused_attach(void)
{
	struct device d;
	struct hid *skel;
	int a, b;

	if (no_hid_bpf())
		return;
	need(device_new(&d), "no device");
	need(hid_load(&skel, &d), "load failed");
	a = attach(skel->maps.fixup_a);
	need(a >= 0, "attach is %s", lab_number(a));
	check_eq("attach of a second hid_rdesc_fixup", attach(skel->maps.fixup_b), -EINVAL);
	close(a);
	b = attach(skel->maps.fixup_b);
	note("attach after the other one is gone is %s", lab_number(b < 0 ? b : 0));
	check(b >= 0, "the map that was refused once is refused for ever");
	close(b);
	hid__destroy(skel);
	close(d.uhid);
}

/* The allocations of an attach fail, one after the other. */
static void hid_failing_attach(void)
{
	int fail_nth, link = -ENOMEM, n, failed = 0;
	struct device d;
	struct hid *skel;

	if (no_hid_bpf())
		return;
	need(device_new(&d), "no device");
	need(hid_load(&skel, &d), "load failed");
	/* map_update, which is not what shall fail */
	link = attach(skel->maps.fixup_and_event);
	need(link >= 0, "attach is %s", lab_number(link));
	close(link);
	fail_nth = open("/proc/thread-self/fail-nth", O_RDWR);
	if (fail_nth < 0) {
		skip("the kernel injects no faults");
		return;
	}
	lab_faults_on();
	for (n = 1; n < 100; n++) {
		/* a new probe frees what the event needs: reg() allocates it again */
		dprintf(fail_nth, "%d", n);
		link = raw_link_create(bpf_map__fd(skel->maps.fixup_and_event), 0);
		dprintf(fail_nth, "0");
		if (link != -ENOMEM)
			break;
		failed++;
	}
	note("%d allocations failed the attach, then it is %s", failed,
	     lab_number(link < 0 ? link : 0));
	check(failed, "no allocation of link_create failed");
	check(link >= 0, "an attach that failed once fails for ever");
	close(link);
	close(fail_nth);
	hid__destroy(skel);
	close(d.uhid);
}

/* longer than RCU and RCU Tasks need */
#define GRACE_PERIODS_MS 3000

/*
 * A program sleeps for a reader of the device, the device goes, the link is
 * closed: all that is left of it is the program that will return.
 */
static void hid_sleeping_program(void)
{
	struct job feature = { .run = run_feature }, destroy = { .run = run_destroy },
		   closer = { .run = run_close };
	int dev = lab_ops_open();
	struct device d;
	struct hid *skel;

	if (no_hid_bpf())
		return;
	need(dev >= 0, "no lab_ops");
	need(device_new(&d), "no device");
	need(hid_load(&skel, &d), "load failed");
	closer.fd = attach(skel->maps.only_request);
	need(closer.fd >= 0, "attach is %s", lab_number(closer.fd));
	feature.fd = device_hidraw(&d);
	need(feature.fd >= 0, "no hidraw: %s", lab_number(feature.fd));
	destroy.fd = d.uhid;
	need(job_new(&feature) && job_new(&destroy) && job_new(&closer), "no threads");

	skel->bss->shall_sleep = true;
	feature.go = true;
	need(wait_for(ioctl(dev, LAB_OPS_WAITERS) == 1), "the program does not sleep");
	puts("# the device goes");
	destroy.go = true;
	lab_sleep_ms(500);
	puts("# the link is closed");
	closer.go = true;
	lab_sleep_ms(500);
	note("closing the link %s for the program", closer.done ? "does not wait" : "waits");
	hid__destroy(skel);
	lab_sleep_ms(GRACE_PERIODS_MS);
	puts("# the program wakes up and returns to its trampoline");
	ioctl(dev, LAB_OPS_WAKE);
	pthread_join(feature.thread, NULL);
	pthread_join(destroy.thread, NULL);
	pthread_join(closer.thread, NULL);
	check(wait_for(!kallsyms("bpf__hid_bpf_ops_")), "ksyms stay");
	close(feature.fd);
	close(d.uhid);
	close(dev);
}

/* An attach to a device that has been destroyed and is not yet taken away. */
static void hid_late_attach(void)
{
	struct lab_gate gate = { .symbol = "device_del" };
	struct job destroy = { .run = run_destroy };
	int dev = lab_ops_open(), link;
	struct device d;
	struct hid *skel;

	if (no_hid_bpf())
		return;
	need(dev >= 0, "no lab_ops");
	need(device_new(&d), "no device");
	need(hid_load(&skel, &d), "load failed");
	/* map_update */
	link = attach(skel->maps.only_request);
	need(link >= 0, "attach is %s", lab_number(link));
	close(link);
	destroy.fd = d.uhid;
	need(job_new(&destroy), "no thread");
	gate.tid = destroy.tid;
	need(!ioctl(dev, LAB_GATE_ARM, &gate), "gate: %s", strerror(errno));
	destroy.go = true;
	need(wait_for(ioctl(dev, LAB_GATE_STATE, 0) == LAB_GATE_HOLDS), "nobody at the gate");
	puts("# the device is destroyed, and attached to");
	link = raw_link_create(bpf_map__fd(skel->maps.only_request), 0);
	check_eq("the attach", link, -ENODEV);
	check_eq("the gate", ioctl(dev, LAB_GATE_OPEN, 0), LAB_GATE_HOLDS);
	pthread_join(destroy.thread, NULL);
	close(link);
	hid__destroy(skel);
	close(d.uhid);
	close(dev);
}

/*
 * A probe has seen that there is a fixup and allocates what it needs. Meanwhile
 * the fixup is detached.
 */
static void hid_detach_in_probe(void)
{
	/* its buffer is of the size that a descriptor may have */
	struct lab_gate gate = { .symbol = "__kmalloc_cache_noprof", .arg = 3, .value = 4096 };
	struct job bind = { .run = run_bind }, closer = { .run = run_close };
	int dev = lab_ops_open(), unbind;
	struct device d;
	struct hid *skel;

	if (no_hid_bpf())
		return;
	need(dev >= 0, "no lab_ops");
	need(device_new(&d), "no device");
	need(hid_load(&skel, &d), "load failed");
	closer.fd = attach(skel->maps.fixup_a);
	need(closer.fd >= 0, "attach is %s", lab_number(closer.fd));
	check(skel->bss->fixups > 0, "the attach does not call the fixup");
	need(wait_for(device_is_bound(&d)), "the device has no driver");
	unbind = open("/sys/bus/hid/drivers/hid-generic/unbind", O_WRONLY | O_CLOEXEC);
	need(write(unbind, d.name, strlen(d.name)) > 0, "unbind: %s", strerror(errno));
	close(unbind);
	bind.text = d.name;
	bind.fd = open("/sys/bus/hid/drivers/hid-generic/bind", O_WRONLY | O_CLOEXEC);
	need(job_new(&bind) && job_new(&closer), "no threads");
	gate.tid = bind.tid;
	need(!ioctl(dev, LAB_GATE_ARM, &gate), "gate: %s", strerror(errno));
	bind.go = true;
	need(wait_for(ioctl(dev, LAB_GATE_STATE, 0) == LAB_GATE_HOLDS), "nobody at the gate");
	closer.go = true;
	/* it goes on to the device lock, which the probe has */
	lab_sleep_ms(1000);
	puts("# the probe goes on to the fixup that is gone");
	check_eq("the gate", ioctl(dev, LAB_GATE_OPEN, 0), LAB_GATE_HOLDS);
	pthread_join(bind.thread, NULL);
	pthread_join(closer.thread, NULL);
	close(bind.fd);
	hid__destroy(skel);
	close(d.uhid);
	close(dev);
}

const struct lab_test hid_tests[] = {
	{ "hid-refused-attach", hid_refused_attach },
	{ "hid-failing-attach", hid_failing_attach },
	{ "hid-sleeping-program", hid_sleeping_program },
	{ "hid-late-attach", hid_late_attach },
	{ "hid-detach-in-probe", hid_detach_in_probe },
	{}
};
