"""What one running service is told at its start; its API and its workers share it.

The options of `kinetograph serve`, `api` and `worker` are made from these fields, and so is the
table in docs/service.md: a field that is added here is an option and is documented.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import sqlalchemy as sa
from pydantic import BeforeValidator, Field, IPvAnyNetwork, TypeAdapter
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

EMBEDDED_MODEL = str(Path(__file__).resolve().parents[1] / "model" / "pretrained")


def _setting(
    default: Any, description: str, commands: str = "serve api worker", **rule: Any
) -> Any:
    """A field: its default, a sentence's worth of words, and the commands that take it."""
    extra: Any = {"commands": commands.split()}
    return Field(default, description=description, json_schema_extra=extra, **rule)


def _split(value: Any) -> Any:
    return tuple(filter(None, value.split(","))) if isinstance(value, str) else value


@dataclass(frozen=True)
class Settings:
    """Where to listen, what to serve, where to keep it, and how long to wait for what."""

    model: str | None = _setting(
        None, "checkpoint folder or hub id that is served alone, in place of models", "serve worker"
    )
    host: str = _setting("127.0.0.1", "address to listen on", "serve api")
    port: int = _setting(8000, "port to listen on; 0: any free one", "serve api", ge=0, le=65535)
    data: Path = _setting(
        Path("data"), "folder of the videos, and of the database if it is SQLite; made if absent"
    )
    storage: str | None = _setting(
        None,
        "URL of a bucket for the videos, such as s3://bucket/prefix; a folder in data if not given",
    )
    storage_redirects: bool = _setting(
        False,
        "yes: clients are sent to the bucket by signed addresses, valid for 5 minutes",
        "serve api",
    )
    database: str | None = _setting(
        None,
        "URL of the database, such as postgresql://user@host/name; SQLite in data if not given",
    )
    workers: int = _setting(1, "worker processes beside the API", "serve", ge=1, le=64)
    models_dir: Path = _setting(
        Path("configs/models"),
        "folder of the served models' YAML files; the embedded model if it has none",
        "serve worker",
    )
    memory_limit: float | None = _setting(
        None,
        "GB of a device that a worker's models may take; its share of what is free if not given",
        "serve worker",
        gt=0,
    )
    device: str | None = _setting(
        None,
        "cuda:0, cpu, ...; if not given, each worker of a machine takes its next GPU, or the CPU",
        "serve worker",
    )
    compile: bool = _setting(
        False,
        "yes: networks that stay on the device are compiled, and warmed up when a model is opened; "
        "for GPUs, as it takes minutes and gains little on a CPU",
        "serve worker",
    )
    lease: float = _setting(
        15.0, "seconds of silence after which a worker's job is given to another", ge=1
    )
    step_timeout: float = _setting(
        900.0,
        "seconds without progress after which a worker counts as hung and is restarted",
        "serve worker",
        gt=0,
    )
    grace: float = _setting(
        5.0,
        "seconds that a worker which is asked to stop has to finish its job; then it hands it back",
        "serve worker",
        ge=0,
    )
    retention: float | None = _setting(
        None,
        "hours for which a video is kept after its job is over; then all of it is removed; for "
        "ever if not given",
        gt=0,
    )
    most_queued: int = _setting(
        1000, "jobs that one user may have waiting; more are refused with 429", "serve api", ge=1
    )
    keyless: bool = _setting(
        False,
        "yes: everybody who reaches an address that is not this machine's own may use the service, "
        "though it has no API keys",
        "serve api",
    )
    policy: Path | None = _setting(
        None, "YAML file of the content policy; nothing is refused if not given", "serve api"
    )
    signing_certificate: Path | None = _setting(
        None,
        "PEM file of the certificates by which videos are signed (C2PA), the signer's first; a "
        "private authority in data if not given",
    )
    signing_key: Path | None = _setting(
        None, "PEM file of the key that belongs to it", "serve worker"
    )
    prompt_in_manifest: bool = _setting(
        False, "yes: the signed manifest of a video holds its prompt", "serve worker"
    )
    visible_mark: str | None = _setting(
        None, "words in the corner of every frame, such as AI", "serve worker", max_length=40
    )
    logs: Literal["text", "json"] = _setting(
        "text", "text or json: the form of what is logged; in json with the id of the request"
    )
    log_prompts: bool = _setting(
        False, "yes: prompts are logged as they are asked for, refused ones too", "serve api"
    )
    private_networks: Annotated[tuple[IPvAnyNetwork, ...], BeforeValidator(_split)] = _setting(
        (),
        "networks such as 10.0.0.0/8, with commas between, in which webhooks and web addresses of "
        "inputs may be though they are not public; http is allowed there, too",
    )

    def __post_init__(self) -> None:
        scheme = self.database_url.split(":")[0].split("+")[0]
        if scheme not in ("postgresql", "sqlite"):
            raise ValueError("database must begin with postgresql:// or sqlite:///")

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the one database: our tables and the queue's, side by side."""
        if self.database is None:
            return f"sqlite:///{self.data.resolve() / 'kinetograph.db'}"
        try:
            url = sa.make_url(self.database)
        except sa.exc.ArgumentError:
            raise ValueError(
                "database must be a URL, such as postgresql://user@host/name"
            ) from None
        if url.drivername in ("postgres", "postgresql"):
            url = url.set(drivername="postgresql+psycopg")
        return url.render_as_string(hide_password=False)

    @property
    def videos(self) -> Path:
        """The folder of the finished videos."""
        return self.data / "videos"

    @property
    def scratch(self) -> Path:
        """The folder of what is about to be put into a bucket, or was just read from it."""
        return self.data / "scratch"

    @property
    def provenance(self) -> Path:
        """The folder of the private authority and its keys."""
        return self.data / "provenance"

    @property
    def anchors(self) -> Path:
        """The certificate of the authority whose signatures are trusted."""
        return self.signing_certificate or self.provenance / "authority.pem"

    @property
    def lock_file(self) -> Path:
        """Held by a service and its workers, so that no two of them share a data folder."""
        return self.data / "serve.lock"

    def to_json(self) -> str:
        """The form in which a worker process is given its settings."""
        data, models_dir = self.data.resolve(), self.models_dir.resolve()
        absolute = dataclasses.replace(self, data=data, models_dir=models_dir)
        return _adapter.dump_json(absolute).decode()

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """The inverse of `to_json`."""
        return _adapter.validate_json(text)


_adapter = TypeAdapter(Settings)


def options(command: str) -> dict[str, FieldInfo]:
    """The settings that `kinetograph command` takes, by option, with default and description."""
    fields: dict[str, FieldInfo] = vars(Settings)["__pydantic_fields__"]
    return {
        f"--{name.replace('_', '-')}": field
        for name, field in fields.items()
        if command in cast(dict[str, list[str]], field.json_schema_extra)["commands"]
    }


def table() -> str:
    """The settings as a table of Markdown, the one in docs/service.md."""
    commands = {name: options(name) for name in ("serve", "api", "worker")}
    lines = ["| option | default | of | meaning |", "|---|---|---|---|"]
    for option, setting in {k: v for known in commands.values() for k, v in known.items()}.items():
        default = "" if setting.default in (None, ()) else f"`{setting.default}`"
        takers = ", ".join(name for name, known in commands.items() if option in known)
        lines.append(f"| `{option}` | {default} | {takers} | {setting.description} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
