-- What happens to appointments, records and documents, told to webhooks and by mail.

CREATE FUNCTION tell_of_appointment() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    event text := 'appointment.' || CASE WHEN TG_OP = 'INSERT' THEN 'booked'
                                         WHEN NEW.status <> OLD.status THEN NEW.status
                                         ELSE 'rescheduled' END;
    ids   jsonb := jsonb_build_object('appointment_id', NEW.id, 'patient_id', NEW.patient_id, 'doctor_id', NEW.doctor_id);
BEGIN
    PERFORM announce(event, told.id, ids)
       FROM (SELECT NEW.owner_id AS id
              UNION
             SELECT account_id FROM doctors WHERE id = NEW.doctor_id AND account_id IS NOT NULL) AS told;
    IF event IN ('appointment.booked', 'appointment.rescheduled', 'appointment.cancelled') THEN
        INSERT INTO outbox (kind, user_id, data) VALUES (event, NEW.owner_id, ids);
    END IF;
    -- What begins within a day needs no reminder: the mail just said it.
    IF NEW.status = 'booked' AND NEW.starts_at <= now() + interval '1 day' THEN
        INSERT INTO reminders (appointment_id, starts_at) VALUES (NEW.id, NEW.starts_at) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER tell AFTER INSERT ON appointments FOR EACH ROW EXECUTE FUNCTION tell_of_appointment();
CREATE TRIGGER tell_again AFTER UPDATE ON appointments
    FOR EACH ROW WHEN (OLD.status <> NEW.status OR OLD.starts_at <> NEW.starts_at) EXECUTE FUNCTION tell_of_appointment();

CREATE FUNCTION tell_of_record() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM announce('record.created', NEW.owner_id,
                     jsonb_build_object('record_id', NEW.id, 'patient_id', NEW.patient_id));
    RETURN NULL;
END
$$;

CREATE FUNCTION tell_of_document() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM announce('document.available', NEW.owner_id,
                     jsonb_build_object('document_id', NEW.id, 'patient_id', NEW.patient_id));
    RETURN NULL;
END
$$;

CREATE TRIGGER tell AFTER INSERT ON records FOR EACH ROW EXECUTE FUNCTION tell_of_record();
CREATE TRIGGER tell AFTER UPDATE ON documents
    FOR EACH ROW WHEN (OLD.object_version IS NULL AND NEW.object_version IS NOT NULL) EXECUTE FUNCTION tell_of_document();


-- Mails about appointments show these, and nothing of the patient.
CREATE POLICY sender ON appointments FOR SELECT TO healthcare_sender USING (true);
CREATE POLICY sender ON doctors FOR SELECT TO healthcare_sender USING (true);
GRANT SELECT (id, patient_id, doctor_id, modality, starts_at, ends_at, time_zone, status, version, created_at, updated_at)
   ON appointments TO healthcare_sender;
GRANT SELECT (id, name) ON doctors TO healthcare_sender;


-- Reminders ---------------------------------------------------------------------------------------------------------

-- The times of appointments that need no reminder any more.
CREATE TABLE reminders (
    appointment_id bigint NOT NULL REFERENCES appointments ON DELETE CASCADE,
    starts_at      timestamptz NOT NULL,
    PRIMARY KEY (appointment_id, starts_at)
);

SELECT protect('reminders', NULL, is_private => false);

CREATE INDEX appointments_booked_idx ON appointments (starts_at) WHERE status = 'booked';

-- Reminds of what is booked for the next 24 hours: once per appointment and time.
CREATE FUNCTION remind() RETURNS void LANGUAGE sql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    WITH due AS (
        INSERT INTO reminders (appointment_id, starts_at)
        SELECT a.id, a.starts_at
          FROM appointments a
         WHERE a.status = 'booked' AND a.starts_at > now() AND a.starts_at <= now() + interval '1 day'
           AND NOT EXISTS (SELECT FROM reminders r WHERE r.appointment_id = a.id AND r.starts_at = a.starts_at)
         LIMIT 10000
        ON CONFLICT DO NOTHING
        RETURNING appointment_id, starts_at
    )
    INSERT INTO outbox (kind, user_id, data)
    SELECT 'appointment.reminder', a.owner_id, jsonb_build_object('appointment_id', a.id, 'starts_at', due.starts_at)
      FROM due
      JOIN appointments a ON a.id = due.appointment_id
$$;

GRANT EXECUTE ON FUNCTION remind TO healthcare_sender;
