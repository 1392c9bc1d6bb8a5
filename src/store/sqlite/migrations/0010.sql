-- Terms are written behind the messages: those of messages up to this key are there.
INSERT INTO progress (name, k) SELECT 'terms', coalesce(max(k), 0) FROM message;
