"""What the grammar refuses although each key by itself is right: one small function per refusal.

To add one: write it in the module of its subject, decorated with ``@refusal``, and test it with file and line.
"""

from integrations_pipeline.spec.refusals import events, lists, names, texts, writes
from integrations_pipeline.spec.refusals.checked import REFUSALS, Checked, Told

__all__ = ["REFUSALS", "Checked", "events", "lists", "names", "refused", "texts", "writes"]


def refused(checked: Checked) -> Told:
    """Every refusal that applies: the key's path and the message."""
    for find in REFUSALS:
        yield from find(checked)
