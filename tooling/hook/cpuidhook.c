// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * cpuidhook: a library that is preloaded (LD_PRELOAD) into an unmodified QEMU. It wraps ioctl(), logs what QEMU asks of
 * KVM about CPUID, and makes the same calls itself when a client asks for them (requests.c).
 *
 * Without CPUIDHOOK_SOCKET in the environment the hook does nothing. It opens its log and its socket at the first
 * KVM_CREATE_VM, because QEMU's -daemonize has forked by then. CPUIDHOOK_LOG names the log. Each line is one event, and
 * begins with the time of CLOCK_MONOTONIC:
 *
 *   12.345678901 create vcpu=0 fd=13
 *   12.345678901 set_cpuid2 by=qemu vcpu=0 nent=31 ret=0 errno=0   set_cpuid: the old call; by=hook: for a client;
 *                                                                  nent=-1: a call of badptr; times=500 at the end:
 *                                                                  so many calls in a row, all answered alike
 *   12.345678901 first_run vcpu=0                                  the vCPU is about to enter the guest, the first time
 *   12.345678901 shutdown vcpu=0                                   KVM_RUN returned with a triple fault; likewise
 *                                                                  fail_entry and internal_error
 *   12.345678901 run_failed vcpu=0 errno=14                        KVM_RUN failed; EINTR and EAGAIN are not logged
 *   12.345678901 sregs_refused vcpu=0 errno=22                     KVM did not take the registers that QEMU set
 *   12.345678901 failed what=mmap errno=12                         the hook itself could not do something
 *   12.345678901 l2 vcpu=0 errno=0                                 nested state was loaded, or was refused
 *   12.345678901 state what=d,1,msr,174,10,0                       what QEMU's set on a vCPU that has run did to its state:
 *                                                                  a line of the report (state.h), with commas
 *   12.345678901 sweep vcpu=0 nent=31 accepted=5 refused=4986 restored=5 errno=0   all calls of one sweep
 */
#include "cpuidhook.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define RUN_BYTES 4096		/* the head of struct kvm_run is the first page of the vCPU's file */

struct vcpu vcpus[MAX_VCPUS];
atomic_int vcpu_count;
int system_fd = -1;	/* QEMU's /dev/kvm */
static pthread_mutex_t create_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t started = PTHREAD_ONCE_INIT;
static const char *socket_path, *log_path;
static int log_fd = -1;

/* The C library's own ioctl(). */
int kvm(int fd, unsigned long request, void *arg)
{
	static int (*_Atomic real)(int, unsigned long, ...);

	if (!real)
		real = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
	return real(fd, request, arg);
}

/* Write one event into the log. */
void note(const char *format, ...)
{
	struct timespec now;
	char line[256];
	va_list args;
	int length;

	clock_gettime(CLOCK_MONOTONIC, &now);
	length = snprintf(line, sizeof(line), "%lld.%09ld ", (long long)now.tv_sec, now.tv_nsec);
	va_start(args, format);
	length += vsnprintf(line + length, sizeof(line) - length - 1, format, args);
	va_end(args);
	line[length++] = '\n';
	if (log_fd >= 0 && write(log_fd, line, length) < 0)
		return;		/* a full disk must not disturb QEMU; the reader of the log misses the event */
}

static struct vcpu *vcpu_by_fd(int fd)
{
	for (int i = 0; i < vcpu_count; i++)
		if (vcpus[i].fd == fd)
			return &vcpus[i];
	return NULL;
}

static bool is_set(unsigned int call)
{
	return call == KVM_SET_CPUID2 || call == KVM_SET_CPUID;
}

static void note_set(struct vcpu *vcpu, bool qemu, const struct request *req)
{
	char times[24] = "";

	if (req->times)
		snprintf(times, sizeof(times), " times=%u", req->times);
	if (!req->ret) {
		vcpu->nent_own = req->nent;
		if (qemu)
			vcpu->nent_qemu = req->nent;
	}
	note("%s by=%s vcpu=%lu nent=%ld ret=%d errno=%d%s", req->call == KVM_SET_CPUID2 ? "set_cpuid2" : "set_cpuid",
	     qemu ? "qemu" : "hook", vcpu->id, req->nent, req->ret, req->err, times);
}

