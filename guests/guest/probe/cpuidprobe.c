// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest's part of kvm-cpuid-lab. A process maps one page whose page-table entries are chosen by the test, and reads
 * the page: does the read fault? The module also does three things that no process can do: it sets CR4.OSXSAVE, gives
 * every CPU the address of a breakpoint, and sends INIT without SIPI. It is for guests that are thrown away afterwards.
 *
 * A process that opens /proc/cpuidprobe may make one mapping with that file. The mapping ends when the file is closed.
 * The process writes a command, then reads the answer, one line:
 *
 *   map LEVEL ADDRESS BITS	ok va=0x...		LEVEL 1, 2, 3: a page of 4 KiB, 2 MiB, 1 GiB. ADDRESS: guest
 *						physical, hex; or "ram": the page around a word of the module.
 *						BITS: hex, set in every entry above the page's own entry. AMD reserves
 *						0x100 in the two upper levels, Intel ignores that bit.
 *   read			ok value=0x...		eight bytes at the page's start, or the module's word ("ram")
 *				fault error_code=0x...	the read caused a page fault; 0x9: present, reserved bit
 *   osxsave [CPU]		(no answer)		set CR4.OSXSAVE on every CPU, or on one; a kernel without XSAVE leaves
 *						the bit clear
 *   breakpoint			(no answer)		set DR0 on every CPU to the module's word, and leave it disabled
 *   init APIC-ID		(no answer)		send INIT without SIPI to that CPU, which must be offline
 *   touch			ok touched		read as the kernel reads its own memory: a fault is an oops, and ends the
 *						process
 *
 * The entry of the mapping is in a free slot in the upper half of the process's top table. Only this process sees it.
 */
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/proc_fs.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/tracepoint.h>
#include <linux/uaccess.h>
#include <asm/apicdef.h>
#include <asm/debugreg.h>
#include <asm/io.h>
#include <asm/msr.h>
#include <asm/pgtable.h>
#include <asm/processor.h>
#include <asm/tlbflush.h>

/* The 16 slots from 0xffff800000000000 are a guard hole, Documentation/x86/x86_64/mm.rst. */
#define FIRST_SLOT 256
#define SLOTS 16
#define LEVELS 3
#define TABLE_FLAGS (_PAGE_PRESENT | _PAGE_RW | _PAGE_ACCESSED | _PAGE_DIRTY)
#define PAGE_FLAGS (_PAGE_PRESENT | _PAGE_ACCESSED | _PAGE_DIRTY)
#define INIT (APIC_INT_ASSERT | APIC_DM_INIT)
#define WORD 0x6472617567646e61ULL

struct probe {
	struct mm_struct *mm; /* the owner of the top table; NULL: there is no mapping yet */
	unsigned long *slot;
	unsigned long *tables[LEVELS];
	unsigned long va;
	char answer[64];
	size_t left; /* how many bytes of the answer were not read yet */
};

static DEFINE_MUTEX(lock); /* one command at a time; also guards `watched` and `error_code` */
static unsigned long watched; /* the address that `read` reads; 0: none */
static unsigned long error_code; /* of the last page fault at that address */
static u64 *word; /* alone in its page */
static struct tracepoint *fault_event;

static void on_fault(void *data, unsigned long address, struct pt_regs *regs, unsigned long code)
{
	if (READ_ONCE(watched) && address == READ_ONCE(watched))
		WRITE_ONCE(error_code, code);
}

static void find_fault_event(struct tracepoint *event, void *data)
{
	if (!strcmp(event->name, "page_fault_kernel"))
		fault_event = event;
}

static unsigned long *free_slot(struct mm_struct *mm)
{
	unsigned long *slot = (unsigned long *)mm->pgd + FIRST_SLOT;

	for (int i = 0; i < SLOTS; i++)
		if (!READ_ONCE(slot[i]))
			return slot + i;
	return NULL;
}

static void forget_translation(void *va)
{
	asm volatile("invlpg (%0)" ::"r"(va) : "memory");
}

