-- One row that is written to find out whether writing succeeds.
CREATE TABLE probe (
  k INTEGER PRIMARY KEY,
  bytes BLOB NOT NULL
) STRICT;
