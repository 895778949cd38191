-- What is to be told to somebody: by mail, or to a program of theirs. Written in the transaction that makes it true.

-- Programs that want to know what happens to what their owner has.
CREATE TABLE webhooks (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner_id         bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    url              text NOT NULL CHECK (char_length(url) <= 2000),
    events           text[] NOT NULL CHECK (cardinality(events) > 0),
    enabled          boolean NOT NULL DEFAULT true,
    secret           bytea NOT NULL,
    next_secret      bytea,  -- written by who may not read a secret; a trigger puts it in its place at once
    old_secret       bytea,  -- signs too until `old_secret_until`
    old_secret_until timestamptz,
    version          bigint NOT NULL DEFAULT 1,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX webhooks_owner_idx ON webhooks (owner_id, id);

SELECT protect('webhooks', 'owner_id', 'webhook', hidden => '{secret,old_secret}');

CREATE FUNCTION rotate_webhook_secret() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.old_secret := OLD.secret;
    NEW.old_secret_until := now() + interval '1 day';
    NEW.secret := NEW.next_secret;
    NEW.next_secret := NULL;
    RETURN NEW;
END
$$;

CREATE TRIGGER rotate BEFORE UPDATE ON webhooks
    FOR EACH ROW WHEN (NEW.next_secret IS NOT NULL) EXECUTE FUNCTION rotate_webhook_secret();

CREATE POLICY sender ON webhooks TO healthcare_sender USING (true);
GRANT SELECT (id, owner_id, url, events, enabled, version, created_at, updated_at), DELETE ON webhooks TO healthcare_api;
GRANT INSERT (owner_id, url, events, secret), UPDATE (url, events, enabled, next_secret)
   ON webhooks TO healthcare_api;
GRANT SELECT (id, url, enabled, secret, old_secret, old_secret_until), UPDATE (enabled) ON webhooks TO healthcare_sender;


-- The outbox --------------------------------------------------------------------------------------------------------

-- One row for each mail and for each delivery to a webhook. It holds ids only: addresses and words are looked up when it
-- is sent. Its id stays the same however often it is sent.
CREATE TABLE outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind        text NOT NULL,
    user_id     bigint REFERENCES users ON DELETE CASCADE,  -- NULL: somebody asked for an unknown address
    webhook_id  bigint REFERENCES webhooks ON DELETE CASCADE,  -- NULL: a mail
    data        jsonb NOT NULL DEFAULT '{}',
    state       text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'failed')),
    attempts    integer NOT NULL DEFAULT 0,
    due_at      timestamptz NOT NULL DEFAULT now(),  -- of a claimed one, the end of the lease
    is_claimed  boolean NOT NULL DEFAULT false,
    answer      integer,  -- the status that the receiver answered last; NULL: none
    created_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CHECK ((state = 'pending') = (finished_at IS NULL))
);

-- 0 stands for mail.
CREATE INDEX outbox_queue_idx ON outbox (coalesce(webhook_id, 0), due_at) WHERE state = 'pending';
CREATE INDEX outbox_claimed_idx ON outbox (coalesce(webhook_id, 0)) WHERE is_claimed;
CREATE INDEX outbox_webhook_idx ON outbox (webhook_id, id);
CREATE INDEX outbox_user_idx ON outbox (user_id);
CREATE INDEX outbox_finished_idx ON outbox (finished_at);

SELECT protect('outbox', 'user_id', is_private => false);

CREATE POLICY sender ON outbox TO healthcare_sender USING (true);
CREATE POLICY about_oneself ON outbox FOR INSERT TO healthcare_auth
    WITH CHECK (user_id = (SELECT app_user_id()) OR (SELECT app_role()) = 'anonymous');
GRANT SELECT, UPDATE, DELETE ON outbox TO healthcare_sender;
GRANT INSERT (kind, user_id) ON outbox TO healthcare_auth;

-- Deliveries can be seen and sent again by who has the webhook.
CREATE POLICY own_deliveries ON outbox TO healthcare_api
    USING (webhook_id IS NOT NULL AND user_id = (SELECT app_user_id()));
GRANT SELECT (id, kind, user_id, webhook_id, state, attempts, answer, due_at, created_at),
      UPDATE (state, attempts, due_at, is_claimed, finished_at) ON outbox TO healthcare_api;

-- Tells the webhooks of a user that want to hear of it. Called by triggers, in the transaction that makes it true.
CREATE FUNCTION announce(event text, to_user bigint, ids jsonb) RETURNS void LANGUAGE sql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    INSERT INTO outbox (kind, user_id, webhook_id, data)
    SELECT event, owner_id, id, ids
      FROM webhooks
     WHERE owner_id = to_user AND enabled AND event = ANY (events)
$$;

-- How long to wait after so many attempts; NULL when it is hopeless.
CREATE FUNCTION retry_after(attempts integer) RETURNS interval LANGUAGE sql IMMUTABLE AS $$
    SELECT ('{5 s,5 min,30 min,2 h,5 h,10 h,14 h,20 h,24 h}'::interval[])[attempts]
$$;

