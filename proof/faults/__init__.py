"""Every fault that the proof knows, in the order of the list in docs/reliability.md."""

from __future__ import annotations

from proof.faults import broker, database, delivery, kills, network

FAULTS = (*kills.FAULTS, *broker.FAULTS, *delivery.FAULTS, *database.FAULTS, *network.FAULTS)
