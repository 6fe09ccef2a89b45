"""Make every table anew: ``python -m benchmarks.tables``."""

from benchmarks.tables import (
    ablation,
    any_subset,
    compact,
    faults,
    method,
    neon,
    pretrained,
    report,
    results,
    robustness,
    speed,
)

MAKERS = (ablation, faults, method, neon, pretrained, report, robustness, speed)
"""The makers of pages, without ``compact``, whose ``main`` writes its own."""

if __name__ == "__main__":
    any_subset.main()
    compact.main()
    neon.main()
    for maker in MAKERS:
        results.write(maker.PAGE, maker.make)
