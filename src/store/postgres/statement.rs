//! The statement that writes a batch. It is prepared once per connection.

/// Tables in the order of their parameters: message and body, reference, term, delivery, attempt, changes of deliveries, counts of deliveries and messages.
pub(in crate::store) const WRITE_BATCH: &str = "\
WITH m AS (
  INSERT INTO message (k, received_us, committed_us, sender, router_answer_k, id, in_reply_to, state, response_flags,
    content_sha256, response_sha256, source, event, event_code, response_code, destinations, issue_labels, metadata, outcome)
  SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::uuid[], $7::uuid[],
    $8::smallint[], $9::smallint[], $10::bytea[], $11::bytea[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[],
    $17::text[], $18::text[], $19::text[])
), b AS (
  INSERT INTO body (message_k, size, codec, bytes, outcome)
  SELECT * FROM unnest($1::bigint[], $20::bigint[], $21::smallint[], $22::bytea[], $23::text[])
), r AS (
  INSERT INTO reference (hash, message_k, sender, content_head, kind)
  SELECT * FROM unnest($24::bigint[], $25::bigint[], $26::bigint[], $27::bigint[], $28::smallint[])
), t AS (
  INSERT INTO term (hash, message_k) SELECT * FROM unnest($29::bigint[], $30::bigint[])
), d AS (
  INSERT INTO delivery (k, message_k, participant, lane, seq, prev_seq, due_us, expires_us, created_us, id, replay_of, state, kind,
    destination, kind_json, waiting)
  SELECT x.k, x.message_k, x.participant, x.lane, x.seq, x.prev_seq, x.due_us, x.expires_us, x.created_us, x.id, x.replay_of, 0,
    x.kind, x.destination, x.kind_json, x.waiting
  FROM unnest($31::bigint[], $32::bigint[], $33::bigint[], $34::bigint[], $35::bigint[], $36::bigint[], $37::bigint[],
    $38::bigint[], $39::bigint[], $40::uuid[], $41::uuid[], $42::smallint[], $43::text[], $44::text[], $45::text[])
    AS x (k, message_k, participant, lane, seq, prev_seq, due_us, expires_us, created_us, id, replay_of, kind, destination, kind_json, waiting)
), a AS (
  INSERT INTO attempt (delivery_k, started_us, duration_us, n, status, result, fault, detail)
  SELECT * FROM unnest($46::bigint[], $47::bigint[], $48::bigint[], $49::integer[], $50::integer[], $51::text[], $52::text[],
    $53::text[])
), c AS (
  UPDATE delivery AS d SET state = x.state, attempts = x.attempts, status = x.status, due_us = x.due_us, fault = x.fault,
    answer_k = x.answer_k, ended_us = x.ended_us, waiting = x.waiting
  FROM unnest($54::bigint[], $55::smallint[], $56::integer[], $57::integer[], $58::bigint[], $59::text[], $60::bigint[],
    $61::bigint[], $62::text[]) AS x (k, state, attempts, status, due_us, fault, answer_k, ended_us, waiting)
  WHERE d.k = x.k
), s AS (
  INSERT INTO message_count AS n (slot, stored) SELECT $67::bigint::smallint, cardinality($1::bigint[]) WHERE cardinality($1::bigint[]) > 0
  ON CONFLICT (slot) DO UPDATE SET stored = n.stored + excluded.stored
)
INSERT INTO participant_count AS n (participant, slot, waiting, dead)
SELECT * FROM unnest($63::bigint[], $64::smallint[], $65::bigint[], $66::bigint[])
ON CONFLICT (participant, slot) DO UPDATE SET waiting = n.waiting + excluded.waiting, dead = n.dead + excluded.dead";

/// Counts the deliveries of participants: participants, slot, and changes of those that wait and those that are dead.
pub(in crate::store) const COUNT: &str = "\
INSERT INTO participant_count AS n (participant, slot, waiting, dead)
SELECT x.participant, $2::bigint::smallint, x.waiting, x.dead
FROM unnest($1::bigint[], $3::bigint[], $4::bigint[]) AS x (participant, waiting, dead)
ON CONFLICT (participant, slot) DO UPDATE SET waiting = n.waiting + excluded.waiting, dead = n.dead + excluded.dead";
