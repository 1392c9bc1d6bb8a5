-- Times are UTC microseconds since 1970. Integer keys `k` are given out in memory; public ids are UUIDv7 as 16 bytes.

CREATE TABLE party (
  k INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1))
) STRICT;

CREATE TABLE message (
  k INTEGER PRIMARY KEY,
  id BLOB NOT NULL CHECK (length(id) = 16),
  state INTEGER NOT NULL CHECK (state IN (0, 1)),          -- 0 accepted, 1 refused
  status_ended INTEGER NOT NULL DEFAULT 0 CHECK (status_ended IN (0, 1)),
  received_us INTEGER NOT NULL,
  committed_us INTEGER NOT NULL,
  sender INTEGER NOT NULL,                                  -- party.k
  in_reply_to BLOB,                                         -- message.id of the request
  own_answer INTEGER,                                       -- message.k of the answer that the router gave itself
  source TEXT,
  event TEXT,
  response_code TEXT,
  destinations TEXT NOT NULL,                               -- each between line feeds
  marks TEXT,                                               -- fault, issue code and rule of each issue, each between spaces
  content BLOB NOT NULL,                                    -- SHA-256 of the content, for repeats
  facts TEXT NOT NULL,
  outcome TEXT
) STRICT;
CREATE UNIQUE INDEX message_id ON message (id);
CREATE INDEX message_reply ON message (in_reply_to) WHERE in_reply_to IS NOT NULL;

CREATE TABLE body (
  message_k INTEGER PRIMARY KEY,
  codec INTEGER NOT NULL CHECK (codec IN (0, 1)),           -- 0 as received, 1 zstd
  size INTEGER NOT NULL,                                    -- bytes as received
  bytes BLOB NOT NULL
) STRICT;

-- By what a message is known: one row for each id it carries. `sender` is 0 where the id is no identity (refused messages,
-- released or forgotten identities); such rows still serve correlation and search.
CREATE TABLE reference (
  h INTEGER NOT NULL,                                       -- first 8 bytes of SHA-256 of the normalized id
  sender INTEGER NOT NULL,
  kind INTEGER NOT NULL,                                    -- 1 header id, 2 Bundle id, 3 system|value, 4 value
  content INTEGER NOT NULL,                                 -- first 8 bytes of message.content
  message_k INTEGER NOT NULL,
  PRIMARY KEY (h, sender, kind, content, message_k)
) STRICT, WITHOUT ROWID;

CREATE TABLE delivery (
  k INTEGER PRIMARY KEY,
  id BLOB NOT NULL CHECK (length(id) = 16),
  message_k INTEGER NOT NULL,
  party INTEGER NOT NULL,
  lane INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 5),     -- waiting, active, delivered, answered, dead, discarded
  attempts INTEGER NOT NULL DEFAULT 0,
  status INTEGER,
  due_us INTEGER NOT NULL,
  expires_us INTEGER NOT NULL,
  created_us INTEGER NOT NULL,
  ended_us INTEGER,
  answer_k INTEGER,
  kind INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 3),       -- request, answer, callback, replay
  replay_of BLOB,                                           -- delivery.id
  destination TEXT,
  fault TEXT,
  detail TEXT                                               -- the whole kind as JSON, for callback and replay
) STRICT;
CREATE UNIQUE INDEX delivery_id ON delivery (id);
CREATE INDEX delivery_message ON delivery (message_k);
CREATE INDEX delivery_waiting ON delivery (party, lane, seq) WHERE state = 0;
CREATE INDEX delivery_expires ON delivery (expires_us) WHERE state = 0;
CREATE INDEX delivery_dead ON delivery (party, state) WHERE state >= 4;   -- dead and discarded
CREATE INDEX delivery_replay_of ON delivery (replay_of) WHERE replay_of IS NOT NULL;

CREATE TABLE attempt (
  delivery_k INTEGER NOT NULL,
  n INTEGER NOT NULL,
  started_us INTEGER NOT NULL,
  duration_us INTEGER NOT NULL,
  status INTEGER,
  result TEXT NOT NULL,
  fault TEXT,
  detail TEXT,
  PRIMARY KEY (delivery_k, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE replay (
  k INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
  state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),     -- running, paused, done, stopped
  spec TEXT NOT NULL,                                       -- the order as given, JSON
  created_us INTEGER NOT NULL,
  last_k INTEGER NOT NULL DEFAULT 0,                        -- highest message.k that was dealt with
  end_k INTEGER NOT NULL,                                   -- highest message.k when it was ordered
  total INTEGER NOT NULL,
  done INTEGER NOT NULL DEFAULT 0,
  skipped INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Where slow sweeps go on.
CREATE TABLE progress (
  name TEXT PRIMARY KEY,
  k INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
