-- Lane links: a delivery names the newest older delivery of its lane that waited when it was inserted. It is blocked while
-- that one waits. Lanes without order (lane 0) have no links.
ALTER TABLE delivery ADD COLUMN prev_seq INTEGER;
UPDATE delivery SET prev_seq = (
  SELECT max(older.seq) FROM delivery older
  WHERE older.state = 0 AND older.party = delivery.party AND older.lane = delivery.lane AND older.seq < delivery.seq)
WHERE state = 0 AND lane <> 0;

-- 0: due now, whatever the clock says. Anything else: due at that time.
UPDATE delivery SET due_us = 0 WHERE state = 0 AND due_us <= seq;

-- What waits for a time, in the order in which it comes due; without order also what is due now.
CREATE INDEX delivery_due ON delivery (party, due_us, seq) WHERE state = 0 AND due_us > 0 AND lane <> 0;
CREATE INDEX delivery_free ON delivery (party, due_us, seq) WHERE state = 0 AND lane = 0;
-- Answers that go their own way (callbacks, reply queues): what is carried to a participant without a channel.
CREATE INDEX delivery_own_way ON delivery (party, lane, seq) WHERE state = 0 AND kind = 2;

-- Counters, so that no figure counts rows.
ALTER TABLE party ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0;
ALTER TABLE party ADD COLUMN dead INTEGER NOT NULL DEFAULT 0;
UPDATE party SET
  waiting = (SELECT count(*) FROM delivery d WHERE d.state = 0 AND d.party = party.k),
  dead = (SELECT count(*) FROM delivery d WHERE d.state >= 4 AND d.state = 4 AND d.party = party.k);
CREATE TRIGGER delivery_inserted AFTER INSERT ON delivery WHEN new.state IN (0, 4) BEGIN
  UPDATE party SET waiting = waiting + (new.state = 0), dead = dead + (new.state = 4) WHERE k = new.party;
END;
CREATE TRIGGER delivery_changed AFTER UPDATE OF state ON delivery WHEN new.state <> old.state BEGIN
  UPDATE party SET waiting = waiting + (new.state = 0) - (old.state = 0), dead = dead + (new.state = 4) - (old.state = 4)
  WHERE k = new.party;
END;
CREATE TRIGGER delivery_deleted AFTER DELETE ON delivery WHEN old.state IN (0, 4) BEGIN
  UPDATE party SET waiting = waiting - (old.state = 0), dead = dead - (old.state = 4) WHERE k = old.party;
END;