/* Make a set, or a row of them, and report what that does to the state of the vCPU, and of the others unless `alone`. */
static void perform_set(struct vcpu *vcpu, struct request *req, bool alone)
{
	struct watch watch;

	begin_watch(&watch, vcpu, alone);
	if (req->row) {
		perform_row(vcpu, req);
	} else {
		req->ret = kvm(vcpu->fd, req->call, req->arg);
		req->err = req->ret < 0 ? errno : 0;
	}
	req->report = end_watch(&watch);
}

/* Make a client's calls. The caller holds the gate, and no thread is inside KVM_RUN with this vCPU. */
void perform(struct vcpu *vcpu, struct request *req, bool alone)
{
	for (; req; req = req->then) {
		if (is_set(req->call)) {
			perform_set(vcpu, req, alone);
			note_set(vcpu, false, req);
			if (req->row && req->row->last.times)
				note_set(vcpu, false, &req->row->last);
		} else {
			req->ret = kvm(vcpu->fd, req->call, req->arg);
			req->err = req->ret < 0 ? errno : 0;
		}
		req->done = true;
	}
}

static void vcpu_created(int fd, unsigned long id)
{
	struct vcpu *vcpu;

	pthread_mutex_lock(&create_lock);
	vcpu = vcpu_by_fd(fd);
	if (!vcpu && vcpu_count < MAX_VCPUS)
		vcpu = &vcpus[vcpu_count];
	if (vcpu) {
		pthread_mutex_lock(&vcpu->gate);
		if (vcpu->run)
			munmap(vcpu->run, RUN_BYTES);
		vcpu->run = NULL;
		vcpu->pending = NULL;
		if (vcpu->stats_fd >= 0)
			close(vcpu->stats_fd);
		vcpu->stats_fd = -1;
		vcpu->fd = fd;
		vcpu->id = id;
		vcpu->tid = vcpu->runs = vcpu->nent_qemu = vcpu->nent_own = vcpu->in_run = vcpu->has_run = 0;
		pthread_mutex_unlock(&vcpu->gate);
		if (vcpu == &vcpus[vcpu_count])
			vcpu_count++;
	}
	note(vcpu ? "create vcpu=%lu fd=%d" : "failed what=too-many-vcpus vcpu=%lu fd=%d", id, fd);
	pthread_mutex_unlock(&create_lock);
}

/* Whether KVM_RUN would enter the guest: it shall not return at once, and the vCPU does not wait for INIT or SIPI. */
static bool will_enter(struct vcpu *vcpu)
{
	struct kvm_mp_state mp = { KVM_MP_STATE_RUNNABLE };

	if (vcpu->run && vcpu->run->immediate_exit)
		return false;
	if (kvm(vcpu->fd, KVM_GET_MP_STATE, &mp) < 0)
		return true;
	return mp.mp_state != KVM_MP_STATE_UNINITIALIZED && mp.mp_state != KVM_MP_STATE_INIT_RECEIVED;
}

static void map_run(struct vcpu *vcpu)
{
	void *run = mmap(NULL, RUN_BYTES, PROT_READ, MAP_SHARED, vcpu->fd, 0);

	if (run == MAP_FAILED)
		note("failed what=mmap errno=%d", errno);
	else
		vcpu->run = run;
}

static void note_exit(const struct vcpu *vcpu, int ret, int err)
{
	unsigned int reason = ret < 0 || !vcpu->run ? KVM_EXIT_UNKNOWN : vcpu->run->exit_reason;

	if (ret < 0 && err != EINTR && err != EAGAIN)
		note("run_failed vcpu=%lu errno=%d", vcpu->id, err);
	else if (reason == KVM_EXIT_SHUTDOWN)
		note("shutdown vcpu=%lu", vcpu->id);
	else if (reason == KVM_EXIT_FAIL_ENTRY)
		note("fail_entry vcpu=%lu", vcpu->id);
	else if (reason == KVM_EXIT_INTERNAL_ERROR)
		note("internal_error vcpu=%lu", vcpu->id);
}

