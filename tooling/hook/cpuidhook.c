// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * cpuidhook: preloaded (LD_PRELOAD) into an unmodified QEMU, watches what it asks of KVM about CPUID and asks KVM more.
 *
 * It wraps ioctl(). It is idle unless CPUIDHOOK_SOCKET is set and does nothing before the first KVM_CREATE_VM, which is
 * after QEMU's -daemonize has forked. CPUIDHOOK_LOG names the log: one line an event, CLOCK_MONOTONIC time first:
 *
 *   12.345678901 create vcpu=0 fd=13
 *   12.345678901 set_cpuid2 by=qemu vcpu=0 nent=31 ret=0 errno=0       (set_cpuid for the old call, by=hook for ours;
 *                                                                      nent=-1: a call of badptr)
 *   12.345678901 first_run vcpu=0                                      (about to enter the guest for the first time)
 *   12.345678901 shutdown vcpu=0                                       (triple fault; also fail_entry and
 *                                                                      internal_error: what KVM_RUN returned with)
 *   12.345678901 run_failed vcpu=0 errno=14                            (EINTR and EAGAIN are normal, not logged)
 *   12.345678901 failed what=bind errno=98                             (the hook itself could not do something)
 *   12.345678901 l2 vcpu=0 errno=0                                     (nested state was loaded, or was not)
 *   12.345678901 sweep vcpu=0 nent=31 accepted=5 refused=4986 restored=5 errno=0   (all calls of one sweep)
 *
 * The socket (mode 0600) takes one request a line and answers with lines, the last of them "ok ..." or
 * "err ERRNO TEXT". Numbers are decimal; the words of an entry are hexadecimal:
 *
 *   list                          vcpu ID fd=FD nent=COUNT has_run=0|1 runs=COUNT    one line a vCPU; nent: QEMU's own
 *   get VCPU                      e FUNCTION INDEX FLAGS EAX EBX ECX EDX, one line an entry; ok nent=COUNT own=COUNT
 *   set VCPU 2|1 NENT LINES       2 is KVM_SET_CPUID2, 1 is KVM_SET_CPUID; followed by LINES lines "e WORD ...", each an
 *                                 entry as that call lays it out in memory; what is not sent up to NENT is zero
 *   badptr VCPU 2|1 [NENT]        the same call with a pointer that is not mapped; with NENT, with a header that can be
 *                                 read and says NENT, and entries behind it that cannot
 *   l2 VCPU                       give a vCPU that has not run the state of one that runs a guest of its own (SVM)
 *   live MILLISECONDS REQUEST     get, set or badptr in the vCPU's own thread before its next KVM_RUN
 *   sweep VCPU                    the e lines of the model, then what KVM_SET_CPUID2 does where one thing is different:
 *                                 m ENTRY WORD REFUSED APPLIED IGNORED OTHER: ENTRY counts from 0, WORD is its place in
 *                                   the e line, from FLAGS (2) to EDX (6); each bit of the word is set in one mask
 *                                 x ENTRY WORD BIT ERRNO: a refusal not by EINVAL, or one that changed the model
 *                                 r ENTRY MASK ERRNO: without that entry; MASK counts from 0 in the order above
 *                                 ok nent=COUNT accepted=COUNT refused=COUNT restored=COUNT ns=NANOSECONDS
 *                                   restored: how often the model was put back; ns: all the flips, not the removals
 *
 * A trial is refused (the model is as before), or accepted and then applied (KVM_GET_CPUID2 tells what was asked for) or
 * ignored (the model is as before); "other" is everything else. After each accepted call, and wherever the model is not
 * as before, it is put back; where KVM does not take it back the sweep ends at once with err 5.
 *
 * set, badptr and l2 answer "ok ret=0 errno=0" or "ok ret=-1 errno=22": KVM's refusal is data, "err" is the hook's own.
 * Without "live" the request assumes that the VM is stopped (KVM lets one thread at a time use a vCPU) and gets err 16
 * where the vCPU is inside KVM_RUN. A live request that is not done in time gets err 110 and is never done later.
 * l2 gets err 16 also where the vCPU has run.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <linux/kvm.h>

