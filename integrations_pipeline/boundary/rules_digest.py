"""What the verdict on a row depends on, as one text: another one means that rejected rows deserve another look."""

from __future__ import annotations

import hashlib

from integrations_pipeline.boundary.new_fields import named_paths
from integrations_pipeline.spec.streams import Stream

VERSION = 1
"""Raised whenever the same file could give another verdict."""


def rules_digest(stream: Stream) -> str:
    """Of all in a stream that decides whether a row is accepted; descriptions and the order of fields don't."""
    contract, cursor, deletes = stream.contract, stream.cursor, stream.deletes
    parts = (
        VERSION,
        sorted((path, repr(one.model_dump(exclude={"description"}))) for path, one in stream.fields.items()),
        (contract.bad_value, contract.new_field),
        [str(path) for path in stream.primary_key],
        str(stream.version),
        (str(cursor.field), cursor.format) if cursor else None,
        stream.skip.text if stream.skip else None,
        deletes.when.text if deletes and deletes.when else None,
        sorted({str(path) for path in named_paths(stream)}),
    )
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
