-- What messages are searched by: destinations, sources, events, response codes, refusal, and the faults, issue codes and rules
-- of outcomes and deliveries.
CREATE TABLE term (
  h INTEGER NOT NULL,                                       -- first 8 bytes of SHA-256 of kind and value
  message_k INTEGER NOT NULL,
  PRIMARY KEY (h, message_k)
) STRICT, WITHOUT ROWID;

CREATE INDEX message_received ON message (received_us);
CREATE INDEX delivery_created ON delivery (created_us);
CREATE INDEX delivery_fault ON delivery (fault) WHERE fault IS NOT NULL;