#define MAX_VCPUS 1024
#define MAX_CLIENTS 16
#define GET_ENTRIES 256		/* KVM_MAX_CPUID_ENTRIES: no vCPU has more */
#define MAX_ENTRIES 1024	/* more than KVM takes, for E2BIG */
#define MAX_LIVE_MS 60000
#define KICK_MS 20		/* how often a vCPU with a waiting request is kicked out of KVM_RUN */
#define KICK_SIGNAL SIGUSR1	/* QEMU's SIG_IPI: its handler sets immediate_exit */
#define UNMAPPED ((void *)16)
#define MEMORY_BYTES (sizeof(struct kvm_cpuid2) + MAX_ENTRIES * sizeof(struct kvm_cpuid_entry2))
#define MEMORY_ROOM 0x10000	/* whole pages, and behind them one that nobody can read */
#define FIRST_WORD 2		/* of struct kvm_cpuid_entry2 as an array: flags, then the four registers */
#define LAST_WORD 6
#define RUN_BYTES 4096		/* the head of struct kvm_run is the first page of the vCPU's file */

struct request {
	unsigned int call;
	void *arg;
	long nent;
	int ret, err;
	bool done;
};

/* A vCPU is known by its file: QEMU parks the file of an unplugged vCPU and uses it again for the same id. */
struct vcpu {
	pthread_mutex_t gate;	/* held while somebody but KVM_RUN uses the vCPU, and while a thread enters KVM_RUN */
	pthread_cond_t served;
	struct request *pending;	/* under gate */
	struct kvm_run *run;		/* under gate; mapped before the first KVM_RUN */
	pid_t tid;			/* under gate; the thread that called KVM_RUN last */
	atomic_int fd;
	atomic_ulong id, runs;
	atomic_uint nent_qemu, nent_own;	/* of the last accepted set: QEMU's, anybody's */
	atomic_bool in_run, has_run;
};

static struct vcpu vcpus[MAX_VCPUS];
static atomic_int vcpu_count, client_count;
static pthread_mutex_t create_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t started = PTHREAD_ONCE_INIT;
static const char *socket_path, *log_path;
static int log_fd = -1, listen_fd = -1;

static int kvm(int fd, unsigned long request, void *arg)
{
	static int (*_Atomic real)(int, unsigned long, ...);

	if (!real)
		real = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
	return real(fd, request, arg);
}

__attribute__((format(printf, 1, 2)))
static void note(const char *format, ...)
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
		return;		/* a full disk must not disturb QEMU; the reader misses the event and says so */
}

static struct vcpu *vcpu_by_fd(int fd)
{
	for (int i = 0; i < vcpu_count; i++)
		if (vcpus[i].fd == fd)
			return &vcpus[i];
	return NULL;
}

static struct vcpu *vcpu_by_id(unsigned long id)
{
	for (int i = 0; i < vcpu_count; i++)
		if (vcpus[i].id == id)
			return &vcpus[i];
	return NULL;
}

static bool is_set(unsigned int call)
{
	return call == KVM_SET_CPUID2 || call == KVM_SET_CPUID;
}

static void note_set(struct vcpu *vcpu, bool qemu, const struct request *req)
{
	if (!req->ret) {
		vcpu->nent_own = req->nent;
		if (qemu)
			vcpu->nent_qemu = req->nent;
	}
	note("%s by=%s vcpu=%lu nent=%ld ret=%d errno=%d", req->call == KVM_SET_CPUID2 ? "set_cpuid2" : "set_cpuid",
	     qemu ? "qemu" : "hook", vcpu->id, req->nent, req->ret, req->err);
}

/* Do a request of a client; the caller holds the gate and no KVM_RUN is in progress. */
static void perform(struct vcpu *vcpu, struct request *req)
{
	req->ret = kvm(vcpu->fd, req->call, req->arg);
	req->err = req->ret < 0 ? errno : 0;
	req->done = true;
	if (is_set(req->call))
		note_set(vcpu, false, req);
}

/* ---- QEMU's side ---- */

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

