// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A stand-in for KVM, preloaded after the hook: it answers the few ioctls that the hook wraps or makes.
 * FAKEKVM_FORBID=1: a changed model is EINVAL once the vCPU has run. FAKEKVM_ECHO=1: GET leaves nent alone (before 6.5).
 * FAKEKVM_PICKY=1: it keeps EDX 0, refuses EBX above 0xffff (with bit 31 by EPERM), and makes 7 of an odd ECX.
 * FAKEKVM_TORN=1: that refuses an ECX with bit 31 too, but puts 9 there. FAKEKVM_STICKY=1: the second model is the last.
 * FAKEKVM_FORGETS=7: a changed model is EINVAL once the vCPU has run, but for each seventh call. FAKEKVM_SLOW_US=20: each
 * set takes so many microseconds.
 * FAKEKVM_NO_SREGS=1: it takes no segments.
 * FAKEKVM_NO_L2=1: it takes no nested state; with one that it took, a changed model is EINVAL.
 * FAKEKVM_TOUCHES=dr7|xmm1|msr|lost|sibling: each set also clears DR7, the upper half of XMM1, or an MSR, makes the MSR
 * unreadable, or clears DR7 of all other vCPUs. FAKEKVM_LACKS=xcrs: KVM_GET_XCRS fails.
 * FAKEKVM_NO_XSAVE=1: it has no XCRs.
 * FAKEKVM_BUGGED=1: it tells no model and no segments any more (KVM_BUG_ON).
 * FAKE_MP_STATE sets the state that KVM_GET_MP_STATE tells, FAKE_EXIT the reason with which the next KVM_RUN returns.
 * Like the real one it lets one thread at a time use a vCPU; a guest that has nothing to do stays inside KVM_RUN. Unlike
 * it every KVM_RUN has its effect, with immediate_exit too, so that a test need not win a race.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/kvm.h>
#include "fakekvm.h"

#define MAX_FDS 64
#define FIRST_FD 32	/* above whatever else comes and goes, so that a closed one is used again */
#define MAX_NENT 256

static struct fake {
	pthread_mutex_t mutex;
	struct kvm_run *run;
	bool has_run, stuck, in_l2;
	unsigned long long efer, dr7, xmm1, sysenter_cs;
	bool lost;	/* the MSR cannot be read any more */
	unsigned int mp_state, next_exit, nent, calls;
	struct kvm_cpuid_entry2 entries[MAX_NENT];
} *fakes[MAX_FDS];

static int fail(int err)
{
	errno = err;
	return -1;
}

static int create(void)
{
	int low = memfd_create("fake-vcpu", MFD_CLOEXEC), fd = fcntl(low, F_DUPFD, FIRST_FD);

	close(low);
	if (fd < 0 || fd >= MAX_FDS || ftruncate(fd, 4096))
		return fail(ENOMEM);
	free(fakes[fd]);
	fakes[fd] = calloc(1, sizeof(*fakes[fd]));
	fakes[fd]->dr7 = 0x400;
	fakes[fd]->xmm1 = 0x1122334455667788;
	fakes[fd]->sysenter_cs = 0x10;
	fakes[fd]->run = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return fd;
}

static int run(struct fake *fake)
{
	if (fake->mp_state != KVM_MP_STATE_UNINITIALIZED)
		fake->has_run = true;
	if (fake->next_exit == FAKE_EXIT_BROKEN)
		return fail(EFAULT);
	if (fake->next_exit) {
		fake->run->exit_reason = fake->next_exit;
		fake->next_exit = 0;
		return 0;
	}
	while (!fake->run->immediate_exit)	/* HLT until the signal's handler asks to leave */
		usleep(2000);
	return fail(EINTR);
}

/* Do to the caller's entries what this KVM does to every model; returns what it refuses them with, or 0. */
static int meddle(struct fake *fake, struct kvm_cpuid_entry2 *entries, unsigned int nent)
{
	for (unsigned int i = 0; i < nent; i++) {
		struct kvm_cpuid_entry2 *e = &entries[i];

		if (e->ebx > 0xffff)
			return e->ebx >> 31 ? EPERM : EINVAL;
		if (e->ecx >> 31 && getenv("FAKEKVM_TORN")) {
			fake->entries[i].ecx = 9;
			return EINVAL;
		}
		e->edx = 0;
		e->ecx = e->ecx & 1 ? 7 : e->ecx;
	}
	return 0;
}

