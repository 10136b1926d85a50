// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The prefix "many COUNT MILLISECONDS" of a set or badptr: the same call many times in a row, each timed. The row ends
 * after COUNT calls, when the milliseconds are over, or with the first call that KVM answers otherwise than the first.
 *
 *   a RET ERRNO TIMES          KVM's answer, and how many calls in a row got it; a second such line tells of the last call
 *   ok median=NS tenth=NS ninetieth=NS max=NS   one call's nanoseconds by CLOCK_MONOTONIC: median, percentiles, longest
 *
 * The hook's log has one line for each "a" line: that of a single set, with times=TIMES behind it.
 */
#include "cpuidhook.h"
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ULL + time.tv_nsec;
}

/* Make the calls of a row. The caller holds the gate, and no thread is inside KVM_RUN. */
void perform_row(struct vcpu *vcpu, struct request *req)
{
	struct row *row = req->row;
	uint64_t end = now() + row->ms * 1000000ULL, begun;

	req->times = 0;
	while (row->calls < row->most && (!row->calls || now() < end)) {
		int ret, err;

		begun = now();
		ret = kvm(vcpu->fd, req->call, req->arg);
		err = ret < 0 ? errno : 0;
		row->ns[row->calls++] = now() - begun;
		if (row->calls == 1) {
			req->ret = ret;
			req->err = err;
		}
		if (ret != req->ret || err != req->err) {
			row->last = (struct request){ .call = req->call, .nent = req->nent, .ret = ret, .err = err, .times = 1 };
			break;
		}
		req->times++;
	}
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Tell a client of the row, whose times are sorted by that. */
void print_row(FILE *out, const struct request *req)
{
	struct row *row = req->row;
	unsigned int top = row->calls - 1;

	qsort(row->ns, row->calls, sizeof(*row->ns), by_size);
	fprintf(out, "a %d %d %u\n", req->ret, req->err, req->times);
	if (row->last.times)
		fprintf(out, "a %d %d %u\n", row->last.ret, row->last.err, row->last.times);
	fprintf(out, "ok median=%llu tenth=%llu ninetieth=%llu max=%llu\n", (unsigned long long)row->ns[top / 2],
		(unsigned long long)row->ns[top / 10], (unsigned long long)row->ns[(size_t)top * 9 / 10],
		(unsigned long long)row->ns[top]);
}
