"""Every setting, and the only reader of the environment. `docs/operations.md` has the table made from this file."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

PREFIX = "REELWORKS_"
START = secrets.token_hex(3)
"""Tells this start of the process from all others. In a container the process id is the same each time."""


class SettingsError(ValueError):
    """A setting that cannot be used: says which, its value, and what is accepted."""


def _doc(text: str, **limits: Any) -> Meta:
    return Meta(description=text, **limits)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one process. Field `x` is read from `REELWORKS_X` unless `NAMES` says otherwise.

    Lists are separated by commas. Durations are seconds, sizes are bytes.
    """

    # Kafka
    bootstrap_servers: Annotated[str, _doc("Brokers, `host:port` with commas. Empty: `reelworks up` starts the embedded Kafka.")] = ""
    group_protocol: Annotated[
        Literal["consumer", "classic"],
        _doc("`consumer` (KIP-848, Kafka ≥ 4.0) or `classic` for clusters that do not allow short sessions with it."),
    ] = "consumer"
    kafka_config: Annotated[str, _doc("File with further librdkafka settings, `name=value` a line (security.protocol, sasl.*, ssl.*).")] = (
        ""
    )
    topic_replication: Annotated[int, _doc("Replication factor that `topics apply` asks for.", ge=1, le=7)] = 1
    # Storage
    storage_url: Annotated[str, _doc("`file:///folder` or `s3://bucket`. The default bucket.")] = ""
    buckets: Annotated[tuple[str, ...], _doc("Further buckets that requests may name; for a folder, its sibling folders.")] = ()
    s3_endpoint: Annotated[str, _doc("Endpoint of an S3-compatible store.")] = ""
    s3_region: Annotated[str, _doc("Region for signatures.")] = "us-east-1"
    s3_public_endpoint: Annotated[str, _doc("Endpoint that browsers reach, for signed URLs, where it differs.")] = ""
    s3_app_key: Annotated[str, _doc("Access key id of the services (read and write).")] = ""
    s3_app_secret: Annotated[str, _doc("Its secret.")] = ""
    s3_session_token: Annotated[str, _doc("Session token of temporary credentials.")] = ""
    s3_ingest_key: Annotated[str, _doc("Access key id for uploads (write). Empty: the services'.")] = ""
    s3_ingest_secret: Annotated[str, _doc("Its secret.")] = ""
    s3_delivery_key: Annotated[str, _doc("Access key id for delivery (read). Empty: the services'.")] = ""
    s3_delivery_secret: Annotated[str, _doc("Its secret.")] = ""
    signing_key: Annotated[str, _doc("Key of the gateway's own signed URLs. Empty: made and kept in the data folder.")] = ""
    signed_url_seconds: Annotated[int, _doc("Life of signed URLs.", ge=30, le=7 * 86400)] = 3600
    playback_keys: Annotated[
        str,
        _doc("Keys of playback tokens, `id:secret` with commas: the first signs, all verify. Empty: one made from the signing key."),
    ] = ""
    playback_seconds: Annotated[int, _doc("Life of a playback token.", ge=60, le=30 * 86400)] = 6 * 3600
    hls_delivery: Annotated[
        Literal["auto", "redirect", "proxy"],
        _doc("How segments are sent: `redirect` to the store's signed URLs, `proxy` through the gateway, `auto`: proxy for a folder."),
    ] = "auto"
    # Gateway
    host: Annotated[str, _doc("Address that the gateway binds to. Other than loopback needs REELWORKS_API_TOKEN.")] = "127.0.0.1"
    port: Annotated[int, _doc("Port of the gateway; 0 chooses a free one.", ge=0, le=65535)] = 8080
    public_url: Annotated[str, _doc("Address under which clients reach the gateway. Empty: that of the request.")] = ""
    api_token: Annotated[str, _doc("Bearer token that clients must send.")] = ""
    zip_secret: Annotated[str, _doc("Bearer secret of the old `POST /zip` wire. Empty: there is no such wire.")] = ""
    zip_input_bucket: Annotated[str, _doc("Bucket of the `files` of that wire. Empty: the default bucket.")] = ""
    zip_output_bucket: Annotated[str, _doc("Bucket of its `target`. Empty: the default bucket.")] = ""
    webhook_secret: Annotated[str, _doc("Signs callbacks (Standard Webhooks; `whsec_` and base64, or any text).")] = ""
    callback_allow: Annotated[
        tuple[str, ...],
        _doc("Hosts that callbacks may go to; `*.example.org` for subdomains, `host:port` to fix the port. Empty: none."),
    ] = ()
    callback_allow_private: Annotated[bool, _doc("Whether callbacks may go to private and loopback addresses and use http.")] = False
    callback_timeout_seconds: Annotated[float, _doc("Time that a receiver of callbacks has to answer.", gt=0, le=300)] = 10.0
    upload_limit_bytes: Annotated[int, _doc("Largest upload.", ge=1)] = 64 * 1024**3
    upload_concurrency: Annotated[int, _doc("Uploads through the gateway at once; more get 503.", ge=1)] = 32
    body_limit_bytes: Annotated[int, _doc("Largest JSON body.", ge=1024)] = 4 * 1024**2
    idle_timeout_seconds: Annotated[float, _doc("A client that sends nothing for so long is cut off.", gt=0)] = 60.0
    header_timeout_seconds: Annotated[float, _doc("Time for a request's header lines.", gt=0)] = 15.0
    # Workers
    slots: Annotated[int, _doc("Tasks that a worker runs at once. 0: one for each two processors, at least one.", ge=0, le=1024)] = 0
    task_timeout_seconds: Annotated[float, _doc("Hard deadline of one task.", gt=0)] = 1800.0
    scratch_dir: Annotated[str, _doc("Folder for temporary files. Empty: below the system's.")] = ""
    scratch_quota_bytes: Annotated[int, _doc("Most that one task may keep there.", ge=1)] = 32 * 1024**3
    drain_seconds: Annotated[float, _doc("Time that running tasks get after SIGTERM before they are handed back.", ge=0)] = 30.0
    lease_seconds: Annotated[float, _doc("A worker silent for so long, on the log's clock, loses its tasks.", ge=4, le=600)] = 8.0
    max_source_pixels: Annotated[int, _doc("Largest picture taken in, in pixels (default: 8192 × 4352).", ge=1)] = 8192 * 4352
    max_source_seconds: Annotated[float, _doc("Longest film taken in, in seconds.", gt=0)] = 24 * 3600.0
    media_memory_bytes: Annotated[int, _doc("Most memory (address space) of one ffmpeg or ffprobe.", ge=256 * 1024**2)] = 6 * 1024**3
    media_confinement: Annotated[
        Literal["full", "limits"],
        _doc("`full`: media programs are kept from files, addresses and processes as far as the kernel can; `limits`: from memory only."),
    ] = "full"
    ffmpeg: Annotated[str, _doc("Path of ffmpeg. Empty: PATH, then the wheel.")] = ""
    ffprobe: Annotated[str, _doc("Path of ffprobe. Empty: PATH, then the wheel.")] = ""
    packager: Annotated[str, _doc("Path of Shaka packager. Empty: PATH, then the wheel.")] = ""
    ffmpeg_threads: Annotated[int, _doc("Threads of one ffmpeg. 0: it decides.", ge=0, le=256)] = 0
    # Archives
    archive_max_entries: Annotated[int, _doc("Most objects in one archive.", ge=1, le=1_000_000)] = 100_000
    archive_max_bytes: Annotated[int, _doc("Most bytes of objects in one archive.", ge=1)] = 5 * 1024**4
    archive_max_jobs: Annotated[int, _doc("Archives that may be made for one owner at a time; more get 429.", ge=1)] = 100
    archive_downloads: Annotated[int, _doc("Archives that a gateway sends while it reads them, at once; more get 503.", ge=1)] = 16
    # Everything
    data_dir: Annotated[str, _doc("State that may be lost but is better kept: the gateway's view, embedded Kafka, keys.")] = ""
    cache_dir: Annotated[str, _doc("Downloads: Kafka's jars. Empty: reelworks below the user's cache folder.")] = ""
    log_format: Annotated[Literal["auto", "json", "console"], _doc("`auto`: console on a terminal, else JSON.")] = "auto"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _doc("Least severity that is logged.")] = "info"
    metrics_port: Annotated[
        int,
        _doc(
            "Port of /metrics, /healthz and /readyz of services other than the gateway; 0 chooses a free one, -1 none.",
            ge=-1,
            le=65535,
        ),
    ] = 0
    metrics_host: Annotated[str, _doc("Address of that port. Loopback unless a scraper on another machine is to reach it.")] = "127.0.0.1"
    run_dir: Annotated[
        str, _doc("Folder in which a service writes `{process id}.json` with the port it got. Set by `reelworks up` for its children.")
    ] = ""
    instance: Annotated[
        str, _doc("Name of this process in logs and heartbeats, to which a mark of its start is added. Empty: host and process id.")
    ] = ""

    def instance_name(self) -> str:
        """A name that no other process has, nor an earlier start of this one: whoever goes by it owns the leases of its tasks."""
        return f"{self.instance or f'{socket.gethostname()}-{os.getpid()}'}-{START}"

    def data_path(self) -> Path:
        """`data_dir`, or a folder of its own below the user's data folder."""
        if self.data_dir:
            return Path(self.data_dir)
        return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "reelworks"

    def cache_path(self) -> Path:
        """Where downloads are kept between runs."""
        if self.cache_dir:
            return Path(self.cache_dir)
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reelworks"

    def scratch_path(self) -> Path:
        """Parent of the tasks' temporary folders."""
        return Path(self.scratch_dir) if self.scratch_dir else Path(tempfile.gettempdir()) / "reelworks"

    def slot_count(self) -> int:
        """Slots of a worker process."""
        return self.slots or max(1, (os.cpu_count() or 1) // 2)


NAMES: dict[str, str] = {
    "bootstrap_servers": "KAFKA_BOOTSTRAP_SERVERS",
    "s3_endpoint": "AWS_ENDPOINT_URL_S3",
    "s3_region": "AWS_REGION",
    "s3_app_key": "AWS_ACCESS_KEY_ID",
    "s3_app_secret": "AWS_SECRET_ACCESS_KEY",
    "s3_session_token": "AWS_SESSION_TOKEN",
}
"""Settings that have a standard name of their own."""

SECRETS: frozenset[str] = frozenset(
    {
        "s3_app_secret",
        "s3_session_token",
        "s3_ingest_secret",
        "s3_delivery_secret",
        "signing_key",
        "playback_keys",
        "api_token",
        "zip_secret",
        "webhook_secret",
    }
)
"""Settings whose values are never shown."""


SECRET_PROPERTIES: frozenset[str] = frozenset(
    {
        "sasl.password",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.config",
        "ssl.key.password",
        "ssl.keystore.password",
        "ssl.key.pem",
    }
)
"""The same in the file that `kafka_config` names."""


def secret_values(settings: Settings) -> list[str]:
    """What must not be shown, each secret by itself where a setting holds several. Raises SettingsError."""
    keys = (pair.partition(":")[2].strip() for pair in settings.playback_keys.split(","))
    kafka = (value for name, value in kafka_properties(settings).items() if name in SECRET_PROPERTIES)
    return [value for value in (*(str(getattr(settings, name)) for name in SECRETS), *keys, *kafka) if value]


def kafka_properties(settings: Settings) -> dict[str, str]:
    """What is in the file that `kafka_config` names. Raises SettingsError, which never repeats a line: it may be a password."""
    path = settings.kafka_config
    if not path:
        return {}
    try:
        lines = [line.strip() for line in Path(path).read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as wrong:
        why = wrong.strerror if isinstance(wrong, OSError) else "it is not text"
        raise SettingsError(f"REELWORKS_KAFKA_CONFIG={path!r} cannot be read: {why}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        name, given, value = line.partition("=")
        if not given:
            raise SettingsError(f"REELWORKS_KAFKA_CONFIG={path!r}: line {number} is no `name=value`")
        found[name.strip()] = value.strip()
    return found


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return NAMES.get(field, PREFIX + field.upper())


def load(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from the environment, with `overrides` (of the command line) above it.

    Raises SettingsError naming every variable that begins with REELWORKS_ and is none of ours, or whose value is unusable.
    """
    environment = os.environ if environment is None else environment
    fields = {f.name: f for f in msgspec.structs.fields(Settings)}
    values: dict[str, Any] = {}
    for name in fields:
        text = environment.get(variable(name), "").strip()
        if text:
            values[name] = _split(text) if name in LISTS else text
    unknown = sorted(v for v in environment if v.startswith(PREFIX) and v not in {variable(n) for n in fields} | INTERNAL)
    if unknown:
        raise SettingsError(f"unknown setting {', '.join(unknown)}; docs/operations.md lists all of them")
    values.update({name: value for name, value in overrides.items() if value is not None})
    for name, value in values.items():
        try:
            msgspec.convert(value, fields[name].type, strict=False)
        except msgspec.ValidationError as wrong:
            shown = "(secret)" if name in SECRETS else repr(value)
            raise SettingsError(f"{variable(name)}={shown}: {wrong}") from None
    return msgspec.convert(values, Settings, strict=False)


LISTS: frozenset[str] = frozenset({"buckets", "callback_allow"})
INTERNAL: frozenset[str] = frozenset({"REELWORKS_PARENT_PID"})
"""Set by the supervisor for its children; not for people."""


def environment_for(settings: Settings) -> dict[str, str]:
    """The variables that give another process these settings: only those that differ from the default."""
    made: dict[str, str] = {}
    for field in msgspec.structs.fields(Settings):
        value = getattr(settings, field.name)
        if value != field.default:
            made[variable(field.name)] = (
                ",".join(value) if isinstance(value, tuple) else str(value).lower() if isinstance(value, bool) else str(value)
            )
    return made


def graphical() -> bool:
    """Whether a browser with windows may be expected here."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def child_environment(settings: Settings) -> dict[str, str]:
    """The whole environment of a child process: ours, with these settings in place of those it was started with."""
    ours = {variable(field.name) for field in msgspec.structs.fields(Settings)}
    return {name: value for name, value in os.environ.items() if name not in ours} | environment_for(settings)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