static int set(struct fake *fake, const struct kvm_cpuid_entry2 *asked, unsigned int nent)
{
	const char *forgets = getenv("FAKEKVM_FORGETS"), *slow = getenv("FAKEKVM_SLOW_US");
	struct kvm_cpuid_entry2 entries[MAX_NENT];
	bool changed;
	int err;

	if (slow)
		usleep(atoi(slow));

	memcpy(entries, asked, nent * sizeof(*asked));
	err = getenv("FAKEKVM_PICKY") ? meddle(fake, entries, nent) : 0;
	if (err)
		return fail(err);
	changed = nent != fake->nent || memcmp(entries, fake->entries, nent * sizeof(*entries));
	if (changed && ((fake->has_run && getenv("FAKEKVM_FORBID")) || fake->stuck || fake->in_l2))
		return fail(EINVAL);
	if (changed && fake->has_run && forgets && ++fake->calls % atoi(forgets))
		return fail(EINVAL);
	fake->stuck = changed && fake->nent && getenv("FAKEKVM_STICKY");
	memcpy(fake->entries, entries, nent * sizeof(*entries));
	fake->nent = nent;
	return 0;
}

static int set_old(struct fake *fake, const struct kvm_cpuid *old)
{
	struct kvm_cpuid_entry2 entries[MAX_NENT] = { 0 };

	for (unsigned int i = 0; i < old->nent; i++) {
		const struct kvm_cpuid_entry *e = &old->entries[i];

		entries[i].function = e->function;
		entries[i].eax = e->eax;
		entries[i].ebx = e->ebx;
		entries[i].ecx = e->ecx;
		entries[i].edx = e->edx;
	}
	return set(fake, entries, old->nent);
}

static int get(const struct fake *fake, struct kvm_cpuid2 *model)
{
	if (getenv("FAKEKVM_BUGGED"))
		return fail(EIO);
	if (model->nent < fake->nent)
		return fail(E2BIG);
	memcpy(model->entries, fake->entries, fake->nent * sizeof(fake->entries[0]));
	if (!getenv("FAKEKVM_ECHO"))
		model->nent = fake->nent;
	return 0;
}

/* The harm that each set does, whatever it answers. */
static void touch(struct fake *fake)
{
	const char *what = getenv("FAKEKVM_TOUCHES");

	if (!what)
		return;
	if (!strcmp(what, "dr7"))
		fake->dr7 = 0;
	else if (!strcmp(what, "xmm1"))
		fake->xmm1 = 0;
	else if (!strcmp(what, "msr"))
		fake->sysenter_cs = 0;
	else if (!strcmp(what, "lost"))
		fake->lost = true;
	else
		for (int fd = 0; fd < MAX_FDS; fd++)
			if (fakes[fd] && fakes[fd] != fake)
				fakes[fd]->dr7 = 0;
}

static int system_ioctl(unsigned int call, void *arg)
{
	static const unsigned int listed[] = { FAKE_TSC, FAKE_SYSENTER_CS }, features[] = { 0x10a, FAKE_SYSENTER_CS };
	struct kvm_msr_list *list = arg;

	switch (call) {
	case KVM_CHECK_EXTENSION:
		switch ((long)arg) {
		case KVM_CAP_MP_STATE:
		case KVM_CAP_VCPU_EVENTS:
		case KVM_CAP_XSAVE:
		case KVM_CAP_DEBUGREGS:
			return 1;
		case KVM_CAP_XCRS:
			return !getenv("FAKEKVM_NO_XSAVE");
		}
		return 0;
	case KVM_GET_MSR_INDEX_LIST:
	case KVM_GET_MSR_FEATURE_INDEX_LIST:
		list->nmsrs = 2;
		memcpy(list->indices, call == KVM_GET_MSR_INDEX_LIST ? listed : features, sizeof(listed));
		return 0;
	}
	return fail(ENOTTY);
}

