/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Does this emulator intercept MOV from CR3? This is a multiboot kernel for `qemu -kernel`. It runs a guest of two
 * instructions, MOV from CR3 and HLT, in 32-bit protected mode without paging, and asks for an intercept of both. It
 * writes one letter to the debug console (port 0x402) and to isa-debug-exit, by the exit code of VMRUN: 'C' for the
 * read of CR3 (3), 'H' for the HLT (0x78), '?' for any other.
 *
 * KVM's shadow paging needs this intercept: the real CR3 holds the address of the shadow page table, which the guest
 * must not see (AMD APM volume 2, 15.9). Offsets in the VMCB: appendix B of the same volume.
 */
	.code32
	.section .text
	.globl _start

	.align 4
	.long 0x1BADB002, 0, -0x1BADB002	/* multiboot header: magic, flags, checksum */

_start:
	lgdt gdtr
	ljmp $8, $1f
1:	mov $16, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $stack_end, %esp

	mov $0xC0000080, %ecx			/* EFER.SVME */
	rdmsr
	or $0x1000, %eax
	wrmsr
	mov $0xC0010117, %ecx			/* VM_HSAVE_PA */
	mov $host_save, %eax
	xor %edx, %edx
	wrmsr

	movl $0x8, vmcb + 0x000			/* intercept reads of CR3 */
	movl $0x01000000, vmcb + 0x00c		/* intercept HLT */
	movl $0x1, vmcb + 0x010			/* and VMRUN: without this intercept VMRUN fails */
	movl $1, vmcb + 0x058			/* ASID */

	mov $vmcb + 0x400, %edi			/* ES, CS, SS, DS: selector, attributes, limit, base */
	movl $0x0c930010, 0x00(%edi)
	movl $-1, 0x04(%edi)
	movl $0x0c9b0008, 0x10(%edi)
	movl $-1, 0x14(%edi)
	movl $0x0c930010, 0x20(%edi)
	movl $-1, 0x24(%edi)
	movl $0x0c930010, 0x30(%edi)
	movl $-1, 0x34(%edi)
	movl $0x1000, vmcb + 0x4d0		/* EFER: SVME */
	movl $0x11, vmcb + 0x558		/* CR0: PE, ET */
	movl $0x400, vmcb + 0x560		/* DR7 */
	movl $0xffff0ff0, vmcb + 0x568		/* DR6 */
	movl $0x2, vmcb + 0x570			/* RFLAGS */
	movl $guest, vmcb + 0x578		/* RIP */
	movl $stack_end, vmcb + 0x5d8		/* RSP */

	mov $vmcb, %eax
	vmrun

	mov vmcb + 0x070, %ebx			/* EXITCODE */
	mov $'C', %eax
	cmp $0x3, %ebx
	je tell
	mov $'H', %eax
	cmp $0x78, %ebx
	je tell
	mov $'?', %eax
tell:
	mov $0x402, %edx
	outb %al, %dx
	mov $0x501, %edx			/* isa-debug-exit: QEMU ends */
	outb %al, %dx
2:	hlt
	jmp 2b

guest:
	mov %cr3, %eax
	hlt

	.align 8
gdt:	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:	.word . - gdt - 1
	.long gdt

	.bss
	.align 4096
vmcb:	.skip 4096
host_save: .skip 4096
	.skip 4096
stack_end:
