// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The hook's socket (mode 0600). A client sends one request a line. The answer is lines, the last of them "ok ..." or
 * "err ERRNO TEXT". Numbers are decimal; the words of an entry are hexadecimal:
 *
 *   list                       vcpu ID fd=FD nent=COUNT has_run=0|1 runs=COUNT   one line a vCPU; nent: of QEMU's own set
 *                              ok vcpus=COUNT
 *   get VCPU                   e FUNCTION INDEX FLAGS EAX EBX ECX EDX            one line an entry
 *                              ok nent=COUNT own=COUNT   nent: as KVM_GET_CPUID2 left it; own: of the last accepted set
 *   set VCPU 2|1 NENT LINES    2 is KVM_SET_CPUID2, 1 is KVM_SET_CPUID. LINES lines "e WORD ..." follow, each an entry as
 *                              that call lays it out in memory. Entries up to NENT that are not sent are zero.
 *   badptr VCPU 2|1 [NENT]     the same call with a pointer that is not mapped. With NENT the pointer is mapped, the
 *                              header says NENT, and the entries behind the header are not mapped.
 *   state VCPU 1|2             1: the state before the last set of a client's that was watched, 2: after it
 *                              s PART AT VALUE   one line a word of 64 bits that is not 0, as in the report (state.h)
 *                              ok state=kept
 *   where VCPU                 ok rip=RIP cpl=CPL mp=STATE    RIP is hexadecimal; STATE is of KVM_GET_MP_STATE
 *   l2 VCPU                    give a vCPU that has not run the state of a vCPU that runs a guest of its own (SVM)
 *   sweep VCPU                 try every single change of the model: sweep.c has the answer
 *   live MILLISECONDS REQUEST  get, where, set or badptr, in the vCPU's own thread before its next KVM_RUN
 *   [live MILLISECONDS] many COUNT MILLISECONDS REQUEST   set or badptr, the same call many times: many.c has the answer
 *
 * set, badptr and l2 answer "ok ret=0 errno=0" or "ok ret=-1 errno=22": a refusal by KVM is data, "err" is the hook's own.
 * set, badptr, a row of them and sweep report before that what the calls did to the state of the vCPUs, all calls
 * together: state.h has the lines. Of a live request the vCPU itself is read alone.
 *
 *   err 2    there is no such vCPU
 *   err 16   the vCPU is inside KVM_RUN, and the request is not "live": KVM lets one thread at a time use a vCPU. Or
 *            the vCPU has run (l2), or another live request waits for the vCPU
 *   err 22   the request is not in the table below; the hook closes the connection
 *   err 61   state: no set on that vCPU was watched
 *   err 110  a live request was not done in time; it is never done later
 */
#include "cpuidhook.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio_ext.h>
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

#define MAX_CLIENTS 16
#define MAX_ENTRIES 1024	/* more than KVM takes, for E2BIG */
#define MAX_LIVE_MS 60000
#define MAX_CALLS 100000	/* in a row */
#define KICK_MS 20		/* how often a vCPU with a waiting request is kicked out of KVM_RUN */
#define KICK_SIGNAL SIGUSR1	/* QEMU's SIG_IPI: its handler sets immediate_exit */
#define UNMAPPED ((void *)16)
#define MEMORY_BYTES (sizeof(struct kvm_cpuid2) + MAX_ENTRIES * sizeof(struct kvm_cpuid_entry2))
#define MEMORY_ROOM 0x10000	/* whole pages; the page behind them cannot be read */

/* One request of a client, read from its lines. */
struct query {
	FILE *in, *out;
	uint32_t *memory;	/* of the client: struct kvm_cpuid2 or struct kvm_cpuid */
	struct vcpu *vcpu;
	unsigned int which;	/* 2: KVM_SET_CPUID2, 1: KVM_SET_CPUID */
	unsigned int nent, lines;
	int words;		/* how many words the request has behind its verb */
	bool live;
	long live_ms;
	unsigned int calls;	/* how many calls to make in a row; 0: one call, and the answer is that of one call */
	long calls_ms;
};

static atomic_int client_count;
static int listen_fd = -1;

/* ---- the vCPU's gate: no thread holds it while reading from a client or writing to one ---- */

static void kick(const struct vcpu *vcpu)
{
	if (vcpu->in_run && vcpu->tid)
		syscall(SYS_tgkill, getpid(), vcpu->tid, KICK_SIGNAL);
}

/* Hand the request to the vCPU's thread. When time is up take it back; the gate is held, so it is done or never done. */
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

/* Make the call, at once or in the vCPU's thread. Returns false where it was not made, and tells the client why. */
static bool submit(struct query *query, struct request *req)
{
	struct vcpu *vcpu = query->vcpu;
	bool busy;

	pthread_mutex_lock(&vcpu->gate);
	busy = query->live ? vcpu->pending != NULL : vcpu->in_run;
	if (!busy && query->live)
		wait_served(vcpu, req, query->live_ms);
	else if (!busy)
		perform(vcpu, req, false);
	pthread_mutex_unlock(&vcpu->gate);
	if (busy)
		fprintf(query->out, "err %d %s\n", EBUSY, query->live ? "another live request waits" : "vcpu is running");
	else if (!req->done)
		fprintf(query->out, "err %d vcpu did not come to KVM_RUN in time; withdrawn\n", ETIMEDOUT);
	return req->done;
}