/* Whether KVM_RUN would enter the guest now: not to leave at once, and not an AP that still waits for its SIPI. */
static bool will_enter(struct vcpu *vcpu)
{
	struct kvm_mp_state mp = { KVM_MP_STATE_RUNNABLE };

	if (vcpu->run && vcpu->run->immediate_exit)
		return false;
	if (kvm(vcpu->fd, KVM_GET_MP_STATE, &mp) < 0)
		return true;
	return mp.mp_state != KVM_MP_STATE_UNINITIALIZED && mp.mp_state != KVM_MP_STATE_INIT_RECEIVED;
}

static void note_exit(const struct vcpu *vcpu, int ret, int err)
{
	unsigned int reason = ret < 0 || !vcpu->run ? KVM_EXIT_UNKNOWN : vcpu->run->exit_reason;

	if (ret < 0 && err != EINTR && err != EAGAIN)
		note("run_failed vcpu=%lu errno=%d", vcpu->id, err);
	if (reason == KVM_EXIT_SHUTDOWN || reason == KVM_EXIT_FAIL_ENTRY || reason == KVM_EXIT_INTERNAL_ERROR)
		note("%s vcpu=%lu", reason == KVM_EXIT_SHUTDOWN ? "shutdown" :
		     reason == KVM_EXIT_FAIL_ENTRY ? "fail_entry" : "internal_error", vcpu->id);
}

static int run_vcpu(struct vcpu *vcpu, unsigned long request, void *arg)
{
	int ret, err;

	pthread_mutex_lock(&vcpu->gate);
	vcpu->tid = gettid();
	if (!vcpu->run) {
		vcpu->run = mmap(NULL, RUN_BYTES, PROT_READ, MAP_SHARED, vcpu->fd, 0);
		if (vcpu->run == MAP_FAILED) {
			note("failed what=mmap errno=%d", errno);
			vcpu->run = NULL;
		}
	}
	if (vcpu->pending) {
		perform(vcpu, vcpu->pending);
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

static void *serve(void *unused);

static int listen_privately(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct stat old;

	if (snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path) >= (int)sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	if (!lstat(socket_path, &old) && S_ISSOCK(old.st_mode))
		unlink(socket_path);
	/* Linux gives the file the mode that the socket has when it is bound; umask would be the whole process's */
	if (fd < 0 || fchmod(fd, 0600) || bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 8))
		return -1;
	return fd;
}

static void start(void)
{
	sigset_t all, before;
	pthread_t thread;
	int err;

	if (log_path && (log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) < 0)
		fprintf(stderr, "cpuidhook: cannot write %s: %m\n", log_path);
	sigfillset(&all);	/* signals are QEMU's business: the server and its clients' threads take none */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	listen_fd = listen_privately();
	err = listen_fd < 0 ? errno : pthread_create(&thread, NULL, serve, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err) {
		note("failed what=socket errno=%d", err);
		fprintf(stderr, "cpuidhook: cannot serve %s: %s\n", socket_path, strerror(err));
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
	}
	log_path = getenv("CPUIDHOOK_LOG");
	socket_path = getenv("CPUIDHOOK_SOCKET");
	if (socket_path && !*socket_path)
		socket_path = NULL;
}

__attribute__((visibility("default")))
int ioctl(int fd, unsigned long request, ...)
{
	unsigned int call = request;	/* QEMU passes an int: numbers with the top bit arrive sign-extended */
	struct request req = { .call = call };
	struct vcpu *vcpu;
	va_list args;
	void *arg;
	int ret;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (!socket_path)
		return kvm(fd, request, arg);
	if (call == KVM_RUN) {
		vcpu = vcpu_by_fd(fd);
		return vcpu ? run_vcpu(vcpu, request, arg) : kvm(fd, request, arg);
	}
	ret = kvm(fd, request, arg);
	req.ret = ret;
	req.err = ret < 0 ? errno : 0;
	if (call == KVM_CREATE_VM && ret >= 0) {
		pthread_once(&started, start);
	} else if (call == KVM_CREATE_VCPU && ret >= 0) {
		vcpu_created(ret, (unsigned long)arg);
	} else if (is_set(call) && (vcpu = vcpu_by_fd(fd))) {
		req.nent = ((struct kvm_cpuid2 *)arg)->nent;	/* both structures begin with it */
		note_set(vcpu, true, &req);
	}
	if (ret < 0)
		errno = req.err;
	return ret;
}

/* ---- the client's side: nothing here holds a gate while it reads from or writes to a client ---- */

static void kick(const struct vcpu *vcpu)
{
	if (vcpu->in_run && vcpu->tid)
		syscall(SYS_tgkill, getpid(), vcpu->tid, KICK_SIGNAL);
}

/* Hand the request to the vCPU's thread; when time is up take it back for certain: the gate is held on both sides. */
static void wait_served(struct vcpu *vcpu, struct request *req, long live_ms)
{
	struct timespec tick;

	vcpu->pending = req;
	for (; !req->done && live_ms > 0; live_ms -= KICK_MS) {
		kick(vcpu);
		clock_gettime(CLOCK_MONOTONIC, &tick);
		tick.tv_nsec += KICK_MS * 1000000L;
		tick.tv_sec += tick.tv_nsec / 1000000000;
		tick.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&vcpu->served, &vcpu->gate, &tick);
	}
	if (vcpu->pending == req)
		vcpu->pending = NULL;
}

