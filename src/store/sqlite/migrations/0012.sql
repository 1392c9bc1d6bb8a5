-- Columns are called what the glossary calls them.
ALTER TABLE message RENAME COLUMN facts TO metadata;