/* ---- the verbs ---- */

static void list(struct query *query)
{
	for (int i = 0; i < vcpu_count; i++)
		fprintf(query->out, "vcpu %lu fd=%d nent=%u has_run=%d runs=%lu\n", vcpus[i].id, vcpus[i].fd,
			vcpus[i].nent_qemu, vcpus[i].has_run, vcpus[i].runs);
	fprintf(query->out, "ok vcpus=%d\n", vcpu_count);
}

void print_entries(FILE *out, const struct kvm_cpuid_entry2 *e, unsigned int count)
{
	for (; count--; e++)
		fprintf(out, "e %x %x %x %x %x %x %x\n", e->function, e->index, e->flags, e->eax, e->ebx, e->ecx, e->edx);
}

/* Before Linux 6.5 KVM_GET_CPUID2 leaves nent as the caller set it. The count of the last set is the true one then. */
unsigned int true_count(unsigned int reported, unsigned int own)
{
	unsigned int count = reported < GET_ENTRIES ? reported : own;

	return count < GET_ENTRIES ? count : GET_ENTRIES;
}

static void get(struct query *query)
{
	struct kvm_cpuid2 *model = (struct kvm_cpuid2 *)query->memory;
	struct request req = { .call = KVM_GET_CPUID2, .arg = model };

	model->nent = GET_ENTRIES;
	if (!submit(query, &req))
		return;
	if (req.ret) {
		fprintf(query->out, "err %d KVM_GET_CPUID2 failed\n", req.err);
		return;
	}
	print_entries(query->out, model->entries, true_count(model->nent, query->vcpu->nent_own));
	fprintf(query->out, "ok nent=%u own=%u\n", model->nent, query->vcpu->nent_own);
}

/* QEMU's own `info registers` makes QEMU write all registers back, which KVM may refuse after a change. */
static void where(struct query *query)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_mp_state mp;
	struct request get_mp = { .call = KVM_GET_MP_STATE, .arg = &mp };
	struct request get_sregs = { .call = KVM_GET_SREGS, .arg = &sregs, .then = &get_mp };
	struct request get_regs = { .call = KVM_GET_REGS, .arg = &regs, .then = &get_sregs };

	if (!submit(query, &get_regs))
		return;
	if (get_regs.ret || get_sregs.ret || get_mp.ret)
		fprintf(query->out, "err %d the registers cannot be read\n", EIO);
	else
		fprintf(query->out, "ok rip=%llx cpl=%u mp=%u\n", regs.rip, sregs.ss.dpl, mp.mp_state);
}

static void make_set(struct query *query, void *arg, long nent)
{
	unsigned int call = query->which == 2 ? KVM_SET_CPUID2 : KVM_SET_CPUID;
	struct row row = { .most = query->calls, .ms = query->calls_ms };
	struct request req = { .call = call, .arg = arg, .nent = nent };

	if (query->calls) {
		req.row = &row;
		row.ns = calloc(row.most, sizeof(*row.ns));
		if (!row.ns) {
			fprintf(query->out, "err %d no memory\n", ENOMEM);
			return;
		}
	}
	if (submit(query, &req)) {
		fputs(req.report ? req.report : "", query->out);
		if (req.row)
			print_row(query->out, &req);
		else
			fprintf(query->out, "ok ret=%d errno=%d\n", req.ret, req.err);
	}
	free(req.report);
	free(row.ns);
}

static void set(struct query *query)
{
	((struct kvm_cpuid2 *)query->memory)->nent = query->nent;
	make_set(query, query->memory, query->nent);
}

static void set_bad_pointer(struct query *query)
{
	struct kvm_cpuid2 *edge = (void *)((char *)query->memory + MEMORY_ROOM - sizeof(*edge));

	edge->nent = query->nent;
	make_set(query, query->words == 3 ? edge : UNMAPPED, -1);
}

static void load_nested(struct query *query)
{
	load_l2(query->out, query->vcpu);
}

static void sweep(struct query *query)
{
	sweep_vcpu(query->out, query->vcpu);
}

static void state(struct query *query)
{
	show_state(query->out, query->vcpu, query->which);
}

static const struct verb {
	const char *name;
	void (*answer)(struct query *query);
	const char *usage;	/* the words behind the verb; "[WORD]" may be left out */
	bool live, many;	/* whether the prefix may stand before the verb */
} verbs[] = {
	{ "list", list, "", false, false },
	{ "get", get, "VCPU", true, false },
	{ "where", where, "VCPU", true, false },
	{ "set", set, "VCPU 2|1 NENT LINES", true, true },
	{ "badptr", set_bad_pointer, "VCPU 2|1 [NENT]", true, true },
	{ "l2", load_nested, "VCPU", false, false },
	{ "sweep", sweep, "VCPU", false, false },
	{ "state", state, "VCPU 1|2", false, false },
};

/* ---- reading requests ---- */

