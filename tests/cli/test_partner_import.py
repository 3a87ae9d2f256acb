"""A partner's file sent, sent again with changes, taken back: what the service is told and counts."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from impact_cli import partner_journal
from impact_schemas.partner_rows import row_id
from tests.cli.in_process import impact
from tests.cli.service import Service, wait_until
from tests.cli.test_send import Answer, Door, accept_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.test_send import Request

EXAMPLE = Path(__file__).parents[2] / "examples" / "partner"
HEADER, *ROWS = (EXAMPLE / "warmers.csv").read_text().splitlines()


class Partner:
    """A folder with a mapping and a file, and the service that it is sent to."""

    def __init__(self, folder: Path, url: str, key: str, source: str) -> None:
        self.folder = folder
        self.source = source
        self.access: tuple[str, ...] = ("--url", url, "--key", key)
        text = (EXAMPLE / "mapping.yaml").read_text().replace("/warmers/partners/north", source)
        self.mapping = folder / "mapping.yaml"
        self.mapping.write_text(text)
        self.file = folder / "warmers.csv"

    def send(self, *rows: str, options: tuple[str, ...] = (), exit_code: int = 0) -> dict[str, Any]:
        """Sends a file of these rows; the report."""
        self.file.write_text("\n".join([HEADER, *rows]) + "\n")
        told = impact(
            *("send", "--csv", str(self.file), "--map", str(self.mapping), "--json"), *self.access, *options
        )
        assert told.exit_code == exit_code, (told.stdout, told.stderr)
        report: dict[str, Any] = json.loads(told.stdout) if told.stdout else {"said": told.stderr}
        return report

    def imports(self) -> list[dict[str, Any]]:
        told = impact("import", "list", "--map", str(self.mapping), "--json")
        found: list[dict[str, Any]] = json.loads(told.stdout)
        return found

    def undo(self, importid: str, exit_code: int = 0) -> dict[str, Any]:
        told = impact("import", "undo", importid, "--map", str(self.mapping), "--json", *self.access)
        assert told.exit_code == exit_code, (told.stdout, told.stderr)
        return json.loads(told.stdout) if told.stdout else {"said": told.stderr}


def counts(report: dict[str, Any]) -> tuple[int, int, int, int]:
    return len(report["new"]), len(report["changed"]), report["unchanged"], len(report["missing"])


# --- against a real service -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    (folder / "catalog").symlink_to(EXAMPLE / "catalog")
    running = Service(folder)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def partner(service: Service, tmp_path: Path, request: pytest.FixtureRequest) -> Partner:
    return Partner(tmp_path, service.url, service.key("warmers"), f"/warmers/{request.node.name[:40]}")


class Counted:
    """Values as they were before a test, so that tests share one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._before = self._values()

    def _values(self) -> tuple[float, float]:
        found = [self._service.value(metric, "warmers") or 0 for metric in ("admissions", "hypothermia")]
        return found[0], found[1]

    def become(self, admissions: float, hypothermia: float) -> None:
        """Waits until they are larger than before by this much."""
        wanted = (self._before[0] + admissions, self._before[1] + hypothermia)
        wait_until(lambda: self._values() == wanted, f"{wanted} and not {self._values()}")


def sent_events(service: Service, source: str) -> list[dict[str, Any]]:
    with sqlite3.connect(service.data / "events.db") as log:
        payloads = log.execute(
            "SELECT payload FROM record WHERE topic = 'impact.events.v1' ORDER BY offset"
        ).fetchall()
    log.close()
    return [event for (payload,) in payloads for event in json.loads(payload) if event["source"] == source]


def test_a_file_that_comes_again_with_three_changed_rows_changes_exactly_those(
    service: Service, partner: Partner
) -> None:
    counted = Counted(service)
    planned = partner.send(*ROWS, options=("--dry-run",))
    assert (counts(planned), planned["checked"]) == ((5, 0, 0, 0), True)
    assert counts(partner.send(*ROWS)) == (5, 0, 0, 0)
    counted.become(147, 25)
    assert counts(partner.send(*ROWS)) == (0, 0, 5, 0)
    assert len(sent_events(service, partner.source)) == 5

    changed = [
        ROWS[0],
        ROWS[1].replace(";39;", ";40;"),
        ROWS[2].replace(";4;", ";5;"),
        ROWS[3] + " ",
        ROWS[4],
    ]
    changed[4] = changed[4].replace("27;6", "30;7")
    planned = partner.send(*changed, options=("--dry-run",))
    assert [one["key"] for one in planned["changed"]] == [
        ["Kisumu East", "2026-07"],
        ["Homa Bay", "2026-06"],
        ["Siaya", "2026-07"],
    ]
    assert planned["changed"][0]["fields"] == {"data.admissions": [39, 40]}
    assert counts(partner.send(*changed)) == (0, 3, 2, 0)
    counted.become(151, 27)
    events = sent_events(service, partner.source)
    assert len(events) == 8
    assert [event["type"] for event in events[5:]] == ["impact.correction.v1"] * 3
    first, second = (one["importid"] for one in partner.imports())
    assert [event["importid"] for event in events] == [first] * 5 + [second] * 3


