"""A scan as a folder of Parquet files, in the file system or an object store."""

from __future__ import annotations

import io
import json
import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from tonearm import __version__
from tonearm.audio import printable
from tonearm.errors import MissingExtraError, TonearmError
from tonearm.library.listener import Task
from tonearm.library.sources import open_folder, persistently
from tonearm.whole import whole

try:
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.dataset
    import pyarrow.parquet
except ImportError as error:
    raise MissingExtraError("pyarrow", "cluster") from error

PLAN = "scan.json"
MODEL = "model.onnx"
FILES = "files"
RESULTS = "results"
VERSION = 1
_FILES_SCHEMA = pa.schema({"path": pa.binary(), "size": pa.int64(), "mtime_ns": pa.int64()})


@dataclass(frozen=True)
class Plan:
    """What is to be scanned, and by whom.

    Attributes
    ----------
    sources
        As they were named, local ones absolute.
    model
        `Model.key`.
    partition_files
        Files in each partition but the last.
    files
        In all.
    unreadable
        Local folders that could not be listed, and why.
    """

    sources: tuple[str, ...]
    model: str
    partition_files: int
    files: int
    unreadable: dict[str, str] = field(default_factory=dict)
    tonearm_version: str = __version__
    version: int = VERSION

    @property
    def partitions(self) -> int:
        """How many there are."""
        return -(-self.files // self.partition_files)

    def files_in(self, partition: int) -> int:
        """How many files there are in a partition."""
        return min(self.partition_files, self.files - partition * self.partition_files)


class Partitions:
    """The folder of one scan.

    ``model.onnx`` is the bundle that listens, ``files/part-000000.parquet`` and so on list the
    files, `scan.json` says that the list is complete, and ``results/part-000000.parquet`` appears
    when all of ``files/part-000000.parquet`` have been listened to. Each is there as a whole or not
    at all.

    Parameters
    ----------
    path
        A folder or an address; it need not be there yet.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._system, self._root = open_folder(path)

    def plan(self) -> Plan | None:
        """Return what was planned, or None if that was not done to the end.

        Raises
        ------
        TonearmError
            If the plan cannot be read.
        """
        self._system.invalidate_cache()
        try:
            text = persistently(lambda: self._system.cat_file(self._place(PLAN)))
        except FileNotFoundError:
            return None
        try:
            values = json.loads(text)
            if values["version"] != VERSION:
                raise ValueError(f"of version {values['version']}, this Tonearm reads {VERSION}")
            return Plan(**values | {"sources": tuple(values["sources"])})
        except (ValueError, KeyError, TypeError) as error:
            raise TonearmError(
                f"{printable(self._place(PLAN))}: no plan of a scan: {error}"
            ) from error

    def lay_out(
        self,
        tasks: Iterable[Task],
        sources: Sequence[str],
        model: str,
        bundle: bytes,
        partition_files: int,
        unreadable: dict[str, str],
    ) -> Plan:
        """Write down who listens, to which files, and last the plan.

        `unreadable` may fill while the tasks are taken.
        """
        self._put(self._place(MODEL), bundle)
        waiting = iter(tasks)
        files = 0
        while batch := list(islice(waiting, partition_files)):
            rows = [(os.fsencode(task.path), task.size, task.mtime_ns) for task in batch]
            columns = [pa.array(column) for column in zip(*rows, strict=True)]
            table = pa.table(columns, schema=_FILES_SCHEMA)
            self._put_table(self._part(FILES, files // partition_files), table)
            files += len(batch)
        plan = Plan(tuple(sources), model, partition_files, files, unreadable)
        self._put(self._place(PLAN), json.dumps(asdict(plan), indent=1).encode())
        return plan

    def bundle(self) -> bytes:
        """Return the content of the bundle that listens."""
        return bytes(persistently(lambda: self._system.cat_file(self._place(MODEL))))

    def tasks(self, partition: int) -> list[Task]:
        """Return the files of a partition."""
        content = persistently(lambda: self._system.cat_file(self._part(FILES, partition)))
        columns = pyarrow.parquet.read_table(io.BytesIO(content)).to_pydict().values()
        return [
            Task(os.fsdecode(path), size, mtime_ns)
            for path, size, mtime_ns in zip(*columns, strict=True)
        ]

    def put(self, partition: int, results: pa.Table) -> None:
        """Write the results of a partition."""
        self._put_table(self._part(RESULTS, partition), results)

    def done(self) -> set[int]:
        """Return the partitions whose results are there."""
        self._system.invalidate_cache()
        try:
            places = persistently(lambda: self._system.ls(self._place(RESULTS), detail=False))
        except FileNotFoundError:
            return set()
        names = map(posixpath.basename, places)
        return {int(name[5:-8]) for name in names if name.startswith("part-")}

    def counts(self) -> tuple[Counter[str], Counter[str]]:
        """Count the genres in the results (the verdict, where none stands) and the errors."""
        genres: Counter[str] = Counter()
        errors: Counter[str] = Counter()
        if not self.done():  # there were no recordings, and then there is no folder either
            return genres, errors
        dataset = pyarrow.dataset.dataset(
            self._place(RESULTS), format="parquet", filesystem=self._system
        )
        for batch in dataset.to_batches(columns=["genre", "verdict", "error"]):
            stands = pyarrow.compute.equal(batch["verdict"], "music")
            shown = pyarrow.compute.if_else(stands, batch["genre"], batch["verdict"])
            genres.update(_frequencies(shown))
            errors.update(_frequencies(batch["error"]))
        return genres, errors

    def _place(self, *names: str) -> str:
        return posixpath.join(self._root, *names)

    def _part(self, folder: str, partition: int) -> str:
        return self._place(folder, f"part-{partition:06}.parquet")

    def _put_table(self, place: str, table: pa.Table) -> None:
        content = io.BytesIO()
        pyarrow.parquet.write_table(table, content, compression="zstd")
        self._put(place, content.getvalue())

    def _put(self, place: str, content: bytes) -> None:
        """Write a file, which is there as a whole afterwards or not at all."""
        persistently(lambda: self._put_once(place, content))

    def _put_once(self, place: str, content: bytes) -> None:
        self._system.makedirs(posixpath.dirname(place), exist_ok=True)
        if not _is_local(self._system):  # a store of objects shows none before it is complete
            self._system.pipe_file(place, content)
            return
        with whole(place) as file:  # its draft is hidden: readers of data sets pass it over
            file.write(content)


def _is_local(system: Any) -> bool:
    return "file" in ([system.protocol] if isinstance(system.protocol, str) else system.protocol)


def _frequencies(column: pa.Array) -> dict[str, int]:
    pairs = column.drop_null().value_counts().to_pylist()
    return {pair["values"]: pair["counts"] for pair in pairs}
