/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the hook share. cpuidhook.c watches QEMU's calls, requests.c serves the socket, many.c makes the
 * same call many times, sweep.c tries every single change of a CPUID, nested.c loads nested state, watch.c tells what
 * a call does to the state of the vCPUs.
 */
#ifndef CPUIDHOOK_H
#define CPUIDHOOK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <linux/kvm.h>
#include "old_glibc.h"

#define MAX_VCPUS 1024
#define GET_ENTRIES 256		/* KVM_MAX_CPUID_ENTRIES: no vCPU has more */

/* One ioctl of a vCPU that a client wants, and another that is made right after it. */
struct request {
	unsigned int call;	/* KVM_SET_CPUID2, KVM_SET_CPUID, or a call that reads */
	void *arg;
	long nent;		/* for the log */
	int ret, err;		/* KVM's answer: the ioctl's return value and its errno */
	bool done;
	char *report;		/* of a set: what it did to the state of the vCPUs. Whoever makes the request frees it */
	unsigned int times;	/* how many calls of a row KVM has answered so; 0: the request is one call */
	struct row *row;	/* may be NULL: the request is one call */
	struct request *then;	/* may be NULL */
};

/* The same call many times in a row. */
struct row {
	unsigned int most, calls;	/* calls to make, and made */
	long ms;			/* no call begins later than that, but the first */
	struct request last;		/* the call that KVM answered otherwise; times is 0 where there is none */
	uint64_t *ns;			/* how long each call took; room for the most */
};

/* A vCPU is known by its file. QEMU keeps the file of an unplugged vCPU, and uses that file again for the same id. */
struct vcpu {
	pthread_mutex_t gate;	/* held while a thread enters KVM_RUN, and while a client uses the vCPU */
	pthread_cond_t served;	/* the pending request is done */
	struct request *pending;	/* under gate: what a client wants done before the next KVM_RUN */
	struct kvm_run *run;		/* under gate; mapped before the first KVM_RUN */
	struct state *before, *after;	/* under gate; around the last set that was watched, or NULL */
	int stats_fd;			/* under gate; -1: not open */
	pid_t tid;			/* under gate; the thread that called KVM_RUN last */
	atomic_int fd;
	atomic_ulong id, runs;
	atomic_uint nent_qemu;		/* entry count of the last accepted set of QEMU */
	atomic_uint nent_own;		/* entry count of the last accepted set, QEMU's or a client's */
	atomic_bool in_run, has_run;
};

/* A call that is watched. */
struct watch {
	struct vcpu *called;
	int count;		/* of the vCPUs that are watched beside it */
	bool held[MAX_VCPUS];	/* whose gate is held */
};

/* cpuidhook.c */
extern struct vcpu vcpus[];
extern atomic_int vcpu_count;
extern int system_fd;
int kvm(int fd, unsigned long request, void *arg);
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void perform(struct vcpu *vcpu, struct request *req, bool alone);

/* requests.c */
int serve_clients(const char *socket_path);
void print_entries(FILE *out, const struct kvm_cpuid_entry2 *entries, unsigned int count);
unsigned int true_count(unsigned int reported, unsigned int own);

/* sweep.c */
void sweep_vcpu(FILE *out, struct vcpu *vcpu);

/* many.c */
void perform_row(struct vcpu *vcpu, struct request *req);
void print_row(FILE *out, const struct request *req);

/* nested.c */
void load_l2(FILE *out, struct vcpu *vcpu);

/* watch.c */
void begin_watch(struct watch *watch, struct vcpu *called, bool alone);
char *end_watch(struct watch *watch);
void note_report(char *text);
void show_state(FILE *out, struct vcpu *vcpu, unsigned int which);

#endif
