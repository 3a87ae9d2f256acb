"""quixstreams counting the same events: runs in a virtual environment of its own (it pins older pydantic)."""

from __future__ import annotations

import tempfile
from typing import Any

# not in the environment that is checked
from quixstreams import Application  # type: ignore[import-not-found]
from quixstreams.dataframe.windows import Count, Sum  # type: ignore[import-not-found]

from benchmarks.process import metered

HOUR_MS = 3_600_000


def drain(bootstrap: str, topic: str, events: int, group: str) -> dict[str, Any]:
    """Count and sum per clinic and hour, in its own windows and state store, its own defaults.

    The records have the clinic as their key, so that it need not repartition; it counts no unique subjects
    and removes no duplicates.
    """
    with tempfile.TemporaryDirectory(prefix="impact-bench-quix-") as folder:
        application = Application(
            broker_address=bootstrap,
            consumer_group=group,
            auto_offset_reset="earliest",
            state_dir=folder,
            loglevel="ERROR",
        )
        source = application.topic(topic, value_deserializer="json")
        frame = application.dataframe(source)
        (
            frame.apply(lambda event: {"cost": event["data"]["cost"]})
            .tumbling_window(HOUR_MS)
            .agg(count=Count(), cost=Sum("cost"))
            .current()
        )
        with metered() as spent:
            application.run(count=events, timeout=60, collect=False)
    return {"cpu_us": spent.cpu_s / events * 1e6, "events_per_s": events / spent.wall_s}
