"""Log lines: JSON for machines, columns for a terminal. stdlib loggers end in the same stream, stderr.

    log = get_logger(__name__)
    with bind(job_id=job_id, trace_id=trace_id):
        log.info("task started", task="encode-12")      # carries both ids, in this thread or asyncio task

An exception (`log.exception`, `exc_info=True`) becomes fields in JSON: type, message, frames; never local variables,
which may hold secrets.
"""

from __future__ import annotations

import contextvars
import logging
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TextIO, cast

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.types import EventDict, Processor

from services.runtime.settings import Settings, secret_values
from services.runtime.telemetry.redaction import Redactor

Logger = structlog.stdlib.BoundLogger


def get_logger(name: str) -> Logger:
    """A logger that takes an event and fields: `log.info("job ended", state="failed")`."""
    return structlog.stdlib.get_logger(name)


class Binding:
    """What `bind` answers: leaving it as a context takes the values back."""

    def __init__(self, tokens: Mapping[str, contextvars.Token[Any]]) -> None:
        self._tokens = tokens

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        structlog.contextvars.reset_contextvars(**self._tokens)


def bind(**values: object) -> Binding:
    """Put values on every line that this thread or asyncio task logs from now on, or within `with bind(…):`."""
    return Binding(structlog.contextvars.bind_contextvars(**values))


def configure(settings: Settings, service: str, *, stream: TextIO | None = None) -> None:
    """Send everything that is logged to `stream` (default: stderr) in the form and from the level of the settings.

    Calling it again replaces the former configuration.
    """
    stream = stream or cast(TextIO, sys.stderr)
    terminal = stream.isatty()
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not terminal)
    secrets = secret_values(settings)
    end: list[Processor] = (
        [
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False, max_frames=20)),
            _redacting(Redactor(secrets)),
            structlog.processors.JSONRenderer(default=str),
        ]
        if as_json
        else [
            structlog.processors.format_exc_info,
            _redacting(Redactor(secrets)),
            structlog.dev.ConsoleRenderer(colors=terminal),
        ]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder()],
            processors=[_named(service, settings.instance), structlog.stdlib.ProcessorFormatter.remove_processors_meta, *end],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for noisy, level in _QUIETER.items():
        logging.getLogger(noisy).setLevel(max(level, root.level))


def _named(service: str, instance: str) -> Processor:
    def add(_logger: Any, _method: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        if instance:
            event.setdefault("instance", instance)
        return event

    return add


def _redacting(redactor: Redactor) -> Callable[[Any, str, EventDict], EventDict]:
    def redact(_logger: Any, _method: str, event: EventDict) -> EventDict:
        return {key: redactor.value(value, key) for key, value in event.items()}

    return redact


_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]
_QUIETER = {
    "botocore": logging.WARNING,
    "boto3": logging.WARNING,
    "urllib3": logging.WARNING,
    "asyncio": logging.WARNING,
    "aiohttp.access": logging.WARNING,
    "faust": logging.WARNING,
    "mode": logging.WARNING,
    "aiokafka": logging.WARNING,
}
"""Libraries that tell more than anybody wants to read."""

# Without `configure` (in tests, in programs that import us) lines go to the standard library's loggers.
structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        *_SHARED,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)
