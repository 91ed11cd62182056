"""Any order of chunks, versions, tombstones and runs: the table ends as a small model in Python says, and balances."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integrations_pipeline_tests.store.parts import chunk, counted, row, run, stored

ROW = st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.booleans(), st.integers(0, 2))
CHUNK = st.lists(ROW, max_size=3, unique_by=lambda one: one[0])
RUNS = st.lists(st.tuples(st.booleans(), st.lists(CHUNK, min_size=1, max_size=3)), min_size=1, max_size=4)


class Model:
    """key → (content, version, deleted, run that wrote it)."""

    def __init__(self):
        self.rows = {}
        self.run = 0

    def judge(self, key, version, deleted, content, desc):
        held = self.rows.get(key)
        if held is None:
            self.rows[key] = (content, version, deleted, self.run)
            return "deleted" if deleted else "created"
        held_content, held_version, held_deleted, writer = held
        if (held_content, held_deleted) == (content, deleted):
            return "superseded" if writer == self.run else "unchanged"
        if version < held_version or (version == held_version and desc and writer == self.run):
            return "superseded"
        if deleted and held_deleted:
            self.rows[key] = (content, version, True, writer)
            return "unchanged"
        self.rows[key] = (content, version, deleted, self.run)
        return "deleted" if deleted else "updated"


@given(RUNS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_table_is_what_the_model_says(connect, look, runs):
    with connect() as session:
        session.execute("TRUNCATE raw.crm__contacts, integrations.run_log, integrations.decision")
    model = Model()
    highest = {}
    for desc, chunks in runs:
        model.run += 1
        with run(connect) as lease:
            for rows in chunks:
                expected = {}
                for key, version, deleted, content in rows:
                    outcome = model.judge(key, version, deleted, (content, deleted), desc)
                    expected[outcome] = expected.get(outcome, 0) + 1
                given_rows = [row(k, v, deleted=d, content=c, flag=d) for k, v, d, c in rows]
                assert counted(lease.commit_chunk(chunk(*given_rows, desc=desc)).as_dict()) == expected
                for key, (_, version, _) in stored(look).items():
                    assert version >= highest.get(key, 0)
                    highest[key] = version
            lease.finish_run("succeeded")
    found = {key: (payload["content"], version, deleted) for key, (payload, version, deleted) in stored(look).items()}
    assert found == {k: (content[0], version, deleted) for k, (content, version, deleted, _) in model.rows.items()}