def test_replace_takes_missing_rows_back_within_the_months_of_the_file(
    service: Service, partner: Partner
) -> None:
    counted = Counted(service)
    partner.send(*ROWS)
    counted.become(147, 25)
    july = [row for row in ROWS if "2026-07" in row]
    left = partner.send(*july[:2])
    assert (left["missing"], left["retracted"]) == ([["Siaya", "2026-07"]], 0)
    partner.send(*july[:2], options=("--replace",))
    counted.become(147 - 27, 25 - 6)
    # what was taken back can be sent again, under an id of its own
    assert counts(partner.send(*july)) == (1, 0, 2, 0)
    counted.become(147, 25)


def test_a_file_can_be_taken_back_and_sent_again(service: Service, partner: Partner) -> None:
    counted = Counted(service)
    first = partner.send(*ROWS[:2])["importid"]
    second = partner.send(ROWS[0].replace(";42;", ";50;"), *ROWS[1:3])["importid"]
    counted.become(50 + 39 + 18, 7 + 5 + 4)
    assert second in partner.undo(first, exit_code=1)["said"]
    assert partner.undo(second)["rows"] == 2
    counted.become(42 + 39, 7 + 5)
    assert "taken back before" in partner.undo(second, exit_code=1)["said"]
    assert partner.undo(partner.imports()[-1]["importid"])["rows"] == 2  # an undo can be undone
    counted.become(50 + 39 + 18, 7 + 5 + 4)


def test_two_people_with_journals_of_their_own_send_one_partner_s_file(
    service: Service, partner: Partner, tmp_path: Path
) -> None:
    counted = Counted(service)
    partner.send(*ROWS[:2])
    counted.become(81, 12)
    (tmp_path / "colleague").mkdir()
    colleague = Partner(tmp_path / "colleague", service.url, service.key("warmers"), partner.source)
    assert counts(colleague.send(ROWS[0].replace(";42;", ";45;"), *ROWS[1:3])) == (1, 2, 0, 0)
    counted.become(84 + 18, 16)
    assert service.sql("SELECT count(*) FROM quarantined_events WHERE code = 'id_conflict'") == [(0,)]


def test_a_changed_time_or_subject_makes_a_new_event_of_the_row(service: Service, partner: Partner) -> None:
    counted = Counted(service)
    partner.send(ROWS[0])
    counted.become(42, 7)
    text = partner.mapping.read_text()
    partner.mapping.write_text(text.replace("Africa/Nairobi", "UTC"))
    assert counts(partner.send(ROWS[0].replace(";42;", ";50;"))) == (0, 1, 0, 0)
    types = [event["type"] for event in sent_events(service, partner.source)]
    assert types == ["warmers.month.v1", "impact.retraction.v1", "warmers.month.v1"]
    counted.become(50, 7)


def test_wrong_rows_are_told_by_line_and_column_and_stop_no_other(service: Service, partner: Partner) -> None:
    counted = Counted(service)
    rows = [ROWS[0], ROWS[1].replace(";39;", ";many;"), ROWS[2].replace(";18;", ";-1;")]
    nothing = partner.send(*rows, options=("--strict",), exit_code=1)
    assert "nothing was sent" in nothing["said"]
    assert "--replace" in partner.send(*rows, options=("--replace",), exit_code=1)["said"]
    assert not sent_events(service, partner.source)
    report = partner.send(*rows, exit_code=1)
    assert [(one["line"], one["column"]) for one in report["wrong"]] == [(3, "admissions"), (4, "admissions")]
    assert "schema_violation" in report["wrong"][1]["reason"]
    counted.become(42, 7)
    assert counts(partner.send(*ROWS[:3])) == (2, 0, 1, 0)


# --- against a door with answers of the test's own ------------------------------------------------------


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    yield door
    door.close()


@pytest.fixture
def at_the_door(door: Door, tmp_path: Path) -> Partner:
    return Partner(tmp_path, door.url, "k", "/warmers/north")


def kept(door: Door) -> list[bytes]:
    """Events of all requests but dry runs."""
    return [event for request in door.requests if "dry_run" not in request.path for event in request.events]