-- Up to `wanted` messages that are due, with a lease of a minute. Of each webhook ten at most are on their way, so that
-- one that is slow or dead holds up no other. The queues with something in them are found by hops through their index.
CREATE FUNCTION claim_messages(wanted integer) RETURNS SETOF outbox LANGUAGE sql AS $$
    WITH RECURSIVE queues AS (
        (SELECT coalesce(webhook_id, 0) AS queue
           FROM outbox
          WHERE state = 'pending'
          ORDER BY coalesce(webhook_id, 0)
          LIMIT 1)
         UNION ALL
        SELECT (SELECT coalesce(webhook_id, 0)
                  FROM outbox
                 WHERE state = 'pending' AND coalesce(webhook_id, 0) > q.queue
                 ORDER BY coalesce(webhook_id, 0)
                 LIMIT 1)
          FROM queues q
         WHERE q.queue IS NOT NULL
    ), due AS (
        SELECT next.id
          FROM queues q
         CROSS JOIN LATERAL (
               SELECT o.id
                 FROM outbox o
                WHERE o.state = 'pending' AND coalesce(o.webhook_id, 0) = q.queue AND o.due_at <= now()
                ORDER BY o.due_at
                LIMIT CASE q.queue WHEN 0 THEN wanted ELSE greatest(0, 10 - (
                      SELECT count(*)
                        FROM outbox
                       WHERE is_claimed AND coalesce(webhook_id, 0) = q.queue AND due_at > now())) END
                  FOR UPDATE SKIP LOCKED) AS next
         LIMIT wanted
    )
    UPDATE outbox o
       SET attempts = o.attempts + 1, due_at = now() + interval '1 minute', is_claimed = true
      FROM due
     WHERE o.id = due.id
    RETURNING o.*
$$;

GRANT EXECUTE ON FUNCTION retry_after, claim_messages TO healthcare_sender;


-- Mail --------------------------------------------------------------------------------------------------------------

-- Addresses that get no mail any more: it came back, or its reader complained. As a hash, which says enough.
CREATE TABLE suppressed_addresses (
    address    bytea PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION address_hash(address text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(convert_to(lower(address), 'UTF8'))
$$;

SELECT protect('suppressed_addresses', NULL, is_private => false);
CREATE POLICY sender ON suppressed_addresses TO healthcare_sender USING (true);
GRANT SELECT, INSERT ON suppressed_addresses TO healthcare_sender;
GRANT EXECUTE ON FUNCTION address_hash TO healthcare_sender;

-- What a mail proves: that its reader may set a new password (`reset`), that the address is the user's (`verify`), or
-- that another one is (`change`, of which `email` is that one). One of each is alive, that of the newest message.
CREATE TABLE mailed_tokens (
    user_id    bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    purpose    text NOT NULL CHECK (purpose IN ('reset', 'verify', 'change')),
    message_id bigint NOT NULL,
    email      text CHECK (char_length(email) <= 254),
    token_hash bytea CONSTRAINT mailed_tokens_token_hash_key UNIQUE,  -- NULL until it is sent
    expires_at timestamptz,
    used_at    timestamptz,
    PRIMARY KEY (user_id, purpose)
);

SELECT protect('mailed_tokens', 'user_id', is_private => false);

CREATE POLICY own ON mailed_tokens TO healthcare_auth
    USING (user_id = (SELECT app_user_id()) OR (SELECT app_role()) = 'anonymous');
CREATE POLICY sender ON mailed_tokens TO healthcare_sender USING (true);
CREATE POLICY sender ON users FOR SELECT TO healthcare_sender USING (true);
GRANT SELECT, DELETE, UPDATE (used_at) ON mailed_tokens TO healthcare_auth;
GRANT SELECT, INSERT, UPDATE (message_id, token_hash, expires_at, used_at) ON mailed_tokens TO healthcare_sender;
GRANT SELECT (id, email, email_verified) ON users TO healthcare_sender;
GRANT UPDATE (email, email_verified) ON users TO healthcare_auth;

-- When the last three mails of a kind to an address were asked for.
CREATE TABLE mail_requests (
    subject bytea PRIMARY KEY,
    recent  timestamptz[] NOT NULL
);

SELECT protect('mail_requests', NULL, is_private => false);

-- Writes a message to the outbox, unless three were asked for within an hour; `to_email` is counted whether or not
-- somebody has it. As the owner: nobody else writes a limit.
CREATE FUNCTION request_mail(kind text, to_user bigint, to_email text) RETURNS bigint LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    message_id bigint;
BEGIN
    INSERT INTO mail_requests AS r (subject, recent) VALUES (sha256(convert_to(kind, 'UTF8') || address_hash(to_email)), ARRAY[now()])
    ON CONFLICT (subject) DO UPDATE SET recent = (r.recent || now())[greatest(1, cardinality(r.recent) - 1):]
     WHERE cardinality(r.recent) < 3 OR r.recent[1] < now() - interval '1 hour';
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO outbox (kind, user_id) VALUES (kind, to_user) RETURNING id INTO message_id;
    IF kind = 'change' THEN
        INSERT INTO outbox (kind, user_id) VALUES ('change-notice', to_user);
        INSERT INTO mailed_tokens AS t (user_id, purpose, message_id, email) VALUES (to_user, kind, message_id, to_email)
        ON CONFLICT (user_id, purpose) DO UPDATE
           SET message_id = excluded.message_id, email = excluded.email, token_hash = NULL, expires_at = NULL, used_at = NULL;
    END IF;
    RETURN message_id;
END
$$;

GRANT EXECUTE ON FUNCTION request_mail TO healthcare_auth;

-- What the sender sweeps out: what was settled a month ago, and limits that bind nobody any more.
CREATE FUNCTION forget_messages() RETURNS void LANGUAGE sql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    DELETE FROM outbox
     WHERE id IN (SELECT id
                    FROM outbox
                   WHERE finished_at < now() - interval '30 days'
                   ORDER BY finished_at
                   LIMIT 1000
                     FOR UPDATE SKIP LOCKED);
    DELETE FROM mail_requests WHERE recent[cardinality(recent)] < now() - interval '1 hour'
$$;

GRANT EXECUTE ON FUNCTION forget_messages TO healthcare_sender;
