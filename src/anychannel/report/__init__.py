"""One self-contained HTML page about one or many runs, and each run's figures as SVG files. No torch, no network.

    from anychannel.report import write_report

    write_report([Path("runs/plain"), Path("runs/adaptive")], Path("report.html"))

The package can be called, as ``ac.report(model, data, out="report.html")``, which is ``report`` in
``anychannel.report.outside``.
"""

from __future__ import annotations

import sys
from inspect import signature
from types import ModuleType
from typing import Any

from anychannel.report.outside import report
from anychannel.report.page import write_report

__all__ = ["report", "write_report"]


class CallablePackage(ModuleType):
    """This package: ``anychannel.report`` is a module once it is imported, and a public function as well."""

    __signature__ = signature(report)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """See ``report``."""
        return report(*arguments, **options)


sys.modules[__name__].__class__ = CallablePackage
