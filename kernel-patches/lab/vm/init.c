// SPDX-License-Identifier: GPL-2.0
/*
 * /init of the lab's VM: mounts, loads the modules, runs /lab/cmd, and ends
 * the VM with the command's status, on the console and through
 * isa-debug-exit. A panic gives neither.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define DEBUG_EXIT_PORT 0x501

static void leave(int status)
{
	printf("@lab-exit %d\n", status);
	fflush(NULL);
	tcdrain(1);
	sync();
	if (!ioperm(DEBUG_EXIT_PORT, 1, 1))
		outb(status, DEBUG_EXIT_PORT);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static void mount_fs(const char *type, const char *dir)
{
	mkdir(dir, 0755);
	if (mount(type, dir, type, 0, NULL) && errno != EBUSY)
		printf("init: mount %s on %s: %s\n", type, dir, strerror(errno));
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		printf("init: write %s: %s\n", path, strerror(errno));
	close(fd);
}

static void loopback_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr))
		printf("init: lo: %s\n", strerror(errno));
	close(fd);
}

/* A module that the kernel cannot take is not there to be loaded; the lab
 * packs none for ready-made kernels.
 */
static void load_module(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (syscall(SYS_finit_module, fd, "", 0)) {
		printf("init: %s: %s\n", path, strerror(errno));
		leave(120);
	}
	close(fd);
}

int main(void)
{
	int status;
	pid_t pid;

	setvbuf(stdout, NULL, _IOLBF, 0);
	mount_fs("devtmpfs", "/dev");
	for (int fd = 0; fd < 3; fd++)
		dup2(open("/dev/console", O_RDWR), fd);
	mount_fs("proc", "/proc");
	mount_fs("sysfs", "/sys");
	mount_fs("debugfs", "/sys/kernel/debug");
	mount_fs("tracefs", "/sys/kernel/tracing");
	mount_fs("bpf", "/sys/fs/bpf");
	mount_fs("tmpfs", "/tmp");
	write_file("/proc/sys/kernel/kptr_restrict", "0");
	loopback_up();
	load_module("/lab/bpf_testmod.ko");
	load_module("/lab/lab_ops.ko");

	puts("@lab-start");
	pid = fork();
	if (!pid) {
		setenv("PATH", "/lab:/bin:/sbin", 1);
		setenv("HOME", "/", 1);
		execl("/bin/busybox", "sh", "/lab/cmd", NULL);
		_exit(127);
	}
	while (wait(&status) != pid)
		;
	leave(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
