"""The embedded adapter: what the disk, a second process and a kill -9 do to it."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from impact_eventlog import LogError, LogHole, LogUnavailable, Partition, embedded
from impact_eventlog.embedded import EmbeddedReader, EmbeddedWriter
from impact_eventlog.pending import WriterLimits
from impact_schemas.wire import partition_of
from tests.eventlog.logs import PRODUCT, Log, bodies, event, events, read

if TYPE_CHECKING:
    from pathlib import Path

    from impact_eventlog import Record

# appends for ever, several at a time, and prints the number of each event after its append returned
APPENDER = """
import asyncio, os, sys
from pathlib import Path
from impact_eventlog import KeyedEvent
from impact_eventlog.embedded import EmbeddedWriter

async def forever(writer, task):
    number = task
    while True:
        await writer.append("t", "p", [KeyedEvent(os.urandom(16), b'{"id":"%d"}' % number)])
        os.write(1, b"%d\\n" % number)
        number += 8

async def main():
    writer = EmbeddedWriter(Path(sys.argv[1]), partitions=3)
    await writer.start()
    await asyncio.gather(*(forever(writer, task) for task in range(8)))

asyncio.run(main())
"""


def path_of(log: Log) -> Path:
    assert log.path is not None
    return log.path


def start_appender(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(APPENDER), str(path)], stdout=subprocess.PIPE
    )


def kill_after(process: subprocess.Popen[bytes], lines: int) -> list[int]:
    """kill -9 after so many appends; the numbers of all that returned."""
    assert process.stdout is not None
    acknowledged = [process.stdout.readline() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    acknowledged += process.stdout.readlines()
    process.wait()
    process.stdout.close()
    return [int(line) for line in acknowledged if line.endswith(b"\n")]


async def test_what_was_acknowledged_survives_a_kill_9(embedded_log: Log) -> None:
    path = path_of(embedded_log)
    acknowledged: list[int] = []
    for lines in (1, 50, 300):
        process = start_appender(path)
        numbers = await asyncio.to_thread(kill_after, process, lines)
        acknowledged += numbers
    log = Log(3, path=path, topic="t")
    records = await log.everything()
    kept = bodies(records)
    for number in set(acknowledged):
        assert kept.count(b'{"id":"%d"}' % number) >= acknowledged.count(number)
    for partition in log.all:
        offsets = [record.offset for record in records if record.partition == partition]
        assert offsets == list(range(len(offsets)))


async def test_every_commit_is_synced(embedded_log: Log) -> None:
    writer = EmbeddedWriter(path_of(embedded_log))
    await writer.start()

    def pragma(name: str) -> object:
        return writer._opened().execute(f"PRAGMA {name}").fetchone()[0]

    assert (
        await writer._in_thread(lambda: pragma("synchronous")) == 2
    )  # FULL: the WAL is synced at each COMMIT
    assert await writer._in_thread(lambda: pragma("journal_mode")) == "wal"
    await writer.stop()


async def test_a_second_writer_is_refused_and_told_who_holds_the_log(embedded_log: Log) -> None:
    path = path_of(embedded_log)
    process = start_appender(path)
    assert process.stdout is not None
    await asyncio.to_thread(process.stdout.readline)
    with pytest.raises(LogError, match=f"in use by another process .*{process.pid}"):
        await EmbeddedWriter(path, partitions=3).start()
    await asyncio.to_thread(kill_after, process, 1)
    async with embedded_log.writer() as writer:  # the lock ends with its process
        assert await writer.ready()
        with pytest.raises(LogError, match=str(os.getpid())):
            await EmbeddedWriter(path, partitions=3).start()
    async with embedded_log.writer() as writer:
        assert await writer.ready()


async def test_a_guest_appends_beside_a_writer_that_takes_guests(embedded_log: Log) -> None:
    path, topic = path_of(embedded_log), embedded_log.topic
    host = EmbeddedWriter(path, partitions=1, takes_guests=True)
    guest = EmbeddedWriter(path, partitions=1, is_guest=True)
    for writer in (host, guest):
        await writer.start()

    async def append(writer: EmbeddedWriter, name: str) -> None:
        for number in range(30):
            await writer.append(topic, PRODUCT, [event(f"{name}{number}")])

    await asyncio.gather(append(host, "h"), append(guest, "g"))
    async with Log(1, path=embedded_log.path, topic=topic).reader() as reader:
        reader.seek(Partition(topic, 0), 0)
        records: list[Record] = []
        async with asyncio.timeout(30):
            while len(bodies(records)) < 60:
                records += await reader.poll(0.5)
    assert len(set(bodies(records))) == 60
    assert [record.offset for record in records] == list(range(len(records)))
    for writer in (guest, host):
        await writer.stop()


async def test_a_guest_is_refused_by_a_writer_that_takes_none(embedded_log: Log) -> None:
    path = path_of(embedded_log)
    host = EmbeddedWriter(path, partitions=1)
    await host.start()
    with pytest.raises(LogError, match=str(os.getpid())):
        await EmbeddedWriter(path, partitions=1, is_guest=True).start()
    await host.stop()


async def test_a_full_disk_is_unavailable_and_leaves_no_gap(
    embedded_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = EmbeddedWriter(path_of(embedded_log), partitions=1, limits=WriterLimits(append_timeout_s=5))
    await writer.start()
    log = Log(1, path=embedded_log.path, topic=embedded_log.topic)
    await writer.append(log.topic, PRODUCT, [event("before")])

    def limit_pages(extra: int) -> None:
        database = writer._opened()
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages + extra}")

    await writer._in_thread(lambda: limit_pages(2))
    with pytest.raises(LogUnavailable, match="full"):
        await writer.append(log.topic, PRODUCT, [event("too much", size=100_000)])
    assert not await writer.ready()  # though a small write would do
    await writer._in_thread(lambda: limit_pages(1000))
    monkeypatch.setattr(embedded, "DOUBT_S", 0.0)
    assert await writer.ready()
    await writer.append(log.topic, PRODUCT, [event("after")])
    assert await writer.ready()
    await writer.stop()
    records = await log.everything()
    assert [record.offset for record in records] == [0, 1]
    assert bodies(records) == [event("before").event, event("after").event]


async def test_a_damaged_file_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    path.write_bytes(b"this is not a database, " * 400)
    with pytest.raises(LogError, match=r"events\.db is damaged or no event log"):
        await EmbeddedWriter(path).start()
    reader = EmbeddedReader(path, ["t"])
    with pytest.raises(LogError, match=r"events\.db is damaged or no event log"):
        await reader.start()
    await reader.stop()


async def test_a_damaged_page_is_an_error_and_not_silence(embedded_log: Log) -> None:
    path = path_of(embedded_log)
    async with embedded_log.writer() as writer:
        for number in range(200):
            await writer.append(embedded_log.topic, PRODUCT, [event(str(number), size=2_000)])
    data = bytearray(path.read_bytes())
    for page in range(2, len(data) // 4096):  # all but the first, which has the schema, and the log's row
        data[page * 4096 : page * 4096 + 16] = b"\xff" * 16
    path.write_bytes(data)
    with pytest.raises(LogError, match=r"events\.db is damaged"):
        await embedded_log.everything()


async def test_the_number_of_partitions_is_fixed(embedded_log: Log) -> None:
    async with embedded_log.writer():
        pass
    with pytest.raises(LogError, match="made with 3 partitions and cannot be opened with 4"):
        await EmbeddedWriter(path_of(embedded_log), partitions=4).start()
    async with embedded_log.writer() as writer:  # the refused one holds no lock
        assert await writer.ready()


async def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="nowhere"):
        await EmbeddedWriter(tmp_path / "nowhere" / "events.db").start()


async def test_a_reader_without_a_log_is_unavailable(tmp_path: Path) -> None:
    reader = EmbeddedReader(tmp_path / "events.db", ["t"])
    with pytest.raises(LogUnavailable, match="no event log"):
        await reader.start()
    await reader.stop()


async def test_rows_that_are_gone_are_a_hole_after_what_comes_before(embedded_log: Log) -> None:
    log = Log(1, path=embedded_log.path)
    async with log.writer() as writer:
        for number in range(10):
            await writer.append(log.topic, PRODUCT, [event(str(number))])
    with sqlite3.connect(path_of(log)) as database:
        database.execute("DELETE FROM record WHERE offset BETWEEN 3 AND 5")
    database.close()
    async with log.reader() as reader:
        reader.seek(log.all[0], 0)
        assert [record.offset for record in await reader.poll(1)] == [0, 1, 2]
        with pytest.raises(LogHole) as caught:
            await reader.poll(1)
        assert (caught.value.first_offset, caught.value.last_offset) == (3, 5)
        assert await reader.poll(0) == []
        reader.seek(log.all[0], 6)
        assert [record.offset for record in await reader.poll(1)] == [6, 7, 8, 9]


async def test_a_reader_is_woken_by_the_writer_of_its_process(embedded_log: Log) -> None:
    async with embedded_log.writer() as writer, embedded_log.reader(writer=writer) as reader:
        for partition in embedded_log.all:
            reader.seek(partition, 0)
        loop = asyncio.get_running_loop()
        waits = []
        for number in range(20):
            poll = asyncio.create_task(reader.poll(10))
            await asyncio.sleep(0.005)
            await writer.append(embedded_log.topic, PRODUCT, [event(str(number))])
            appended = loop.time()
            await poll
            waits.append(loop.time() - appended)
    # polling every 0.1 s, as readers of other processes do, would give 0.05
    assert sorted(waits)[10] < 0.03


async def test_no_partition_starves_behind_a_full_one(embedded_log: Log) -> None:
    log = embedded_log
    keys = [number.to_bytes(8, "big") for number in range(3)]
    async with log.writer() as writer:
        for number in range(30):
            await writer.append(log.topic, PRODUCT, [event(str(number), key=keys[0], size=50_000)])
        for key in keys[1:]:
            await writer.append(log.topic, PRODUCT, [event("other", key=key)])
    async with log.reader(poll_bytes=100_000) as reader:
        for partition in log.all:
            reader.seek(partition, 0)
        seen: set[Partition] = set()
        for _ in range(3):
            seen |= {record.partition for record in await reader.poll(5)}
    assert {partition_of(key, 3) for key in keys} == {partition.number for partition in seen}


async def test_a_reader_sees_only_its_topics(embedded_log: Log) -> None:
    async with embedded_log.writer() as writer:
        await writer.append("other", PRODUCT, events(range(5)))
        await writer.append(embedded_log.topic, PRODUCT, events(range(3)))
    assert len(bodies(await embedded_log.everything())) == 3


async def test_reading_goes_on_in_another_process_while_it_is_written(embedded_log: Log) -> None:
    path = path_of(embedded_log)
    process = start_appender(path)
    assert process.stdout is not None
    await asyncio.to_thread(process.stdout.readline)
    log = Log(3, path=path, topic="t")
    async with log.reader() as reader:
        for partition in log.all:
            reader.seek(partition, 0)
        got: list[Record] = []
        async with asyncio.timeout(20):
            while len(got) < 50:
                got += await reader.poll(1)
    await asyncio.to_thread(kill_after, process, 1)
    assert len(await read_all(log)) >= len(got)


async def read_all(log: Log) -> list[bytes]:
    async with log.reader() as reader:
        for partition in log.all:
            reader.seek(partition, 0)
        return bodies(await read(reader, sum((await reader.end_offsets(log.all)).values())))
