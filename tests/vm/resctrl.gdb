# Has a kernel believe that its processor shares out caches and memory bandwidth, and counts their use (Intel RDT), of which QEMU
# knows nothing. The kernel asks a processor by native_cpuid(eax, ebx, ecx, edx), whose address is in $cpuid, and is answered here as one
# with eleven ways in its cache would (Intel SDM 2A, CPUID, leaves 07H, 0FH and 10H). Registers that shares are written to
# and use is read from (MSRs) are taken by QEMU without effect, and read as 0: so the kernel's file system is all there, and every
# count is 0.
set pagination off
set confirm off
set language c

# What is asked of: leaf and subleaf; what is answered: all four registers.
define answer
    set *(unsigned int *)$rdi = $arg0
    set *(unsigned int *)$rsi = $arg1
    set *(unsigned int *)$rdx = $arg2
    set *(unsigned int *)$rcx = $arg3
    set $rip = *(unsigned long *)$rsp
    set $rsp = $rsp + 8
end

hbreak *$cpuid if *(unsigned int *)$rdi == 0x7 || *(unsigned int *)$rdi == 0xf || *(unsigned int *)$rdi == 0x10
commands
    silent
    set $leaf = *(unsigned int *)$rdi * 0x100 + *(unsigned int *)$rdx
    if $leaf == 0x700
        # There is monitoring, and allocation.
        answer 0 0x9000 0 0
    else
    if $leaf == 0xf00
        # Of the cache of the third level, in 16 groups.
        answer 0 15 0 2
    else
    if $leaf == 0xf01
        # Its use, and all and local bandwidth.
        answer 0 65536 15 7
    else
    if $leaf == 0x1000
        # Of that cache, and of bandwidth.
        answer 0 0xa 0 0
    else
    if $leaf == 0x1001
        # 11 bits; code and data apart; 16 groups.
        answer 10 0 4 15
    else
    if $leaf == 0x1003
        # Delays up to 90 percent, that grow with the values; 8 groups.
        answer 89 0 4 7
    else
        answer 0 0 0 0
    end
    end
    end
    end
    end
    end
    continue
end
continue
