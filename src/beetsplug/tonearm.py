"""A beets plugin that fills in the genres of a library by classifying its tracks."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from optparse import Values
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from beets import plugins, ui
from beets.dbcore import types
from beets.library import Album, Item, Library
from beets.util import displayable_path, syspath

# Only light imports here: beets imports its plugins for every command. The classifier and all it
# needs are loaded when there is something to classify.
from tonearm.errors import TonearmError, UsageError

if TYPE_CHECKING:
    from beets.importer import ImportSession, ImportTask

    from tonearm.classifier import Classifier
    from tonearm.library.mapping import GenreWords
    from tonearm.prediction import Failure, Prediction


@dataclass(frozen=True)
class _Settings:
    """The settings from the configuration and the command line.

    Attributes
    ----------
    force
        Whether to replace existing genres.
    pretend
        Whether to change nothing.
    threshold
        The minimum confidence for a genre to be used.
    mapping
        The user's own words for some labels.
    workers
        Number of processes that share the work.
    """

    force: bool
    pretend: bool
    threshold: float
    mapping: GenreWords
    workers: int

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"tonearm.threshold: expected 0 to 1, got {self.threshold:g}")
        if self.workers < 1:
            raise UsageError(f"tonearm.workers: expected 1 or more, got {self.workers}")


class TonearmPlugin(plugins.BeetsPlugin):
    """Gives tracks without a genre the one that Tonearm predicts."""

    item_types: ClassVar[dict[str, types.Type[Any, Any]]] = {
        "tonearm_genre": types.STRING,
        "tonearm_confidence": types.Float(3),
    }

    def __init__(self) -> None:
        super().__init__()
        self.config.add(
            {
                "auto": True,
                "force": False,
                "pretend": False,
                "threshold": 0.5,
                "mapping": None,
                "model": "default",
                "workers": 1,
                "threads": 1,
            }
        )
        self._classifier: Classifier | None = None
        self._import_settings: _Settings | None = None
        if self.config["auto"].get(bool):
            self.import_stages = [self._classify_imported]
            self.register_listener("pluginload", self._move_stage_last)
            self.register_listener("import_begin", self._read_import_settings)

    def commands(self) -> list[ui.Subcommand]:
        """Return the command `beet tonearm`."""
        command = ui.Subcommand("tonearm", help="fill in genres by classifying the audio")
        # No defaults, so that an option that is not given leaves its setting to the configuration.
        option = command.parser.add_option
        option("-f", "--force", action="store_true", help="replace the genres there are")
        option("-F", "--no-force", dest="force", action="store_false", help="leave them alone")
        option("-p", "--pretend", action="store_true", help="show what would change, do nothing")
        option("-t", "--threshold", type="float", metavar="P", help="least confidence, 0 to 1")
        option("-m", "--mapping", metavar="FILE", help="words of your own for the model's labels")
        option("-M", "--model", help="another model: a name or the path of a bundle")
        option("-j", "--workers", type="int", metavar="N", help="so many processes share the work")
        option("-w", "--write", action="store_true", help="write tags, whatever import.write says")
        option("-W", "--nowrite", dest="write", action="store_false", help="write no tags")
        command.func = self._command
        return [command]

    def _command(self, library: Library, options: Values, query: list[str]) -> None:
        """Classify the tracks that match a query."""
        self.config.set_args(options)
        settings = self._settings()
        items = list(library.items(query))
        write = ui.should_write(options.write)
        counts = self._fill_genres(items, settings, write=write, show=True)
        summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        self._log.info("{}{}", "would be: " if settings.pretend else "", summary or "no tracks")

    def _read_import_settings(self, session: ImportSession) -> None:
        """Read the settings before the first album is imported, so that errors show at once."""
        self._import_settings = self._settings()

    def _classify_imported(self, session: ImportSession, task: ImportTask) -> None:
        """Classify the tracks that have just been added to the library.

        Tags are not written here: beets does so itself after the import stages, if configured to.
        """
        settings = self._import_settings or self._settings()
        self._fill_genres(task.imported_items(), settings, write=False, show=settings.pretend)

    def _move_stage_last(self) -> None:
        """Move this plugin's import stage behind those of all other plugins.

        Stages run in the order in which the plugins are configured. In any order, this plugin
        has to see the genres that another (lastgenre, say) finds, and must not keep it from looking
        for them.
        """
        last = list(plugins.find_plugins())[-1]
        if last is not self:
            # Obtained the way beets does, so that their log messages keep this plugin's level.
            stages = self.get_import_stages()
            self.import_stages = []
            last.import_stages = [*last.import_stages, *stages]

    def _settings(self) -> _Settings:
        with _errors_for_users():
            return _Settings(
                force=self.config["force"].get(bool),
                pretend=self.config["pretend"].get(bool),
                threshold=self.config["threshold"].as_number(),
                mapping=self._mapping(),
                workers=self.config["workers"].get(int),
            )

    def _mapping(self) -> GenreWords:
        if not self.config["mapping"].get():
            return {}
        from tonearm.library.mapping import read_mapping

        return read_mapping(self.config["mapping"].as_filename())

    def _fill_genres(
        self, items: Sequence[Item], settings: _Settings, *, write: bool, show: bool
    ) -> Counter[str]:
        """Classify the items that may get a genre, and count the outcomes for all items."""
        pending = [item for item in items if settings.force or not _has_genre(item)]
        counts: Counter[str] = Counter()
        albums: dict[int | None, Album] = {}
        for item, result in zip(pending, self._classify(pending, settings), strict=True):
            outcome = self._apply_prediction(item, result, settings)
            counts[outcome] += 1
            if show:
                ui.show_model_changes(item, fields=["genres"])
            if settings.pretend:
                continue
            if outcome == "given a genre":
                if write:
                    item.try_write()
                if album := item.get_album():
                    albums[album.id] = album
            item.store()
        for album in albums.values():
            _summarise(album, force=settings.force)
        if skipped := len(items) - len(pending):
            counts["had one already"] = skipped
        return counts

    def _classify(
        self, items: Sequence[Item], settings: _Settings
    ) -> Iterable[Prediction | Failure]:
        if not items:
            return ()
        paths = [os.fsdecode(syspath(item.path)) for item in items]
        classifier = self._loaded_classifier(settings.mapping)
        return classifier.classify_files(paths, settings.workers)

    def _loaded_classifier(self, mapping: GenreWords) -> Classifier:
        """Return the classifier, on first use loading it and checking the mapping's labels."""
        if self._classifier is None:
            from tonearm.classifier import Classifier
            from tonearm.library.mapping import unknown_labels

            model = Path(self.config["model"].as_str()).expanduser()
            with _errors_for_users():
                self._classifier = Classifier.load(model, self.config["threads"].get(int))
            labels = self._classifier.labels
            if unknown := unknown_labels(mapping, labels):
                names = ", ".join(unknown), ", ".join(labels)
                self._log.warning("the model never predicts {}: it knows {}", *names)
        return self._classifier

    def _apply_prediction(
        self, item: Item, result: Prediction | Failure, settings: _Settings
    ) -> str:
        """Set an item's fields from its prediction, and return the outcome in a few words."""
        from tonearm.prediction import Failure

        path = displayable_path(item.path)
        if isinstance(result, Failure):
            self._log.warning("{}: {}", path, result.error)
            return "failed"
        if result.verdict == "not music":
            self._log.info("{}: not music", path)
            for field in ("tonearm_genre", "tonearm_confidence"):  # left from an earlier recording
                if field in item:
                    del item[field]
            return "not music"
        item["tonearm_genre"] = result.genre
        item["tonearm_confidence"] = result.confidence
        if result.confidence < settings.threshold:
            self._log.info("{}: {}, not sure ({:.0%})", path, result.genre, result.confidence)
            return "not sure"
        words = settings.mapping.get(result.genre, (result.genre,))
        if not words:
            self._log.info("{}: {}, which is mapped to nothing", path, result.genre)
            return "mapped to nothing"
        item["genres"] = list(words)
        return "given a genre"


def _has_genre(item: Item | Album) -> bool:
    """Check whether a track or album has a genre; blank ones do not count, as in `tonearm tag`."""
    return any(genre.strip() for genre in item["genres"] or ())


def _summarise(album: Album, *, force: bool) -> None:
    """Set an album's genre to the most common of its tracks, if it has none or with `force`."""
    genres = [item["genres"] for item in album.items() if _has_genre(item)]
    if genres and (force or not _has_genre(album)):
        album["genres"] = max(genres, key=genres.count)
        album.store(inherit=False)  # otherwise every track would get it


@contextmanager
def _errors_for_users() -> Iterator[None]:
    """Turn Tonearm's errors into ones that beets prints as a single line."""
    try:
        yield
    except TonearmError as error:
        raise ui.UserError(str(error)) from error  # type: ignore[attr-defined]
