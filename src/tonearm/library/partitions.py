"""A scan as a folder of Parquet files, in a file system or an object store."""

from __future__ import annotations

import io
import json
import os
import posixpath
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

from tonearm import __version__
from tonearm.atomic import atomic_write
from tonearm.errors import TonearmError, reason_of
from tonearm.extras import needs
from tonearm.library.analysis import Task
from tonearm.library.sources import open_folder, with_retries

with needs("cluster"):
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.dataset
    import pyarrow.parquet

PLAN = "scan.json"
MODEL = "model.onnx"
FILES = "files"
RESULTS = "results"
VERSION = 2
_PART = re.compile(r"part-(\d{6,})\.parquet")
_FILES_SCHEMA = pa.schema({"path": pa.binary(), "size": pa.int64(), "mtime_ns": pa.int64()})


@dataclass(frozen=True)
class Plan:
    """What to scan, and with which model.

    Attributes
    ----------
    sources
        As the user entered them, with local ones made absolute.
    model
        `Model.key`.
    partition_files
        Number of files in each partition but the last.
    files
        Total number of files.
    layout
        The folder in ``files`` that lists them; a concurrent scan that came too late has a folder
        of its own.
    unreadable
        Local folders that could not be listed, each with the reason.

    Raises
    ------
    ValueError
        If a number is impossible, as in a plan that was written by hand.
    """

    sources: tuple[str, ...]
    model: str
    partition_files: int
    files: int
    layout: str
    unreadable: dict[str, str] = field(default_factory=dict)
    tonearm_version: str = __version__
    version: int = VERSION

    def __post_init__(self) -> None:
        for name, least in (("partition_files", 1), ("files", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name}: expected a whole number from {least}, got {value!r}")

    @property
    def partitions(self) -> int:
        """The number of partitions."""
        return -(-self.files // self.partition_files)

    def files_in(self, partition: int) -> int:
        """Return the number of files in a partition."""
        return min(self.partition_files, self.files - partition * self.partition_files)


class Partitions:
    """The folder of one scan.

    In ``files/LAYOUT``, ``model.onnx`` is the bundle of the model, and ``part-000000.parquet`` and
    so on list the files; `scan.json` says which layout is valid, and that it is complete.
    ``results/part-000000.parquet`` appears when all the files of that part have been analysed.
    Each file appears complete or not at all.

    Parameters
    ----------
    path
        A folder or a URL; it need not exist yet.

    Raises
    ------
    UsageError
        If the protocol of a URL is unknown.
    OSError
        If there is no connection. Every method raises it too, if something cannot be read or
        written in three attempts.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._filesystem, self._root = open_folder(path)

    def plan(self) -> Plan | None:
        """Return the plan, or None if none was completed.

        Raises
        ------
        TonearmError
            If the plan cannot be read.
        """
        self._filesystem.invalidate_cache()
        try:
            text = self._read(self._join(PLAN))
        except FileNotFoundError:
            return None
        try:
            values = json.loads(text)
            if values["version"] != VERSION:
                raise ValueError(f"of version {values['version']}, this Tonearm reads {VERSION}")
            return Plan(**values | {"sources": tuple(values["sources"])})
        except (ValueError, KeyError, TypeError) as error:
            raise TonearmError(f"{self._join(PLAN)}: no plan of a scan: {error}") from error

    def create_plan(
        self,
        tasks: Iterable[Task],
        sources: Sequence[str],
        model: str,
        bundle: bytes,
        partition_files: int,
        unreadable: dict[str, str],
    ) -> Plan:
        """Write the bundle and the lists of files, and last the plan; return the plan.

        `unreadable` may still be filled while the tasks are consumed.

        Raises
        ------
        TonearmError
            If there are results of an earlier scan, whose plan was removed, or another scan has
            written its plan meanwhile.
        """
        if self.done():  # they would be taken for this scan's
            raise TonearmError(
                f"{self._join(RESULTS)}: holds results of another scan, whose plan is "
                "gone; remove them or name another output"
            )
        layout = uuid.uuid4().hex[:8]
        path = self._join(FILES, layout)
        self._write(posixpath.join(path, MODEL), bundle)
        remaining = iter(tasks)
        files = 0
        while batch := list(islice(remaining, partition_files)):
            rows = [(os.fsencode(task.path), task.size, task.mtime_ns) for task in batch]
            columns = [pa.array(column) for column in zip(*rows, strict=True)]
            table = pa.table(columns, schema=_FILES_SCHEMA)
            self._write_table(posixpath.join(path, _part_name(files // partition_files)), table)
            files += len(batch)
        plan = Plan(tuple(sources), model, partition_files, files, layout, unreadable)
        content = json.dumps(asdict(plan), indent=1).encode()
        self._create_plan_file(content)
        if (written := self.plan()) is None or written.layout != layout:
            with suppress(OSError):
                self._filesystem.rm(path, recursive=True)
            raise TonearmError(
                f"{self.path}: another scan has begun there meanwhile; the same call "
                "again joins it, if it is of the same"
            )
        return plan

    def bundle(self) -> bytes:
        """Return the content of the model's bundle."""
        return self._read(posixpath.join(self._layout, MODEL))

    def tasks(self, partition: int) -> list[Task]:
        """Return the files of a partition.

        Raises
        ------
        TonearmError
            If their list is damaged.
        """
        listing = posixpath.join(self._layout, _part_name(partition))
        content = self._read(listing)
        try:
            table = pyarrow.parquet.read_table(io.BytesIO(content))
        except (pa.ArrowException, OSError) as error:
            raise TonearmError(f"{listing}: damaged list of files: {reason_of(error)}") from error
        columns = table.to_pydict().values()
        return [
            Task(os.fsdecode(path), size, mtime_ns)
            for path, size, mtime_ns in zip(*columns, strict=True)
        ]

    def write_results(self, partition: int, results: pa.Table) -> None:
        """Write the results of a partition."""
        self._write_table(self._join(RESULTS, _part_name(partition)), results)

    def done(self) -> set[int]:
        """Return the partitions that have results.

        An empty file does not count: some stores and disks leave one if a writer is interrupted.

        Raises
        ------
        TonearmError
            If other files are among them that readers of the folder would mistake for results.
        """
        self._filesystem.invalidate_cache()
        results = self._join(RESULTS)
        try:
            found = with_retries(
                lambda: self._filesystem.ls(results, detail=True), self._address(results)
            )
        except FileNotFoundError:
            return set()
        done = set()
        for file in found:
            name = posixpath.basename(file["name"])
            part = _PART.fullmatch(name)
            if part and file["size"]:
                done.add(int(part[1]))
            elif not part and name.startswith("part-"):
                raise TonearmError(f"{file['name']}: no result of a scan; move it elsewhere")
        return done

    def counts(self) -> tuple[Counter[str], Counter[str]]:
        """Count the genres in the results (or verdicts other than "music") and the errors.

        Raises
        ------
        TonearmError
            If results are damaged.
        """
        genres: Counter[str] = Counter()
        errors: Counter[str] = Counter()
        if not self.done():  # without recordings there is no folder either
            return genres, errors
        path = self._join(RESULTS)
        try:
            dataset = pyarrow.dataset.dataset(path, format="parquet", filesystem=self._filesystem)
            for batch in dataset.to_batches(columns=["genre", "verdict", "error"]):
                is_music = pyarrow.compute.equal(batch["verdict"], "music")
                genre_or_verdict = pyarrow.compute.if_else(
                    is_music, batch["genre"], batch["verdict"]
                )
                genres.update(_frequencies(genre_or_verdict))
                errors.update(_frequencies(batch["error"]))
        # Arrow reports most faults of a file's content as an OSError, but one without an errno.
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            reason = reason_of(error)
            raise TonearmError(
                f"{path}: damaged results; remove them and scan again: {reason}"
            ) from error
        return genres, errors

    @cached_property
    def _layout(self) -> str:
        """The folder with the bundle and the lists of files."""
        plan = self.plan()
        if plan is None:
            raise TonearmError(f"{self.path}: no scan is planned there")
        return self._join(FILES, plan.layout)

    def _join(self, *names: str) -> str:
        return posixpath.join(self._root, *names)

    def _address(self, path: str) -> str:
        """Return a path as the user would name it, for messages."""
        return path if _is_local(self._filesystem) else self._filesystem.unstrip_protocol(path)

    def _read(self, path: str) -> bytes:
        return bytes(with_retries(lambda: self._filesystem.cat_file(path), self._address(path)))

    def _write_table(self, path: str, table: pa.Table) -> None:
        content = io.BytesIO()
        pyarrow.parquet.write_table(table, content, compression="zstd")
        self._write(path, content.getvalue())

    def _write(self, path: str, content: bytes, *, replaces: bool = True) -> None:
        """Write a file, which appears complete or not at all."""
        with_retries(lambda: self._write_once(path, content, replaces), self._address(path))

    def _write_once(self, path: str, content: bytes, replaces: bool) -> None:
        self._filesystem.makedirs(posixpath.dirname(path), exist_ok=True)
        if not _is_local(self._filesystem):  # an object store shows only complete objects
            mode = {} if replaces else {"mode": "create"}  # which not all stores know
            self._filesystem.pipe_file(path, content, **mode)
            return
        # The draft is a hidden file, which dataset readers skip.
        with atomic_write(path, replaces=replaces) as file:
            file.write(content)

    def _create_plan_file(self, content: bytes) -> None:
        """Write the plan unless there is one: of several concurrent writers, the first one wins.

        Where that is impossible (some network drives and stores), the last one wins.
        """
        path = self._join(PLAN)
        try:
            self._write(path, content, replaces=False)
        except OSError:  # stores that have the file, or cannot do that, say so in many ways
            if self.plan() is None:
                self._write(path, content)


def _part_name(partition: int) -> str:
    return f"part-{partition:06}.parquet"


def _is_local(system: Any) -> bool:
    return "file" in ([system.protocol] if isinstance(system.protocol, str) else system.protocol)


def _frequencies(column: pa.Array) -> dict[str, int]:
    pairs = column.drop_null().value_counts().to_pylist()
    return {pair["values"]: pair["counts"] for pair in pairs}
