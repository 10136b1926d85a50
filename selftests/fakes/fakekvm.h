/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests that only the fake KVM knows. */
#define FAKE_MP_STATE 0xfa01
#define FAKE_EXIT 0xfa02
#define FAKE_RIP 0xffffffff81a0b2abULL
#define FAKE_EXIT_BROKEN 0xffff	/* KVM_RUN fails with EFAULT */