/* Do the request, at once where live_ms is negative. Returns whether it was done; if not, the client has been told. */
static bool submit(FILE *out, struct vcpu *vcpu, struct request *req, long live_ms)
{
	bool busy;

	pthread_mutex_lock(&vcpu->gate);
	busy = live_ms < 0 ? vcpu->in_run : vcpu->pending != NULL;
	if (!busy && live_ms < 0)
		perform(vcpu, req);
	else if (!busy)
		wait_served(vcpu, req, live_ms);
	pthread_mutex_unlock(&vcpu->gate);
	if (busy)
		fprintf(out, "err %d %s\n", EBUSY, live_ms < 0 ? "vcpu is running" : "another live request waits");
	else if (!req->done)
		fprintf(out, "err %d vcpu did not come to KVM_RUN in time; withdrawn\n", ETIMEDOUT);
	return req->done;
}

static void list(FILE *out)
{
	for (int i = 0; i < vcpu_count; i++)
		fprintf(out, "vcpu %lu fd=%d nent=%u has_run=%d runs=%lu\n", vcpus[i].id, vcpus[i].fd,
			vcpus[i].nent_qemu, vcpus[i].has_run, vcpus[i].runs);
	fprintf(out, "ok vcpus=%d\n", vcpu_count);
}

static void print_entries(FILE *out, const struct kvm_cpuid_entry2 *e, unsigned int count)
{
	for (; count--; e++)
		fprintf(out, "e %x %x %x %x %x %x %x\n", e->function, e->index, e->flags, e->eax, e->ebx, e->ecx, e->edx);
}

/* Before Linux 6.5 the caller's own count comes back: then the count of the last set is the true one. */
static unsigned int true_count(unsigned int told, unsigned int own)
{
	unsigned int count = told < GET_ENTRIES ? told : own;

	return count < GET_ENTRIES ? count : GET_ENTRIES;
}

static void print_model(FILE *out, const struct kvm_cpuid2 *model, unsigned int own)
{
	print_entries(out, model->entries, true_count(model->nent, own));
	fprintf(out, "ok nent=%u own=%u\n", model->nent, own);
}

/* ---- nested state: a vCPU in the midst of its own guest, as if it had been migrated; APM volume 2, appendix B ---- */

#define EFER_SVME (1u << 12)
#define CR0_PE_PG 0x80000001u
#define VMCB12 0x1000		/* a guest-physical page, never looked at before the vCPU runs */
#define INTERCEPTS_4 0x010	/* offsets in the VMCB: control area, ... */
#define INTERCEPT_VMRUN 1u
#define ASID 0x058
#define SAVE 0x400		/* ... and state save area: here the state to go back to, which must be one with paging */
#define SAVE_EFER (SAVE + 0x0d0)
#define SAVE_CR0 (SAVE + 0x158)

