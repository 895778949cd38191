-- What was done, by whom, in which request. The events of one owner are a chain, so that tampering shows.

CREATE TABLE audit_events (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    owner_id    bigint,  -- whose patient, mapping, doctor or account it was done to
    actor_id    bigint,  -- who did it; NULL for what was done outside the API
    action      text NOT NULL,
    resource    text NOT NULL,
    resource_id bigint NOT NULL,
    patient_id  bigint,
    request_id  text,
    changes     jsonb NOT NULL,
    -- Each event of an owner is numbered, and its digest covers that of the one before. Among simultaneous events of one
    -- owner the number is the order; ids are given out a moment earlier.
    number      bigint NOT NULL,
    digest      bytea NOT NULL
);

CREATE INDEX audit_events_owner_idx ON audit_events (owner_id, id);
CREATE INDEX audit_events_patient_idx ON audit_events (owner_id, patient_id, id);
CREATE UNIQUE INDEX audit_events_chain_idx ON audit_events (coalesce(owner_id, 0), number);

-- The end of each chain; 0 is the owner of what is nobody's. Its row is locked while a link is added.
CREATE TABLE audit_heads (
    owner_id bigint PRIMARY KEY,
    number   bigint NOT NULL,
    digest   bytea NOT NULL
);

SELECT protect('audit_events', 'owner_id'), protect('audit_heads', 'owner_id', is_private => false);
GRANT SELECT ON audit_events TO healthcare_api;

CREATE FUNCTION audit_digest(previous bytea, event audit_events) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT sha256(previous || convert_to(jsonb_build_array(
        event.number, event.id, extract(epoch FROM event.at), event.owner_id, event.actor_id, event.action,
        event.resource, event.resource_id, event.patient_id, event.request_id, event.changes)::text, 'UTF8'))
$$;

CREATE FUNCTION chain_audit_event() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    head audit_heads;
BEGIN
    INSERT INTO audit_heads AS h (owner_id, number, digest) VALUES (coalesce(NEW.owner_id, 0), 1, '')
    ON CONFLICT (owner_id) DO UPDATE SET number = h.number + 1
    RETURNING * INTO head;
    NEW.number := head.number;
    NEW.digest := audit_digest(head.digest, NEW);
    UPDATE audit_heads SET digest = NEW.digest WHERE owner_id = head.owner_id;
    RETURN NEW;
END
$$;

-- Many at once may come with their digests; see audit_opening().
CREATE TRIGGER audit_events_chain BEFORE INSERT ON audit_events
    FOR EACH ROW WHEN (NEW.digest IS NULL) EXECUTE FUNCTION chain_audit_event();

-- Called with the resource, the column that names the owner, the hidden columns and the generated ones. `changes` holds
-- {field: {"from": ..., "to": ...}} for the fields that differ, without the bookkeeping columns.
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    before    jsonb := CASE WHEN TG_OP = 'INSERT' THEN '{}' ELSE to_jsonb(OLD) END;
    after     jsonb := CASE WHEN TG_OP = 'DELETE' THEN '{}' ELSE to_jsonb(NEW) END;
    "row"     jsonb := CASE WHEN TG_OP = 'DELETE' THEN before ELSE after END;
    owner     bigint := ("row" ->> TG_ARGV[1])::bigint;
    no_change text[] := ARRAY['id', TG_ARGV[1], 'version', 'created_at', 'updated_at'] || TG_ARGV[3]::text[];
BEGIN
    IF before = after THEN
        RETURN NULL;
    END IF;
    INSERT INTO audit_events (owner_id, actor_id, action, resource, resource_id, patient_id, request_id, changes)
    SELECT owner,
           coalesce(app_actor_id(), CASE WHEN app_role() = 'anonymous' THEN owner END),
           CASE TG_OP WHEN 'INSERT' THEN 'create' WHEN 'UPDATE' THEN 'update' ELSE 'delete' END,
           TG_ARGV[0],
           ("row" ->> 'id')::bigint,
           ("row" ->> CASE TG_ARGV[0] WHEN 'patient' THEN 'id' ELSE 'patient_id' END)::bigint,
           nullif(current_setting('app.request_id', true), ''),
           coalesce(jsonb_object_agg(field, CASE
               WHEN field = ANY (TG_ARGV[2]::text[]) THEN '{"from": null, "to": null}'::jsonb
               ELSE jsonb_build_object('from', before -> field, 'to', after -> field) END), '{}')
      FROM jsonb_object_keys("row") AS field
     WHERE coalesce(before -> field, 'null') <> coalesce(after -> field, 'null') AND field <> ALL (no_change);
    RETURN NULL;
END
$$;
