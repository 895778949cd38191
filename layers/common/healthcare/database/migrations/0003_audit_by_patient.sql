-- The audit of a patient shows whatever has a patient_id, so that a new resource needs no change of this function.

-- As before in all else: called with the column that names the owner and with the resource. `changes` holds
-- {field: {"from": ..., "to": ...}} for the fields that differ, without the bookkeeping columns; of a password hash
-- only that it changed.
CREATE OR REPLACE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    before jsonb := CASE WHEN TG_OP = 'INSERT' THEN '{}' ELSE to_jsonb(OLD) END;
    after  jsonb := CASE WHEN TG_OP = 'DELETE' THEN '{}' ELSE to_jsonb(NEW) END;
    "row"  jsonb := CASE WHEN TG_OP = 'DELETE' THEN before ELSE after END;
    owner  bigint := ("row" ->> TG_ARGV[0])::bigint;
BEGIN
    INSERT INTO audit_events (owner_id, actor_id, action, resource, resource_id, patient_id, request_id, changes)
    SELECT owner,
           coalesce(app_user_id(), CASE WHEN app_role() = 'anonymous' THEN owner END),
           CASE TG_OP WHEN 'INSERT' THEN 'create' WHEN 'UPDATE' THEN 'update' ELSE 'delete' END,
           TG_ARGV[1],
           ("row" ->> 'id')::bigint,
           ("row" ->> CASE TG_ARGV[1] WHEN 'patient' THEN 'id' ELSE 'patient_id' END)::bigint,
           nullif(current_setting('app.request_id', true), ''),
           coalesce(jsonb_object_agg(field, CASE field
               WHEN 'password_hash' THEN '{"from": null, "to": null}'::jsonb
               ELSE jsonb_build_object('from', before -> field, 'to', after -> field) END), '{}')
      FROM jsonb_object_keys("row") AS field
     WHERE coalesce(before -> field, 'null') <> coalesce(after -> field, 'null')
       AND field NOT IN ('id', 'owner_id', 'created_by', 'email_key', 'specialty_key', 'version', 'created_at', 'updated_at');
    RETURN NULL;
END
$$;
