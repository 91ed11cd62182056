"""The key that encrypts what sources granted: INTEGRATIONS_KEY, else a file of the state folder (0600)."""

from __future__ import annotations

import base64
import os
import secrets
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.limits import KEY_CHARACTERS

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

VARIABLE = "INTEGRATIONS_KEY"
FILE = "token.key"
OWNER = "whoever runs this installation"


@dataclass(frozen=True, slots=True)
class Key:
    """``name`` tells keys apart and gives nothing away; ``source`` is where it came from, for people."""

    name: str
    source: str
    fernet: Fernet


def key_of(text: str, source: str) -> Key:
    """Any text of at least ``limits.KEY_CHARACTERS`` is a key. Raises ConfigError for a shorter one."""
    from cryptography.fernet import Fernet

    if len(text) < KEY_CHARACTERS:
        raise ConfigError(
            f"{source} holds {len(text)} characters, at least {KEY_CHARACTERS} were expected",
            who=OWNER,
            next="make a key with `openssl rand -base64 32`",
        )
    digest = sha256(f"integrations token key {text}".encode()).digest()
    name = sha256(b"name of " + digest).hexdigest()[:8]
    return Key(name, source, Fernet(base64.urlsafe_b64encode(digest)))


def find_key(state: Path, *, make: bool) -> Key:
    """The key in use; ``make`` writes the file where there is neither. Raises ConfigError where there is none."""
    given = os.environ.get(VARIABLE, "").strip()
    if given:
        return key_of(given, VARIABLE)
    file = state / FILE
    if make and not file.exists():
        _write_new(file)
    try:
        return key_of(file.read_text(encoding="ascii").strip(), str(file))
    except FileNotFoundError:
        what = f"{VARIABLE} is not set and {file} does not exist"
    except (OSError, UnicodeDecodeError) as error:
        what = f"{file} can't be read: {getattr(error, 'strerror', None) or 'it is no key'}"
    raise ConfigError(f"the key of the stored tokens is missing: {what}", who=OWNER, next=restoring(state))


def restoring(state: Path) -> str:
    return (
        f"restore {state / FILE} from its backup, or set {VARIABLE} to the key that was in use; if it is lost, see"
        " `When the key is lost` in docs/credentials.md"
    )


def _write_new(file: Path) -> None:
    """Whole or not at all, and never over another process's."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as writing:
            writing.write(secrets.token_urlsafe(32) + "\n")
            writing.flush()
            os.fsync(writing.fileno())
        try:
            os.link(draft, file)
        except FileExistsError:
            pass  # another process was first: its key counts
        finally:
            draft.unlink()
    except OSError as error:
        raise ConfigError(
            f"the key of the stored tokens can't be written: {file}: {error.strerror}",
            who=OWNER,
            next=f"make the folder writable, or set {VARIABLE} (`openssl rand -base64 32` makes one)",
        ) from None
