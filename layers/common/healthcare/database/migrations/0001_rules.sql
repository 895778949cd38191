-- What all tables share: who is acting, what a change of a row does, and how a table is protected.
-- Migrations run as the role that owns the database; they need no superuser and no extension.

DO $$
BEGIN
    IF lower('Ä') <> 'ä' THEN
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


-- Search ------------------------------------------------------------------------------------------------------------

-- The words of a name or a query, each once and in order, with spaces between them; NULL when there is none. A word is a
-- run of letters, marks and numbers. What differs in case or width alone becomes the same: ς and σ, İ and i, ß and SS,
-- １ and 1. All are cut at 200 characters, which no name has, so that they fit into an index.
--
-- The pattern lists every other character, since PostgreSQL's classes depend on the locale: Unicode's categories P, S, Z
-- and C, and three marks that only make emoji (U+20E3, U+FE0E, U+FE0F). Unassigned characters go with their neighbours.
CREATE FUNCTION search_words(name text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT rtrim(left(string_agg(DISTINCT word COLLATE "C", ' ' ORDER BY word COLLATE "C"), 200))
      FROM regexp_split_to_table(name,
             '[\u0001-\u002F\u003A-\u0040\u005B-\u0060\u007B-\u00A9\u00AB-\u00B1\u00B4\u00B6-\u00B8\u00BB\u00BF\u00D7'
             '\u00F7\u02C2-\u02C5\u02D2-\u02DF\u02E5-\u02EB\u02ED\u02EF-\u02FF\u0375\u037E\u0384-\u0385\u0387\u03F6'
             '\u0482\u055A-\u055F\u0589-\u058F\u05BE\u05C0\u05C3\u05C6\u05F3-\u060F\u061B-\u061F\u066A-\u066D\u06D4'
             '\u06DD-\u06DE\u06E9\u06FD-\u06FE\u0700-\u070F\u07F6-\u07F9\u07FE-\u07FF\u0830-\u083E\u085E\u0888'
             '\u0890-\u0891\u08E2\u0964-\u0965\u0970\u09F2-\u09F3\u09FA-\u09FB\u09FD\u0A76\u0AF0-\u0AF1\u0B70'
             '\u0BF3-\u0BFA\u0C77\u0C7F\u0C84\u0D4F\u0D79\u0DF4\u0E3F\u0E4F\u0E5A-\u0E5B\u0F01-\u0F17\u0F1A-\u0F1F'
             '\u0F34\u0F36\u0F38\u0F3A-\u0F3D\u0F85\u0FBE-\u0FC5\u0FC7-\u0FDA\u104A-\u104F\u109E-\u109F\u10FB'
             '\u1360-\u1368\u1390-\u1399\u1400\u166D-\u166E\u1680\u169B-\u169C\u16EB-\u16ED\u1735-\u1736\u17D4-\u17D6'
             '\u17D8-\u17DB\u1800-\u180A\u180E\u1940-\u1945\u19DE-\u19FF\u1A1E-\u1A1F\u1AA0-\u1AA6\u1AA8-\u1AAD'
             '\u1B5A-\u1B6A\u1B74-\u1B7E\u1BFC-\u1BFF\u1C3B-\u1C3F\u1C7E-\u1C7F\u1CC0-\u1CC7\u1CD3\u1FBD\u1FBF-\u1FC1'
             '\u1FCD-\u1FCF\u1FDD-\u1FDF\u1FED-\u1FEF\u1FFD-\u206F\u207A-\u207E\u208A-\u208E\u20A0-\u20C0\u20E3'
             '\u2100-\u2101\u2103-\u2106\u2108-\u2109\u2114\u2116-\u2118\u211E-\u2123\u2125\u2127\u2129\u212E'
             '\u213A-\u213B\u2140-\u2144\u214A-\u214D\u214F\u218A-\u244A\u249C-\u24E9\u2500-\u2775\u2794-\u2BFF'
             '\u2CE5-\u2CEA\u2CF9-\u2CFC\u2CFE-\u2CFF\u2D70\u2E00-\u2E2E\u2E30-\u3004\u3008-\u3020\u3030\u3036-\u3037'
             '\u303D-\u303F\u309B-\u309C\u30A0\u30FB\u3190-\u3191\u3196-\u319F\u31C0-\u31EF\u3200-\u321E\u322A-\u3247'
             '\u3250\u3260-\u327F\u328A-\u32B0\u32C0-\u33FF\u4DC0-\u4DFF\uA490-\uA4C6\uA4FE-\uA4FF\uA60D-\uA60F\uA673'
             '\uA67E\uA6F2-\uA716\uA720-\uA721\uA789-\uA78A\uA828-\uA82B\uA836-\uA839\uA874-\uA877\uA8CE-\uA8CF'
             '\uA8F8-\uA8FA\uA8FC\uA92E-\uA92F\uA95F\uA9C1-\uA9CD\uA9DE-\uA9DF\uAA5C-\uAA5F\uAA77-\uAA79\uAADE-\uAADF'
             '\uAAF0-\uAAF1\uAB5B\uAB6A-\uAB6B\uABEB\uFB29\uFBB2-\uFBC2\uFD3E-\uFD4F\uFDCF\uFDFC-\uFDFF\uFE0E-\uFE19'
             '\uFE30-\uFE6B\uFEFF-\uFF0F\uFF1A-\uFF20\uFF3B-\uFF40\uFF5B-\uFF65\uFFE0-\uFFFD\U00010100-\U00010102'
             '\U00010137-\U0001013F\U00010179-\U00010189\U0001018C-\U000101FC\U0001039F\U000103D0\U0001056F\U00010857'
             '\U00010877-\U00010878\U0001091F\U0001093F\U00010A50-\U00010A58\U00010A7F\U00010AC8\U00010AF0-\U00010AF6'
             '\U00010B39-\U00010B3F\U00010B99-\U00010B9C\U00010EAD\U00010F55-\U00010F59\U00010F86-\U00010F89'
             '\U00011047-\U0001104D\U000110BB-\U000110C1\U000110CD\U00011140-\U00011143\U00011174-\U00011175'
             '\U000111C5-\U000111C8\U000111CD\U000111DB\U000111DD-\U000111DF\U00011238-\U0001123D\U000112A9'
             '\U0001144B-\U0001144F\U0001145A-\U0001145D\U000114C6\U000115C1-\U000115D7\U00011641-\U00011643'
             '\U00011660-\U0001166C\U000116B9\U0001173C-\U0001173F\U0001183B\U00011944-\U00011946\U000119E2'
             '\U00011A3F-\U00011A46\U00011A9A-\U00011A9C\U00011A9E-\U00011AA2\U00011B00-\U00011B09'
             '\U00011C41-\U00011C45\U00011C70-\U00011C71\U00011EF7-\U00011EF8\U00011F43-\U00011F4F'
             '\U00011FD5-\U00011FFF\U00012470-\U00012474\U00012FF1-\U00012FF2\U00013430-\U0001343F'
             '\U00016A6E-\U00016A6F\U00016AF5\U00016B37-\U00016B3F\U00016B44-\U00016B45\U00016E97-\U00016E9A\U00016FE2'
             '\U0001BC9C\U0001BC9F-\U0001BCA3\U0001CF50-\U0001D164\U0001D16A-\U0001D16C\U0001D173-\U0001D17A'
             '\U0001D183-\U0001D184\U0001D18C-\U0001D1A9\U0001D1AE-\U0001D241\U0001D245\U0001D300-\U0001D356\U0001D6C1'
             '\U0001D6DB\U0001D6FB\U0001D715\U0001D735\U0001D74F\U0001D76F\U0001D789\U0001D7A9\U0001D7C3'
             '\U0001D800-\U0001D9FF\U0001DA37-\U0001DA3A\U0001DA6D-\U0001DA74\U0001DA76-\U0001DA83'
             '\U0001DA85-\U0001DA8B\U0001E14F\U0001E2FF\U0001E95E-\U0001E95F\U0001ECAC\U0001ECB0\U0001ED2E'
             '\U0001EEF0-\U0001F0F5\U0001F10D-\U0001FBCA\U000E0001-\U000E007F]+') AS run,
           lower(upper(normalize(run, NFKC))) AS folded,
           string_to_table(replace(replace(folded, U&'i\0307', 'i'), 'ß', 'ss'), ' ') AS word
     WHERE word <> ''
$$;

CREATE DOMAIN search_query AS text CONSTRAINT few_words CHECK (cardinality(string_to_array(VALUE, ' ')) <= 8);

GRANT EXECUTE ON FUNCTION search_words TO healthcare_api, healthcare_doctor;
