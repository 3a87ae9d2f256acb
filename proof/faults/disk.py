"""Disks that are full, read-only or damaged, power cuts, and a folder that is not what it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

from proof import oracle, power_cut, shim
from proof.ledger import Ledger
from proof.load import Load, LoadPlan
from proof.oracle import Red
from proof.scene import Fault, Scene
from proof.topologies import EmbeddedTopology
from tests.end_to_end.services import IMPACT, wait_until
from tests.rig.servers import free_port

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

    from tests.rig.servers import ServerProcess


def broker_full(scene: Scene) -> None:
    kafka = scene.servers.kafka
    kafka.stop()
    with _under_a_full_disk(kafka.process, kafka.data_folder) as full:
        kafka.start()
        scene.moment()
        full.touch()
        scene.last(10)
        full.unlink()
        scene.tell("the broker lived" if kafka.process.running else "the broker ended")
        kafka.kill()
    kafka.start()


def database_full(scene: Scene) -> None:
    postgres = scene.servers.postgres
    postgres.stop()
    with _under_a_full_disk(postgres.process, postgres._data) as full:
        postgres.start()
        scene.moment()
        full.touch()
        scene.last(10)
        full.unlink()
        scene.tell("the server lived" if postgres.process.running else "the server ended")
        postgres.kill()
    postgres.start()


@contextmanager
def _under_a_full_disk(process: ServerProcess, data: Path) -> Iterator[Path]:
    """The server's next start is over the layer; the file that makes its disk full."""
    full = data.parent / "full"
    layer = [f"{name}={value}" for name, value in shim.environment(data, full=full).items()]
    plain, process._command = process._command, ["env", *layer, *process._command]
    try:
        yield full
    finally:
        process._command = plain
        full.unlink(missing_ok=True)


def embedded_full(scene: Scene) -> None:
    door = scene.embedded.door
    scene.full.touch()
    try:
        wait_until(lambda: not _is_ready(door.url), "the door says that it cannot work", 30)
        scene.last(10)
    finally:
        scene.full.unlink()
    wait_until(lambda: _is_ready(door.url), "the door works again", 60)


def _is_ready(url: str) -> bool:
    return httpx.get(f"{url}/readyz", timeout=5, verify=False).status_code == 200


def second_process(scene: Scene) -> None:
    scene.moment()
    _must_refuse(scene.embedded, "is in use by another process")


def older_log(scene: Scene) -> None:
    """The numbers are newer than the log that is put under them: nothing is counted, the start says why."""
    service, older = scene.embedded, scene.embedded.folder / "older"
    service.door.stop()
    _copy_log(service.data, older)
    service.door.start()
    scene.moment(1.0, 2.0)
    service.door.stop()
    newer = service.folder / "newer"
    _copy_log(service.data, newer)
    _copy_log(older, service.data)
    _must_end(service, "ends at offset")
    _copy_log(newer, service.data)
    for folder in (older, newer):
        shutil.rmtree(folder)
    service.door.start()


def corrupt_page(folder: Path, source: random.Random, pace: float) -> list[str]:
    """Whoever reads overwritten pages says so and stops; with the log from a copy all is as it was."""
    ledger = Ledger(folder / "ledger.db")
    with EmbeddedTopology(folder) as service:
        load = Load(service, ledger, LoadPlan(), source.randrange(1000))
        load.start()
        time.sleep(max(2.0, 5 * pace))
        load.end()
        oracle.drain(service)
        service.door.stop()
        kept = folder / "kept"
        shutil.copytree(service.data, kept)
        _overwrite_pages(service.data / "events.db", source)
        told = _verify_fails(service)
        for numbers in service.data.glob("metrics.db*"):
            numbers.unlink()
        code = _must_end(service, "damaged")
        shutil.rmtree(service.data)
        kept.rename(service.data)
        service.door.start()
        oracle.check(service, ledger)
    ledger.close()
    return [f"verify: {told}", f"recounting ended with {code}"]


