"""Downloads one file: resumable, checked, and moved into place when complete."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from awac.errors import DataError

_BLOCK = 1 << 20
_TIMEOUT_SECONDS = 60


def fetch(url: str, target: Path, magic: bytes, progress: bool) -> None:
    """Fetches `url` to `target`.

    The bytes first go to `<target>.part` beside it; a part that an earlier attempt left is continued.

    Args:
        url: http or https.
        target: where the whole file goes.
        magic: first bytes that the file must have.
        progress: show a bar on stderr if that is a terminal.

    Raises:
        DataError: the server refuses, the connection ends early, the content is wrong, or it cannot be written.
    """
    if not url.startswith(("http://", "https://")):
        raise DataError(f"{url}: only http and https addresses can be downloaded; check AWAC_D4RL_URL")
    part = target.with_name(target.name + ".part")
    try:
        with _disk(part):
            target.parent.mkdir(parents=True, exist_ok=True)
        total = _transfer(url, part, progress)
        received = part.stat().st_size
    except urllib.error.HTTPError as error:
        raise DataError(
            f"{url}: the server answered {error.code} {error.reason}; check the name or try later"
        ) from None
    except (http.client.HTTPException, OSError) as error:  # also what TLS and sockets raise
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise DataError(f"{url}: the download failed ({reason}); run again to continue") from None
    if total is not None and received < total:
        raise DataError(f"{url}: the connection ended after {received} of {total} bytes; run again to continue")
    with open(part, "rb+") as file:
        sound = file.read(len(magic)) == magic and received == (total or received)
        os.fsync(file.fileno())
    if not sound:
        part.unlink()
        raise DataError(
            f"{url}: what the server sent is not an HDF5 file of the announced size; try later or get it by hand"
        )
    os.replace(part, target)


def _transfer(url: str, part: Path, progress: bool) -> int | None:
    """Appends what is missing to `part`; returns the whole file's size if the server sends it."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        # The part is complete or belongs to another file: start again.
        part.unlink()
        return _transfer(url, part, progress)
    with response:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        resumed = response.status == 206
        if resumed and (span is None or int(span[1]) != have):
            part.unlink()
            return _transfer(url, part, progress)
        length = response.headers.get("Content-Length")
        total = int(span[2]) if resumed and span else int(length) if length else None
        done = have if resumed else 0
        with _disk(part):
            file = open(part, "ab" if resumed else "wb")  # noqa: SIM115
        with (
            file,
            tqdm(
                total=total,
                initial=done,
                desc=f"downloading {part.stem}",
                unit="B",
                unit_scale=True,
                disable=None if progress else True,
            ) as bar,
        ):
            # read1 returns what has arrived, so a broken connection loses nothing.
            while block := response.read1(_BLOCK):
                with _disk(part):
                    file.write(block)
                    file.flush()
                bar.update(len(block))
    return total


@contextlib.contextmanager
def _disk(part: Path):
    """What fails here is the disk, not the connection."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{part}: cannot be written ({error.strerror}); free space or set D4RL_DATASET_DIR") from None
