// SPDX-License-Identifier: GPL-2.0
/* See target.h. Not here: what is attached. */
#include "target.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), err;

	if (fd < 0)
		return -errno;
	err = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return err;
}

/* --- qdiscs ---------------------------------------------------------------- */

static const char default_qdisc[] = "/proc/sys/net/core/default_qdisc";
static char first_default[32];

/* One request to the root qdisc of the loopback device, and its acknowledgment. */
static int tc(int type, int flags, unsigned int handle, const char *kind)
{
	struct {
		struct nlmsghdr n;
		struct tcmsg t;
		char attr[64];
	} request = {
		.n.nlmsg_len = NLMSG_LENGTH(sizeof(struct tcmsg)),
		.n.nlmsg_type = type,
		.n.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags,
		.t.tcm_family = AF_UNSPEC,
		.t.tcm_ifindex = if_nametoindex("lo"),
		.t.tcm_parent = TC_H_ROOT,
		.t.tcm_handle = handle,
	};
	struct {
		struct nlmsghdr n;
		struct nlmsgerr e;
		char rest[512];
	} answer;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), err;

	if (fd < 0)
		return -errno;
	if (kind) {
		struct rtattr *attr = (void *)request.attr;

		attr->rta_type = TCA_KIND;
		attr->rta_len = RTA_LENGTH(strlen(kind) + 1);
		strcpy(RTA_DATA(attr), kind);
		request.n.nlmsg_len += RTA_ALIGN(attr->rta_len);
	}
	if (send(fd, &request, request.n.nlmsg_len, 0) < 0 ||
	    recv(fd, &answer, sizeof(answer), 0) < (ssize_t)NLMSG_LENGTH(sizeof(answer.e)))
		err = -errno;
	else
		err = answer.n.nlmsg_type == NLMSG_ERROR ? answer.e.error : -EPROTO;
	close(fd);
	return err;
}

int qdisc_create(const char *kind)
{
	/* with a handle: it would take the place of one of another kind, else */
	int err = tc(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, TC_H_MAKE(1 << 16, 0), kind);

	/* the device has one: the model has one errno for all that it refuses */
	return err == -EEXIST ? -ENOENT : err;
}

int qdisc_destroy(void)
{
	return tc(RTM_DELQDISC, 0, 0, NULL);
}

int qdisc_set_default(const char *kind)
{
	return write_text(default_qdisc, kind);
}

int dev_queue_xmit(void)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), err = 0;
	socklen_t len = sizeof(to);

	/* to itself: nobody sends anything back */
	if (fd < 0 || bind(fd, (void *)&to, len) || getsockname(fd, (void *)&to, &len) ||
	    (sendto(fd, "x", 1, 0, (void *)&to, len) != 1 && errno != ENOBUFS))
		err = -errno;
	close(fd);
	return err;
}

const char *qdisc_set_up(void)
{
	int fd = open(default_qdisc, O_RDONLY | O_CLOEXEC);
	int len = fd < 0 ? -1 : read(fd, first_default, sizeof(first_default) - 1);

	close(fd);
	return len > 0 ? NULL : "the default qdisc cannot be read";
}

void qdisc_clear(void)
{
	tc(RTM_DELQDISC, 0, 0, NULL);
	qdisc_set_default(first_default);
}

/* --- binary formats ---------------------------------------------------------- */

/* not below /proc/sys, which a kernel without CONFIG_SYSCTL has not */
#define BM	"/tmp/binfmt_misc"

static const char binary[] = "/tmp/lab_binary";

int bm_entry_create(const char *handler)
{
	char line[64];
	int err;

	snprintf(line, sizeof(line), ":lab:B::::%s:", handler);
	err = write_text(BM "/register", line);
	/* there is an entry: as for a qdisc */
	return err == -EEXIST ? -ENOENT : err;
}

int bm_entry_remove(void)
{
	return write_text(BM "/lab", "-1");
}

int target_exec(void)
{
	char *argv[] = { (char *)binary, NULL }, *envp[] = { NULL };

	/* load() fails it, and it goes on here; without an entry it is no format's */
	execve(binary, argv, envp);
	return errno == -TARGET_LOADED ? 0 : errno == ENOEXEC ? -ENOENT : -errno;
}

const char *bm_set_up(void)
{
	int fd;

	if (mkdir(BM, 0700) && errno != EEXIST)
		return "no directory for binfmt_misc";
	if (mount("binfmt_misc", BM, "binfmt_misc", 0, NULL) && errno != EBUSY)
		return "binfmt_misc cannot be mounted";
	fd = open(binary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	if (fd < 0 || write(fd, "lab\n", 4) != 4)
		return "no binary";
	close(fd);
	return NULL;
}

void bm_clear(void)
{
	bm_entry_remove();
}
