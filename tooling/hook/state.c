// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The whole state of a vCPU, as far as KVM lets userspace read it: a table of its parts.
 *
 * What a read does to a vCPU: KVM loads it, as for any other call. KVM_GET_MP_STATE and KVM_GET_VCPU_EVENTS take in a
 * pending INIT, SIPI, NMI or SMI, which KVM_RUN would do next. KVM_GET_CPUID2 is not here: since Linux 6.15
 * (93da6af3ae56) it updates the CPUID's runtime bits, and the answer to the next set depends on these.
 */
#include "state.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

struct part {
	const char *name;
	unsigned int call;
	int cap, unless;	/* KVM has the part if it has the capability `cap` and not `unless`; NONE: always */
	unsigned int (*bytes)(struct vcpu *vcpu, int extent);	/* how many; `extent` is KVM's answer for `cap` */
	int (*read)(struct vcpu *vcpu, uint64_t *words, unsigned int bytes);	/* returns 0 or an errno */
	void (*print_at)(FILE *out, unsigned int word);
};
#define NONE -1

static unsigned int extent_bytes(struct vcpu *vcpu, int extent)
{
	(void)vcpu;
	return extent;
}

static unsigned int one_word(struct vcpu *vcpu, int extent)
{
	(void)vcpu, (void)extent;
	return sizeof(uint64_t);
}

static int read_nested(struct vcpu *vcpu, uint64_t *words, unsigned int bytes)
{
	((struct kvm_nested_state *)words)->size = bytes;
	return kvm(vcpu->fd, KVM_GET_NESTED_STATE, words) < 0 ? errno : 0;
}

static int read_tsc_khz(struct vcpu *vcpu, uint64_t *words, unsigned int bytes)
{
	int khz = kvm(vcpu->fd, KVM_GET_TSC_KHZ, NULL);

	(void)bytes;
	words[0] = khz;
	return khz < 0 ? errno : 0;
}

/* Where the host's TSC is unstable KVM makes another offset at each load of the vCPU: 0 stands for all of them. */
static int read_tsc_offset(struct vcpu *vcpu, uint64_t *words, unsigned int bytes)
{
	struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET };
	uint64_t offsets[2];

	(void)bytes;
	for (int i = 0; i < 2; i++) {
		attr.addr = (uintptr_t)&offsets[i];
		if (kvm(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr) < 0)
			return errno;
	}
	words[0] = offsets[0] == offsets[1] ? offsets[0] : 0;
	return 0;
}

/* The first two take in what is pending, and it changes other parts. A size that is not told is that of the call. */
static const struct part parts[] = {
	{ "mp_state", KVM_GET_MP_STATE, KVM_CAP_MP_STATE, NONE, NULL, NULL, NULL },
	{ "events", KVM_GET_VCPU_EVENTS, KVM_CAP_VCPU_EVENTS, NONE, NULL, NULL, NULL },
	{ "regs", KVM_GET_REGS, NONE, NONE, NULL, NULL, NULL },
	{ "sregs", KVM_GET_SREGS, NONE, KVM_CAP_SREGS2, NULL, NULL, NULL },
	{ "sregs2", KVM_GET_SREGS2, KVM_CAP_SREGS2, NONE, NULL, NULL, NULL },
	{ "xcrs", KVM_GET_XCRS, KVM_CAP_XCRS, NONE, NULL, NULL, NULL },
	{ "xsave", KVM_GET_XSAVE, KVM_CAP_XSAVE, KVM_CAP_XSAVE2, NULL, NULL, NULL },
	{ "xsave", KVM_GET_XSAVE2, KVM_CAP_XSAVE2, NONE, extent_bytes, NULL, NULL },
	{ "debugregs", KVM_GET_DEBUGREGS, KVM_CAP_DEBUGREGS, NONE, NULL, NULL, NULL },
	{ "lapic", KVM_GET_LAPIC, KVM_CAP_IRQCHIP, NONE, NULL, NULL, NULL },
	{ "nested", KVM_GET_NESTED_STATE, KVM_CAP_NESTED_STATE, NONE, extent_bytes, read_nested, NULL },
	{ "tsc_khz", KVM_GET_TSC_KHZ, KVM_CAP_GET_TSC_KHZ, NONE, one_word, read_tsc_khz, NULL },
	{ "tsc_offset", KVM_GET_DEVICE_ATTR, KVM_CAP_VCPU_ATTRIBUTES, NONE, one_word, read_tsc_offset, NULL },
	{ "msr", KVM_GET_MSRS, NONE, NONE, msr_bytes, read_msrs, print_msr },
	{ "stat", KVM_GET_STATS_FD, KVM_CAP_BINARY_STATS_FD, NONE, stats_bytes, read_stats, print_stat },
};
#define PARTS (sizeof(parts) / sizeof(*parts))

struct state {
	int err[PARTS];		/* why a part could not be read */
	uint64_t words[];	/* of all parts, one behind the other */
};

