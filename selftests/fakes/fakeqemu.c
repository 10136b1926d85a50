// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What QEMU does with KVM, as far as the hook sees it. Commands come on standard input, one line each:
 * vm | create ID | set ID NENT | close ID | start ID | stop ID | exit ID REASON | mp ID STATE | sregs ID |
 * preload
 * Each is answered with "RET ERRNO", `preload` with "1 0" where programs that it starts would have the hook as well.
 * Entry i of the model that `set` sets has function i and EAX 100 + i.
 * quit, or the end of the input, ends it as exit() of glibc 2.41 does: it takes the lock of every stream.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/kvm.h>
#include "fakekvm.h"

#define MAX_VCPUS 8

static struct cpu {
	int fd;
	atomic_bool stop, ready;
	pthread_t thread;
	struct kvm_run *run;
} cpus[MAX_VCPUS];
static __thread struct cpu *current;

static void ipi(int signal)
{
	(void)signal;
	if (current)
		current->run->immediate_exit = 1;
}

static void *vcpu_thread(void *arg)
{
	int ret;

	current = arg;
	current->ready = true;
	do {
		ret = ioctl(current->fd, KVM_RUN, 0);
		current->run->immediate_exit = 0;
	} while (!current->stop && (ret == 0 || errno == EINTR));
	return NULL;
}

static int set(int fd, unsigned int nent)
{
	struct kvm_cpuid2 *model = calloc(1, sizeof(*model) + nent * sizeof(model->entries[0]));
	int ret;

	model->nent = nent;
	for (unsigned int i = 0; i < nent; i++) {
		model->entries[i].function = i;
		model->entries[i].eax = 100 + i;
	}
	ret = ioctl(fd, (int)KVM_SET_CPUID2, model);
	free(model);
	return ret;
}

static int stop(struct cpu *cpu)
{
	cpu->stop = true;
	pthread_kill(cpu->thread, SIGUSR1);
	return pthread_join(cpu->thread, NULL);
}

static int start(struct cpu *cpu)
{
	int ret;

	cpu->stop = cpu->ready = false;
	ret = pthread_create(&cpu->thread, NULL, vcpu_thread, cpu);
	while (!ret && !cpu->ready)
		usleep(1000);
	return ret;
}

static int obey(const char *verb, unsigned long id, unsigned long number)
{
	struct cpu *cpu = &cpus[id % MAX_VCPUS];
	struct kvm_sregs sregs = { .efer = 0 };

	if (!strcmp(verb, "vm"))
		return ioctl(0, KVM_CREATE_VM, 0);
	if (!strcmp(verb, "preload"))
		return getenv("LD_PRELOAD") != NULL;
	if (!strcmp(verb, "set"))
		return set(cpu->fd, number);
	if (!strcmp(verb, "close"))
		return close(cpu->fd);
	if (!strcmp(verb, "exit"))
		return ioctl(cpu->fd, FAKE_EXIT, number);
	if (!strcmp(verb, "mp"))
		return ioctl(cpu->fd, FAKE_MP_STATE, number);
	if (!strcmp(verb, "sregs"))
		return ioctl(cpu->fd, KVM_SET_SREGS, &sregs);
	if (!strcmp(verb, "stop"))
		return stop(cpu);
	if (!strcmp(verb, "start"))
		return start(cpu);
	if (strcmp(verb, "create"))
		return -2;
	cpu->fd = ioctl(0, KVM_CREATE_VCPU, id);
	cpu->run = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, cpu->fd, 0);
	return cpu->fd;
}

int main(void)
{
	struct sigaction action = { .sa_handler = ipi };
	unsigned long id, number;
	char line[64], verb[16];

	sigaction(SIGUSR1, &action, NULL);
	while (fgets(line, sizeof(line), stdin)) {
		int ret;

		id = number = 0;
		if (!strcmp(line, "quit\n"))
			break;
		sscanf(line, "%15s %lu %lu", verb, &id, &number);
		errno = 0;
		ret = obey(verb, id, number);
		printf("%d %d\n", ret, ret < 0 ? errno : 0);
		fflush(stdout);
	}
	fflush(NULL);
	_exit(0);
}
