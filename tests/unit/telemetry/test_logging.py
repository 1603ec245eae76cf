"""Log lines."""

import io
import json
import logging
import threading
from collections.abc import Iterator

import pytest
import structlog

from services.runtime.settings import Settings
from services.runtime.telemetry.logging import bind, configure, get_logger


@pytest.fixture(autouse=True)
def _root_logger_is_put_back() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.contextvars.clear_contextvars()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_service_level_time_and_fields():
    stream = io.StringIO()
    configure(Settings(), "transcoder", stream=stream)
    get_logger("x").info("job ended", state="failed")
    [line] = lines(stream)
    assert (line["event"], line["state"], line["level"], line["service"], line["logger"]) == (
        "job ended",
        "failed",
        "info",
        "transcoder",
        "x",
    )
    assert str(line["timestamp"]).endswith("Z")


def test_bound_ids_are_on_every_line_of_this_context_only_and_stdlib_lines_have_them_too():
    stream = io.StringIO()
    configure(Settings(), "transcoder", stream=stream)
    with bind(job_id="j1", trace_id="t1"):
        get_logger("x").info("inside")
        logging.getLogger("library").warning("from %s", "elsewhere")
        other = threading.Thread(target=lambda: get_logger("x").info("another thread"))
        other.start()
        other.join()
    get_logger("x").info("outside")
    assert [(line["event"], line.get("job_id"), line.get("trace_id")) for line in lines(stream)] == [
        ("inside", "j1", "t1"),
        ("from elsewhere", "j1", "t1"),
        ("another thread", None, None),
        ("outside", None, None),
    ]


def test_bind_without_a_block_stays():
    stream = io.StringIO()
    configure(Settings(), "notifier", stream=stream)
    bind(job_id="j2")
    get_logger("x").info("later")
    assert [line["job_id"] for line in lines(stream)] == ["j2"]


def test_an_exception_becomes_fields_and_local_variables_are_not_told():
    stream = io.StringIO()
    configure(Settings(), "gateway", stream=stream)
    try:
        local = "a local value"
        raise ValueError("too short")
    except ValueError:
        get_logger("x").exception("could not read it")
    [line] = lines(stream)
    exception = line["exception"]
    assert isinstance(exception, list)
    assert (exception[0]["exc_type"], exception[0]["exc_value"]) == ("ValueError", "too short")
    assert exception[0]["frames"]
    assert local not in stream.getvalue()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_secrets_of_the_settings_never_show_wherever_they_stand(log_format: str):
    stream = io.StringIO()
    configure(Settings(log_format=log_format, api_token="correct-horse", webhook_secret="battery-staple"), "gateway", stream=stream)
    log = get_logger("x")
    log.info("token correct-horse", headers={"x": ["battery-staple"]}, password="short", url="http://u:pw@host/?X-Amz-Signature=abc&k=v")
    log.info("Authorization is Bearer abcdef123456")
    try:
        raise ValueError("correct-horse in an error")
    except ValueError:
        log.exception("failed")
    text = stream.getvalue()
    assert [secret for secret in ("correct-horse", "battery-staple", "short", "u:pw", "=abc", "abcdef123456") if secret in text] == []
    assert "k=v" in text


def test_lines_below_the_level_are_left_out():
    stream = io.StringIO()
    configure(Settings(log_level="warning"), "gateway", stream=stream)
    get_logger("x").info("small talk")
    logging.getLogger("y").info("small talk")
    get_logger("x").warning("look here")
    assert [line["event"] for line in lines(stream)] == ["look here"]


def test_the_console_form_is_for_eyes():
    stream = io.StringIO()
    configure(Settings(log_format="console"), "gateway", stream=stream)
    get_logger("x").info("job ended", state="failed")
    assert "job ended" in stream.getvalue()
    assert "state=failed" in stream.getvalue()
