-- A closed account's last token may live for minutes: nothing lasting comes of it. And what closing an account erases is
-- counted in events, since one transaction takes the longer for each the more it writes to one chain.

-- Called with the column that holds the account. The lock conflicts with closing, which changes the unique `email`.
CREATE FUNCTION require_open_account() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM FROM users WHERE id = (to_jsonb(NEW) ->> TG_ARGV[0])::bigint AND closed_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'account_closed';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER require_open_account BEFORE INSERT ON patients
    FOR EACH ROW EXECUTE FUNCTION require_open_account('owner_id');
CREATE TRIGGER require_open_account BEFORE INSERT ON doctors
    FOR EACH ROW WHEN (NEW.created_by IS NOT NULL) EXECUTE FUNCTION require_open_account('created_by');
CREATE TRIGGER require_open_account_to_link BEFORE UPDATE OF account_id ON doctors
    FOR EACH ROW WHEN (NEW.account_id IS DISTINCT FROM OLD.account_id AND NEW.account_id IS NOT NULL)
    EXECUTE FUNCTION require_open_account('account_id');
CREATE TRIGGER require_open_account BEFORE INSERT ON mappings
    FOR EACH ROW EXECUTE FUNCTION require_open_account('owner_id');
CREATE TRIGGER require_open_account BEFORE INSERT ON appointments
    FOR EACH ROW EXECUTE FUNCTION require_open_account('owner_id');
CREATE TRIGGER require_open_account BEFORE INSERT ON delegates
    FOR EACH ROW EXECUTE FUNCTION require_open_account('user_id');
CREATE TRIGGER require_open_account BEFORE INSERT ON invitations
    FOR EACH ROW EXECUTE FUNCTION require_open_account('owner_id');
CREATE TRIGGER require_open_account BEFORE INSERT ON webhooks
    FOR EACH ROW EXECUTE FUNCTION require_open_account('owner_id');

-- What closed accounts got before.
DELETE FROM delegates d USING users u WHERE u.id IN (d.owner_id, d.user_id) AND u.closed_at IS NOT NULL;
DELETE FROM invitations i USING users u WHERE u.id = i.owner_id AND u.closed_at IS NOT NULL;
DELETE FROM webhooks w USING users u WHERE u.id = w.owner_id AND u.closed_at IS NOT NULL;
UPDATE doctors d SET account_id = NULL FROM users u WHERE u.id = d.account_id AND u.closed_at IS NOT NULL;

-- Cancels what is booked, then deletes patients without history, their mappings and appointments first: a batch at a time,
-- and of each kind twice as many as patients at most.
CREATE OR REPLACE FUNCTION erase_some(of_user bigint, batch integer) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    done      integer;
    ids       bigint[];
    deletable bigint[];
BEGIN
    UPDATE appointments
       SET status = 'cancelled'
     WHERE id IN (SELECT id FROM appointments WHERE owner_id = of_user AND status IN ('booked', 'arrived') LIMIT batch);
    GET DIAGNOSTICS done = ROW_COUNT;
    IF done = batch THEN
        RETURN;
    END IF;
    ids := ARRAY(SELECT p.id
                   FROM closings c
                   JOIN patients p ON p.owner_id = c.user_id AND p.id > c.after_id
                  WHERE c.user_id = of_user
                  ORDER BY p.id
                  LIMIT batch);
    deletable := ARRAY(
        SELECT p.id
          FROM patients p
         WHERE p.owner_id = of_user AND p.id = ANY (ids)
           AND NOT EXISTS (SELECT FROM appointments WHERE owner_id = of_user AND patient_id = p.id AND status <> 'cancelled')
           AND NOT EXISTS (SELECT FROM records WHERE patient_id = p.id)
           AND NOT EXISTS (SELECT FROM documents WHERE patient_id = p.id AND status = 'available'));
    DELETE FROM mappings
     WHERE id IN (SELECT id FROM mappings WHERE owner_id = of_user AND patient_id = ANY (deletable) LIMIT 2 * batch);
    GET DIAGNOSTICS done = ROW_COUNT;
    IF done = 2 * batch THEN
        RETURN;
    END IF;
    DELETE FROM appointments
     WHERE id IN (SELECT id FROM appointments WHERE owner_id = of_user AND patient_id = ANY (deletable) LIMIT 2 * batch);
    GET DIAGNOSTICS done = ROW_COUNT;
    IF done = 2 * batch THEN
        RETURN;
    END IF;
    DELETE FROM patients WHERE owner_id = of_user AND id = ANY (deletable);
    IF cardinality(ids) < batch THEN
        DELETE FROM closings WHERE user_id = of_user;
    ELSE
        UPDATE closings SET after_id = ids[batch] WHERE user_id = of_user;
    END IF;
END
$$;

-- The sender sweeps out answers that are kept for a retry; until now only the next request with a key did.
GRANT EXECUTE ON FUNCTION forget_idempotency_keys TO healthcare_sender;
