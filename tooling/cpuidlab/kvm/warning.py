"""The two lines that KVM logs, from Linux 5.14 on, when a CPUID is set after KVM_RUN."""

# kvm_mmu_after_set_cpuid(), since commit 63f5a1909f9e. pr_warn is log level 4. Each line has a rate limit of its own.
WARNING_LEVEL = 4
WARNING_LINES = (
    "KVM: KVM_SET_CPUID{,2} after KVM_RUN may cause guest instability",
    "KVM: KVM_SET_CPUID{,2} will fail after KVM_RUN starting with Linux 5.16",
)
# include/linux/ratelimit_types.h: DEFAULT_RATELIMIT_BURST
RATE_LIMIT_BURST = 10
