"""Fetch a file over HTTP with resume, and check it against its published checksum."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

_CHUNK = 1 << 20
_TIMEOUT_S = 30


def md5_of(path: Path) -> str:
    """MD5 of a file in hexadecimal. It guards against damage, not malice: it is what the sets' sites publish."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def fetch(url: str, target: Path, md5: str, *, report: Callable[[str], None] = print) -> None:
    """Download `url` to `target`, which appears only when complete and of the given MD5.

    What has arrived stays in target.part; the next call asks the server for the rest. Raises ConnectionError when the
    address cannot be reached or the transfer breaks off, ValueError when the checksum is wrong (the .part is removed).
    """
    part = target.with_name(f"{target.name}.part")
    _transfer(url, part, report)
    actual = md5_of(part)
    if actual != md5:
        part.unlink()
        raise ValueError(f"{url}: what arrived has MD5 {actual}, not the published {md5}: removed, try again")
    os.replace(part, target)


def _transfer(url: str, part: Path, report: Callable[[str], None]) -> None:
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "saccade", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            return  # nothing is left to fetch; the checksum decides
        raise ConnectionError(f"{url}: the server answers {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(f"{url}: cannot be reached ({_reason(error)})") from None
    with response:
        resumed = response.status == http.client.PARTIAL_CONTENT
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        size = f"{total:,} bytes" if total else "size unknown"
        report(f"{'resuming' if resumed else 'fetching'} {url} ({size}{f', {have:,} are here' if have else ''})")
        with part.open("ab" if resumed else "wb") as file:
            shown = have
            while chunk := _read(response, url, part):
                file.write(chunk)
                if total and file.tell() - shown >= total / 10:
                    shown = file.tell()
                    report(f"  {100 * shown // total} %")
    arrived = part.stat().st_size
    if total is not None and arrived < total:
        raise ConnectionError(f"{url}: broke off at {arrived:,} of {total:,} bytes: run again to resume")


def _read(response: http.client.HTTPResponse, url: str, part: Path) -> bytes:
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(f"{url}: broke off ({_reason(error)}), {part} is kept: run again to resume") from None


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
