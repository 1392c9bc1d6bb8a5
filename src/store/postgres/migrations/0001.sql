-- Times are UTC microseconds since 1970. Public ids are UUIDv7.

-- Keys and the order within lanes. Values are taken inside the transaction, after its locks, so that they follow the order of
-- commits; a cache per session would break that.
CREATE SEQUENCE message_key;
CREATE SEQUENCE delivery_key;
CREATE SEQUENCE delivery_seq;

CREATE TABLE participant (
  k bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text COLLATE "C" NOT NULL UNIQUE,
  paused boolean NOT NULL DEFAULT false
);

-- How many deliveries of a participant wait and are dead: the sum over its slots. Each writing connection has a slot of its own,
-- because a single row would make all commits wait for each other.
CREATE TABLE participant_count (
  participant bigint NOT NULL,
  slot smallint NOT NULL,
  waiting bigint NOT NULL,
  dead bigint NOT NULL,
  PRIMARY KEY (participant, slot)
) WITH (fillfactor = 20);

-- How many messages were stored, also by connection.
CREATE TABLE message_count (
  slot smallint PRIMARY KEY,
  stored bigint NOT NULL
) WITH (fillfactor = 20);

CREATE TABLE message (
  k bigint PRIMARY KEY,
  received_us bigint NOT NULL,
  committed_us bigint NOT NULL,
  sender bigint NOT NULL,                                   -- participant.k
  router_answer_k bigint,                                   -- message.k of the answer that the router gave itself
  id uuid NOT NULL,
  in_reply_to uuid,                                         -- message.id of the request
  state smallint NOT NULL,                                  -- 0 accepted, 1 refused
  response_flags smallint NOT NULL DEFAULT 0,               -- bits of a response: 1 ambiguous, 2 further
  status_ended boolean NOT NULL DEFAULT false,
  content_sha256 bytea NOT NULL,                            -- to recognize duplicates
  response_sha256 bytea,                                    -- of a response without its own identities
  source text,
  event text,
  event_code text,                                          -- the code of an event that is a coding
  response_code text,
  destinations text NOT NULL,                               -- each between line feeds
  issue_labels text,                                        -- fault, issue code, and rule of each issue, each between spaces
  metadata text NOT NULL,                                   -- JSON
  outcome text                                              -- JSON, masked
);
CREATE UNIQUE INDEX message_id ON message (id);
CREATE INDEX message_reply ON message (in_reply_to, k) WHERE in_reply_to IS NOT NULL;
CREATE INDEX message_flags ON message (k) WHERE response_flags <> 0;
CREATE INDEX message_received ON message (received_us);

-- Partitions by key, so that retention drops whole ones.
CREATE TABLE body (
  message_k bigint NOT NULL,
  size bigint NOT NULL,                                     -- bytes as received
  codec smallint NOT NULL,                                  -- 0 as received, 1 zstd
  bytes bytea NOT NULL,
  outcome text,                                             -- JSON, with what it quotes of the message
  PRIMARY KEY (message_k)
) PARTITION BY RANGE (message_k);
ALTER TABLE body ALTER bytes SET STORAGE EXTERNAL;           -- compressed already

CREATE TABLE attempt (
  delivery_k bigint NOT NULL,
  started_us bigint NOT NULL,
  duration_us bigint NOT NULL,
  n integer NOT NULL,
  status integer,
  result text NOT NULL,
  fault text,
  detail text,
  PRIMARY KEY (delivery_k, n)
) PARTITION BY RANGE (delivery_k);

-- What stays of partitions that were dropped, and what came before its partition was there.
CREATE TABLE body_kept PARTITION OF body DEFAULT;
CREATE TABLE attempt_kept PARTITION OF attempt DEFAULT;

CREATE TABLE partition (
  parent text NOT NULL,
  first_k bigint NOT NULL,
  end_k bigint NOT NULL,                                    -- the first key after it
  created_us bigint NOT NULL,
  is_whole boolean NOT NULL DEFAULT true,                   -- it may be dropped; false: too much of it is needed for long
  PRIMARY KEY (parent, first_k)
);

-- Each id that a message carries. `sender` is 0 where the id identifies no message (refused messages, released identities);
-- such rows serve correlation and search. A release finds its row by the whole key, also where many messages share an id.
CREATE TABLE reference (
  hash bigint NOT NULL,                                     -- first 8 bytes of SHA-256 of the normalized id
  message_k bigint NOT NULL,
  sender bigint NOT NULL,
  content_head bigint NOT NULL,                             -- first 8 bytes of message.content_sha256
  kind smallint NOT NULL,
  PRIMARY KEY (hash, sender, kind, content_head, message_k)
);

-- What messages are searched by, hashed.
CREATE TABLE term (
  hash bigint NOT NULL,
  message_k bigint NOT NULL,
  PRIMARY KEY (hash, message_k)
);

