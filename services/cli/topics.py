"""`reelworks topics apply|diff`: the topics as schemas/topics.py declares them."""

from __future__ import annotations

import click

from services.cli.exits import Exit, Unreachable
from services.cli.output import json_option, print_json
from services.runtime import settings as settings_module
from services.runtime.kafka import admin
from services.runtime.settings import Settings


@click.group()
def topics() -> None:
    """Compare the broker's topics with their declaration, and bring them into line."""


@topics.command()
@json_option
def diff(as_json: bool) -> None:
    """Say where the broker differs; changes nothing. Exit code 1 when it does."""
    found = admin.diff(connected(settings_module.load()))
    _print(found, as_json, none="The topics are as declared.")
    if found:
        raise SystemExit(Exit.FAILED)


@topics.command()
@json_option
def apply(as_json: bool) -> None:
    """Make missing topics, add partitions, correct settings. Nothing is ever deleted; repeat it as you like."""
    _print(
        admin.apply(connected(settings_module.load())),
        as_json,
        none="The topics were as declared; nothing was changed.",
        changed="changed: ",
    )


def connected(settings: Settings) -> Settings:
    """The settings, once a broker answered. Raises Unreachable or SettingsError."""
    if reason := admin.unreachable(settings):
        raise Unreachable(f"{reason}; check KAFKA_BOOTSTRAP_SERVERS")
    return settings


def _print(found: list[admin.Difference], as_json: bool, *, none: str, changed: str = "") -> None:
    if as_json:
        print_json(found)
        return
    for difference in found:
        click.echo(f"{changed}{difference}")
    if not found:
        click.echo(none)
