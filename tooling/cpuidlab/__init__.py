"""What does a kernel do when a guest's CPUID changes after its vCPU has run?"""
