// SPDX-License-Identifier: GPL-2.0-or-later
/* Every MSR that KVM lists, or keeps and does not list. */
#include "state.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define MAX_MSRS 2048
#define AT_ONCE 255	/* KVM_GET_MSRS takes no more */

/* Not listed: MTRRs, PAT, ten machine-check banks (as QEMU's VMs have), EFER, the bases of FS and GS. */
static const struct { uint32_t first, count; } more[] = {
	{ 0x0fe, 1 }, { 0x200, 16 }, { 0x250, 1 }, { 0x258, 2 }, { 0x268, 8 }, { 0x277, 1 }, { 0x2ff, 1 }, { 0x400, 40 },
	{ 0xc0000080, 1 }, { 0xc0000100, 2 },
};
static uint32_t msrs[MAX_MSRS];
static unsigned int msr_count, listed, twice;

static void add(uint32_t msr)
{
	for (unsigned int i = 0; i < msr_count; i++)
		if (msrs[i] == msr) {
			twice++;
			return;
		}
	if (msr_count < MAX_MSRS)
		msrs[msr_count++] = msr;
}

static void add_list(unsigned long call)
{
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + MAX_MSRS * sizeof(list->indices[0]));

	if (!list)
		return;
	list->nmsrs = MAX_MSRS;
	if (kvm(system_fd, call, list)) {
		note("failed what=msr-list errno=%d", errno);
		list->nmsrs = 0;
	}
	listed += list->nmsrs;
	for (unsigned int i = 0; i < list->nmsrs; i++)
		add(list->indices[i]);
	free(list);
}

unsigned int msr_bytes(struct vcpu *vcpu, int extent)
{
	(void)vcpu, (void)extent;
	add_list(KVM_GET_MSR_INDEX_LIST);
	add_list(KVM_GET_MSR_FEATURE_INDEX_LIST);
	for (unsigned int i = 0; i < sizeof(more) / sizeof(*more); i++) {
		listed += more[i].count;
		for (unsigned int msr = 0; msr < more[i].count; msr++)
			add(more[i].first + msr);
	}
	return msr_count * 2 * sizeof(uint64_t);
}

/* KVM_GET_MSRS stops at one that cannot be read: note that, and go on behind it. */
int read_msrs(struct vcpu *vcpu, uint64_t *words, unsigned int bytes)
{
	struct { struct kvm_msrs head; struct kvm_msr_entry entries[AT_ONCE]; } some;
	unsigned int done = 0, all = bytes / sizeof(*words) / 2;

	while (done < all) {
		unsigned int count = all - done < AT_ONCE ? all - done : AT_ONCE;
		int told;

		memset(&some, 0, sizeof(some.head) + count * sizeof(some.entries[0]));
		some.head.nmsrs = count;
		for (unsigned int i = 0; i < count; i++)
			some.entries[i].index = msrs[done + i];
		told = kvm(vcpu->fd, KVM_GET_MSRS, &some);
		if (told < 0)
			return errno;
		for (int i = 0; i < told; i++)
			words[2 * done++] = some.entries[i].data;
		if ((unsigned int)told < count)
			words[2 * done++ + 1] = 1;
	}
	return 0;
}

void print_msr(FILE *out, unsigned int word)
{
	fprintf(out, "%x", msrs[word / 2]);
}

/* Each MSR of a list is read, or failed to be, or stood in an earlier list: the reader of the report adds up. */
void print_msr_counts(FILE *out, const uint64_t *words)
{
	unsigned int failed = 0;

	for (unsigned int i = 0; i < msr_count; i++)
		failed += words[2 * i + 1];
	fprintf(out, " %u %u %u %u\n", listed, twice, msr_count - failed, failed);
}
