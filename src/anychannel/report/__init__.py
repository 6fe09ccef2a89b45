"""One self-contained HTML page about one or many runs, and each run's figures as SVG files. No torch, no network.

from anychannel.report import write_report

write_report([Path("runs/plain"), Path("runs/adaptive")], Path("report.html"))
"""

from __future__ import annotations

from anychannel.report.page import write_report

__all__ = ["write_report"]
