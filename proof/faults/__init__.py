"""Every fault that the proof knows, in the order of the list in docs/reliability.md."""

from __future__ import annotations

from proof.faults import kills

FAULTS = (*kills.FAULTS,)
