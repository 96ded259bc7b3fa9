"""Whether uploads can still be saved, for the health check."""

from __future__ import annotations

from tempfile import TemporaryFile

from tonearm.serving.pool import public_reason

TRIAL_BYTES = 1_000_000  # the size of a short recording: a few bytes may fit even on a full disk


class Disk:
    """The disk that uploads are saved on.

    After a failed save it counts as in trouble, until another save succeeds or a small file can be
    written to it.
    """

    def __init__(self) -> None:
        self._reason: str | None = None

    def failed(self, error: OSError) -> None:
        """Note that an upload could not be saved."""
        self._reason = public_reason(error)

    def saved(self) -> None:
        """Note that an upload was saved."""
        self._reason = None

    def unavailable_reason(self) -> str | None:
        """Return why uploads cannot be saved, or None if they can; retry after a failed save."""
        if self._reason is not None:
            try:
                with TemporaryFile(prefix="tonearm-") as file:
                    file.write(bytes(TRIAL_BYTES))
            except OSError as error:
                self.failed(error)
            else:
                self.saved()
        return self._reason