static void unmap(struct probe *probe)
{
	if (probe->mm) {
		WRITE_ONCE(*probe->slot, 0);
		/* A CPU that has this mm under another PCID flushes its TLB when it next switches to the mm. */
		atomic64_inc(&probe->mm->context.tlb_gen);
		on_each_cpu(forget_translation, (void *)probe->va, 1);
		mmdrop(probe->mm);
		probe->mm = NULL;
	}
	for (int i = 0; i < LEVELS; i++) {
		free_page((unsigned long)probe->tables[i]);
		probe->tables[i] = NULL;
	}
}

/* Fill one table for each level, from the page's own level upwards. Link the last one into the process's top table. */
static int map(struct probe *probe, unsigned int level, u64 address, u64 bits)
{
	u64 offset = address & ((1ULL << (PAGE_SHIFT + 9 * (level - 1))) - 1);
	u64 entry = (address - offset) | PAGE_FLAGS | (level > 1 ? _PAGE_PSE : 0);
	struct mm_struct *mm = current->mm;
	unsigned long *slot = free_slot(mm);

	if (!slot)
		return -EBUSY;
	for (int i = level - 1; i < LEVELS; i++) {
		probe->tables[i] = (unsigned long *)get_zeroed_page(GFP_KERNEL);
		if (!probe->tables[i]) {
			unmap(probe);
			return -ENOMEM;
		}
		probe->tables[i][0] = entry;
		entry = virt_to_phys(probe->tables[i]) | TABLE_FLAGS | bits;
	}
	mmgrab(mm); /* keeps the top table until probe_release, which runs after the process has dropped its mm */
	probe->mm = mm;
	probe->slot = slot;
	probe->va = (unsigned long)((s64)((u64)(slot - (unsigned long *)mm->pgd) << 55) >> 16) + offset;
	WRITE_ONCE(*slot, entry);
	return 0;
}

static int do_map(struct probe *probe, const char *text)
{
	unsigned int level;
	u64 address, bits;
	int error;

	if (sscanf(text, "map %u ram %llx", &level, &bits) == 2)
		address = virt_to_phys(word);
	else if (sscanf(text, "map %u %llx %llx", &level, &address, &bits) != 3)
		return -EINVAL;
	if (level < 1 || level > LEVELS || probe->mm)
		return -EINVAL;
	error = map(probe, level, address, bits);
	if (!error)
		probe->left = scnprintf(probe->answer, sizeof(probe->answer), "ok va=0x%lx\n", probe->va);
	return error;
}

static int do_read(struct probe *probe)
{
	char *answer = probe->answer;
	unsigned long flags;
	long failed;
	u64 value;

	if (probe->mm != current->mm) /* this is a child of the process, or there is no mapping */
		return -EINVAL;
	WRITE_ONCE(error_code, 0);
	WRITE_ONCE(watched, probe->va);
	/*
	 * CPUID makes the vCPU exit to KVM right before the read. Without that exit, TCG would report the type of an
	 * earlier exception in EXITINTINFO (not valid). KVM since 6.14 looks at the type alone, and gives up where the
	 * read is an MMIO: KVM internal error. See EXITINTINFO in docs/findings.md.
	 */
	local_irq_save(flags);
	cpuid_eax(0);
	failed = copy_from_kernel_nofault(&value, (void *)probe->va, sizeof(value));
	local_irq_restore(flags);
	if (failed)
		probe->left = scnprintf(answer, sizeof(probe->answer), "fault error_code=0x%lx\n", READ_ONCE(error_code));
	else
		probe->left = scnprintf(answer, sizeof(probe->answer), "ok value=0x%llx\n", value);
	WRITE_ONCE(watched, 0);
	return 0;
}

static void set_osxsave(void *unused)
{
	cr4_set_bits(X86_CR4_OSXSAVE);
}

/* Under TCG a guest of KVM's that enables a breakpoint in DR7 ends the QEMU of the host (7.2: SIGSEGV). */
static void set_breakpoint(void *unused)
{
	set_debugreg((unsigned long)word, 0);
}

