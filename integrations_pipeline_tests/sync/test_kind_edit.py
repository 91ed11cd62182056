"""`map.to` edited: the records move to the new kind, without a request for them."""

from __future__ import annotations

from integrations_pipeline.spec.connection import Kind
from integrations_pipeline_tests.sync.conftest import Bench, made, paged

LIVE = "SELECT count(*) FROM canonical.{} WHERE deleted_at IS NULL"


def test_records_move_to_the_kind_they_are_now_mapped_to(bench: Bench) -> None:
    fields = {"email": {"type": "string"}}
    bench.kinds = {name: Kind.model_validate({"kind": name, "fields": fields}) for name in ("customer", "person")}
    rows = made(3, email="a@example.org")
    assert bench.things(paged(rows), map={"to": "customer", "fields": {"email": "email"}}).shaped.created == 3
    for kind, left in (("person", "customer"), ("customer", "person")):
        assert bench.things(map={"to": kind, "fields": {"email": "email"}}).shaped.created == 3
        assert bench.rows(LIVE.format(kind)) == [(3,)]
        assert bench.rows(LIVE.format(left)) == [(0,)]
    assert bench.rows("SELECT DISTINCT kind FROM integrations.link") == [("customer",)]
