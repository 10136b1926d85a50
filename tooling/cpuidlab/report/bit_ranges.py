"""Sets of bits as people write them."""


def bit_ranges(mask: int) -> str:
    """Such as `31:16,4`; empty where no bit is set."""
    parts = []
    while mask:
        high = mask.bit_length() - 1
        low = high
        while low and mask >> (low - 1) & 1:
            low -= 1
        parts.append(f"{high}:{low}" if high > low else f"{high}")
        mask &= (1 << low) - 1
    return ",".join(parts)
