-- What an outcome quotes of its message is kept with the body, and no longer; the outcome beside it is masked.
ALTER TABLE body ADD COLUMN outcome TEXT;

-- Texts that were written before may quote anything: they go with the bodies, and the codes and rules stay.
UPDATE body SET outcome = (SELECT m.outcome FROM message m WHERE m.k = body.message_k);
UPDATE message SET outcome = (
  SELECT json_object('issues', json_group_array(json_remove(
    json_set(i.value, '$.diagnostics', 'The text of this issue is kept with the content of the message'), '$.expression')))
  FROM json_each(message.outcome, '$.issues') i
) WHERE outcome IS NOT NULL;
