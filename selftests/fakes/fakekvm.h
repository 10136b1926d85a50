/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests that only the fake KVM knows. */
#define FAKE_MP_STATE 0xfa01
#define FAKE_EXIT 0xfa02
#define FAKE_TSC 0x10
#define FAKE_SYSENTER_CS 0x174
#define FAKE_XMM1_HIGH 184	/* in the XSAVE area */
#define FAKE_RIP 0xffffffff81a0b2abULL
#define FAKE_EXIT_BROKEN 0xffff	/* KVM_RUN fails with EFAULT */