static int enter_l2(int fd)
{
	static const size_t size = sizeof(struct kvm_nested_state) + KVM_STATE_NESTED_SVM_VMCB_SIZE;
	struct kvm_nested_state *state = calloc(1, size);
	struct kvm_sregs sregs;
	int ret;

	if (!state)
		return -1;
	state->format = KVM_STATE_NESTED_FORMAT_SVM;
	state->flags = KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_GIF_SET;
	state->size = size;
	state->hdr.svm.vmcb_pa = VMCB12;
	*(uint32_t *)(state->data.svm->vmcb12 + INTERCEPTS_4) = INTERCEPT_VMRUN;
	*(uint32_t *)(state->data.svm->vmcb12 + ASID) = 1;
	*(uint32_t *)(state->data.svm->vmcb12 + SAVE_EFER) = EFER_SVME;
	*(uint32_t *)(state->data.svm->vmcb12 + SAVE_CR0) = CR0_PE_PG;
	ret = kvm(fd, KVM_GET_SREGS, &sregs);
	sregs.efer |= EFER_SVME;
	ret = ret ? ret : kvm(fd, KVM_SET_SREGS, &sregs);
	ret = ret ? ret : kvm(fd, KVM_SET_NESTED_STATE, state);
	free(state);
	return ret;
}

static void load_l2(FILE *out, struct vcpu *vcpu)
{
	bool busy;
	int err = 0;

	pthread_mutex_lock(&vcpu->gate);
	busy = vcpu->in_run || vcpu->has_run;
	if (!busy) {
		err = enter_l2(vcpu->fd) ? errno : 0;
		note("l2 vcpu=%lu errno=%d", vcpu->id, err);
	}
	pthread_mutex_unlock(&vcpu->gate);
	if (busy)
		fprintf(out, "err %d vcpu has run\n", EBUSY);
	else
		fprintf(out, "ok ret=%d errno=%d\n", err ? -1 : 0, err);
}

/* ---- the sweep: what would KVM_SET_CPUID2 do, one difference at a time? ---- */

enum outcome { REFUSED, APPLIED, IGNORED, OTHER, OUTCOMES };

struct model {		/* struct kvm_cpuid2 with room; unused entries are zero */
	uint32_t nent, padding;
	struct kvm_cpuid_entry2 entries[GET_ENTRIES];
};

struct sweep {
	struct vcpu *vcpu;
	struct model before, asked, seen;
	unsigned int accepted, refused, restored;
	int err;	/* of the last trial */
	bool lost;	/* the model could not be put back, or read */
};

static bool read_model(struct sweep *sweep, struct model *model)
{
	memset(model, 0, sizeof(*model));
	model->nent = GET_ENTRIES;
	return !kvm(sweep->vcpu->fd, KVM_GET_CPUID2, model);
}

static bool same(const struct model *a, const struct model *b)
{
	return !memcmp(a->entries, b->entries, sizeof(a->entries));	/* before Linux 6.5 nent tells nothing */
}

/* Set what is asked, see what became of the model, and put it back. */
static enum outcome attempt(struct sweep *sweep)
{
	int fd = sweep->vcpu->fd;
	enum outcome outcome = OTHER;

	sweep->err = kvm(fd, KVM_SET_CPUID2, &sweep->asked) ? errno : 0;
	sweep->lost = !read_model(sweep, &sweep->seen);
	if (same(&sweep->seen, &sweep->before))
		outcome = sweep->err ? REFUSED : IGNORED;
	else if (!sweep->err && same(&sweep->seen, &sweep->asked))
		outcome = APPLIED;
	if (sweep->err)
		sweep->refused++;
	else
		sweep->accepted++;
	if (outcome == REFUSED)
		return outcome;
	sweep->restored++;
	if (kvm(fd, KVM_SET_CPUID2, &sweep->before) || !read_model(sweep, &sweep->seen) ||
	    !same(&sweep->seen, &sweep->before))
		sweep->lost = true;
	return outcome;
}

