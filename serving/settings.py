"""What one running service is told at its start; the API and its worker share it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

EMBEDDED_MODEL = str(Path(__file__).resolve().parents[1] / "model" / "pretrained")


@dataclass(frozen=True)
class Settings:
    """Where to listen, what to serve and where to keep it.

    model: checkpoint folder or hub id. data: folder that holds the database and the videos;
    made if absent. port 0 lets the system choose a free one.
    """

    model: str = EMBEDDED_MODEL
    host: str = "127.0.0.1"
    port: int = 8000
    data: Path = Path("data")

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the one database: our tables and the queue's, side by side."""
        return f"sqlite:///{self.data.resolve() / 'kinetograph.db'}"

    @property
    def videos(self) -> Path:
        """The folder of the finished videos."""
        return self.data / "videos"

    @property
    def lock_file(self) -> Path:
        """Held by a service and its worker, so that no two of them share a data folder."""
        return self.data / "serve.lock"

    def to_json(self) -> str:
        """The form in which a worker process is given its settings."""
        return json.dumps(asdict(self) | {"data": str(self.data.resolve())})

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """The inverse of `to_json`."""
        fields = json.loads(text)
        return cls(**fields | {"data": Path(fields["data"])})
