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

if __name__ == "__main__":
    any_subset.main()
    compact.main()
    neon.main()
    for maker in (ablation, faults, method, neon, pretrained, report, robustness, speed):
        results.write(maker.PAGE, maker.make)