/* Write the local APIC's interrupt command register, in xAPIC or x2APIC mode: APM volume 2, 16.5 and 16.11. */
static int send_init(unsigned int apic_id)
{
	void __iomem *apic;
	u64 base;

	rdmsrl(MSR_IA32_APICBASE, base);
	if (base & X2APIC_ENABLE) {
		wrmsrl(APIC_BASE_MSR + (APIC_ICR >> 4), (u64)apic_id << 32 | INIT);
		return 0;
	}
	apic = ioremap(APIC_DEFAULT_PHYS_BASE, PAGE_SIZE);
	if (!apic)
		return -ENOMEM;
	writel(apic_id << 24, apic + APIC_ICR2);
	writel(INIT, apic + APIC_ICR);
	iounmap(apic);
	return 0;
}

static int do_touch(struct probe *probe)
{
	if (probe->mm != current->mm)
		return -EINVAL;
	READ_ONCE(*(u64 *)probe->va);
	probe->left = scnprintf(probe->answer, sizeof(probe->answer), "ok touched\n");
	return 0;
}

static int probe_open(struct inode *inode, struct file *file)
{
	file->private_data = kzalloc(sizeof(struct probe), GFP_KERNEL);
	return file->private_data ? stream_open(inode, file) : -ENOMEM;
}

static ssize_t probe_write(struct file *file, const char __user *from, size_t size, loff_t *at)
{
	struct probe *probe = file->private_data;
	unsigned int apic_id, cpu;
	char text[64] = "";
	int error = -EINVAL;

	if (size >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, from, size))
		return -EFAULT;
	if (!strcmp(text, "osxsave\n")) {
		on_each_cpu(set_osxsave, NULL, 1);
		return size;
	}
	if (sscanf(text, "osxsave %u", &cpu) == 1)
		return smp_call_function_single(cpu, set_osxsave, NULL, 1) ?: size;
	if (!strcmp(text, "breakpoint\n")) {
		on_each_cpu(set_breakpoint, NULL, 1);
		return size;
	}
	if (sscanf(text, "init %u", &apic_id) == 1)
		return send_init(apic_id) ?: size;
	if (!strcmp(text, "touch\n")) /* without the lock: after an oops it would stay locked */
		return do_touch(probe) ?: size;
	mutex_lock(&lock);
	if (strstarts(text, "map "))
		error = do_map(probe, text);
	else if (!strcmp(text, "read\n"))
		error = do_read(probe);
	mutex_unlock(&lock);
	return error ?: size;
}

static ssize_t probe_read(struct file *file, char __user *to, size_t size, loff_t *at)
{
	struct probe *probe = file->private_data;

	mutex_lock(&lock);
	size = min(size, probe->left);
	if (copy_to_user(to, probe->answer + strlen(probe->answer) - probe->left, size))
		size = -EFAULT;
	else
		probe->left -= size;
	mutex_unlock(&lock);
	return size;
}

static int probe_release(struct inode *inode, struct file *file)
{
	unmap(file->private_data);
	kfree(file->private_data);
	return 0;
}

static const struct proc_ops probe_ops = {
	.proc_open = probe_open,
	.proc_read = probe_read,
	.proc_write = probe_write,
	.proc_release = probe_release,
};

static int __init probe_init(void)
{
	int error;

	if (pgtable_l5_enabled()) /* the top table would have another level */
		return -EOPNOTSUPP;
	for_each_kernel_tracepoint(find_fault_event, NULL);
	if (!fault_event)
		return -ENOENT;
	word = (u64 *)get_zeroed_page(GFP_KERNEL);
	if (!word)
		return -ENOMEM;
	*word = WORD;
	error = tracepoint_probe_register(fault_event, on_fault, NULL);
	if (error)
		goto no_event;
	error = -ENOMEM;
	if (!proc_create("cpuidprobe", 0600, NULL, &probe_ops))
		goto no_file;
	return 0;

no_file:
	tracepoint_probe_unregister(fault_event, on_fault, NULL);
	tracepoint_synchronize_unregister();
no_event:
	free_page((unsigned long)word);
	return error;
}

static void __exit probe_exit(void)
{
	remove_proc_entry("cpuidprobe", NULL); /* waits for the calls of open files, then releases the files */
	tracepoint_probe_unregister(fault_event, on_fault, NULL);
	tracepoint_synchronize_unregister();
	free_page((unsigned long)word);
}

module_init(probe_init);
module_exit(probe_exit);
MODULE_DESCRIPTION("Page-table probe of kvm-cpuid-lab");
MODULE_LICENSE("GPL");