static void flip_word(struct sweep *sweep, FILE *out, unsigned int entry, unsigned int word)
{
	uint32_t *at = (uint32_t *)&sweep->asked.entries[entry] + word, masks[OUTCOMES] = { 0 };

	for (unsigned int bit = 0; bit < 32 && !sweep->lost; bit++) {
		enum outcome outcome;

		*at ^= 1u << bit;
		outcome = attempt(sweep);
		*at ^= 1u << bit;
		masks[outcome] |= 1u << bit;
		if (sweep->err && (sweep->err != EINVAL || outcome == OTHER))
			fprintf(out, "x %u %u %u %d\n", entry, word, bit, sweep->err);
	}
	fprintf(out, "m %u %u %x %x %x %x\n", entry, word, masks[REFUSED], masks[APPLIED], masks[IGNORED], masks[OTHER]);
}

static void drop_entry(struct sweep *sweep, FILE *out, unsigned int entry)
{
	struct kvm_cpuid_entry2 *at = &sweep->asked.entries[entry];
	enum outcome outcome;

	sweep->asked = sweep->before;
	sweep->asked.nent--;
	memmove(at, at + 1, (sweep->asked.nent - entry) * sizeof(*at));
	memset(&sweep->asked.entries[sweep->asked.nent], 0, sizeof(*at));
	outcome = attempt(sweep);
	fprintf(out, "r %u %d %d\n", entry, outcome, sweep->err);
}

static void try_everything(struct sweep *sweep, FILE *out)
{
	struct timespec began, ended;
	unsigned int nent;

	if (!read_model(sweep, &sweep->before)) {
		sweep->lost = true;
		return;
	}
	nent = sweep->before.nent = true_count(sweep->before.nent, sweep->vcpu->nent_own);
	sweep->asked = sweep->before;
	clock_gettime(CLOCK_MONOTONIC, &began);
	for (unsigned int entry = 0; entry < nent; entry++)
		for (unsigned int word = FIRST_WORD; word <= LAST_WORD && !sweep->lost; word++)
			flip_word(sweep, out, entry, word);
	clock_gettime(CLOCK_MONOTONIC, &ended);
	for (unsigned int entry = 0; entry < nent && !sweep->lost; entry++)
		drop_entry(sweep, out, entry);
	fprintf(out, "ok nent=%u accepted=%u refused=%u restored=%u ns=%lld\n", nent, sweep->accepted, sweep->refused,
		sweep->restored, (ended.tv_sec - began.tv_sec) * 1000000000LL + ended.tv_nsec - began.tv_nsec);
}

/* The answer is kept in memory until the gate is open again. */
static void sweep_vcpu(FILE *out, struct vcpu *vcpu)
{
	struct sweep *sweep = calloc(1, sizeof(*sweep));
	char *told = NULL;
	size_t length;
	FILE *lines = open_memstream(&told, &length);
	bool busy;

	if (!sweep || !lines) {
		fprintf(out, "err %d no memory\n", ENOMEM);
		goto out;
	}
	sweep->vcpu = vcpu;
	pthread_mutex_lock(&vcpu->gate);
	busy = vcpu->in_run;
	if (!busy) {
		try_everything(sweep, lines);
		note("sweep vcpu=%lu nent=%u accepted=%u refused=%u restored=%u errno=%d", vcpu->id, sweep->before.nent,
		     sweep->accepted, sweep->refused, sweep->restored, sweep->lost ? EIO : 0);
	}
	pthread_mutex_unlock(&vcpu->gate);
	fflush(lines);
	if (busy) {
		fprintf(out, "err %d vcpu is running\n", EBUSY);
	} else if (sweep->lost) {
		fprintf(out, "err %d the model could not be put back or read\n", EIO);
	} else {
		print_entries(out, sweep->before.entries, sweep->before.nent);
		fputs(told, out);
	}
out:
	if (lines)
		fclose(lines);
	free(told);
	free(sweep);
}

static bool read_entry(FILE *in, uint32_t *words, int count)
{
	char line[256], *at = line + 1, *end;

	if (!fgets(line, sizeof(line), in) || line[0] != 'e')
		return false;
	for (int i = 0; i < count; i++, at = end) {
		words[i] = strtoul(at, &end, 16);
		if (end == at)
			return false;
	}
	return *at == '\n';
}

