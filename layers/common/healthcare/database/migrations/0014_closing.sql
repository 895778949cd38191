-- Closing an account: its owner is gone, and what nobody has to keep is gone with them.

-- Accounts that are closed and still have something to erase.
CREATE TABLE closings (
    user_id  bigint PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    after_id bigint NOT NULL DEFAULT 0  -- patients up to this one have been looked at
);

SELECT protect('closings', 'user_id', is_private => false);

-- Cancels what is booked, then deletes patients without history, a batch at a time.
CREATE FUNCTION erase_some(of_user bigint, batch integer) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    cancelled integer;
    ids       bigint[];
BEGIN
    UPDATE appointments
       SET status = 'cancelled'
     WHERE id IN (SELECT id FROM appointments WHERE owner_id = of_user AND status IN ('booked', 'arrived') LIMIT batch);
    GET DIAGNOSTICS cancelled = ROW_COUNT;
    IF cancelled = batch THEN
        RETURN;
    END IF;
    ids := ARRAY(SELECT p.id
                   FROM closings c
                   JOIN patients p ON p.owner_id = c.user_id AND p.id > c.after_id
                  WHERE c.user_id = of_user
                  ORDER BY p.id
                  LIMIT batch);
    DELETE FROM patients p
     WHERE p.owner_id = of_user AND p.id = ANY (ids)
       AND NOT EXISTS (SELECT FROM appointments WHERE owner_id = of_user AND patient_id = p.id AND status <> 'cancelled')
       AND NOT EXISTS (SELECT FROM records WHERE patient_id = p.id)
       AND NOT EXISTS (SELECT FROM documents WHERE patient_id = p.id);
    IF cardinality(ids) < batch THEN
        DELETE FROM closings WHERE user_id = of_user;
    ELSE
        UPDATE closings SET after_id = ids[batch] WHERE user_id = of_user;
    END IF;
END
$$;

-- What the sender does for accounts that were too large for one request.
CREATE FUNCTION erase_closed() RETURNS void LANGUAGE sql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT erase_some(user_id, 500)
      FROM (SELECT user_id FROM closings ORDER BY user_id LIMIT 1 FOR UPDATE SKIP LOCKED) AS next
$$;

GRANT EXECUTE ON FUNCTION erase_closed TO healthcare_sender;

-- Closes the account of the user. Its row stays, without a name or an address, for those patients that have to stay.
CREATE FUNCTION close_account() RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    closing bigint := app_user_id();
BEGIN
    UPDATE users
       SET name = 'Closed account', email = NULL, email_verified = false, password_hash = '', role = 'user',
           second_factor = false, closed_at = now()
     WHERE id = closing AND closed_at IS NULL;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE doctors SET account_id = NULL WHERE account_id = closing;
    DELETE FROM sessions WHERE user_id = closing;
    DELETE FROM delegates WHERE closing IN (owner_id, user_id);
    DELETE FROM invitations WHERE owner_id = closing;
    DELETE FROM webhooks WHERE owner_id = closing;
    DELETE FROM authenticators WHERE user_id = closing;
    DELETE FROM recovery_codes WHERE user_id = closing;
    DELETE FROM mailed_tokens WHERE user_id = closing;
    DELETE FROM idempotency_keys WHERE user_id = closing;
    INSERT INTO closings (user_id) VALUES (closing);
    PERFORM erase_some(closing, 100);
    DELETE FROM outbox WHERE user_id = closing;
END
$$;

GRANT EXECUTE ON FUNCTION close_account TO healthcare_auth;