/* KVM_RUN, and before it what a client waits for. */
static int run_vcpu(struct vcpu *vcpu, unsigned long request, void *arg)
{
	int ret, err;

	pthread_mutex_lock(&vcpu->gate);
	vcpu->tid = syscall(SYS_gettid);	/* glibc has gettid() from 2.30 on */
	if (!vcpu->run)
		map_run(vcpu);
	if (vcpu->pending) {
		perform(vcpu, vcpu->pending, true);
		vcpu->pending = NULL;
		pthread_cond_signal(&vcpu->served);
	}
	if (!vcpu->has_run && will_enter(vcpu)) {
		vcpu->has_run = true;
		note("first_run vcpu=%lu", vcpu->id);
	}
	vcpu->runs++;
	vcpu->in_run = true;
	pthread_mutex_unlock(&vcpu->gate);
	ret = kvm(vcpu->fd, request, arg);
	err = errno;
	vcpu->in_run = false;
	note_exit(vcpu, ret, err);
	errno = err;
	return ret;
}

static void start(void)
{
	int err;

	/*
	 * The hook is not for the programs that QEMU starts: before glibc 2.34 it cannot be loaded into one that has no
	 * threads, such as the shell of an "exec:" migration.
	 */
	unsetenv("LD_PRELOAD");
	if (log_path && (log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) < 0)
		fprintf(stderr, "cpuidhook: cannot write %s: %m\n", log_path);
	err = serve_clients(socket_path);
	if (err) {
		errno = err;
		note("failed what=socket errno=%d", err);
		fprintf(stderr, "cpuidhook: cannot serve %s: %m\n", socket_path);
	}
}

__attribute__((constructor))
static void load(void)
{
	pthread_condattr_t monotonic;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	for (int i = 0; i < MAX_VCPUS; i++) {
		pthread_mutex_init(&vcpus[i].gate, NULL);
		pthread_cond_init(&vcpus[i].served, &monotonic);
		vcpus[i].stats_fd = -1;
	}
	log_path = getenv("CPUIDHOOK_LOG");
	socket_path = getenv("CPUIDHOOK_SOCKET");
	if (socket_path && !*socket_path)
		socket_path = NULL;
}

/* Take in what QEMU has asked of KVM, and what KVM has answered. */
static void watch_call(int fd, unsigned int call, void *arg, int ret, int err)
{
	struct request req = { .call = call, .ret = ret, .err = err };
	struct vcpu *vcpu;

	if (call == KVM_CREATE_VM && ret >= 0) {
		system_fd = fd;
		pthread_once(&started, start);
	} else if (call == KVM_CREATE_VCPU && ret >= 0) {
		vcpu_created(ret, (unsigned long)arg);
	} else if (is_set(call) && (vcpu = vcpu_by_fd(fd))) {
		req.nent = ((struct kvm_cpuid2 *)arg)->nent;	/* struct kvm_cpuid begins with the same field */
		note_set(vcpu, true, &req);
	} else if ((call == KVM_SET_SREGS || call == KVM_SET_SREGS2) && ret < 0 && (vcpu = vcpu_by_fd(fd))) {
		note("sregs_refused vcpu=%lu errno=%d", vcpu->id, err);
	}
}

/* QEMU sets the CPUID of a vCPU that has run: one that it unplugged and uses again. */
static int set_by_qemu(struct vcpu *vcpu, unsigned int call, void *arg)
{
	struct request req = { .call = call, .arg = arg };

	pthread_mutex_lock(&vcpu->gate);
	perform_set(vcpu, &req, true);
	pthread_mutex_unlock(&vcpu->gate);
	if (req.report)
		note_report(req.report);
	free(req.report);
	errno = req.err;
	return req.ret;
}

__attribute__((visibility("default")))
int ioctl(int fd, unsigned long request, ...)
{
	unsigned int call = request;	/* QEMU passes an int: numbers with the top bit arrive sign-extended */
	struct vcpu *vcpu;
	va_list args;
	void *arg;
	int ret, err;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (!socket_path)
		return kvm(fd, request, arg);
	if (call == KVM_RUN) {
		vcpu = vcpu_by_fd(fd);
		return vcpu ? run_vcpu(vcpu, request, arg) : kvm(fd, request, arg);
	}
	vcpu = is_set(call) ? vcpu_by_fd(fd) : NULL;
	ret = vcpu && vcpu->has_run ? set_by_qemu(vcpu, call, arg) : kvm(fd, request, arg);
	err = errno;
	watch_call(fd, call, arg, ret, ret < 0 ? err : 0);
	errno = err;
	return ret;
}