/* Whether a request with so many words behind its verb fits that usage. */
static bool fits(const char *usage, int words)
{
	int least = 0, most = 0;

	for (const char *at = usage; *at; at += strspn(at, " ")) {
		least += *at != '[';
		most++;
		at += strcspn(at, " ");
	}
	return least <= words && words <= most;
}

static const struct verb *find_verb(const char *name, const struct query *query)
{
	for (const struct verb *verb = verbs; verb < verbs + sizeof(verbs) / sizeof(*verbs); verb++)
		if (!strcmp(verb->name, name) && fits(verb->usage, query->words) && (verb->live || !query->live) &&
		    (verb->many || !query->calls))
			return verb;
	return NULL;
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

/* Read the entries of a set into the client's memory, behind the header. Both headers have two words. */
static bool read_entries(struct query *query)
{
	size_t bytes = query->which == 2 ? sizeof(struct kvm_cpuid_entry2) : sizeof(struct kvm_cpuid_entry);
	unsigned int words = bytes / sizeof(*query->memory);

	for (unsigned int i = 0; i < query->lines; i++)
		if (!read_entry(query->in, query->memory + 2 + i * words, words))
			return false;
	return true;
}

static struct vcpu *vcpu_by_id(unsigned long id)
{
	for (int i = 0; i < vcpu_count; i++)
		if (vcpus[i].id == id)
			return &vcpus[i];
	return NULL;
}

/* Do what a request line asks for. Returns false where the line, or a line of an entry, is no request. */
static bool obey(struct query *query, const char *line)
{
	const struct verb *verb;
	unsigned long id = 0;
	char name[8] = "";
	int skip = 0;

	sscanf(line, "live %ld %n", &query->live_ms, &skip);
	query->live = skip;
	line += skip;
	skip = 0;
	if (sscanf(line, "many %u %ld %n", &query->calls, &query->calls_ms, &skip) > 0 && (!skip || !query->calls))
		return false;
	query->words = sscanf(line + skip, "%7s %lu %u %u %u", name, &id, &query->which, &query->nent, &query->lines) - 1;
	verb = find_verb(name, query);
	if (!verb || (query->which != 1 && query->which != 2) || query->nent > MAX_ENTRIES ||
	    query->lines > MAX_ENTRIES || query->live_ms < 0 || query->live_ms > MAX_LIVE_MS ||
	    query->calls > MAX_CALLS || query->calls_ms < 0 || query->calls_ms > MAX_LIVE_MS)
		return false;
	memset(query->memory, 0, MEMORY_BYTES);
	if (!read_entries(query))
		return false;
	query->vcpu = vcpu_by_id(id);
	if (query->words && !query->vcpu)
		fprintf(query->out, "err %d no such vcpu\n", ENOENT);
	else
		verb->answer(query);
	return true;
}

/* ---- the socket ---- */

static void converse(FILE *in, FILE *out, uint32_t *memory)
{
	char line[256];

	while (fgets(line, sizeof(line), in)) {
		struct query query = { .in = in, .out = out, .memory = memory, .which = 2 };

		if (!obey(&query, line)) {
			fprintf(out, "err %d bad request\n", EINVAL);
			return;
		}
		if (fflush(out))
			return;
	}
}

static void *talk(void *socket_fd)
{
	int fd = (int)(intptr_t)socket_fd;
	FILE *in = fdopen(fd, "r"), *out = fdopen(fcntl(fd, F_DUPFD_CLOEXEC, 0), "w");
	uint32_t *memory = mmap(NULL, MEMORY_ROOM + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool guarded = memory != MAP_FAILED && !mprotect((char *)memory + MEMORY_ROOM, 4096, PROT_NONE);

	/*
	 * exit() takes the lock of every stream (glibc 2.41 does, 2.36 did not). This thread holds the lock of `in` while
	 * it waits for a request, and QEMU could not end before the client speaks. No other thread uses `in`.
	 */
	if (in)
		__fsetlocking(in, FSETLOCKING_BYCALLER);
	if (in && out && guarded)
		converse(in, out, memory);
	if (memory != MAP_FAILED)
		munmap(memory, MEMORY_ROOM + 4096);
	if (out)
		fclose(out);
	if (in)
		fclose(in);
	client_count--;
	return NULL;
}

/* Each client has a thread: a client that was connected when the host was saved may never close its connection. */
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

static int listen_privately(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct statx old;	/* glibc had no lstat() as a symbol before 2.33 */

	if (snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >= (int)sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	if (!statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &old) && S_ISSOCK(old.stx_mode))
		unlink(path);
	/* Linux gives the file the mode that the socket has when it is bound. umask would be the whole process's. */
	if (fd < 0 || fchmod(fd, 0600) || bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 8))
		return -1;
	return fd;
}

/* Listen at that path, in a thread. Returns 0 or an errno. */
int serve_clients(const char *path)
{
	sigset_t all, before;
	pthread_t thread;
	int err;

	sigfillset(&all);	/* signals are for QEMU's threads: those of the hook take none */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	listen_fd = listen_privately(path);
	err = listen_fd < 0 ? errno : pthread_create(&thread, NULL, serve, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}
