"""`impact rebuild` beside a running service, as a product's team would after changing a metric."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.cli.service import CATALOG, Service, impact, visit, wait_until, write_catalog

if TYPE_CHECKING:
    from pathlib import Path


def test_a_changed_metric_gets_its_history_back_beside_the_running_service(tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog")
    service = Service(tmp_path)
    service.start()
    try:

        def send(first: int, last: int) -> None:
            answer = service.post([visit(number, minutes=10 * number) for number in range(first, last)])
            assert answer.status_code == 202

        send(0, 6)
        wait_until(lambda: service.value("minutes") == 150, "six visits are counted")
        changed = CATALOG.format(product="clinic").replace("aggregate: sum", "aggregate: max")
        (tmp_path / "catalog" / "clinic.yaml").write_text(changed)
        wait_until(lambda: service.value("minutes") is None, "the new version is in force, and empty")
        send(6, 8)
        wait_until(lambda: service.value("minutes") == 70, "the new version counts from now on")

        done = impact("rebuild", "--data", "data", "--catalog", "catalog", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["versions"]["clinic.minutes"] == 3
        send(8, 9)
        wait_until(lambda: service.value("minutes") == 80, "live counting went on in the new versions")
        wait_until(lambda: service.value("visits") == 9, "the other metrics kept their numbers")

        arguments = ("rebuild", "--metric", "vists", "--catalog", "catalog", "--data", "data")
        refused = impact(*arguments, cwd=tmp_path)
        assert refused.returncode == 1
        assert "no metric is called vists" in refused.stderr
    finally:
        service.stop()
