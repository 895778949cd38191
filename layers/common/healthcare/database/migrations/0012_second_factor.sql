-- The second factor: codes of an authenticator app (RFC 6238), and recovery codes for when it is lost.

-- Whether a login asks for it. A column of the account, so that the audit shows each change.
ALTER TABLE users ADD second_factor boolean NOT NULL DEFAULT false;

CREATE TABLE authenticators (
    user_id       bigint PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    sealed_secret bytea NOT NULL,
    last_step     bigint NOT NULL DEFAULT 0  -- of the clock; no code of it or of an earlier one counts any more
);

CREATE TABLE recovery_codes (
    user_id   bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    code_hash bytea NOT NULL,
    PRIMARY KEY (user_id, code_hash)
);

SELECT protect('authenticators', 'user_id', is_private => false), protect('recovery_codes', 'user_id', is_private => false);

CREATE POLICY own ON authenticators TO healthcare_auth
    USING (user_id = (SELECT app_user_id()) OR (SELECT app_role()) = 'anonymous');
CREATE POLICY own ON recovery_codes TO healthcare_auth
    USING (user_id = (SELECT app_user_id()) OR (SELECT app_role()) = 'anonymous');
GRANT SELECT, INSERT, UPDATE, DELETE ON authenticators TO healthcare_auth;
GRANT SELECT, INSERT, DELETE ON recovery_codes TO healthcare_auth;
GRANT UPDATE (second_factor) ON users TO healthcare_auth;

-- Uses a code up: of the app, by its step of the clock, or a recovery code. False when that was done before.
CREATE FUNCTION spend_code(of_user bigint, step bigint, recovery_hash bytea) RETURNS boolean LANGUAGE sql AS $$
    WITH by_app AS (
        UPDATE authenticators
           SET last_step = step
         WHERE user_id = of_user AND last_step < step
        RETURNING user_id
    ), by_recovery AS (
        DELETE FROM recovery_codes
         WHERE user_id = of_user AND code_hash = recovery_hash
        RETURNING user_id
    )
    SELECT EXISTS (SELECT FROM by_app UNION ALL SELECT FROM by_recovery)
$$;

GRANT EXECUTE ON FUNCTION spend_code TO healthcare_auth;
