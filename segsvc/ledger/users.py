"""Who may come in: people with passwords, their sessions, and tokens for programs.

Passwords are kept as argon2id hashes, tokens as their sha256: whoever reads the database can log in with neither.
"""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import bindparam, delete, func, insert, select, update

from segsvc import clock
from segsvc.errors import ConfigError, UnknownName
from segsvc.ledger.opening import Ledger
from segsvc.ledger.prepared import Prepared
from segsvc.ledger.records import Reader, Role, User
from segsvc.ledger.tables import TOKENS, USERS, as_time, as_us
from segsvc.ledger.writer import Writing

SHORTEST_PASSWORD, LONGEST_PASSWORD, LONGEST_NAME = 8, 1000, 100
_HOUR_US = 3_600_000_000
_OF_TOKEN = Prepared(select(USERS, TOKENS.c.ends_at).join(TOKENS, TOKENS.c.user_id == USERS.c.user_id).where(
    TOKENS.c.sha256 == bindparam("sha256"), USERS.c.disabled_at.is_(None)))


class TokenKind(StrEnum):
    """What a token is for."""

    SESSION = "session"  # a browser, for some hours
    API = "api"  # a program, until it is taken back or its user disabled


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()  # argon2id, by RFC 9106's second choice of parameters


@cache
def _nobodys_hash() -> str:
    """What the password of an unknown name is held against, so that the answer takes as long."""
    return _hasher().hash(secrets.token_urlsafe(16))


def add(ledger: Ledger, name: str, role: Role, password: str) -> User:
    """Makes a user. Raises ConfigError for a name that is taken or none, and for a password that is too short."""
    name = _checked_name(name)
    _check_password(password)
    hashed = _hasher().hash(password)

    def work(writing: Writing) -> User:
        conn = writing.conn
        if conn.execute(select(USERS.c.user_id).where(USERS.c.name == name)).scalar() is not None:
            raise ConfigError(f"users: expected a new name, got {name!r}, which is taken")
        number = (conn.execute(select(func.max(USERS.c.user_id))).scalar() or 0) + 1
        conn.execute(insert(USERS).values(user_id=number, name=name, role=role.value, password_hash=hashed,
                                          created_at=writing.now))
        return User(number, name, role, as_time(writing.now), None)

    return ledger.write(work)


def list_users(ledger: Ledger) -> list[User]:
    """All users, by name."""
    with ledger.read() as conn:
        return [_user(row) for row in conn.execute(select(USERS).order_by(USERS.c.name)).mappings()]


def any_users(ledger: Ledger) -> bool:
    """Whether users were made, disabled ones too."""
    with ledger.read() as conn:
        return conn.execute(select(USERS.c.user_id).limit(1)).scalar() is not None


def disable(ledger: Ledger, name: str) -> User:
    """From now on the user cannot come in, nor with any session or token. What was decided stays. Raises UnknownName."""
    user = _find(ledger, name)

    def work(writing: Writing) -> None:
        writing.conn.execute(update(USERS).where(USERS.c.user_id == user.user_id, USERS.c.disabled_at.is_(None)).values(
            disabled_at=writing.now))
        writing.conn.execute(delete(TOKENS).where(TOKENS.c.user_id == user.user_id))

    ledger.write(work)
    return _find(ledger, name)


def set_password(ledger: Ledger, name: str, password: str) -> User:
    """Gives the user another password, and ends the sessions. Raises UnknownName."""
    user = _find(ledger, name)
    _check_password(password)
    hashed = _hasher().hash(password)

    def work(writing: Writing) -> None:
        writing.conn.execute(update(USERS).where(USERS.c.user_id == user.user_id).values(password_hash=hashed))
        writing.conn.execute(delete(TOKENS).where(TOKENS.c.user_id == user.user_id,
                                                  TOKENS.c.kind == TokenKind.SESSION.value))

    ledger.write(work)
    return user


