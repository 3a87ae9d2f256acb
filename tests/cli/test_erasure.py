"""`impact subjects erase`: the numbers are as if the person's events had never come; no trace is on disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.cli.service import Service, impact, visit, wait_until, write_catalog

if TYPE_CHECKING:
    from pathlib import Path


def test_an_erased_person_leaves_no_number_and_no_trace(tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog")
    service = Service(tmp_path)
    service.start()
    rejected = {**visit(90), "subject": "person-1", "data": {"minutes": "long"}}
    correction = {
        **visit(91),
        "type": "impact.correction.v1",
        "data": {"source": "/clinic/north", "id": "visit-1", "reason": "mistyped", "data": {"minutes": 77}},
    }
    assert (
        service.post([*(visit(number, minutes=number) for number in range(9)), correction]).status_code == 202
    )
    assert service.post([rejected]).status_code == 422
    wait_until(lambda: service.value("minutes") == 36 - 1 + 77, "all are counted")
    wait_until(lambda: service.sql("SELECT quarantined FROM ledger") == [(1,)], "one is in quarantine")
    command = ("subjects", "erase", "clinic", "person-1", "--catalog", "catalog", "--data", "data", "--json")

    in_use = impact(*command, cwd=tmp_path)
    assert in_use.returncode == 1
    assert "in use by another process" in in_use.stderr
    assert service.stop() == 0
    dry = json.loads(impact(*command, "--dry-run", cwd=tmp_path).stdout)
    assert (dry["events"], dry["quarantined"]) == (3, 1)

    pseudonym = dry["pseudonym"]
    assert _holds(service.data, pseudonym)
    done = impact(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["events"], result["quarantined"]) == (3, 1)
    assert any("backups" in place for place in result["still_there"])
    assert not _holds(service.data, pseudonym)

    service.start()
    try:
        others = sum(number for number in range(9) if number % 3 != 1)
        wait_until(lambda: service.value("minutes") == others, "as if never sent")
        assert service.value("people") == 2
        assert service.post([visit(1, minutes=1)]).status_code == 202  # a resend does not bring it back
        wait_until(lambda: service.sql("SELECT received FROM ledger")[0][0] == 15, "the resend is read")
        assert service.value("minutes") == others
    finally:
        service.stop()
    again = json.loads(impact(*command, cwd=tmp_path).stdout)
    assert again["events"] == 1  # the resend's copy
    assert not _holds(service.data, pseudonym)


def _holds(folder: Path, pseudonym: str) -> list[str]:
    """Files in which the pseudonym stands."""
    return [file.name for file in folder.iterdir() if pseudonym.encode() in file.read_bytes()]
