"""Puts services together: the only place that knows all of them. Each runs until SIGTERM or SIGINT.

A service's modules are imported by the function that runs it: an image holds one service alone.
"""

from __future__ import annotations

import structlog

log = structlog.get_logger(__name__)