static pthread_mutex_t prepare_lock = PTHREAD_MUTEX_INITIALIZER;
static bool prepared;
static struct { bool has, lacks; unsigned int first, bytes; } places[PARTS];	/* of each part in the words */
static unsigned int all_words;

static int extent_of(int cap)
{
	return cap == NONE ? 0 : kvm(system_fd, KVM_CHECK_EXTENSION, (void *)(intptr_t)cap);
}

/* Find out, by the first vCPU that is to be read, which parts this KVM has, and how large they are. */
void prepare_state(struct vcpu *vcpu)
{
	pthread_mutex_lock(&prepare_lock);
	for (unsigned int i = 0; i < PARTS && !prepared; i++) {
		const struct part *part = &parts[i];
		int extent = extent_of(part->cap);

		places[i].lacks = part->cap != NONE && extent <= 0;
		places[i].has = !places[i].lacks && extent_of(part->unless) <= 0;
		places[i].first = all_words;
		if (places[i].has)
			places[i].bytes = part->bytes ? part->bytes(vcpu, extent) : _IOC_SIZE(part->call);
		all_words += (places[i].bytes + 7) / 8;
	}
	prepared = true;
	pthread_mutex_unlock(&prepare_lock);
}

/* Read the state into `state`, or into a new one where that is NULL. Returns NULL where there is no memory. */
struct state *read_state(struct vcpu *vcpu, struct state *state)
{
	size_t bytes = sizeof(*state) + all_words * sizeof(state->words[0]);

	if (!state && !(state = malloc(bytes)))
		return NULL;
	memset(state, 0, bytes);
	for (unsigned int i = 0; i < PARTS; i++) {
		uint64_t *words = state->words + places[i].first;

		if (places[i].has && parts[i].read)
			state->err[i] = parts[i].read(vcpu, words, places[i].bytes);
		else if (places[i].has)
			state->err[i] = kvm(vcpu->fd, parts[i].call, words) < 0 ? errno : 0;
	}
	return state;
}

/* ---- printing: state.h describes the lines ---- */

static bool is_msr(const struct part *part)
{
	return part->call == KVM_GET_MSRS;
}

static void print_place(FILE *out, const struct part *part, unsigned int word)
{
	if (part->print_at)
		part->print_at(out, word);
	else
		fprintf(out, "%zu", word * sizeof(uint64_t));
}

/* An MSR that cannot be read is "-". */
static void print_value(FILE *out, const struct part *part, const uint64_t *word)
{
	if (is_msr(part) && word[1])
		fputs(" -", out);
	else
		fprintf(out, " %llx", (unsigned long long)*word);
}

static void print_read(FILE *out, const struct vcpu *vcpu, const struct state *state)
{
	const char *between = " ";

	fprintf(out, "w %lu", vcpu->id);
	for (unsigned int i = 0; i < PARTS; i++) {
		if (!(places[i].has || places[i].lacks) || state->err[i])
			continue;
		fprintf(out, "%s%s%s", between, places[i].lacks ? "-" : "", parts[i].name);
		between = "+";
	}
	for (unsigned int i = 0; i < PARTS; i++)
		if (is_msr(&parts[i]))
			print_msr_counts(out, state->words + places[i].first);
}

/* Say what was read of a vCPU, and in what the two states differ. */
void print_report(FILE *out, const struct vcpu *vcpu, const struct state *before, const struct state *after)
{
	print_read(out, vcpu, after);
	for (unsigned int i = 0; i < PARTS; i++) {
		const uint64_t *old = before->words + places[i].first, *new = after->words + places[i].first;
		unsigned int step = is_msr(&parts[i]) ? 2 : 1;

		if (before->err[i] || after->err[i]) {
			fprintf(out, "u %lu %s %d %d\n", vcpu->id, parts[i].name, before->err[i], after->err[i]);
			continue;
		}
		for (unsigned int at = 0; at < (places[i].bytes + 7) / 8; at += step) {
			if (!memcmp(old + at, new + at, step * sizeof(*old)))
				continue;
			fprintf(out, "d %lu %s ", vcpu->id, parts[i].name);
			print_place(out, &parts[i], at);
			print_value(out, &parts[i], old + at);
			print_value(out, &parts[i], new + at);
			fputc('\n', out);
		}
	}
}

/* Print each word that is not 0. */
void print_state(FILE *out, const struct state *state)
{
	for (unsigned int i = 0; i < PARTS; i++) {
		const uint64_t *words = state->words + places[i].first;

		for (unsigned int at = 0; at < (places[i].bytes + 7) / 8; at += is_msr(&parts[i]) ? 2 : 1) {
			if (!words[at] && !(is_msr(&parts[i]) && words[at + 1]))
				continue;
			fprintf(out, "s %s ", parts[i].name);
			print_place(out, &parts[i], at);
			print_value(out, &parts[i], words + at);
			fputc('\n', out);
		}
	}
}
