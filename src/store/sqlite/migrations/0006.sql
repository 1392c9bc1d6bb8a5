-- Attempts that move neither the schedule nor the limit of attempts: those before an operator's retry. Failed probes of an open
-- breaker are told by the result of their attempt.
ALTER TABLE delivery ADD COLUMN uncounted INTEGER NOT NULL DEFAULT 0;
-- Dead letters in the order in which they died, for retention.
CREATE INDEX delivery_ended ON delivery (ended_us) WHERE state >= 4;
