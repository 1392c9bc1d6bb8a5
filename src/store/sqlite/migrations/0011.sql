-- References of recent messages, in the order in which they came. They move to `reference` in order of hash, a slice of all
-- hashes at a time; those of messages up to `progress.references` have moved.
CREATE TABLE reference_recent (
  message_k INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  h INTEGER NOT NULL,
  sender INTEGER NOT NULL,
  content INTEGER NOT NULL,
  PRIMARY KEY (message_k, kind)
) STRICT, WITHOUT ROWID;
INSERT INTO progress (name, k) SELECT 'references', coalesce(max(k), 0) FROM message;
