-- A canonical record's creation is told by its link, not by a decision beside it: there was nothing to decide.
ALTER TABLE integrations.link
    ADD COLUMN linked_at timestamptz NOT NULL DEFAULT now(),  -- created with it, or matched (then a decision says by what)
    ADD COLUMN run_id uuid;

-- One record's decisions are few, whatever connections share its id: the other columns only made each insert dearer.
DROP INDEX integrations.decision_record;
CREATE INDEX decision_record ON integrations.decision (external_id);
