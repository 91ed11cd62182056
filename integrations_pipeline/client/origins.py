"""Where credentials may go: the scheme, host and port of the connection's own URLs, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urljoin, urlsplit

from integrations_pipeline.spec.errors import ContractError

PORTS = {"http": 80, "https": 443}
AMBIGUOUS = re.compile(r"[\x00-\x20\x7f\\]")  # parsers disagree about whose host such a URL names
Origin = tuple[str, str, int]


def origin_of(url: str) -> Origin | None:
    """Scheme, host, port; None for what is no plain http(s) URL, or one that two parsers may read differently."""
    if AMBIGUOUS.search(url):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in PORTS or not parts.hostname or "@" in parts.netloc:
        return None
    return parts.scheme, parts.hostname.rstrip("."), port or PORTS[parts.scheme]


class Origins:
    """The allowed ones."""

    def __init__(self, urls: Iterable[str]):
        self._allowed = {origin_of(url) for url in urls} - {None}

    def check(self, url: str) -> str:
        """The URL itself. Raises ContractError where it belongs to another origin; only the host is named."""
        origin = origin_of(url)
        if origin not in self._allowed:
            named = f"{origin[0]}://{origin[1]}:{origin[2]}" if origin else "an address that can't be trusted"
            raise ContractError(
                f"the source points to {named}, which is not an origin of this connection; nothing was sent there",
                next="if that host belongs to the source, name it under api.origins",
            )
        return url

    def join(self, base: str, link: str) -> str:
        """A link of an answer, relative or absolute, as a URL. Raises ContractError for another origin."""
        try:
            return self.check(urljoin(base, link.strip()))
        except ValueError:
            raise ContractError("the source gave a link that is no URL") from None
