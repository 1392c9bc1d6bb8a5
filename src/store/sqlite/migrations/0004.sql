-- Answers: what is known of them beyond their request.

-- Bits: 1 ambiguous (it fits more than one request), 2 further (its request had a first answer already).
ALTER TABLE message ADD COLUMN flags INTEGER NOT NULL DEFAULT 0;
-- SHA-256 of what a response says without its own identities: NULL for requests.
ALTER TABLE message ADD COLUMN said BLOB CHECK (length(said) = 32);

CREATE INDEX message_flags ON message (k) WHERE flags <> 0;
