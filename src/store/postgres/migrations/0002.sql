-- Starts of a router on this store. The newest are kept.
CREATE TABLE node (
  k bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  started_us bigint NOT NULL
);

-- The nodes (node.k) on which senders wait for the answer to a request, separated by spaces.
ALTER TABLE delivery ADD COLUMN waiting text;

-- As read_batch_1, and on which nodes senders wait for answers. What a batch must know, in one call: it locks the slots of its lanes and identities, its deliveries, and its responses, each in
-- the order of their keys, and reads after that; each statement of a volatile function sees what was committed before it.
CREATE FUNCTION read_batch_2(
  slots bigint[], hashes bigint[], senders bigint[], kinds smallint[], contents bigint[],
  participants bigint[], lanes bigint[], delivery_keys bigint[], assigned bigint[], new_messages integer, new_deliveries integer,
  OUT transaction_id text, OUT messages bigint[], OUT deliveries bigint[], OUT seqs bigint[],
  OUT known text, OUT candidates text, OUT records text, OUT tails text, OUT ambiguous bigint[], OUT waiting text
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
    SELECT json_agg(json_build_array(d.k, d.waiting)) INTO waiting
      FROM delivery d WHERE d.k = ANY (delivery_keys) AND d.waiting IS NOT NULL;
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
