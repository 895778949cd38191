-- What all tables share: who is acting, what a change of a row does, and how a table is protected.
-- Migrations run as the role that owns the database; they need no superuser and no extension.

DO $$
BEGIN
    IF lower('Ä') <> 'ä' OR 'ä' !~ '[[:alnum:]]' THEN
        RAISE EXCEPTION 'the database needs a locale that knows letters beyond ASCII, such as C.UTF-8';
    END IF;
END
$$;

ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;


-- Who is acting -----------------------------------------------------------------------------------------------------

-- Settings of the transaction, so that a pooled connection carries nobody over to the next one. `anonymous` is the
-- role of a request that nobody has signed in for yet.
CREATE FUNCTION act_as(user_id bigint, role text, request_id text) RETURNS void LANGUAGE sql AS $$
    SELECT set_config('app.user_id', coalesce(user_id::text, ''), true),
           set_config('app.role', role, true),
           set_config('app.request_id', request_id, true)
$$;

-- Whose data a statement sees. After its transaction a setting reads '', not NULL.
CREATE FUNCTION app_user_id() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT nullif(current_setting('app.user_id', true), '')::bigint
$$;

-- Who really acts: the user, or who acts for them.
CREATE FUNCTION app_actor_id() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(nullif(current_setting('app.actor_id', true), ''), nullif(current_setting('app.user_id', true), ''))::bigint
$$;

CREATE FUNCTION app_role() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(current_setting('app.role', true), '')
$$;

GRANT EXECUTE ON FUNCTION act_as, app_user_id, app_actor_id, app_role
   TO healthcare_auth, healthcare_api, healthcare_doctor, healthcare_sender;


-- What a change does ------------------------------------------------------------------------------------------------

-- A write that changes nothing leaves the version and the time alone. Called with the generated columns, which a BEFORE
-- trigger cannot look at.
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF to_jsonb(OLD) - TG_ARGV[0]::text[] <> to_jsonb(NEW) - TG_ARGV[0]::text[] THEN
        NEW.version := OLD.version + 1;
        NEW.updated_at := now();
    END IF;
    RETURN NEW;
END
$$;

-- Makes a table what every table of the API is:
-- - row-level security binds everybody, also the owner, who gets a policy of its own;
-- - where it has a `version`, each change raises it and sets `updated_at`;
-- - with `audited_as`, each change is an audit event of that resource, whose owner `owner_column` names. Of the columns
--   in `hidden` the audit shows only that they changed;
-- - with `is_private`, healthcare_api sees and writes the rows whose `owner_column` is the user.
CREATE FUNCTION protect(
    "table" regclass, owner_column name, audited_as text DEFAULT NULL, hidden name[] DEFAULT '{}', is_private boolean DEFAULT true
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    generated name[] := ARRAY(SELECT attname FROM pg_attribute WHERE attrelid = "table" AND attgenerated <> '');
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', "table");
    EXECUTE format('CREATE POLICY owner ON %s TO CURRENT_USER USING (true) WITH CHECK (true)', "table");
    IF is_private THEN
        -- A scalar subselect is evaluated once and used as an index condition; a bare call is made for each row.
        EXECUTE format('CREATE POLICY own ON %s TO healthcare_api USING (%I = (SELECT app_user_id()))', "table", owner_column);
    END IF;
    IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = "table" AND attname = 'version') THEN
        EXECUTE format('CREATE TRIGGER touch BEFORE UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION touch(%L)', "table", generated);
    END IF;
    IF audited_as IS NOT NULL THEN
        EXECUTE format('CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION audit(%L, %L, %L, %L)',
                       "table", audited_as, owner_column, hidden, generated);
    END IF;
END
$$;