def test_after_an_interruption_the_same_events_are_sent_not_new_ones(
    door: Door, at_the_door: Partner
) -> None:
    def breaks(request: Request) -> Answer | None:
        return accept_all(request) if "dry_run" in request.path else None

    door.answer = breaks
    told = at_the_door.send(*ROWS, options=("--retry-for", "0"), exit_code=1)
    assert "the same command goes on from there" in told["said"]
    assert at_the_door.imports()[0]["waiting"] == 5
    first = kept(door)
    door.answer = accept_all
    door.requests.clear()
    changed = [ROWS[0].replace(";42;", ";43;"), *ROWS[1:]]
    report = at_the_door.send(*changed)
    assert (report["resumed"], counts(report)) == (5, (0, 1, 4, 0))
    assert kept(door)[:5] == first[:5]
    assert len(kept(door)) == 6
    assert {one["waiting"] for one in at_the_door.imports()} == {0}


def test_a_second_sender_with_a_journal_of_their_own_corrects_instead_of_sending_as_new(
    door: Door, at_the_door: Partner
) -> None:
    keys = [tuple(row.split(";")[:2]) for row in ROWS]
    counted, taken_back = (row_id("/warmers/north", key, 0) for key in keys[:2])
    door.statuses = {counted: "counted", taken_back: "retracted"}
    report = at_the_door.send(*ROWS[:3])
    assert counts(report) == (2, 1, 0, 0)
    assert report["changed"][0]["key"] == list(keys[0])
    events = {event["id"]: event for event in map(json.loads, kept(door))}
    (correction,) = (event for event in events.values() if event["type"] == "impact.correction.v1")
    assert correction["data"]["id"] == counted
    assert {row_id("/warmers/north", keys[1], 1), row_id("/warmers/north", keys[2], 0)} < events.keys()
    undone = at_the_door.undo(report["importid"], exit_code=1)
    assert (undone["rows"], undone["left"]) == (2, [list(keys[0])])


def test_what_one_service_was_sent_another_was_not(door: Door, at_the_door: Partner) -> None:
    at_the_door.send(*ROWS)
    at_the_door.access = ("--url", door.url.replace("127.0.0.1", "localhost"), "--key", "k")
    assert counts(at_the_door.send(*ROWS)) == (5, 0, 0, 0)


def test_a_dry_run_sends_nothing_and_works_without_a_key(door: Door, at_the_door: Partner) -> None:
    assert counts(at_the_door.send(*ROWS, options=("--dry-run",))) == (5, 0, 0, 0)
    assert not kept(door)
    at_the_door.send(*ROWS[:2])
    at_the_door.access = ("--url", door.url)
    report = at_the_door.send(*ROWS, options=("--dry-run", "--keys-file", "none.json"))
    assert (counts(report), report["checked"]) == ((3, 0, 2, 0), False)
    assert "no key" in at_the_door.send(*ROWS, options=("--keys-file", "none.json"), exit_code=2)["said"]


def test_a_rejected_row_is_told_and_is_new_again_the_next_time(door: Door, at_the_door: Partner) -> None:
    def rejects(request: Request) -> Answer:
        if "dry_run" in request.path:
            return accept_all(request)
        verdict = {"index": 0, "id": "x", "code": "time_too_old", "detail": "too old", "retryable": False}
        return Answer(207, {"accepted": len(request.events) - 1, "rejected": [verdict]})

    door.answer = rejects
    report = at_the_door.send(*ROWS[:2], exit_code=1)
    assert report["rejected"] == ["Kisumu East 2026-06: time_too_old: too old"]
    door.answer = accept_all
    assert counts(at_the_door.send(*ROWS[:2])) == (1, 0, 1, 0)


def test_the_journal_is_for_one_process_at_a_time(at_the_door: Partner) -> None:
    with partner_journal.opened(at_the_door.folder / "mapping.journal.db"):
        told = at_the_door.send(*ROWS, exit_code=1)
    assert "wait for its end" in told["said"]


def test_a_file_that_is_no_journal_is_refused(at_the_door: Partner) -> None:
    (at_the_door.folder / "mapping.journal.db").write_text("not a database, but long enough to be one" * 20)
    assert "no import journal" in at_the_door.send(*ROWS, exit_code=1)["said"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("send",),
        ("send", "a.ndjson", "--csv", "b.csv"),
        ("send", "--csv", "b.csv"),
        ("send", "a.ndjson", "--strict"),
        ("import", "list"),
    ],
)
def test_wrong_use_is_told(arguments: tuple[str, ...]) -> None:
    assert impact(*arguments).exit_code == 2
