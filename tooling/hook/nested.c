// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Nested state: a vCPU that has not run gets the state of a vCPU that was migrated while it ran an L2 guest (SVM).
 * Offsets in the VMCB: APM volume 2, appendix B.
 */
#include "cpuidhook.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define EFER_SVME (1u << 12)
#define CR0_PE_PG 0x80000001u
#define VMCB12 0x1000		/* a guest-physical page; KVM does not read it before the vCPU runs */
#define INTERCEPTS_4 0x010	/* control area */
#define INTERCEPT_VMRUN 1u
#define ASID 0x058
#define SAVE 0x400		/* state save area: L1's state, to which #VMEXIT returns; KVM wants paging on in it */
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

void load_l2(FILE *out, struct vcpu *vcpu)
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
