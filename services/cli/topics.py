"""`reelworks topics apply|diff|acls`: the topics as schemas/topics.py declares them, and who may do what with them (schemas/acls.py)."""

from __future__ import annotations

import click

from schemas import acls
from services.cli.exits import Exit, Refused, Unreachable
from services.cli.output import json_option, print_json
from services.runtime import settings as settings_module
from services.runtime.kafka import access, admin
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


@topics.command("acls")
@click.option("--apply", "applying", is_flag=True, help="Give the rights. What is given already, and what else there is, stays.")
@click.argument("names", metavar="[PRINCIPAL]...", nargs=-1)
@json_option
def access_rules(names: tuple[str, ...], applying: bool, as_json: bool) -> None:
    """Print what each principal may do, as arguments of Kafka's kafka-acls.sh, or --apply it. Default: all principals.

    The rules are those of deploy/kafka-acls.yaml, which has the reasons. Applying needs the right Alter on the cluster; users and
    their passwords are not made here.
    """
    known = {one.name: one for one in acls.PRINCIPALS}
    if strange := [name for name in names if name not in known]:
        raise Refused(f"there is no principal {strange[0]!r}; there are {', '.join(known)}")
    chosen = [known[name] for name in names] or list(acls.PRINCIPALS)
    if applying:
        count = access.apply(connected(settings_module.load()), chosen)
        if as_json:
            print_json({"principals": [one.name for one in chosen], "acls": count})
        else:
            click.echo(f"{count} ACLs of {len(chosen)} principals are there.")
    elif as_json:
        for one in chosen:
            print_json(one)
    else:
        for line in acls.commands(chosen):
            click.echo(line)


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
