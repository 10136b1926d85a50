// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The verb "sweep": what does KVM_SET_CPUID2 do when one thing in the model is different? The answer is the model as "e"
 * lines, what the sweep did to the state of the vCPUs (state.h), then these lines. ENTRY counts the "e" lines from 0.
 * WORD is a place in the "e" line, from FLAGS (2) to EDX (6).
 *
 *   m ENTRY WORD REFUSED APPLIED IGNORED OTHER   each bit of the word was flipped alone, and is set in one of four masks
 *   x ENTRY WORD BIT ERRNO                       an errno other than EINVAL, or a refusal that changed the model
 *   r ENTRY OUTCOME ERRNO                        the model without that entry; OUTCOME counts from 0 in the order above
 *   ok nent=COUNT accepted=COUNT refused=COUNT restored=COUNT ns=NANOSECONDS
 *                                                restored: how often the model was put back; ns: all flips together
 *
 * A trial is refused (KVM returns an errno, the model is as before), applied (KVM_GET_CPUID2 returns the changed model),
 * ignored (accepted, the model is as before) or other. After each trial that was not refused the old model is put back.
 * If KVM does not take the old model back, the sweep ends at once with err 5.
 */
#include "cpuidhook.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#define FIRST_WORD 2		/* of struct kvm_cpuid_entry2 as an array: flags, then the four registers */
#define LAST_WORD 6

enum outcome { REFUSED, APPLIED, IGNORED, OTHER, OUTCOMES };

/* struct kvm_cpuid2 with room for all entries; entries behind the last are zero. */
struct model {
	uint32_t nent, padding;
	struct kvm_cpuid_entry2 entries[GET_ENTRIES];
};

struct sweep {
	struct vcpu *vcpu;
	struct model before, asked, seen;
	unsigned int accepted, refused, restored;
	int err;	/* of the last trial's KVM_SET_CPUID2 */
	bool lost;	/* KVM did not take the model back, or did not let it be read */
};

static bool read_model(struct sweep *sweep, struct model *model)
{
	memset(model, 0, sizeof(*model));
	model->nent = GET_ENTRIES;
	return !kvm(sweep->vcpu->fd, KVM_GET_CPUID2, model);
}

static bool equal(const struct model *a, const struct model *b)
{
	return !memcmp(a->entries, b->entries, sizeof(a->entries));	/* nent is not compared: see true_count() */
}

/* Set the changed model, read what KVM made of it, and put the old model back. */
static enum outcome attempt(struct sweep *sweep)
{
	int fd = sweep->vcpu->fd;
	enum outcome outcome = OTHER;

	sweep->err = kvm(fd, KVM_SET_CPUID2, &sweep->asked) ? errno : 0;
	sweep->lost = !read_model(sweep, &sweep->seen);
	if (equal(&sweep->seen, &sweep->before))
		outcome = sweep->err ? REFUSED : IGNORED;
	else if (!sweep->err && equal(&sweep->seen, &sweep->asked))
		outcome = APPLIED;
	if (sweep->err)
		sweep->refused++;
	else
		sweep->accepted++;
	if (outcome == REFUSED)
		return outcome;
	sweep->restored++;
	if (kvm(fd, KVM_SET_CPUID2, &sweep->before) || !read_model(sweep, &sweep->seen) ||
	    !equal(&sweep->seen, &sweep->before))
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

/* Sweep a stopped vCPU. The rows stay in memory until the gate is released: the client may read slowly. */
void sweep_vcpu(FILE *out, struct vcpu *vcpu)
{
	struct sweep *sweep = calloc(1, sizeof(*sweep));
	char *rows = NULL;
	size_t length;
	FILE *lines = open_memstream(&rows, &length);
	char *report = NULL;
	struct watch watch;
	bool busy;

	if (!sweep || !lines) {
		fprintf(out, "err %d no memory\n", ENOMEM);
		goto out;
	}
	sweep->vcpu = vcpu;
	pthread_mutex_lock(&vcpu->gate);
	busy = vcpu->in_run;
	if (!busy) {
		begin_watch(&watch, vcpu, false);
		try_everything(sweep, lines);
		report = end_watch(&watch);
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
		fprintf(out, "%s%s", report ? report : "", rows);
	}
out:
	if (lines)
		fclose(lines);
	free(report);
	free(rows);
	free(sweep);
}
