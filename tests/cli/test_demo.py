"""`impact demo` on a small example: what it prints is true and can be used."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from typing import TYPE_CHECKING

from tests.cli.service import impact, write_catalog

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = """\
TITLE = "50 visits"
COUNT = 50

def events(now):
    for number in range(COUNT):
        yield {"specversion": "1.0", "id": str(number), "source": "/clinic/x", "type": "clinic.visit.v1",
               "subject": f"person-{number % 7}", "data": {"minutes": number}}
"""


def write_example(folder: Path) -> None:
    example = folder / "examples" / "visits"
    example.mkdir(parents=True)
    write_catalog(example / "catalog")
    (example / "visits.py").write_text(EXAMPLE)


def test_a_demo_counts_shows_and_ends_by_itself_where_nobody_watches(tmp_path: Path) -> None:
    write_example(tmp_path)
    told = impact("demo", "--example", "visits", "--data", "data", "--port", "0", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "50 received = 50 counted + 0 duplicates + 0 quarantined" in told.stdout
    lines = {line.split()[0]: line.split() for line in told.stdout.splitlines() if line.strip()}
    assert [lines[name][1] for name in ("Visits", "Minutes", "People")] == ["50", "1,225", "7"]
    for place in ("data/metrics.db", "/metrics", "/docs", "impact status --data data"):
        assert place in told.stdout

    query = next(line for line in told.stdout.splitlines() if line.startswith("A query")).partition("  ")[2]
    rows = subprocess.run(query, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "minutes|{}|1225.0|50" in rows

    curl = next(line for line in told.stdout.splitlines() if line.startswith("An event"))
    key = json.loads((tmp_path / "data" / "keys.json").read_text())["clinic"]
    assert f"Authorization: Bearer {key}" in curl

    again = impact("demo", "--example", "visits", "--data", "data", "--port", "0", "--exit", cwd=tmp_path)
    assert "data already holds 50 events of this demo" in again.stdout
    assert "100 received = 50 counted + 50 duplicates + 0 quarantined" in again.stdout
    lines = {line.split()[0]: line.split() for line in again.stdout.splitlines() if line.strip()}
    assert [lines[name][1] for name in ("Visits", "Minutes", "People")] == ["50", "1,225", "7"]

    refused = impact("demo", "--example", "flights", "--data", "data", "--port", "0", cwd=tmp_path)
    assert refused.returncode == 1
    assert "has the numbers of clinic: choose another folder with --data" in refused.stderr


def test_a_service_that_does_not_start_is_told_with_its_reason(tmp_path: Path) -> None:
    write_example(tmp_path)
    (tmp_path / "data").mkdir()
    shutil.copy(__file__, tmp_path / "data" / "events.db")
    told = impact("demo", "--example", "visits", "--data", "data", "--port", "0", cwd=tmp_path)
    assert told.returncode == 1
    assert "the service did not start" in told.stderr
    assert "events.db is damaged or no event log" in told.stderr


STORY = """\
from examples.story import moved

TITLE = "3 visits of a story"
COUNT = 3

def events(now):
    for number in range(COUNT):
        yield {"specversion": "1.0", "id": str(number), "source": "/clinic/x", "type": "clinic.visit.v1",
               "time": f"{now:%Y-%m-%d}T00:00:00Z", "data": {"minutes": number}}
"""


def test_a_story_is_told_as_of_the_first_run_of_its_folder(tmp_path: Path) -> None:
    """So that the same events come again on another day, and change no number."""
    example = tmp_path / "examples" / "tale"
    example.mkdir(parents=True)
    write_catalog(example)
    text = (example / "clinic.yaml").read_text()
    (example / "clinic.yaml").write_text(text.replace("\nevents:", "\nsince: 2026-11-20\nevents:"))
    (example / "tale.py").write_text(STORY)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "told-on").write_text("2026-03-05\n")
    told = impact("demo", "--example", "tale", "--data", "data", "--port", "0", "--exit", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "3 received = 3 counted + 0 duplicates + 0 quarantined" in told.stdout
    assert "since: 2026-03-03" in (tmp_path / "data" / "catalog" / "clinic.yaml").read_text()
    with sqlite3.connect(tmp_path / "data" / "metrics.db") as database:
        ((day,),) = database.execute("SELECT DISTINCT substr(bucket_start, 1, 10) FROM metric_buckets")
    assert day == "2026-03-05"


def test_an_example_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    told = impact("demo", "--example", "caremesage", "--data", "data", cwd=tmp_path)
    assert told.returncode == 2
    assert "no example 'caremesage': there are caremessage, duolingo, embrace, flights," in told.stderr
    assert not (tmp_path / "data").exists()
