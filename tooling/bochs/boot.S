/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An option ROM that starts Linux in place of a boot loader: cpuidlab.rig.bochs_boot has laid the kernel out in memory
 * before the machine starts, so nothing is read from a disk. BIOS calls the ROM at offset 3, when BIOS calls work.
 *
 * The flag makes sure that this is the first boot. After a reset the memory is no longer what was laid out, so the ROM
 * then ends Bochs, by its port 0x8900 (iodev/unmapped.cc): a host that reboots ends, as with -no-reboot of QEMU.
 */
	.code16
	.globl _start
_start:
	.byte 0x55, 0xaa, 1			/* signature; length in units of 512 bytes */

	mov $0x9000, %ax
	mov %ax, %ds
	cmpl $0x544f4f42, 0x9ff0		/* the flag "BOOT" */
	jne rebooted
	movl $0, 0x9ff0

	cli					/* as Documentation/arch/x86/boot.rst asks for */
	mov %ax, %es
	mov %ax, %fs
	mov %ax, %gs
	mov %ax, %ss
	mov $0x9000, %sp
	ljmp $0x9020, $0

rebooted:
	mov $0x8900, %dx
	mov $word, %si
1:	lodsb %cs:(%si), %al
	out %al, %dx
	test %al, %al
	jnz 1b
	cli
	hlt

word:	.asciz "Shutdown"
