/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a subsystem's registrations are found by: the loopback device and its
 * qdisc, an entry of binfmt_misc. Every call returns 0 or a negative errno.
 */
#ifndef LAB_TARGET_H
#define LAB_TARGET_H

/* tc qdisc add: of a kind that BPF registered, on a device that has none. */
int qdisc_create(const char *kind);
int qdisc_destroy(void);
int qdisc_set_default(const char *kind);
/* A packet that goes through the device's qdisc. */
int dev_queue_xmit(void);

/* An entry that hands every binary to the handler, and takes it back. */
int bm_entry_create(const char *handler);
int bm_entry_remove(void);
/* Executes a file that no format but a handler's takes; its load() must return TARGET_LOADED. */
int target_exec(void);
#define TARGET_LOADED	(-EXDEV)

/* Before the first round. Why it cannot be, or NULL. */
const char *qdisc_set_up(void);
const char *bm_set_up(void);
/* After each round. */
void qdisc_clear(void);
void bm_clear(void);

#endif
