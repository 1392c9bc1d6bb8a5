-- Tries of messages that a broker brought again: recorded before each, so that a try which ends the process counts, and
-- removed when the message is settled.
CREATE TABLE redelivery (
  queue TEXT NOT NULL,
  digest BLOB NOT NULL CHECK (length(digest) = 32),         -- SHA-256 of the message with its properties
  tries INTEGER NOT NULL,
  tried_us INTEGER NOT NULL,                                -- the last time
  PRIMARY KEY (queue, digest)
) STRICT, WITHOUT ROWID;
