-- Closing many patients of a doctor: nothing is left open that somebody changed meanwhile, nobody waits for long, and a
-- change of one mapping takes as long after it as before.

-- Whether something is left is looked up, and not counted: others may delete mappings of a batch. A mapping that somebody
-- is changing stays for the next batch, since who opens a patient locks the mapping before the doctor.
CREATE OR REPLACE FUNCTION close_some(of_doctor bigint) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    WITH batch AS MATERIALIZED (
        SELECT id FROM mappings WHERE doctor_id = of_doctor AND access <> 'none' LIMIT 5000 FOR UPDATE SKIP LOCKED)
    UPDATE mappings m
       SET access = 'none'
      FROM batch
     WHERE m.id = batch.id;
    IF EXISTS (SELECT FROM mappings WHERE doctor_id = of_doctor AND access <> 'none') THEN
        INSERT INTO unlinkings (doctor_id) VALUES (of_doctor) ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM unlinkings WHERE doctor_id = of_doctor;
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION close_patients() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NEW.account_id IS NULL OR NOT EXISTS (
           SELECT FROM mappings WHERE doctor_id = NEW.id AND access <> 'none' OFFSET 4999) THEN
        PERFORM close_some(NEW.id);
    END IF;
    -- Nobody is linked before all is closed, or they would see what others have opened to somebody else.
    IF NEW.account_id IS NOT NULL AND EXISTS (SELECT FROM mappings WHERE doctor_id = NEW.id AND access <> 'none') THEN
        RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'doctors_closed_patients';
    END IF;
    RETURN NULL;
END
$$;

-- The lock keeps who links the doctor out, and lets in who books with the doctor or assigns a patient.
CREATE OR REPLACE FUNCTION close_unlinked() RETURNS void LANGUAGE sql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT close_some(id)
      FROM (SELECT d.id
              FROM unlinkings u
              JOIN doctors d ON d.id = u.doctor_id
             WHERE d.account_id IS NULL
             ORDER BY d.id
             LIMIT 1
               FOR NO KEY UPDATE OF d SKIP LOCKED) AS next
$$;

INSERT INTO unlinkings (doctor_id)
SELECT DISTINCT doctor_id
  FROM mappings
  JOIN doctors d ON d.id = doctor_id
 WHERE access <> 'none' AND d.account_id IS NULL
ON CONFLICT DO NOTHING;

-- A plan that is kept for a transition table is for as many rows as there were the first time: one mapping, or 5,000. So
-- EXECUTE has each statement planned anew.
CREATE OR REPLACE FUNCTION audit_opening() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    -- The ends of the chains, always in the same order, so that two such changes do not wait for each other.
    EXECUTE $sql$
    INSERT INTO audit_heads (owner_id, number, digest) SELECT DISTINCT owner_id, 0, ''::bytea FROM after ON CONFLICT DO NOTHING
    $sql$;
    EXECUTE $sql$
    SELECT FROM audit_heads WHERE owner_id IN (SELECT owner_id FROM after) ORDER BY owner_id FOR UPDATE
    $sql$;
    EXECUTE $sql$
    WITH events AS (
        SELECT h.digest AS head,
               ROW(nextval('audit_events_id_seq'), clock_timestamp(), a.owner_id, app_actor_id(), 'update', 'mapping', a.id,
                   a.patient_id, nullif(current_setting('app.request_id', true), ''),
                   jsonb_build_object('access', jsonb_build_object('from', b.access, 'to', a.access)),
                   h.number + row_number() OVER (PARTITION BY a.owner_id ORDER BY a.id), NULL)::audit_events AS event
          FROM before b
          JOIN after a USING (id)
          JOIN audit_heads h ON h.owner_id = a.owner_id
         WHERE b.access <> a.access
    ), linked AS (
        SELECT (event).*, audit_chain(head, event) OVER (PARTITION BY (event).owner_id ORDER BY (event).number) AS link
          FROM events
    ), written AS (
        INSERT INTO audit_events (id, at, owner_id, actor_id, action, resource, resource_id, patient_id, request_id, changes,
                                  number, digest) OVERRIDING SYSTEM VALUE
        SELECT id, at, owner_id, actor_id, action, resource, resource_id, patient_id, request_id, changes, number, link
          FROM linked
    )
    UPDATE audit_heads h
       SET number = l.number, digest = l.link
      FROM (SELECT DISTINCT ON (owner_id) owner_id, number, link FROM linked ORDER BY owner_id, number DESC) l
     WHERE h.owner_id = l.owner_id
    $sql$;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION index_opened_words() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        EXECUTE $sql$
        DELETE FROM opened_words w
         USING before b
         WHERE w.patient_id = b.patient_id AND w.doctor_id = b.doctor_id AND b.access <> 'none'
        $sql$;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        EXECUTE $sql$
        INSERT INTO opened_words (doctor_id, word, patient_id, words)
        SELECT a.doctor_id, word, p.id, p.words
          FROM after a
          JOIN patients p ON p.owner_id = a.owner_id AND p.id = a.patient_id
         CROSS JOIN string_to_table(p.words, ' ') AS word
         WHERE a.access <> 'none'
        $sql$;
    END IF;
    RETURN NULL;
END
$$;

-- As before, and false, not NULL, where the caller may not write: of a patient that was closed while a request was on
-- its way to write to it.
CREATE OR REPLACE FUNCTION patient_access(of_patient bigint, OUT owner_id bigint, OUT by_doctor_id bigint, OUT may_write boolean)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    SELECT p.owner_id, true INTO owner_id, may_write
      FROM patients p
     WHERE p.id = of_patient AND p.owner_id = app_user_id();
    IF NOT FOUND AND app_actor_id() = app_user_id() THEN
        SELECT m.owner_id, m.doctor_id, m.access = 'write' INTO owner_id, by_doctor_id, may_write
          FROM patients p
          JOIN mappings m ON m.owner_id = p.owner_id AND m.patient_id = p.id
         WHERE p.id = of_patient AND m.doctor_id = acting_doctor() AND m.access <> 'none';
    END IF;
    may_write := coalesce(may_write, false);
END
$$;
