"""Services of the proof: what is started is ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proof.topologies import EmbeddedTopology

if TYPE_CHECKING:
    from pathlib import Path


def test_an_interrupted_start_leaves_no_process_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = EmbeddedTopology(tmp_path)
    service.door.program = ("sh", "-c", "sleep 60")
    started = []

    def interrupted() -> bool:
        started.append(service.door._process)
        raise KeyboardInterrupt

    monkeypatch.setattr(service.door, "is_ready", interrupted)
    with pytest.raises(KeyboardInterrupt):
        service.__enter__()
    assert [one is not None and one.poll() is not None for one in started] == [True]
