"""Everything timed. Figures are ratios of medians, A and B interleaved in one run, because machines are noisy."""
