-- Issues of an OperationOutcome in which a receiver reported errors about a message that it took: a JSON array, as written.
CREATE TABLE receiver_issues (
  delivery_k INTEGER PRIMARY KEY,
  issues TEXT NOT NULL
) STRICT;
