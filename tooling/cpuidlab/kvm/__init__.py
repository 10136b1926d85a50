"""Know what KVM and the CPU say: CPUID tables, changes to them, the hook, the kernel log."""
