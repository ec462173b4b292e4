"""CPU time of each stage by itself (pytest-benchmark), held against a baseline by ratios: ``make bench``."""
