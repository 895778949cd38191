-- Unlinking a doctor's account that more patients are open to than one request can close. What the account sees goes by the
-- link, and so ends with it; the mappings follow, a batch at a time.

-- Doctors without an account whose mappings are not all closed yet.
CREATE TABLE unlinkings (
    doctor_id bigint PRIMARY KEY REFERENCES doctors ON DELETE CASCADE
);

SELECT protect('unlinkings', 'doctor_id', is_private => false);

CREATE FUNCTION close_some(of_doctor bigint) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    batch CONSTANT integer := 5000;
    closed integer;
BEGIN
    UPDATE mappings
       SET access = 'none'
     WHERE id IN (SELECT id FROM mappings WHERE doctor_id = of_doctor AND access <> 'none' LIMIT batch);
    GET DIAGNOSTICS closed = ROW_COUNT;
    IF closed = batch THEN
        INSERT INTO unlinkings (doctor_id) VALUES (of_doctor) ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM unlinkings WHERE doctor_id = of_doctor;
    END IF;
END
$$;

-- Nobody is linked before all is closed, or they would see what others have opened to somebody else: not while there are as
-- many open mappings as close_some takes at once.
CREATE OR REPLACE FUNCTION close_patients() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NEW.account_id IS NOT NULL
       AND EXISTS (SELECT FROM mappings WHERE doctor_id = NEW.id AND access <> 'none' OFFSET 4999) THEN
        RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'doctors_closed_patients';
    END IF;
    PERFORM close_some(NEW.id);
    RETURN NULL;
END
$$;

-- What the sender does. With the doctor locked first, as who links one does; one that was linked meanwhile is left alone.
CREATE FUNCTION close_unlinked() RETURNS void LANGUAGE sql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT close_some(id)
      FROM (SELECT d.id
              FROM unlinkings u
              JOIN doctors d ON d.id = u.doctor_id
             WHERE d.account_id IS NULL
             ORDER BY d.id
             LIMIT 1
               FOR UPDATE OF d SKIP LOCKED) AS next
$$;

GRANT EXECUTE ON FUNCTION close_unlinked TO healthcare_sender;
