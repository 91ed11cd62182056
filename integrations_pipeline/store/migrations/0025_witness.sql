-- Which HTTP call brought what was decided about: integrations.http_log.id. Null of an event, a write, a retry.
ALTER TABLE integrations.decision ADD COLUMN call bigint;
