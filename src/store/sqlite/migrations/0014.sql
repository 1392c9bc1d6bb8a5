-- References of recent messages as a log of changes, one row per transaction: a row per reference, in this table and again in
-- the sorted one, cost more than all other rows of a message. `progress.references` is now the key of the last change that has
-- moved.
CREATE TABLE reference_log (
  k INTEGER PRIMARY KEY,
  change TEXT NOT NULL                                      -- JSON: references that were added, released, or deleted
) STRICT;
INSERT INTO reference_log (change)
SELECT json_object('add', json_group_array(json_array(hash, sender, kind, content_head, message_k)))
FROM reference_recent
WHERE message_k > coalesce((SELECT value FROM progress WHERE name = 'references'), 0)
GROUP BY message_k / 64;
UPDATE progress SET value = 0 WHERE name = 'references';
DROP TABLE reference_recent;

-- Batches count the deliveries of participants themselves: a trigger per row also made SQLite copy all rows of a statement first.
DROP TRIGGER delivery_inserted;
DROP TRIGGER delivery_changed;
