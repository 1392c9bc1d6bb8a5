-- Tables and columns are called what the glossary calls them, and say what they hold.
ALTER TABLE party RENAME TO participant;
ALTER TABLE delivery RENAME COLUMN party TO participant;
-- The whole kind as JSON, for callbacks, reply queues, and replays.
ALTER TABLE delivery RENAME COLUMN detail TO kind_json;
-- Key of the answer that the router wrote itself.
ALTER TABLE message RENAME COLUMN own_answer TO router_answer_k;
-- Fault, issue code, and rule of each issue of the outcome, each between spaces.
ALTER TABLE message RENAME COLUMN marks TO issue_labels;
-- Bits of a response: 1 ambiguous (it fits more than one request), 2 further (its request had a first answer already).
ALTER TABLE message RENAME COLUMN flags TO response_flags;
-- SHA-256 of a response without its own identities; NULL for requests.
ALTER TABLE message RENAME COLUMN said TO response_sha256;
-- SHA-256 of the content, to recognize duplicates.
ALTER TABLE message RENAME COLUMN content TO content_sha256;
-- First 8 bytes of content_sha256, where a reference has them.
ALTER TABLE reference RENAME COLUMN content TO content_head;
ALTER TABLE reference_recent RENAME COLUMN content TO content_head;
-- First 8 bytes of SHA-256 of the normalized id, or of a term's kind and value.
ALTER TABLE reference RENAME COLUMN h TO hash;
ALTER TABLE reference_recent RENAME COLUMN h TO hash;
ALTER TABLE term RENAME COLUMN h TO hash;
-- A key up to which something was done, or a time.
ALTER TABLE progress RENAME COLUMN k TO value;
ALTER TABLE replay RENAME COLUMN spec TO order_json;
