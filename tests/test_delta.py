"""What is needed to restore a file that was rewritten, whatever moved in it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from tonearm.library.delta import Delta, difference, restore

RANDOM = np.random.default_rng(0)
SOUND, LONG_SOUND = RANDOM.bytes(300_000), RANDOM.bytes(2_500_000)
TAG, LONGER, PICTURE = RANDOM.bytes(900), RANDOM.bytes(5_000), RANDOM.bytes(60_000)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (TAG + SOUND, LONGER + SOUND),
        (LONGER + SOUND, TAG + SOUND),  # shorter
        (LONGER + SOUND, SOUND),
        (SOUND + LONGER, SOUND + TAG),
        (SOUND + LONGER, SOUND),
        (LONG_SOUND + LONGER, LONG_SOUND),  # compared in several parts
        (TAG + LONG_SOUND + LONGER, LONGER + LONG_SOUND),
        (TAG + PICTURE + SOUND, LONGER + PICTURE + SOUND + TAG),
        (SOUND, b""),
        (b"", SOUND),
        (SOUND, SOUND),
    ],
)
def test_a_file_is_restored_from_little_of_its_own(old: bytes, new: bytes, tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.write_bytes(old)
    after.write_bytes(new)
    delta = difference(before, after)
    kept = json.dumps(delta.to_dict())
    if new:
        assert len(kept) < 9_000
    restored = io.BytesIO()
    restore(Delta.from_dict(json.loads(kept)), after, restored)
    assert restored.getvalue() == old
