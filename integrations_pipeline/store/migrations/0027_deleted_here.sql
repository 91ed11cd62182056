-- Whether a dead link's record was deleted at the source by us: then a canonical row that lives again is to be made there
-- anew, and a page that was read before brings nothing back.
ALTER TABLE integrations.link ADD COLUMN deleted_here boolean NOT NULL DEFAULT false;