def _overwrite_pages(file: Path, source: random.Random) -> None:
    with file.open("r+b") as stream:
        pages = file.stat().st_size // 4096
        for page in range(pages // 2, pages // 2 + 3):
            stream.seek(page * 4096)
            stream.write(source.randbytes(4096))


def _verify_fails(service: EmbeddedTopology) -> str:
    done = subprocess.run(
        [*IMPACT, "verify", "--data", str(service.data)],
        cwd=service.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode == 0 or "damaged" not in done.stderr + done.stdout:
        raise Red(f"L1 verify passed over damaged pages: {done.returncode}, {done.stderr[-300:]}")
    return f"exit code {done.returncode}"


def read_only(folder: Path, source: random.Random, pace: float) -> list[str]:  # noqa: ARG001 - as every fault
    """A folder that cannot be written to: the start ends and says so, and nothing has changed."""
    with EmbeddedTopology(folder) as service:
        service.door.stop()
        with _made_read_only(service.data):
            service.door.spawn()
            code = service.door.wait(60)
        words = (folder / "up.log").read_text()[-3000:]
        if code != 1 or "Traceback" in words:
            raise Red(f"L7 a read-only folder ends the start with {code}: {words[-400:]}")
        service.door.start()
    return [f"exit code {code}"]


@contextmanager
def _made_read_only(folder: Path) -> Iterator[None]:
    if os.geteuid() != 0:
        folder.chmod(0o500)
        try:
            yield
        finally:
            folder.chmod(0o700)
        return
    for options in (["--bind"], ["-o", "remount,ro,bind"]):  # rights do not bind root
        subprocess.run(["mount", *options, str(folder), str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def cut_power(folder: Path, source: random.Random, pace: float) -> list[str]:
    """At hundreds of places between two writes."""
    return power_cut.run(folder, source, pace)


def _must_refuse(service: EmbeddedTopology, words: str) -> None:
    """A second process on the folder of a running one."""
    second = EmbeddedTopology(service.folder).door
    second.name = "second"
    second._command = [*second._command[:-1], str(free_port())]
    second._log = service.folder / "second.log"
    second.spawn()
    code = second.wait(60)
    said = second._log.read_text()
    if code != 1 or words not in said:
        raise Red(f"L2 a second process on the same folder ended with {code}: {said[-300:]}")


def _must_end(service: EmbeddedTopology, words: str) -> int:
    service.door.spawn()
    code = service.door.wait(60)
    said = (service.folder / "up.log").read_text()[-3000:]
    if code == 0 or words not in said:
        raise Red(f"L2 the service went on: exit code {code}, {said[-300:]}")
    return code


def _copy_log(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for name in ("events.db", "events.db-wal", "events.db-shm"):
        (target / name).unlink(missing_ok=True)
        if (source / name).exists():
            shutil.copy(source / name, target / name)


FAULTS = (
    Fault("broker-disk-full", "30", "the broker's disk is full for 10 s", broker_full),
    Fault("database-disk-full", "31", "the database's disk is full for 10 s", database_full),
    Fault(
        "embedded-disk-full",
        "32",
        "`impact up`: disk full for 10 s",
        embedded_full,
        kind="embedded",
        layered=True,
    ),
    Fault(
        "power-cut",
        "33",
        "`impact up`: the power is cut between any two writes",
        kind="embedded",
        alone=cut_power,
    ),
    Fault(
        "corrupt-page",
        "33",
        "`impact up`: pages of the log are overwritten",
        kind="embedded",
        alone=corrupt_page,
    ),
    Fault("read-only", "33", "`impact up`: the folder is read-only", kind="embedded", alone=read_only),
    Fault("second-process", "33", "`impact up` twice on one folder", second_process, kind="embedded"),
    Fault("older-log", "33", "`impact up`: events.db replaced by an older copy", older_log, kind="embedded"),
)