CREATE TABLE delivery (
  k bigint PRIMARY KEY,
  message_k bigint NOT NULL,
  participant bigint NOT NULL,
  lane bigint NOT NULL,
  seq bigint NOT NULL,
  prev_seq bigint,                                          -- the newest older delivery of its lane that waited when it came
  due_us bigint NOT NULL,                                   -- 0: now
  expires_us bigint NOT NULL,
  created_us bigint NOT NULL,
  ended_us bigint,
  answer_k bigint,
  id uuid NOT NULL,
  replay_of uuid,                                           -- delivery.id
  attempts integer NOT NULL DEFAULT 0,
  uncounted integer NOT NULL DEFAULT 0,                     -- attempts before an operator's retry
  status integer,
  state smallint NOT NULL,                                  -- waiting, active, delivered, answered, dead, discarded
  kind smallint NOT NULL,                                   -- request, answer, callback, replay
  destination text,
  fault text,
  kind_json text
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
CREATE UNIQUE INDEX delivery_id ON delivery (id);
CREATE INDEX delivery_message ON delivery (message_k);
CREATE INDEX delivery_waiting ON delivery (participant, lane, seq) WHERE state = 0;
CREATE INDEX delivery_due ON delivery (participant, due_us, seq) WHERE state = 0 AND due_us > 0 AND lane <> 0;
CREATE INDEX delivery_free ON delivery (participant, due_us, seq) WHERE state = 0 AND lane = 0;
CREATE INDEX delivery_own_way ON delivery (participant, lane, seq) WHERE state = 0 AND kind = 2;
-- Only queries that spell the condition in this way use the next index and delivery_open. Otherwise, after a vacuum while nothing
-- waited, the planner takes them for empty and reads them whole for the tail of a lane.
CREATE INDEX delivery_expires ON delivery (expires_us) WHERE state + 0 = 0;
CREATE INDEX delivery_created ON delivery (created_us);
-- Lists by state, newest first. Waiting and dead deliveries are few among all, and delivered ones may be among answered ones.
CREATE INDEX delivery_open ON delivery (k) WHERE state + 0 = 0;
CREATE INDEX delivery_delivered ON delivery (k) WHERE state = 2;
CREATE INDEX delivery_answered ON delivery (k) WHERE state = 3;
CREATE INDEX delivery_dead ON delivery (k) WHERE state = 4;
CREATE INDEX delivery_discarded ON delivery (k) WHERE state = 5;
CREATE INDEX delivery_ended ON delivery (ended_us, k) WHERE state >= 4;
CREATE INDEX delivery_fault ON delivery (fault, k) WHERE fault IS NOT NULL;
CREATE INDEX delivery_replay_of ON delivery (replay_of) WHERE replay_of IS NOT NULL;

-- Errors that a receiver reported about a message that it accepted: a JSON array of issues.
CREATE TABLE receiver_issues (
  delivery_k bigint PRIMARY KEY,
  issues text NOT NULL
);

CREATE TABLE replay (
  k bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  created_us bigint NOT NULL,
  last_k bigint NOT NULL DEFAULT 0,                         -- highest message.k that was dealt with
  end_k bigint NOT NULL,                                    -- highest message.k when it was ordered
  total bigint NOT NULL,
  done bigint NOT NULL DEFAULT 0,
  skipped bigint NOT NULL DEFAULT 0,
  id uuid NOT NULL UNIQUE,
  state smallint NOT NULL,                                  -- running, paused, done, stopped
  order_json text NOT NULL
);

-- Keys up to which something was done, and times.
CREATE TABLE progress (
  name text PRIMARY KEY,
  value bigint NOT NULL
);

CREATE TABLE probe (
  k smallint PRIMARY KEY,                                   -- one row, which is written to find out whether writing succeeds
  written_us bigint NOT NULL
);

-- Tries of messages that a broker delivered again.
CREATE TABLE redelivery (
  queue text NOT NULL,
  digest bytea NOT NULL,
  tries integer NOT NULL,
  tried_us bigint NOT NULL,
  PRIMARY KEY (queue, digest)
);

-- What a batch must know, in one call: it locks the slots of its lanes and identities, its deliveries, and its responses, each in
-- the order of their keys, and reads after that; each statement of a volatile function sees what was committed before it. A slot is
-- an advisory lock until the end of the transaction: two that add to one lane, or store copies of a message, wait here for each other.
CREATE FUNCTION read_batch_1(
  slots bigint[], hashes bigint[], senders bigint[], kinds smallint[], contents bigint[],
  participants bigint[], lanes bigint[], delivery_keys bigint[], assigned bigint[], new_messages integer, new_deliveries integer,
  OUT transaction_id text, OUT messages bigint[], OUT deliveries bigint[], OUT seqs bigint[],
  OUT known text, OUT candidates text, OUT records text, OUT tails text, OUT ambiguous bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
  found_keys bigint[];
BEGIN
  transaction_id := pg_current_xact_id()::text;
  -- The server has room for 6,400 locks by default: who needs many waits for all others instead.
  IF cardinality(slots) > 512 THEN
    PERFORM pg_advisory_xact_lock(1, -1);
  ELSIF cardinality(slots) > 0 THEN
    PERFORM pg_advisory_xact_lock_shared(1, -1);
    PERFORM pg_advisory_xact_lock(1, s.k::integer) FROM unnest(slots) AS s (k);
  END IF;
  IF cardinality(delivery_keys) > 0 THEN
    PERFORM 1 FROM delivery d WHERE d.k = ANY (delivery_keys) ORDER BY d.k FOR UPDATE;
    SELECT coalesce(json_agg(json_build_array(d.k, d.message_k, m.id, d.participant, d.state, d.attempts, d.status, d.due_us, d.fault,
        d.answer_k, d.ended_us, (SELECT a.response_code FROM message a WHERE a.k = d.answer_k),
        CASE WHEN d.answer_k IS NOT NULL THEN (
          SELECT json_agg(json_build_array(e.k, coalesce(encode(e.response_sha256, 'hex'), ''))) FROM (
            SELECT a.k, a.response_sha256 FROM message a WHERE a.in_reply_to = m.id AND a.sender = d.participant
            AND (a.k = d.answer_k OR a.response_flags & 2 <> 0 OR a.response_code = 'transient-error')
            ORDER BY a.k DESC LIMIT 100) e) END)), '[]')
      INTO records
      FROM unnest(delivery_keys) AS j (k) JOIN delivery d ON d.k = j.k JOIN message m ON m.k = d.message_k;
  END IF;
  IF cardinality(assigned) > 0 THEN
    ambiguous := ARRAY(
      SELECT m.k FROM message m WHERE m.k = ANY (assigned) AND m.response_flags & 1 <> 0 ORDER BY m.k FOR UPDATE);
  END IF;
  IF cardinality(hashes) > 0 THEN
    SELECT json_agg(json_build_array(f.n, f.same, f.recent)), array_agg(f.same) || array_agg(f.recent) INTO known, found_keys
    FROM known_identities_1(hashes, senders, kinds, contents) f;
    IF found_keys IS NOT NULL THEN
      candidates := candidates_1(found_keys);
    END IF;
  END IF;
  IF cardinality(lanes) > 0 THEN
    SELECT json_agg(json_build_array(x.participant, x.lane, (SELECT max(d.seq) FROM delivery d
        WHERE d.state = 0 AND d.participant = x.participant AND d.lane = x.lane)))
      INTO tails FROM unnest(participants, lanes) AS x (participant, lane);
  END IF;
  messages := ARRAY(SELECT nextval('message_key') FROM generate_series(1, new_messages));
  deliveries := ARRAY(SELECT nextval('delivery_key') FROM generate_series(1, new_deliveries));
  seqs := ARRAY(SELECT nextval('delivery_seq') FROM generate_series(1, new_deliveries));
END $$;

-- For each identity that is known (by its place in the arrays, from 1): the newest message with the same content, and one of the
-- messages. The bound keeps it cheap for ids of thousands of messages. A function in SQL would be planned at each call.
CREATE FUNCTION known_identities_1(hashes bigint[], senders bigint[], kinds smallint[], contents bigint[])
RETURNS TABLE (n bigint, same bigint, recent bigint) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  RETURN QUERY SELECT x.place,
    (SELECT max(r.message_k) FROM reference r WHERE r.hash = x.hash AND r.sender = x.sender AND r.kind = x.kind AND r.content_head = x.content_head),
    s.found
  FROM unnest(hashes, senders, kinds, contents) WITH ORDINALITY AS x (hash, sender, kind, content_head, place)
  CROSS JOIN LATERAL (SELECT max(f.message_k) AS found FROM (
    SELECT r.message_k FROM reference r WHERE r.hash = x.hash AND r.sender = x.sender AND r.kind = x.kind LIMIT 16) f) s
  WHERE s.found IS NOT NULL;
END $$;

-- Stored messages that may be the same as new ones, as a JSON array.
CREATE FUNCTION candidates_1(keys bigint[]) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  RETURN (SELECT json_agg(json_build_array(m.k, m.id, encode(m.content_sha256, 'hex'), m.received_us, m.metadata, m.in_reply_to))
    FROM message m WHERE m.k = ANY (keys));
END $$;

-- The oldest schema version whose programs can use this schema: a migration that narrows it raises the number.
CREATE TABLE schema_reader (version bigint NOT NULL);
INSERT INTO schema_reader VALUES (1);
