"""What holds when something goes wrong, as cases that a program checks.

A section is a module with a function ``cases() -> list[Case]``. ``benchmarks/measure/faults.py`` runs all of them and
writes ``benchmarks/results/faults.json``. ``tests/faults`` runs those marked ``short``.
"""
