"""Whether uploads can still be saved, for those who ask how the server is."""

from __future__ import annotations

from tempfile import TemporaryFile

from tonearm.serving.listeners import told

TRIED_BYTES = 1_000_000  # as many as a short recording has: a few may fit on a disk that is full


class Disk:
    """The disk that uploads are saved on.

    Once a save has failed it is in trouble, until another one succeeds or a small file can be
    written there.
    """

    def __init__(self) -> None:
        self._reason: str | None = None

    def failed(self, error: OSError) -> None:
        """Note that an upload could not be saved."""
        self._reason = told(error)

    def saved(self) -> None:
        """Note that one could."""
        self._reason = None

    def trouble(self) -> str | None:
        """Say why no upload can be saved; None if one can. While none could, it is tried again."""
        if self._reason is not None:
            try:
                with TemporaryFile(prefix="tonearm-") as file:
                    file.write(bytes(TRIED_BYTES))
            except OSError as error:
                self.failed(error)
            else:
                self.saved()
        return self._reason
