-- A patient that an operator gives to another owner takes its words along, and is erased from the former owner's audit too.

CREATE OR REPLACE TRIGGER words_updated AFTER UPDATE OF owner_id, name ON patients
    FOR EACH ROW WHEN ((OLD.owner_id, OLD.words) IS DISTINCT FROM (NEW.owner_id, NEW.words))
    EXECUTE FUNCTION index_patient_words();

-- As before, in the chain of each owner that the patient had. Mappings are locked before chains, as who closes a patient
-- locks them.
CREATE OR REPLACE FUNCTION erase_patient(of_patient bigint, OUT erased jsonb, OUT objects uuid[]) LANGUAGE plpgsql AS $$
DECLARE
    of_owner bigint;
    chain    bigint;
    head     audit_heads;
    previous bytea;
    event    audit_events;
BEGIN
    SELECT owner_id INTO of_owner FROM patients WHERE id = of_patient FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM FROM mappings WHERE owner_id = of_owner AND patient_id = of_patient FOR UPDATE;
    PERFORM FROM audit_heads
      WHERE owner_id = of_owner OR owner_id IN (SELECT owner_id FROM audit_events WHERE patient_id = of_patient)
      ORDER BY owner_id FOR UPDATE;
    SELECT * INTO head FROM audit_heads WHERE owner_id = of_owner;
    erased := jsonb_build_object(
        'records', (SELECT count(*) FROM records WHERE patient_id = of_patient),
        'documents', (SELECT count(*) FROM documents WHERE patient_id = of_patient),
        'disclosures', (SELECT count(*) FROM disclosures WHERE patient_id = of_patient),
        'appointments', (SELECT count(*) FROM appointments WHERE patient_id = of_patient),
        'head', encode(head.digest, 'hex'));
    objects := ARRAY(SELECT object_key FROM documents WHERE patient_id = of_patient);
    DELETE FROM disclosures WHERE patient_id = of_patient;
    DELETE FROM documents WHERE patient_id = of_patient;
    DELETE FROM records WHERE patient_id = of_patient;
    DELETE FROM appointments WHERE owner_id = of_owner AND patient_id = of_patient;
    DELETE FROM patients WHERE id = of_patient;
    FOR chain IN SELECT DISTINCT owner_id FROM audit_events WHERE patient_id = of_patient LOOP
        UPDATE audit_events SET changes = '{}' WHERE owner_id = chain AND patient_id = of_patient;
        previous := '';
        FOR event IN SELECT * FROM audit_events WHERE owner_id = chain ORDER BY number LOOP
            previous := audit_digest(previous, event);
            UPDATE audit_events SET digest = previous WHERE id = event.id AND digest <> previous;
        END LOOP;
        UPDATE audit_heads SET digest = previous WHERE owner_id = chain;
    END LOOP;
    INSERT INTO audit_events (owner_id, actor_id, action, resource, resource_id, patient_id, changes)
    SELECT of_owner, app_actor_id(), 'erase', 'patient', of_patient, of_patient,
           jsonb_object_agg(key, jsonb_build_object('from', value, 'to', NULL))
      FROM jsonb_each(erased);
END
$$;
