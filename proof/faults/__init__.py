"""Every fault that the proof knows, in the order of the list in docs/reliability.md."""

from __future__ import annotations

from proof.faults import broker, change, database, delivery, disk, kills, network, pressure

_PARTS = (kills, broker, delivery, database, network, disk, pressure, change)
FAULTS = tuple(
    sorted((fault for part in _PARTS for fault in part.FAULTS), key=lambda fault: int(fault.number))
)