def authenticate(ledger: Ledger, name: str, password: str) -> Reader | None:
    """The reader of that name and password; None for any others, told apart by nothing. Raises Throttled."""
    name = unicodedata.normalize("NFC", name)[:LONGEST_NAME]
    ledger.attempts.check(name)
    with ledger.read() as conn:
        row = conn.execute(select(USERS).where(USERS.c.name == _storable(name))).mappings().one_or_none()
    hashed = row["password_hash"] if row is not None else _nobodys_hash()
    try:
        _hasher().verify(hashed, password[:LONGEST_PASSWORD].encode("utf-8", "replace"))
    except (VerificationError, InvalidHashError):
        ledger.attempts.failed(name)
        return None
    if row is None or row["disabled_at"] is not None:
        ledger.attempts.failed(name)
        return None
    ledger.attempts.succeeded(name)
    return _user(row).reader


def open_session(ledger: Ledger, reader: Reader, *, hours: float = 12.0) -> str:
    """A token for this reader's browser, for so many hours; it is kept nowhere but there."""
    return _issue(ledger, reader.user_id, TokenKind.SESSION, "", hours)


def new_token(ledger: Ledger, name: str, *, label: str = "", hours: float | None = None) -> str:
    """A token for a program of that user, for so many hours or for ever; it is shown once. Raises UnknownName."""
    user = _find(ledger, name)
    if user.disabled_at is not None:
        raise ConfigError(f"users: expected a user who may come in, got {name!r}, who is disabled")
    return _issue(ledger, user.user_id, TokenKind.API, label, hours)


def reader_of(ledger: Ledger, token: str) -> Reader | None:
    """Whose session or token this is; None where it is none, has ended, or its user is disabled."""
    with ledger.read() as conn:
        row = _OF_TOKEN.first(conn, sha256=_sha256(token))
    if row is None or (row["ends_at"] is not None and row["ends_at"] <= _now_us()):
        return None
    return _user(row).reader


def close_session(ledger: Ledger, token: str) -> None:
    """Ends a session or token."""
    ledger.write(lambda writing: writing.conn.execute(delete(TOKENS).where(TOKENS.c.sha256 == _sha256(token))).close())


def _issue(ledger: Ledger, user_id: int, kind: TokenKind, label: str, hours: float | None) -> str:
    token = secrets.token_urlsafe(32)

    def work(writing: Writing) -> None:
        writing.conn.execute(delete(TOKENS).where(TOKENS.c.ends_at <= writing.now))
        writing.conn.execute(insert(TOKENS).values(
            sha256=_sha256(token), user_id=user_id, kind=kind.value, label=label, created_at=writing.now,
            ends_at=writing.now + round(hours * _HOUR_US) if hours is not None else None))

    ledger.write(work)
    return token


def _find(ledger: Ledger, name: str) -> User:
    known = {user.name: user for user in list_users(ledger)}
    if (found := known.get(unicodedata.normalize("NFC", name))) is None:
        raise UnknownName("user", name, known)
    return found


def _user(row: Mapping[Any, Any]) -> User:
    return User(row["user_id"], row["name"], Role(row["role"]), as_time(row["created_at"]),
                as_time(row["disabled_at"]) if row["disabled_at"] is not None else None)


def _checked_name(name: str) -> str:
    name = unicodedata.normalize("NFC", name)
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise ConfigError(f"users: expected a name of 1 to {LONGEST_NAME} printable characters, no blanks around it, got "
                          f"{name[:LONGEST_NAME]!r}")
    if name == "local":
        raise ConfigError("users: expected another name than 'local', which stands for whoever is there without users")
    return name


def _check_password(password: str) -> None:
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise ConfigError(f"users: expected a password of {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters, got one of "
                          f"{len(password)}")


def _storable(name: str) -> str:
    """The name as both databases can be asked for it."""
    return name.replace("\0", "").encode("utf-8", "replace").decode()


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _now_us() -> int:
    return as_us(clock.utc_now())