/* Read and answer one request; false where the connection cannot go on. Each client has its own memory. */
static bool obey(FILE *in, FILE *out, uint32_t *memory)
{
	unsigned int which = 2, nent = 0, lines = 0;
	struct request req = { .arg = memory };
	char line[256], verb[8] = "";
	int words, given, skip = 0;
	struct vcpu *vcpu;
	unsigned long id = 0;
	long live_ms = -1;

	if (!fgets(line, sizeof(line), in))
		return false;
	sscanf(line, "live %ld %n", &live_ms, &skip);
	given = sscanf(line + skip, "%7s %lu %u %u %u", verb, &id, &which, &nent, &lines);
	if (given == 1 && !skip && !strcmp(verb, "list")) {
		list(out);
		return true;
	}
	if (!(given == 2 && !strcmp(verb, "get")) && !((given == 3 || given == 4) && !strcmp(verb, "badptr")) &&
	    !(given == 2 && !skip && (!strcmp(verb, "sweep") || !strcmp(verb, "l2"))) && !(given == 5 && !strcmp(verb, "set")))
		goto bad;
	if ((which != 1 && which != 2) || nent > MAX_ENTRIES || lines > MAX_ENTRIES || live_ms > MAX_LIVE_MS ||
	    (skip && live_ms < 0))
		goto bad;
	memset(memory, 0, MEMORY_BYTES);
	memory[0] = req.nent = nent;
	req.call = which == 2 ? KVM_SET_CPUID2 : KVM_SET_CPUID;
	words = (which == 2 ? sizeof(struct kvm_cpuid_entry2) : sizeof(struct kvm_cpuid_entry)) / sizeof(*memory);
	for (unsigned int i = 0; i < lines; i++)
		if (!read_entry(in, memory + 2 + i * words, words))
			goto bad;
	if (verb[0] == 'g') {
		req.call = KVM_GET_CPUID2;
		memory[0] = GET_ENTRIES;
	} else if (verb[0] == 'b') {
		req.arg = given == 3 ? UNMAPPED : (char *)memory + MEMORY_ROOM - sizeof(struct kvm_cpuid2);
		if (given == 4)
			((struct kvm_cpuid2 *)req.arg)->nent = nent;
		req.nent = -1;
	}
	vcpu = vcpu_by_id(id);
	if (!vcpu)
		fprintf(out, "err %d no such vcpu\n", ENOENT);
	else if (!strcmp(verb, "sweep"))
		sweep_vcpu(out, vcpu);
	else if (!strcmp(verb, "l2"))
		load_l2(out, vcpu);
	else if (!submit(out, vcpu, &req, live_ms))
		return true;
	else if (req.call != KVM_GET_CPUID2)
		fprintf(out, "ok ret=%d errno=%d\n", req.ret, req.err);
	else if (req.ret)
		fprintf(out, "err %d KVM_GET_CPUID2 failed\n", req.err);
	else
		print_model(out, (struct kvm_cpuid2 *)memory, vcpu->nent_own);
	return true;
bad:
	fprintf(out, "err %d bad request\n", EINVAL);
	return false;
}

static void *talk(void *socket_fd)
{
	int fd = (int)(intptr_t)socket_fd;
	FILE *in = fdopen(fd, "r"), *out = fdopen(fcntl(fd, F_DUPFD_CLOEXEC, 0), "w");
	uint32_t *memory = mmap(NULL, MEMORY_ROOM + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool guarded = memory != MAP_FAILED && !mprotect((char *)memory + MEMORY_ROOM, 4096, PROT_NONE);

	while (in && out && guarded && obey(in, out, memory) && !fflush(out))
		;
	if (memory != MAP_FAILED)
		munmap(memory, MEMORY_ROOM + 4096);
	if (out)
		fclose(out);
	if (in)
		fclose(in);
	client_count--;
	return NULL;
}

/* A client that was connected when the machine was frozen may never say good-bye: each gets its own thread. */
static void *serve(void *unused)
{
	for (;;) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
		pthread_t thread;

		if (++client_count <= MAX_CLIENTS && fd >= 0 && !pthread_create(&thread, NULL, talk, (void *)(intptr_t)fd)) {
			pthread_detach(thread);
			continue;
		}
		client_count--;
		close(fd);
		usleep(10000);
	}
	return unused;
}
