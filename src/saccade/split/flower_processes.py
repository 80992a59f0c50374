"""Flower's programs: a SuperLink with its run, and a SuperNode of a client that is kept running.

With keys the line is TLS, and a SuperLink lets those SuperNodes in alone whose public key it was told.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from saccade.split.fleet_front import fleet_front
from saccade.split.keys import public_keys, supernode_key
from saccade.split.wire import Refused

BUNDLE = Path(__file__).parent / "flower_app"
POLL_S = 0.5
LIBC, PR_SET_PDEATHSIG = (ctypes.CDLL(None) if sys.platform == "linux" else None), 1
ENVIRONMENT = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_UPDATE_CHECK": "0", "PYTHONUNBUFFERED": "1"}
REFUSAL = b"[code: 2004]"  # of a SuperLink that knows no such key, or counts a killed SuperNode of it as still there
REFUSED_S = 90.0  # for which that may pass: keys are registered after the start, and the dead count for 60 s
# registers each file's key; one process for all, since Flower's command takes seconds to start
REGISTER = (
    "import sys; from flwr.cli.app import app\n"
    "for key in sys.argv[1:]: app(['supernode', 'register', key, 'own'], standalone_mode=False)"
)


def free_port() -> int:
    """A port for a process that is yet to start: below those that systems give to connections that go out (from 32768 on
    Linux), so that none takes it meanwhile.

    Raises OSError: none of fifty is free."""
    for port in random.SystemRandom().sample(range(15000, 32000), 50):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("no port between 15000 and 32000 is free on 127.0.0.1")


def _environment(home: Path) -> dict[str, str]:
    own = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, **ENVIRONMENT, "PATH": own, "FLWR_HOME": str(home)}


def _end_with_parent() -> None:
    """In a child, on Linux: be asked to end when the parent dies, of ``kill -9`` too.

    A SuperNode that outlives its command keeps its key in use, and a SuperLink its port: neither could be started again.
    """
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextlib.contextmanager
def process(arguments: list[str], home: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program of Flower's, in a session of its own, that ends with the block or its process, its children too."""
    program = Path(sys.executable).parent / arguments[0]
    if not program.exists():
        raise ModuleNotFoundError(f"{arguments[0]} is not there: pip install 'saccade-snn[split]'")
    with log.open("ab") as out:
        child = subprocess.Popen(
            [str(program), *arguments[1:]], env=_environment(home), stdout=out, stderr=out, start_new_session=True,
            preexec_fn=_end_with_parent,
        )  # fmt: skip
        try:
            yield child
        finally:
            stop(child)


