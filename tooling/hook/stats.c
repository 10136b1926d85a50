// SPDX-License-Identifier: GPL-2.0-or-later
/* The binary statistics of a vCPU (Linux 5.14 on): KVM gives a file for each vCPU, with the same head in all. */
#include "state.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define MAX_WORDS 1024
#define MAX_NAME 64

static struct kvm_stats_header head;
static char names[MAX_WORDS][MAX_NAME];

static int open_stats(struct vcpu *vcpu)
{
	if (vcpu->stats_fd < 0 && (vcpu->stats_fd = kvm(vcpu->fd, KVM_GET_STATS_FD, NULL)) >= 0)
		fcntl(vcpu->stats_fd, F_SETFD, FD_CLOEXEC);
	return vcpu->stats_fd;
}

/* Read the names. Returns 0 where the head is not as expected: the part is missing then, which its reader notices. */
unsigned int stats_bytes(struct vcpu *vcpu, int extent)
{
	struct { struct kvm_stats_desc desc; char name[MAX_NAME]; } one = { 0 };
	unsigned int end = 0;
	ssize_t stride;
	int fd = open_stats(vcpu);

	(void)extent;
	if (fd < 0 || pread(fd, &head, sizeof(head), 0) != sizeof(head) || head.name_size >= MAX_NAME)
		return 0;
	stride = sizeof(one.desc) + head.name_size;
	for (unsigned int i = 0; i < head.num_desc; i++) {
		if (pread(fd, &one, stride, head.desc_offset + i * stride) != stride)
			return 0;
		for (unsigned int i = 0; i < one.desc.size; i++) {
			unsigned int word = one.desc.offset / sizeof(uint64_t) + i;

			if (word >= MAX_WORDS)
				return 0;
			snprintf(names[word], MAX_NAME, one.desc.size > 1 ? "%.50s[%u]" : "%.50s", one.name, i);
			end = word >= end ? word + 1 : end;
		}
	}
	return end * sizeof(uint64_t);
}

int read_stats(struct vcpu *vcpu, uint64_t *words, unsigned int bytes)
{
	int fd = open_stats(vcpu);

	if (fd < 0)
		return errno;
	return pread(fd, words, bytes, head.data_offset) == bytes ? 0 : EIO;
}

void print_stat(FILE *out, unsigned int word)
{
	fputs(names[word], out);
}
