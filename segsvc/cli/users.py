"""`segsvc users`."""

from __future__ import annotations

import sys

import click

from segsvc.cli.errand import do
from segsvc.cli.ledger_flag import ledger_flag, table
from segsvc.cli.main import CommandGroup, Exit
from segsvc.errors import ConfigError
from segsvc.ledger import users
from segsvc.ledger.errands import AddUser, DisableUser, NewToken, SetPassword, user_document
from segsvc.ledger.opening import open_ledger
from segsvc.ledger.records import Role
from segsvc.ledger_documents import TokenDocument, UserDocument, UsersDocument


@click.group("users", cls=CommandGroup)
def command() -> None:
    """Who may review: people with passwords, and tokens for programs. A server on the ledger may go on."""


@command.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice([each.value for each in Role]), required=True,
              help="reviewer: decides; admin: also sees scores that would tell an audit sample.")
@ledger_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def add(name: str, role: str, place: str, as_json: bool) -> int:
    """Make a user. The password is asked for, or the first line of stdin where that is no terminal."""
    password = _password()
    user = do(place, AddUser(name=name, role=Role(role), password=password), UserDocument)
    click.echo(user.model_dump_json(indent=2) if as_json else f"{user.name} may come in as {user.role}")
    return Exit.DONE


@command.command("list")
@ledger_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_(place: str, as_json: bool) -> int:
    """Show all users."""
    with open_ledger(place) as ledger:
        found = users.list_users(ledger)
    if as_json:
        click.echo(UsersDocument(items=[user_document(user) for user in found]).model_dump_json(indent=2))
    elif found:
        click.echo(table([("NAME", "ROLE", "SINCE", "DISABLED"), *(
            (user.name, user.role.value, f"{user.created_at:%Y-%m-%d}",
             f"{user.disabled_at:%Y-%m-%d %H:%M} UTC" if user.disabled_at is not None else "") for user in found)]))
    else:
        click.echo("no users: on loopback whoever is there may review; `segsvc users add NAME --role admin` makes one")
    return Exit.DONE


@command.command("disable")
@click.argument("name")
@ledger_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def disable(name: str, place: str, as_json: bool) -> int:
    """From now on the user cannot come in; what was decided stays."""
    user = do(place, DisableUser(name=name), UserDocument)
    click.echo(user.model_dump_json(indent=2) if as_json else f"{user.name} may no longer come in")
    return Exit.DONE


@command.command("password")
@click.argument("name")
@ledger_flag
def password_(name: str, place: str) -> int:
    """Give the user another password, asked for as by `add`; the sessions end."""
    password = _password()
    user = do(place, SetPassword(name=name, password=password), UserDocument)
    click.echo(f"{user.name} has another password")
    return Exit.DONE


@command.command("token")
@click.argument("name")
@ledger_flag
@click.option("--label", default="", help="What it is for.")
@click.option("--hours", type=click.FloatRange(0, min_open=True), help="How long it holds; by default for ever.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def token(name: str, place: str, label: str, hours: float | None, as_json: bool) -> int:
    """Make a token for a program of that user, and print it: it is kept nowhere, and shown this once."""
    made = do(place, NewToken(name=name, label=label, hours=hours), TokenDocument)
    click.echo(made.model_dump_json(indent=2) if as_json else made.token)
    return Exit.DONE


def _password() -> str:
    if sys.stdin.isatty():
        found: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return found
    line = sys.stdin.readline()
    if not line:
        raise ConfigError("users: expected a password on the first line of stdin, got nothing")
    return line.rstrip("\n")