/* Tell MSRs until one that this vCPU does not have. */
static int get_msrs(const struct fake *fake, struct kvm_msrs *msrs)
{
	static unsigned long long tsc;
	unsigned int told = 0;

	for (; told < msrs->nmsrs; told++)
		if (msrs->entries[told].index == FAKE_TSC)
			msrs->entries[told].data = ++tsc;
		else if (msrs->entries[told].index == FAKE_SYSENTER_CS && !fake->lost)
			msrs->entries[told].data = fake->sysenter_cs;
		else
			break;
	return told;
}

static int vcpu_ioctl(struct fake *fake, unsigned int call, void *arg)
{
	struct kvm_cpuid2 *model = arg;

	switch (call) {
	case KVM_RUN:
		return run(fake);
	case KVM_GET_MP_STATE:
		((struct kvm_mp_state *)arg)->mp_state = fake->mp_state;
		return 0;
	case KVM_GET_CPUID2:
		return get(fake, model);
	case KVM_GET_REGS:
		*(struct kvm_regs *)arg = (struct kvm_regs){ .rip = FAKE_RIP };
		return 0;
	case KVM_GET_SREGS:
		if (getenv("FAKEKVM_BUGGED"))
			return fail(EIO);
		*(struct kvm_sregs *)arg = (struct kvm_sregs){ .efer = fake->efer, .ss.dpl = 3 };
		return 0;
	case KVM_GET_VCPU_EVENTS:
	case KVM_GET_XSAVE:
	case KVM_GET_XCRS:
		if (getenv("FAKEKVM_BUGGED"))
			return fail(EIO);
		if (call == KVM_GET_XCRS && getenv("FAKEKVM_LACKS"))
			return fail(EINVAL);
		memset(arg, 0, _IOC_SIZE(call));
		if (call == KVM_GET_XSAVE)
			memcpy((char *)arg + FAKE_XMM1_HIGH, &fake->xmm1, sizeof(fake->xmm1));
		return 0;
	case KVM_GET_DEBUGREGS:
		*(struct kvm_debugregs *)arg = (struct kvm_debugregs){ .dr6 = 0xffff0ff0, .dr7 = fake->dr7 };
		return 0;
	case KVM_GET_MSRS:
		return get_msrs(fake, arg);
	case KVM_SET_SREGS:
		if (getenv("FAKEKVM_NO_SREGS"))
			return fail(EINVAL);
		fake->efer = ((struct kvm_sregs *)arg)->efer;
		return 0;
	case KVM_SET_NESTED_STATE:
		if (!fake->efer || getenv("FAKEKVM_NO_L2"))
			return fail(EINVAL);
		fake->in_l2 = true;
		return 0;
	case KVM_SET_CPUID:
	case KVM_SET_CPUID2:
		touch(fake);
		if ((unsigned long)arg < 4096)
			return fail(EFAULT);
		if (model->nent > MAX_NENT)
			return fail(E2BIG);
		if (model->nent && access((const char *)model->entries, F_OK) && errno == EFAULT)
			return fail(EFAULT);
		return call == KVM_SET_CPUID ? set_old(fake, arg) : set(fake, model->entries, model->nent);
	}
	return fail(ENOTTY);
}

int ioctl(int fd, unsigned long request, ...)
{
	struct fake *fake = fd >= 0 && fd < MAX_FDS ? fakes[fd] : NULL;
	int (*real)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
	unsigned int call = request;
	va_list args;
	void *arg;
	int ret;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (call == KVM_CREATE_VM)
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	if (call == KVM_CREATE_VCPU)
		return create();
	if (call == KVM_CHECK_EXTENSION || call == KVM_GET_MSR_INDEX_LIST || call == KVM_GET_MSR_FEATURE_INDEX_LIST)
		return system_ioctl(call, arg);
	if (!fake)
		return real(fd, request, arg);
	if (call == FAKE_MP_STATE || call == FAKE_EXIT) {
		*(call == FAKE_EXIT ? &fake->next_exit : &fake->mp_state) = (unsigned long)arg;
		return 0;
	}
	pthread_mutex_lock(&fake->mutex);
	ret = vcpu_ioctl(fake, call, arg);
	pthread_mutex_unlock(&fake->mutex);
	return ret;
}