def stop(child: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    for kind, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(child.pid, kind)
        except ProcessLookupError:
            break
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
    child.wait(5)


def tls_of_server(keys: Path | None) -> list[str]:
    if keys is None:
        return ["--insecure"]
    names = {"--ssl-certfile": "certificate.pem", "--ssl-keyfile": "key.pem", "--ssl-ca-certfile": "ca.pem"}
    return ["--enable-supernode-auth", *(word for option, file in names.items() for word in (option, str(keys / file)))]


def tls_of_client(keys: Path | None) -> list[str]:
    if keys is None:
        return ["--insecure"]
    return ["--root-certificates", str(keys / "ca.pem"), "--auth-supernode-private-key", str(supernode_key(keys))]


def write_config(home: Path, superlink: str, keys: Path | None) -> None:
    """The connection of the ``flwr`` command to our SuperLink."""
    lines = ["[superlink]", 'default = "own"', "", "[superlink.own]", f"address = {json.dumps(superlink)}"]
    lines.append(
        "insecure = true" if keys is None else f"root-certificates = {json.dumps(str((keys / 'ca.pem').resolve()))}"
    )
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_text("\n".join(lines) + "\n")


def wait_for_port(address: str, seconds: float, child: subprocess.Popen[bytes], log: Path) -> None:
    """Raises OSError if nobody listens there in time, or the process ends."""
    host, _, port = address.rpartition(":")
    until = time.monotonic() + seconds
    while time.monotonic() < until and child.poll() is None:
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise OSError(f"{address}: the SuperLink did not come up ({_last_line(log)})")


def _command(words: list[str], home: Path, what: str) -> None:
    """Run a command of Flower's. Raises OSError with the end of what it said if it fails."""
    done = subprocess.run(words, env=_environment(home), capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise OSError(f"{what} failed: {' '.join((done.stdout + done.stderr).split())[-300:]}")


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"


def run_superlink(
    options: Any, plain_recipe: Mapping[str, Any], say: Callable[[str], None], alive: Callable[[], bool]
) -> None:
    """Start a SuperLink, submit the run, and wait while ``alive()``. Raises OSError if either ends before its time."""
    with tempfile.TemporaryDirectory(prefix="saccade-flower-") as name:
        home, log = Path(name), options.out / "superlink.log"
        inner = f"127.0.0.1:{free_port()}"
        write_config(home, inner, options.keys)
        file = home / "options.json"
        kept = asdict(options) | {
            "out": str(options.out.resolve()),
            "keys": options.keys and str(options.keys.resolve()),
        }
        file.write_text(json.dumps({"recipe": plain_recipe, "options": kept}))
        host, _, port = inner.rpartition(":")
        words = ["flower-superlink", *tls_of_server(options.keys), "--host", host, "--port", port]
        with process([*words, "--disable-runtime-dependency-installation"], home, log) as child:
            wait_for_port(inner, 120, child, log)
            with fleet_front(options.superlink, inner, options.keys):
                say(f"SuperLink on {options.superlink}")
                if options.keys is not None:
                    known = [str(key) for key in public_keys(options.keys, options.clients)]
                    _command([sys.executable, "-c", REGISTER, *known], home, "registering the SuperNodes' keys")
                    say(f"lets {len(known)} SuperNodes in, by their keys")
                flwr = str(Path(sys.executable).parent / "flwr")
                _command([flwr, "run", str(BUNDLE), "own", "--run-config", f'options="{file}"'], home, "flwr run")
                while alive():
                    if child.poll() is not None:
                        raise OSError(f"the SuperLink ended ({_last_line(log)})")
                    time.sleep(POLL_S)


def run_supernode(given: Any, say: Callable[[str], None]) -> None:
    """Keep a SuperNode for this client until the server has said that it is over; one that ends is started again for
    ``retry_s``. Raises OSError where there is no SuperLink, Refused where it does not let the key in."""
    with tempfile.TemporaryDirectory(prefix="saccade-flower-") as name:
        home = Path(name)
        over, file, log = home / "over", home / "options.json", home / "supernode.log"
        keys = given.keys and str(given.keys.resolve())
        kept = asdict(given) | {"keys": keys}
        file.write_text(json.dumps({"name": given.name, "keys": keys, "over": str(over), "client": kept}))
        words = ["flower-supernode", *tls_of_client(given.keys), "--superlink", given.server]
        words += ["--port", str(free_port()), "--node-config", f'options="{file}"']
        lost = refused = None
        while not over.exists():
            said = log.stat().st_size if log.exists() else 0
            with process(words, home, log) as child:
                if refused is None:
                    say(f"{given.name}: SuperNode of {given.server}")
                began = time.monotonic()
                while not over.exists() and child.poll() is None:
                    time.sleep(POLL_S)
                if child.poll() is None:
                    time.sleep(2 * POLL_S)  # its answer goes out
                    continue
            lost = began if lost is None or time.monotonic() - began > 60 else lost
            if given.keys is None or REFUSAL not in log.read_bytes()[said:]:
                refused = None
                if time.monotonic() - lost > given.retry_s:
                    raise OSError(f"{given.server}: the SuperNode ended ({_last_line(log)})")
            elif refused is None:
                refused = began
                say(f"{given.name}: the SuperLink does not let this SuperNode in yet; trying again")
            elif time.monotonic() - refused > min(REFUSED_S, given.retry_s):
                key = supernode_key(given.keys)
                raise Refused("NOT_INVITED", f"{given.server}: refuses {given.name}: {key} is no key that it knows")
            time.sleep(2.0)  # a SuperLink that was killed takes SuperNodes with it; it may come back
    say(f"{given.name}: over")
